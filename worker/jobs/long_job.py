"""Jobs of `<qualified_name>_predict_batch` and `_predict_stream`: one call with many outputs, computed in turns."""

import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Generator

import msgpack

from cluster.wire import events, protocol
from cluster.wire.events import BadArgumentsError
from worker.http.metrics import ERROR, OK
from worker.jobs.job import CANCELLED, Answer, Call, Job, Registration, refusal
from worker.jobs.prediction import FailedError, Prediction, ResultTooLarge, check_size, ok_event

TURN_S = 0.005
"""How long such a call may go on, batch after batch of the model, before others have their turns, in seconds."""

Outputs = Generator[list[bytes], None, None]

Source = Callable[[Call], Outputs]
"""Makes the packed outputs of a call, some at a time (`Prediction.of_rows`, `Prediction.of_stream`)."""

_ROOM_FOR_HEADS = 64
"""More bytes than stand before the outputs in the event that has them all."""

_STREAM_HEAD = events.encode_worker_event(events.STREAM, None)[:-1]
_STREAM_DONE = events.encode_worker_event(events.STREAM_DONE, None)


class LongCall(Job):
    """One call whose answer is made of many outputs."""

    def __init__(
        self, registration: Registration, procedure: str, prediction: Prediction, call: Call, source: Source
    ) -> None:
        super().__init__(registration, procedure, prediction.model.description, [call])
        self._call = call
        self._prediction = prediction
        self._source = source
        self._outputs: Outputs | None = None
        self._last: Answer | None = None  # once everything has been computed

    @property
    def wants_to_run(self) -> bool:
        """Until everything has been computed, as far as there is room for it."""
        return self._last is None and (self._has_room or self._is_unwanted(self._call))

    def _run(self) -> None:
        if self._is_unwanted(self._call):
            self._give_up()
            return
        if self._outputs is None:
            self._prediction.metrics.begin(1)
            self._outputs = self._source(self._call)
        until_s = time.monotonic() + TURN_S
        try:
            while self._has_room:
                self._keep(next(self._outputs))
                if time.monotonic() >= until_s:
                    return
        except StopIteration:
            self._prediction.metrics.end({OK: 1})
            self._last = protocol.REPLY, self._success()
        except FailedError as failed:
            where = self._where(failed.place) if failed.place is not None else ""
            event, outcome = self._prediction.error(failed.error, where)
            self._prediction.metrics.end({outcome: 1})
            self._last = protocol.REPLY, event
        except BadArgumentsError as error:
            self._prediction.metrics.give_up(1)
            self._last = refusal(self.procedure, error)

    def _give_up(self) -> None:
        if self._outputs is not None:
            self._prediction.metrics.give_up(1)
            self._outputs.close()
        self._last = CANCELLED

    def _fail(self, answer: Answer) -> None:
        metrics = self._prediction.metrics
        if self._outputs is None:
            metrics.begin(1)
        metrics.end({ERROR: 1})
        self._last = answer

    @property
    @abstractmethod
    def _has_room(self) -> bool:
        """Whether more outputs are wanted now."""

    @abstractmethod
    def _keep(self, packed: list[bytes]) -> None:
        """Some more outputs."""

    @abstractmethod
    def _success(self) -> bytes:
        """The last event, if nothing went wrong."""

    @abstractmethod
    def _where(self, place: int) -> str:
        """What is to stand before the text of an error at that output."""


class RowsCall(LongCall):
    """A list of rows, answered with the list of their outputs."""

    def __init__(self, registration: Registration, procedure: str, prediction: Prediction, call: Call) -> None:
        super().__init__(registration, procedure, prediction, call, prediction.of_rows)
        self._count = 0
        self._packed = bytearray()

    @property
    def is_over(self) -> bool:
        """There is one answer."""
        return self._last is not None

    def take_answers(self) -> list[tuple[bytes, Answer]]:
        """The answer, once it is there."""
        return [(self._call.number, self._last)] if self._last is not None else []

    @property
    def _has_room(self) -> bool:
        return True

    def _keep(self, packed: list[bytes]) -> None:
        self._count += len(packed)
        self._packed += b"".join(packed)
        try:
            check_size(len(self._packed) + _ROOM_FOR_HEADS)
        except ResultTooLarge as error:
            raise FailedError(error, None) from error

    def _success(self) -> bytes:
        return ok_event(msgpack.Packer().pack_array_header(self._count) + self._packed)

    def _where(self, place: int) -> str:
        return f"rows[{place}]: "


class Stream(LongCall):
    """A call that is answered with a stream.

    No more is computed than the reader has room for, but for the rest of a batch of the model.
    """

    def __init__(
        self, registration: Registration, procedure: str, prediction: Prediction, call: Call, source: Source
    ) -> None:
        super().__init__(registration, procedure, prediction, call, source)
        self._slots = 1  # a sender starts with one (zerorpc `BufferedChannel`)
        self._items: deque[bytes] = deque()
        self._is_over = False

    def add_slots(self, slots: int) -> None:
        """The reader has room for so many more events."""
        self._slots += slots

    @property
    def is_over(self) -> bool:
        """Whether its last event has been taken."""
        return self._is_over

    def take_answers(self) -> list[tuple[bytes, Answer]]:
        """As many items as the reader has room for, and after the last of them the end."""
        answers: list[tuple[bytes, Answer]] = []
        number = self._call.number
        is_unwanted = self._is_unwanted(self._call)
        if is_unwanted:
            self._items.clear()
        while self._items and self._slots:
            self._slots -= 1
            answers.append((number, (protocol.REPLY, _STREAM_HEAD + self._items.popleft())))
        if self._last is not None and not self._items and (self._slots or is_unwanted) and not self._is_over:
            self._is_over = True
            answers.append((number, self._last))
        return answers

    @property
    def _has_room(self) -> bool:
        return len(self._items) < self._slots

    def _keep(self, packed: list[bytes]) -> None:
        self._items.extend(packed)

    def _success(self) -> bytes:
        return _STREAM_DONE

    def _where(self, place: int) -> str:
        return ""  # the reader has counted the items
