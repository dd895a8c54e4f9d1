"""The messages of stock ZeroRPC servers that have connected to the backend. The broker is a client to each of them."""

from collections.abc import Callable, Sequence

from broker.core import errors
from broker.core.handlers.answers import ANSWERS, Answers, unreadable
from broker.core.handlers.introductions import Introduction, Introductions
from broker.core.scheduling.scheduler import Scheduler
from broker.core.scheduling.silence import LEAST_PATIENCE_S, MISSED_HEARTBEATS, Silence
from broker.core.state import counters
from broker.core.state.access import Access
from broker.core.state.call_table import CallTable
from broker.core.state.calls import Call
from broker.core.state.conversations import Conversations
from broker.core.state.counters import Counters
from broker.core.state.outbox import Outbox
from broker.core.state.registry import Registry
from broker.core.state.services import FORGET_AFTER_S, MAX_METHODS, Method, Server, ServerRules
from cluster.wire import events, server_events
from cluster.wire.arguments import read_slots
from cluster.wire.events import BadFrameError
from cluster.wire.server_events import ServerEvent

_MOST_NOTES = 5
"""Methods of one server that the log names when they cannot be called; the rest is only counted."""

_FORGET_INTERVAL_S = 1.0


class ServerHandler:
    """Handles the messages of stock servers.

    Attributes:
        address_of: returns where the server of an identity connects from.
        name_of: returns the name of its key; empty if it has none.
    """

    def __init__(
        self,
        registry: Registry,
        calls: CallTable,
        scheduler: Scheduler,
        answers: Answers,
        silence: Silence,
        conversations: Conversations,
        counts: Counters,
        outbox: Outbox,
        access: Access,
        rules: ServerRules,
    ) -> None:
        self.address_of: Callable[[bytes], str] = lambda _: ""
        self.name_of: Callable[[bytes], str] = lambda _: ""
        self._registry = registry
        self._calls = calls
        self._scheduler = scheduler
        self._answers = answers
        self._conversations = conversations
        self._counters = counts
        self._outbox = outbox
        self._access = access
        self._rules = rules
        self._introductions = Introductions(conversations, outbox, self._introduced)
        self._silence = silence
        silence.ping = self._ping
        self._connected: dict[bytes, None] = {}  # the identities of all stock servers, those that are refused too
        self._registered = 0
        self._forgotten_s = float("-inf")

    # -- servers that come and go ---------------------------------------------------------------------------------

    def joined(self, identity: bytes, now_s: float) -> None:
        """Ask a stock server that has connected for its methods. It waits for the broker to speak first."""
        self._connected[identity] = None
        self._introductions.begin(identity, now_s)

    def is_server(self, identity: bytes) -> bool:
        """Whether the peer of an identity is a stock server."""
        return identity in self._connected

    def lost(self, identity: bytes, now_s: float) -> None:
        """Forget a server whose connection is gone, and end or retry its calls."""
        if self._connected.pop(identity, b"") == b"":
            return  # its loss has been handled
        self._introductions.lost(identity)
        server = self._server(identity)
        if server is not None:
            self._scheduler.drop_worker(server, counters.EXIT, now_s)

    def access_changed(self, now_s: float) -> None:
        """Refuse the servers whose service their keys may not offer any more; ask those again that were refused."""
        for identity in list(self._connected):
            server = self._server(identity)
            if server is None:
                self._introductions.begin(identity, now_s)
            elif (objection := self._access.hosting_objection(server.key_name, [server.service])) is not None:
                self._scheduler.drop_worker(server, counters.EVICTED, now_s)
                self._note_refusal(identity, objection)

    def _server(self, identity: bytes) -> Server | None:
        server = self._registry.workers.get(identity)
        return server if isinstance(server, Server) else None

    def _introduced(self, one: Introduction, now_s: float) -> None:
        """Register a server that has described itself, unless it must not be."""
        objection = one.objection
        if not objection:
            assert one.service is not None
            objection = self._access.hosting_objection(self.name_of(one.identity), [one.service]) or ""
        if objection:
            self._note_refusal(one.identity, objection)
            return
        assert one.service is not None
        usable = self._usable(one.service, one)
        if usable and not self._registry.services.has_room_for(one.service, usable):
            self._forget_unserved(now_s, 0.0)
        if not usable:
            self._note_refusal(one.identity, f"service {one.service!r} has no method that can be called")
        elif not self._registry.services.has_room_for(one.service, usable):
            self._note_refusal(one.identity, f"the services have {MAX_METHODS} methods already")
        else:
            self._register(one, one.service, usable, now_s)

    def _usable(self, service: str, one: Introduction) -> list[Method]:
        """Return the methods that can be called, and log why others cannot."""
        usable: list[Method] = []
        objections: list[str] = []
        for method in one.methods():
            objection = self._registry.services.objection(service, method.name)
            if objection is None:
                usable.append(method)
            else:
                objections.append(objection)
        for objection in objections[:_MOST_NOTES]:
            self._outbox.note(f"a method of service {service!r} cannot be called: {objection}")
        others = len(objections[_MOST_NOTES:]) + one.unusable
        if others:
            self._outbox.note(f"{others} more methods of service {service!r} cannot be called because of their names")
        return usable

    def _register(self, one: Introduction, service: str, usable: list[Method], now_s: float) -> None:
        self._registered += 1
        worker_id = f"{service}-{self._registered}"
        server = Server(one.identity, worker_id, service, self.address_of(one.identity), now_s)
        server.key_name = self.name_of(one.identity)
        self._registry.add_server(server, usable, self._rules, now_s)
        for pool in self._registry.services.by_name[service].all_pools:
            self._scheduler.mark_dirty(pool)
        self._scheduler.reassign_waiting(self._registry.services.by_name[service])
        self._outbox.note(
            f"server {worker_id} registered from {server.description.host or 'this machine'}; it has "
            f"{len(usable)} methods: {', '.join(method.name for method in usable[:_MOST_NOTES])}"
            f"{', ...' if len(usable) > _MOST_NOTES else ''}",
            key=server.key_name,
        )

    def _note_refusal(self, identity: bytes, reason: str) -> None:
        where = self.address_of(identity)
        self._outbox.note(
            f"a ZeroRPC server{f' at {where}' if where else ''} was refused: {reason}", key=self.name_of(identity)
        )

    # -- time -----------------------------------------------------------------------------------------------------

    def tick(self, now_s: float) -> None:
        """Ask servers again, give up calls that they have dropped, and forget services without servers."""
        self._introductions.check(now_s)
        self._silence.check_if_due(now_s)
        if now_s - self._forgotten_s >= _FORGET_INTERVAL_S:
            self._forgotten_s = now_s
            self._forget_unserved(now_s, FORGET_AFTER_S)

    def _forget_unserved(self, now_s: float, least_s: float) -> None:
        services = self._registry.services
        for pool in services.unserved(now_s, least_s):
            if self._calls.queues[pool] or pool.stream_bytes:
                continue
            self._registry.forget_service(pool)
            self._calls.queues.pop(pool, None)
            self._calls.shares.pop(pool, None)

    def _ping(self, server: Server) -> None:
        def answered() -> None:
            server.pong_s = server.last_received_s

        self._introductions.ping(server.identity, answered)

    # -- messages -------------------------------------------------------------------------------------------------

    def message(self, identity: bytes, frames: Sequence[bytes], now_s: float) -> None:
        """Handle a message: an event behind an empty delimiter."""
        if len(frames) != 2 or frames[0]:
            self._counters.bad_frames["envelope"] += 1
            return
        payload = frames[1]
        try:
            event = server_events.read_server_event(payload)
        except BadFrameError as bad:
            self._counters.bad_frames[bad.reason] += 1
            return
        number, attempt = self._conversations.ids.decode(event.response_to) or (b"", 0)
        server = self._server(identity)
        if server is not None:
            server.last_received_s = now_s
            server.is_quiet = False
            call = self._calls.in_flight[server].get(number)
            if call is not None and call.deaths == attempt:
                self._event(call, event, payload, now_s)
                return
        if not self._introductions.take(identity, number, event, payload, now_s):
            self._late(event)

    def _late(self, event: ServerEvent) -> None:
        if event.name in ANSWERS:
            self._counters.late_replies += 1
        elif event.name not in (events.ZPC_HEARTBEAT, events.ZPC_MORE):  # of a call that has just ended
            self._counters.bad_frames["worker_event"] += 1

    def _event(self, call: Call, event: ServerEvent, payload: bytes, now_s: float) -> None:
        """Handle an event of a call that the server has not answered."""
        batch = call.batch
        assert batch is not None
        batch.server_version = event.version
        if event.name == events.ZPC_HEARTBEAT:
            batch.patience_s = max(batch.patience_s or LEAST_PATIENCE_S, MISSED_HEARTBEATS * (now_s - batch.heard_s))
            batch.heard_s = now_s
            if call.is_with_worker:
                self._conversations.answer_heartbeat(batch, call)
            return
        batch.heard_s = now_s
        if event.name == events.ZPC_MORE:
            self._more(call, event, payload)
        elif event.name not in ANSWERS:
            self._counters.bad_frames["worker_event"] += 1
        elif self._answers.is_dropped(call, event.name, len(payload), now_s):
            pass
        elif call.slots <= 0 and call.client is not None:
            # The client's channel would break at an event more than it has room for.
            self._counters.bad_frames["worker_event"] += 1
            self._conversations.cancel(call)
            self._calls.fail(call, *errors.unasked_items(batch.replica.worker.description.id), now_s)
        else:
            self._answer(call, event, payload, now_s)

    def _answer(self, call: Call, event: ServerEvent, payload: bytes, now_s: float) -> None:
        assert event.name is not None
        try:
            to_client = server_events.for_client(payload, event, call.message_id, call.version, call.number)
        except BadFrameError:
            self._counters.bad_frames["worker_event"] += 1
            self._answers.pass_on(call, events.ERR, counters.ERROR, unreadable(call), now_s)
            return
        outcome = counters.ERROR if event.name == events.ERR else counters.OK
        self._answers.pass_on(call, event.name, outcome, to_client, now_s)

    def _more(self, call: Call, event: ServerEvent, payload: bytes) -> None:
        """Pass on how many more events a server can take. A stock client only keeps the number."""
        slots = read_slots(payload, event.args_at)
        if slots is None:
            self._counters.bad_frames["slots"] += 1
        elif call.is_with_worker:
            body = events.pack(events.ZPC_MORE) + events.pack([slots])
            self._calls.send_event(call, events.encode_reply(call.message_id, call.number, body))
