"""The calls of one client as a state machine: events in, events to send out. It knows no socket, thread or clock.

Times are arguments, in monotonic seconds.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from zerorpc_cluster import events
from zerorpc_cluster.errors import ClientError, ConnectionLostError, RemoteError, StreamMismatchError

SILENT_INTERVALS = 2
"""A call fails when its server has been silent for this many heartbeat intervals, as in zerorpc's own client."""


def _ignore() -> None:
    pass


class Call:
    """One call, or one attempt of it.

    Attributes:
        id: what its events name it by.
        procedure: what it calls.
        is_stream: whether it expects a stream.
        event: its first event until that has been sent; then None.
        items: received items of the stream that nobody has taken yet.
        result: of a call that has ended without an error.
        error: why it has failed; None otherwise.
        is_done: whether its last event has come, or it has failed.
        wake: called after each change, with the lock of the client held.
    """

    __slots__ = (
        "error",
        "event",
        "id",
        "is_done",
        "is_stream",
        "items",
        "last_heard_s",
        "last_sent_s",
        "procedure",
        "result",
        "slots",
        "wake",
    )

    def __init__(self, call: bytes, procedure: str, event: bytes, *, is_stream: bool) -> None:
        self.id = call
        self.procedure = procedure
        self.is_stream = is_stream
        self.event: bytes | None = event
        self.items: deque[Any] = deque()
        self.result: Any = None
        self.error: ClientError | None = None
        self.is_done = False
        self.wake: Callable[[], None] = _ignore
        self.slots = 1  # items that the server may still send; every sender begins with one
        self.last_heard_s = self.last_sent_s = 0.0  # set when it is sent

    @property
    def is_settled(self) -> bool:
        """Whether the caller need not wait: there is an item, a result or an error."""
        return self.is_done or bool(self.items)

    def stop_waking(self) -> None:
        """Forget the function to wake."""
        self.wake = _ignore


class Calls:
    """The open calls.

    Attributes:
        open: by id, those that have no last event yet.
    """

    def __init__(self, own_ids: Iterator[bytes], heartbeat_s: float | None, slots: int) -> None:
        """Begin without calls.

        Args:
            own_ids: ids for heartbeats and other events of open calls.
            heartbeat_s: time between two heartbeats of a call, in seconds; None for no heartbeats.
            slots: most items of a stream that may wait.
        """
        self.open: dict[bytes, Call] = {}
        self._heartbeat_s = heartbeat_s
        self._slots = slots
        self._unsent: dict[bytes, Call] = {}  # in their order
        self._later: list[bytes] = []  # heartbeats, slots and cancellations for the present connection
        self._own_ids = own_ids

    # -- what the caller does -------------------------------------------------------------------------------------

    def add(self, call: Call) -> None:
        """Begin a call. It is sent as soon as there is a connection."""
        self.open[call.id] = call
        self._unsent[call.id] = call

    def take_item(self, call: Call) -> Any:
        """Return the next item of a stream, and announce slots when half of them are used."""
        item = call.items.popleft()
        free = self._slots - len(call.items) - call.slots
        if not call.is_done and free >= self._slots // 2:
            call.slots += free
            self._send_later(call, events.MORE, [free])
        return item

    def abandon(self, call: Call, error: ClientError | None = None) -> None:
        """End a call whose caller does not wait any more, and tell the server.

        Args:
            call: the call; nothing happens if it has ended.
            error: why; by default, the caller has left.
        """
        if call.is_done:
            return
        if call.event is None:
            self._send_later(call, events.CANCEL, [])
        self._fail(call, error or ClientError(f"{call.procedure}: the caller has left"))

    def fail_all(self, error: Callable[[Call], ClientError]) -> None:
        """Fail every open call."""
        for call in list(self.open.values()):
            self._fail(call, error(call))

    # -- the connection -------------------------------------------------------------------------------------------

    @property
    def has_unsent(self) -> bool:
        """Whether there is something to send."""
        return bool(self._unsent or self._later)

    def take_unsent(self, now_s: float) -> list[bytes]:
        """Return the events to send, for a connection that takes them now."""
        taken, self._later = self._later, []
        for call in self._unsent.values():
            assert call.event is not None
            taken.append(call.event)
            call.event = None
            call.last_heard_s = call.last_sent_s = now_s
        self._unsent.clear()
        return taken

    def receive(self, event: bytes, now_s: float) -> None:
        """Take an event of the server.

        Raises:
            BadEventError: if it is not an event that belongs to a call.
        """
        answer = events.decode(event)
        call = self.open.get(answer.call)
        if call is None:
            return  # it has been abandoned
        call.last_heard_s = now_s
        if answer.name == events.HEARTBEAT:
            return
        if answer.name == events.ERR:
            self._fail(call, RemoteError(*events.decode_error(answer.arguments)))
        elif (answer.name in (events.STREAM, events.STREAM_DONE)) != call.is_stream:
            self.abandon(call, _mismatch(call))
        elif answer.name == events.STREAM:
            call.slots -= 1
            call.items.append(answer.arguments)
            call.wake()
        elif answer.name in (events.OK, events.STREAM_DONE):
            # The server wraps the result of a call in a list of one, and sends the items of a stream as they are.
            if answer.name == events.OK:
                call.result = answer.arguments[0] if isinstance(answer.arguments, list) and answer.arguments else None
            self._end(call)

    def disconnected(self, reason: str) -> None:
        """Fail the calls that had been sent on a connection that has ended. The others wait for the next one.

        Args:
            reason: why it has ended, as part of a sentence.
        """
        self._later.clear()
        for call in list(self.open.values()):
            if call.event is None:
                text = f"{call.procedure}: {reason} before the answer came; the call may have been executed"
                self._fail(call, ConnectionLostError(text, not_executed=False))

    def tick(self, now_s: float) -> bool:
        """Send the heartbeats that are due, and fail calls of a silent server; return whether there was such a call."""
        if self._heartbeat_s is None:
            return False
        silence_s = SILENT_INTERVALS * self._heartbeat_s
        is_silent = False
        for call in list(self.open.values()):
            if call.event is not None:
                continue
            if now_s - call.last_heard_s > silence_s:
                text = (
                    f"{call.procedure}: the server has shown no sign of life for {silence_s:g} s; "
                    "the call may have been executed"
                )
                self.abandon(call, ConnectionLostError(text, not_executed=False))
                is_silent = True
            elif now_s - call.last_sent_s >= self._heartbeat_s:
                call.last_sent_s = now_s
                self._send_later(call, events.HEARTBEAT, 0)
        return is_silent

    # -- helpers --------------------------------------------------------------------------------------------------

    def _send_later(self, call: Call, name: str, argument: Any) -> None:
        self._later.append(events.encode_later(next(self._own_ids), call.id, name, argument))

    def _fail(self, call: Call, error: ClientError) -> None:
        call.error = error
        self._end(call)

    def _end(self, call: Call) -> None:
        call.is_done = True
        del self.open[call.id]
        self._unsent.pop(call.id, None)
        call.wake()


def _mismatch(call: Call) -> StreamMismatchError:
    if call.is_stream:
        return StreamMismatchError(f"{call.procedure} answers with one result, not with a stream: use call()")
    return StreamMismatchError(f"{call.procedure} answers with a stream: use stream()")
