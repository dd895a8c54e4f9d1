"""The routing core: the whole of the broker but its sockets, its clock and its HTTP pages.

Messages, ticks and failed sends go in, with the time as an argument; what is to be sent comes out of `take_sends`.
There is no socket, no clock and no chance in here, so the core can be run through years of faults in a minute.

The way of a call: `frontend` reads its head and either answers at once (errors, introspection) or opens a call
(`call`) and queues it with its service. `dispatch` gives it to the worker with the most room. From then on the
call belongs to that worker: `backend` passes its events on to the client until OK, ERR or STREAM_DONE. Whatever
is to be sent meets in the `outbox`.

Models come and go by way of `admin`, where it is asked for, and `deployment`, which has workers carry it out.
"""

from collections.abc import Sequence

from broker.core.deployment.deployment import Deployment
from broker.core.handlers.admin import Admin
from broker.core.handlers.clients import ClientHandler
from broker.core.handlers.workers import WorkerHandler
from broker.core.introspection import builtins as introspection
from broker.core.scheduling.scheduler import Limits, Scheduler
from broker.core.state.calls import CallTable
from broker.core.state.counters import Counters
from broker.core.state.outbox import Outbox, ToClient, ToWorker
from broker.core.state.plan import Plan
from broker.core.state.registry import Registry


class Core:
    """The state of the broker.

    Attributes:
        registry: workers, services and procedures.
        counters: what is counted beside them.
        calls: those whose client waits.
        deployment: which models are hosted beside those of the workers' configurations.
        again_s: when to take sends again at the latest, in monotonic seconds.
    """

    def __init__(self, *, max_message_bytes: int, limits: Limits, plan: Plan | None = None) -> None:
        """Build an empty broker.

        Args:
            max_message_bytes: events of clients beyond this are answered `MessageTooLarge`.
            limits: how much may wait, and how long.
            plan: which models are hosted beside those that the workers' configurations name, from a former broker.
        """
        self.registry = Registry(introspection.own_procedures())
        self.counters = Counters()
        self.again_s = float("inf")
        self._outbox = Outbox()
        self.calls = CallTable(self._outbox, self.counters, unread_patience_s=limits.unread_patience_s)
        self._scheduler = Scheduler(self.registry, self.calls, self.counters, self._outbox, limits)
        self._frontend = ClientHandler(
            self.registry,
            self.calls,
            self._scheduler,
            self.counters,
            self._outbox,
            max_message_bytes=max_message_bytes,
        )
        self.deployment = Deployment(self.registry, self._scheduler, self._outbox, plan or Plan())
        self._backend = WorkerHandler(
            self.registry, self.calls, self._scheduler, self.deployment, self.counters, self._outbox
        )
        self._admin = Admin(self.deployment, self._outbox)

    @property
    def draining(self) -> bool:
        """Whether new calls are refused because the broker is about to stop."""
        return self._scheduler.draining

    def client_message(self, identity: bytes, frames: Sequence[bytes], now_s: float) -> None:
        """A message from the frontend, without the identity that came first in it."""
        self._frontend.message(identity, frames, now_s)

    def worker_message(self, identity: bytes, frames: Sequence[bytes], now_s: float) -> None:
        """A message from the backend, without the identity that came first in it."""
        self._backend.message(identity, frames, now_s)

    def admin_message(self, identity: bytes, frames: Sequence[bytes], now_s: float) -> None:
        """A message from the administrators' address, without the identity that came first in it."""
        self._admin.message(identity, frames, now_s)

    def admin_lost(self, identity: bytes) -> None:
        """A send to the administrator failed."""
        self._admin.client_lost(identity)

    def client_lost(self, identity: bytes, reason: str, now_s: float) -> None:
        """A send to the client failed.

        Args:
            identity: the client's.
            reason: `counters.UNREACHABLE`, or `counters.STALLED` for one that does not read.
            now_s: monotonic seconds.
        """
        self._frontend.client_lost(identity, reason, now_s)

    def worker_lost(self, identity: bytes, now_s: float) -> None:
        """The worker's connection has ended: it has exited, or was silent for so long that it was given up."""
        self._backend.worker_lost(identity, now_s)

    def tick(self, now_s: float) -> None:
        """Do what is due: heartbeats, signs of life, and the end of what has waited or run for too long."""
        self.calls.send_due_heartbeats(now_s)
        self._backend.ping_if_due(now_s)
        self._backend.release_draining_workers(now_s)
        self._frontend.cancel_abandoned_if_due(now_s)
        self._scheduler.refuse_unserved(now_s)
        self._scheduler.expire_if_due(now_s)
        self.deployment.go_on(now_s)
        self._admin.send_heartbeats_if_due(now_s)

    def drain(self) -> None:
        """Refuse new calls from now on; those that are open go on."""
        self._scheduler.draining = True

    def reset_workers(self) -> None:
        """Tell the workers that this broker knows them no longer, so that they look for the next one at once."""
        self._backend.reset_workers()

    def take_sends(self, now_s: float) -> tuple[list[ToClient], list[ToWorker]]:
        """What is to be sent now, to clients and to workers; each is handed out once.

        Work is given out here and not as it arrives, so that what arrived together goes in one message.
        """
        self.again_s = self._scheduler.dispatch(now_s)
        return self._outbox.take()

    def take_admin_sends(self) -> list[ToClient]:
        """What is to be sent to administrators; each is handed out once."""
        return self._outbox.take_admins()

    def take_plan(self) -> Plan | None:
        """What a next broker has to know, if that has changed since it was last taken. To be kept before any answer."""
        return self.deployment.take_plan()

    def take_notes(self) -> list[str]:
        """What a person should read in the log, a line each; each is handed out once."""
        return self._outbox.take_notes()
