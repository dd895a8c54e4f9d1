"""The messages of stock ZeroRPC servers that have connected to the backend. The broker is a client to each of them."""

from collections.abc import Sequence

from broker.core import errors
from broker.core.handlers.answers import ANSWERS, Answers, unreadable
from broker.core.handlers.introductions import Introductions
from broker.core.handlers.server_registration import ServerRegistrations
from broker.core.scheduling.silence import Silence
from broker.core.state import counters
from broker.core.state.call_table import CallTable
from broker.core.state.calls import Call
from broker.core.state.conversations import Conversations
from broker.core.state.counters import Counters
from broker.core.state.services import Server
from cluster.wire import events, server_events
from cluster.wire.events import BadFrameError
from cluster.wire.server_events import ServerEvent

_NO_CONVERSATION = b"", 0


class ServerHandler:
    """Handles the messages of stock servers.

    Attributes:
        registrations: the servers.
    """

    def __init__(
        self,
        registrations: ServerRegistrations,
        calls: CallTable,
        answers: Answers,
        silence: Silence,
        conversations: Conversations,
        counts: Counters,
    ) -> None:
        self.registrations = registrations
        self._calls = calls
        self._answers = answers
        self._silence = silence
        self._conversations = conversations
        self._counters = counts

    def tick(self, now_s: float) -> None:
        """Do what is due: for servers that are new, that say nothing, or that have gone."""
        self.registrations.tick(now_s)
        self._silence.check_if_due(now_s)

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
        number, attempt = self._conversations.ids.decode(event.response_to) or _NO_CONVERSATION
        server = self.registrations.server(identity)
        if server is not None:
            self._silence.on_event(server, now_s)
            call = self._calls.in_flight[server].get(number)
            if call is not None and call.deaths == attempt:
                self._event(server, call, event, payload, now_s)
                return
        if Introductions.is_question(number):
            self._answer_to_question(identity, server, number, event, payload, now_s)
        elif event.name in ANSWERS:
            self._counters.late_replies += 1
        elif event.name not in (events.ZPC_HEARTBEAT, events.ZPC_MORE):  # of a call that has just ended
            self._counters.bad_frames["worker_event"] += 1

    def _answer_to_question(
        self, identity: bytes, server: Server | None, number: bytes, event: ServerEvent, payload: bytes, now_s: float
    ) -> None:
        introductions = self.registrations.introductions
        if server is not None and introductions.take_pong(identity, number, event):
            self._silence.on_pong(server, now_s)
        else:
            introductions.take(identity, number, event, payload, now_s)

    def _event(self, server: Server, call: Call, event: ServerEvent, payload: bytes, now_s: float) -> None:
        """Handle an event of a call that the server has not answered."""
        batch = call.batch
        assert batch is not None
        batch.server_version = event.version
        if event.name == events.ZPC_HEARTBEAT:
            self._silence.on_heartbeat(server, call, now_s)
            if call.is_with_worker:
                self._conversations.answer_heartbeat(batch, call)
            return
        batch.heard_s = now_s
        if event.name not in ANSWERS:
            if event.name != events.ZPC_MORE:  # room for events of the client, which sends none after the first
                self._counters.bad_frames["worker_event"] += 1
        elif self._answers.is_dropped(call, event.name, len(payload), now_s):
            pass
        elif call.slots <= 0 and call.client is not None:
            # The client's channel would break at an event more than it has room for.
            self._counters.bad_frames["worker_event"] += 1
            self._answers.refuse(call, event.name, errors.unasked_items(server.description.id), now_s)
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
