"""Answers: what a worker's event means for its call, whichever protocol the worker speaks."""

from broker.core import errors
from broker.core.errors import Failure
from broker.core.scheduling.scheduler import Scheduler
from broker.core.state import counters
from broker.core.state.call_table import CallTable
from broker.core.state.calls import Call
from broker.core.state.conversations import Conversations
from broker.core.state.counters import Counters
from cluster.wire import events, protocol

ANSWERS = frozenset((events.OK, events.ERR, events.STREAM, events.STREAM_DONE))
"""The events that answer a call."""


class Answers:
    """Passes answers on to clients, and frees the capacity of calls that have ended."""

    def __init__(self, calls: CallTable, scheduler: Scheduler, counts: Counters, conversations: Conversations) -> None:
        self._calls = calls
        self._scheduler = scheduler
        self._counters = counts
        self._conversations = conversations

    def is_dropped(self, call: Call, name: str | None, size: int, now_s: float) -> bool:
        """Drop an event that comes late or is too large; return whether it was dropped.

        Args:
            call: the call that it answers.
            name: the event's name; None if it cannot be decoded.
            size: bytes of the event.
            now_s: monotonic seconds.
        """
        if call.is_over:
            self._counters.late_replies += 1
            if name != events.STREAM:
                self._release(call, now_s)
            return True
        if size > protocol.MAX_RESULT_BYTES:
            self.refuse(call, name, errors.result_too_large(size, protocol.MAX_RESULT_BYTES), now_s)
            return True
        return False

    def pass_on(self, call: Call, name: str, outcome: str, event: bytes, now_s: float) -> None:
        """Send an answer to the client.

        Args:
            call: the call.
            name: the event's name, one of `ANSWERS`.
            outcome: what the call counts as if this ends it.
            event: the event, addressed to the client.
            now_s: monotonic seconds.
        """
        if name == events.STREAM:
            call.slots -= 1
            self._calls.send_event(call, event)
            self._calls.on_item(call, now_s)
        else:
            self._release(call, now_s)
            self._calls.end(call, outcome, now_s, event)

    def refuse(self, call: Call, name: str | None, failure: Failure, now_s: float) -> None:
        """End a call with an error because its client cannot take the event of this name."""
        if name != events.STREAM:
            self._release(call, now_s)
        elif call.client is None:
            return  # the worker has a CANCEL already
        else:
            self._conversations.cancel(call)  # the worker's last event frees the capacity
        if call.client is None:
            self._calls.end(call, counters.ERROR, now_s)
        else:
            self._calls.fail(call, *failure, now_s)

    def _release(self, call: Call, now_s: float) -> None:
        pool = self._calls.release(call, now_s)
        if pool is not None:
            self._scheduler.mark_dirty(pool)


def unreadable(call: Call) -> bytes:
    """Return the error that takes the place of an answer that cannot be decoded, addressed to the client."""
    body = events.encode_error_body(call.version, errors.WORKER_ERROR, errors.UNREADABLE_ANSWER)
    return events.encode_reply(call.message_id, call.number, body)
