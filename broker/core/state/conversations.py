"""What the broker says to a worker about a call: in the worker protocol, or to a stock server in ZeroRPC."""

from __future__ import annotations

from collections.abc import Sequence

from broker.core.state.calls import Batch, Call
from broker.core.state.outbox import Outbox
from broker.core.state.pool import Worker
from broker.core.state.services import Server
from cluster.wire import events, protocol, server_events
from cluster.wire.pairs import write_pairs
from cluster.wire.server_events import ConversationIds

_DELIMITER = b""  # stands before a ZeroRPC event


class Conversations:
    """Sends workers their calls, and what happens to the calls afterwards.

    Attributes:
        ids: the ids by which stock servers know the calls.
    """

    def __init__(self, outbox: Outbox, instance: bytes) -> None:
        """Build.

        Args:
            outbox: takes the messages.
            instance: makes the ids of this broker different from those of others (`ConversationIds`).
        """
        self._outbox = outbox
        self.ids = ConversationIds(instance)

    def begin(self, calls: Sequence[Call], worker: Worker, now_s: float) -> None:
        """Send a batch to the worker that it has been dispatched to, and the slots that its clients have announced."""
        if isinstance(worker, Server):
            for call in calls:
                self._begin_at_server(call, worker, now_s)
        else:
            pairs = [(call.number, call.event) for call in calls]
            self._outbox.to_worker(worker.identity, *write_pairs(protocol.WORK, pairs, calls[0].target.work_name))
        for call in calls:
            if call.slots > 1:  # the client announced slots while the call was waiting
                self.more(call, call.slots - 1)

    def _begin_at_server(self, call: Call, server: Server, now_s: float) -> None:
        assert call.batch is not None
        call.batch.heard_s = call.batch.beat_s = now_s
        self._outbox.to_worker(server.identity, _DELIMITER, server_events.encode_first(call.event, self._id_of(call)))
        if not call.target.procedure.may_retry:
            call.event = b""  # it may be large, and no other server gets it

    def more(self, call: Call, slots: int) -> None:
        """Tell the worker of a call that the client can take that many more events."""
        assert call.batch is not None
        worker = call.batch.replica.worker
        if isinstance(worker, Server):
            event = server_events.encode_slots(self._id_of(call), call.number, slots, call.batch.server_version)
            self._outbox.to_worker(worker.identity, _DELIMITER, event)
        else:
            self._outbox.to_worker(worker.identity, protocol.MORE, call.number, slots.to_bytes(4, "big"))

    def cancel(self, call: Call) -> None:
        """Tell the worker of a call that the client does not wait for it any more.

        To a stock server that says the silence of the broker: it gets no more heartbeats for the call.
        """
        assert call.batch is not None
        self.cancel_at(call.batch.replica.worker, call.number)

    def cancel_at(self, worker: Worker, number: bytes) -> None:
        """Tell a worker that nobody waits for the call of this number."""
        if not isinstance(worker, Server):
            self._outbox.to_worker(worker.identity, protocol.CANCEL, number)

    def answer_heartbeat(self, batch: Batch, call: Call) -> None:
        """Answer a stock server's heartbeat for a call at once, which suits every frequency that it may have."""
        event = server_events.encode_later(self._id_of(call), call.number, events.ZPC_HEARTBEAT, [0])
        self._outbox.to_worker(batch.replica.worker.identity, _DELIMITER, event)

    def ask(self, identity: bytes, number: bytes, name: str, *args: object) -> None:
        """Send a stock server a call of the broker's own.

        Args:
            identity: the server's.
            number: names the conversation; no call has it.
            name: of the procedure.
            args: of the call.
        """
        event = server_events.encode_question(self.ids.encode(number), name, args)
        self._outbox.to_worker(identity, _DELIMITER, event)

    def _id_of(self, call: Call) -> bytes:
        return self.ids.encode(call.number, call.deaths)
