"""The routing core: the broker without sockets, clock and HTTP pages.

Messages, ticks and lost connections go in, each with the time as an argument; messages to send come out of the outbox.
The core reads no socket, no clock and no random number, so that a test can run it through years of faults in a minute.

The path of a call: `handlers.clients` reads its head and either answers it at once (errors, introspection) or opens a
call in the table (`state.call_table`), which puts it in the queue of its pool. `scheduling.scheduler` dispatches it to
the least loaded worker. From then on the call belongs to that worker: `handlers.workers` passes its events on to the
client until OK, ERR or STREAM_DONE. Everything that is to be sent meets in `state.outbox`.

Administrators change models through `handlers.admin`; `deployment` has workers carry the changes out.
"""

from collections.abc import Sequence

from broker.core.deployment.deployment import Deployment
from broker.core.deployment.forgetting import Forgetter
from broker.core.handlers.admin import AdminHandler
from broker.core.handlers.answers import Answers
from broker.core.handlers.clients import ClientHandler
from broker.core.handlers.server_registration import ServerRegistrations
from broker.core.handlers.servers import ServerHandler
from broker.core.handlers.workers import WorkerHandler
from broker.core.introspection import builtins
from broker.core.scheduling.admission import Admission, QueueLimits
from broker.core.scheduling.deadlines import Deadlines
from broker.core.scheduling.repairing import Repairer
from broker.core.scheduling.scheduler import Scheduler
from broker.core.scheduling.silence import Silence
from broker.core.scheduling.unread import UnreadStreams
from broker.core.state import counters
from broker.core.state.access import Access, AccessRules
from broker.core.state.call_table import CallTable
from broker.core.state.conversations import Conversations
from broker.core.state.counters import WRITE, Counters
from broker.core.state.outbox import Outbox
from broker.core.state.plan import DeploymentPlan
from broker.core.state.registry import Registry
from broker.core.state.services import ServerRules
from cluster.wire.server_events import INSTANCE_BYTES


class Core:
    """The state of the broker, and what acts on it.

    Attributes:
        registry: workers, models and procedures.
        access: who may call and host what, and what each name has open.
        calls: all calls.
        counters: counts that belong to no procedure and no worker.
        outbox: what is to be sent and logged.
        clients, workers, admin: handlers of the messages from the three sockets.
        servers: handler of those messages from the backend that come from stock ZeroRPC servers.
        server_registrations: the stock servers that have connected.
        deployment: models that were loaded, unloaded and routed while the cluster runs.
    """

    def __init__(
        self,
        *,
        max_message_bytes: int,
        limits: QueueLimits,
        plan: DeploymentPlan | None = None,
        access: AccessRules | None = None,
        servers: ServerRules | None = None,
        instance: bytes = bytes(INSTANCE_BYTES),
    ) -> None:
        """Build an empty broker.

        Args:
            max_message_bytes: limit on the bytes of a client's event; a larger one gets `MessageTooLarge`.
            limits: how many calls may wait, and for how long.
            plan: what a former broker kept of loaded, unloaded and routed models.
            access: who may call and host what; everyone everything by default.
            servers: what holds for stock ZeroRPC servers.
            instance: `INSTANCE_BYTES` bytes that no other broker has, for the ids of calls at stock servers.
        """
        self.access = Access(access)
        self.registry = Registry(builtins.own_procedures())
        self.counters = Counters()
        self.outbox = Outbox()
        self.calls = CallTable(self.outbox, self.counters, unread_timeout_s=limits.unread_timeout_s)
        conversations = Conversations(self.outbox, instance)
        self._scheduler = Scheduler(
            self.registry,
            self.calls,
            self.counters,
            self.outbox,
            conversations,
            queue_timeout_s=limits.queue_timeout_s,
        )
        admission = Admission(self.calls, limits)
        self._deadlines = Deadlines(self.registry, self.calls, self._scheduler, admission, conversations)
        self._unread_streams = UnreadStreams(self.calls, conversations)
        self._repairer = Repairer(self.registry, self.calls, self._scheduler, conversations, self.access)
        self.deployment = Deployment(
            self.registry,
            self._scheduler,
            self.outbox,
            plan or DeploymentPlan(),
            self.access,
            has_waiting=lambda pool: bool(self.calls.queues[pool]),
        )
        self.clients = ClientHandler(
            self.registry,
            self.calls,
            self._scheduler,
            admission,
            self.counters,
            self.outbox,
            conversations,
            self.access,
            max_message_bytes=max_message_bytes,
        )
        answers = Answers(self.calls, self._scheduler, self.counters, conversations)
        self.workers = WorkerHandler(
            self.registry,
            self.calls,
            self._scheduler,
            self.deployment,
            answers,
            self.counters,
            self.outbox,
            self.access,
        )
        rules = servers or ServerRules()
        registrations = self.server_registrations = ServerRegistrations(
            self.registry, self.calls, self._scheduler, conversations, self.outbox, self.access, rules
        )
        silence = Silence(self.registry, self.calls, self._scheduler, rules, registrations.introductions.ping)
        self.servers = ServerHandler(registrations, self.calls, answers, silence, conversations, self.counters)
        self.admin = AdminHandler(self.deployment, self.outbox, self.access)
        self._forgetter = Forgetter(
            self.registry, self.calls, self.deployment.plan, self.deployment.routing, self.outbox
        )

    @property
    def draining(self) -> bool:
        """Whether the broker is about to stop and refuses new calls."""
        return self._scheduler.draining

    def drain(self) -> None:
        """Refuse new calls from now on; open calls continue."""
        self._scheduler.draining = True

    def change_access(self, rules: AccessRules, now_s: float) -> None:
        """Put other access rules in force: for open connections, and for workers, which may have to go."""
        self.access.change(rules)
        self.registry.documents.clear()
        self.workers.access_changed(now_s)
        self.server_registrations.access_changed(now_s)

    def from_backend(self, identity: bytes, frames: Sequence[bytes], now_s: float) -> None:
        """Handle a message of a worker or of a stock server."""
        if self.server_registrations.is_server(identity):
            self.servers.message(identity, frames, now_s)
        else:
            self.workers.message(identity, frames, now_s)

    def backend_lost(self, identity: bytes, now_s: float, *, is_timeout: bool = False) -> None:
        """Take note that the connection of a worker or of a stock server is gone.

        Args:
            identity: whose.
            now_s: monotonic seconds.
            is_timeout: whether the peer did not answer ZeroMQ's heartbeats.
        """
        if self.server_registrations.is_server(identity):
            self.server_registrations.lost(identity, counters.HEARTBEAT if is_timeout else counters.EXIT, now_s)
        else:
            self.workers.lost(identity, now_s)

    def plan_saved(self, changes: int, *, is_on_disk: bool) -> None:
        """Take note that the deployment plan was saved: administrators who wait for that get their answers.

        Args:
            changes: how many changes the plan had (`TrackedPlan.changes`).
            is_on_disk: whether it is in the state file; if not, it ends with this broker.
        """
        self.counters.state_file[WRITE] += not is_on_disk
        self.deployment.plan.mark_saved(changes)
        self.admin.plan_saved(changes)

    def tick(self, now_s: float) -> None:
        """Do what is due: heartbeats, PINGs, and the end of calls that have waited or run for too long."""
        self.calls.send_due_heartbeats(now_s)
        self.workers.ping_if_due(now_s)
        self.workers.release_draining_workers(now_s)
        self.servers.tick(now_s)
        self.clients.cancel_abandoned_if_due(now_s)
        self._deadlines.refuse_unserved(now_s)
        self._deadlines.check_if_due(now_s)
        self._unread_streams.make_room_if_due(now_s)
        self.deployment.advance(now_s)
        self._forgetter.advance_if_due(now_s)
        self.admin.send_heartbeats_if_due(now_s)

    def repair(self, now_s: float) -> int:
        """Make the tables whole again after an exception that nobody foresaw; return how many calls it has ended."""
        return self._repairer.repair(now_s)

    def dispatch(self, now_s: float) -> float:
        """Dispatch waiting calls to workers.

        The loop calls it after it has handled all messages that arrived together, so that they form batches.

        Returns:
            The monotonic time of the next `dispatch` at the latest.
        """
        is_registering = self.workers.continue_registrations(now_s)
        next_s = self._scheduler.dispatch(now_s)
        return now_s if is_registering else next_s
