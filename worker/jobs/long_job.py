"""The jobs of `<qualified_name>_predict_batch` and `_predict_stream`: one call with many outputs, computed in turns."""

import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Generator

import msgpack

from cluster.wire import events, protocol
from cluster.wire.arguments import BadArgumentsError
from worker.jobs.calls import Answer, Call, Registration
from worker.jobs.counters import ERROR, OK
from worker.jobs.errors import CANCELLED, ResultTooLarge, bad_request
from worker.jobs.job import Job
from worker.jobs.prediction import FailedError, Prediction, check_size, ok_event

TURN_S = 0.005
"""Longest run before other jobs have their turn, in seconds. A run ends after a whole batch of the model."""

Outputs = Generator[list[bytes], None, None]

Source = Callable[[Call], Outputs]
"""Yields the packed outputs of a call, some at a time (`Prediction.rows_outputs`, `Prediction.stream_outputs`)."""

_MAX_HEAD_BYTES = 64
"""More bytes than stand before the outputs in the event that has them all."""

_STREAM_HEAD = events.encode_worker_event(events.STREAM, None)[:-1]
_STREAM_DONE = events.encode_worker_event(events.STREAM_DONE, None)


class LongJob(Job):
    """One call whose answer is made of many outputs."""

    def __init__(
        self, registration: Registration, procedure: str, prediction: Prediction, call: Call, source: Source
    ) -> None:
        super().__init__(registration, procedure, prediction, [call])
        self._call = call
        self._source = source
        self._outputs: Outputs | None = None
        self._final: Answer | None = None  # set when everything has been computed

    @property
    def has_more_work(self) -> bool:
        """Whether outputs are left to compute, and the reader can take more."""
        return self._final is None and (self._has_capacity or self._is_cancelled(self._call))

    def _run(self) -> None:
        if self._is_cancelled(self._call):
            self._cancel()
            return
        if self._outputs is None:
            self.prediction.counters.on_calls_started(1)
            self._outputs = self._source(self._call)
        until_s = time.monotonic() + TURN_S
        try:
            while self._has_capacity:
                self._keep(next(self._outputs))
                if time.monotonic() >= until_s:
                    return
        except StopIteration:
            self.prediction.counters.on_calls_ended(OK, 1)
            self._final = protocol.REPLY, self._success()
        except FailedError as failed:
            prefix = self._error_prefix(failed.index) if failed.index is not None else ""
            event, outcome = self.prediction.error_event(failed.error, prefix)
            self.prediction.counters.on_calls_ended(outcome, 1)
            self._final = protocol.REPLY, event
        except BadArgumentsError as error:
            self.prediction.counters.on_calls_dropped(1)
            self._final = bad_request(self.procedure, error)

    def _cancel(self) -> None:
        if self._outputs is not None:
            self.prediction.counters.on_calls_dropped(1)
            self._outputs.close()
        self._final = CANCELLED

    def _fail(self, answer: Answer) -> None:
        counters = self.prediction.counters
        if self._outputs is None:
            counters.on_calls_started(1)
        counters.on_calls_ended(ERROR, 1)
        self._final = answer

    @property
    @abstractmethod
    def _has_capacity(self) -> bool:
        """Whether the job can take more outputs now."""

    @abstractmethod
    def _keep(self, packed: list[bytes]) -> None:
        """Take some more outputs."""

    @abstractmethod
    def _success(self) -> bytes:
        """The last event, if no error occurred."""

    @abstractmethod
    def _error_prefix(self, index: int) -> str:
        """The text that stands before that of an error at that output."""


class RowsJob(LongJob):
    """A list of rows, answered with the list of their outputs."""

    def __init__(self, registration: Registration, procedure: str, prediction: Prediction, call: Call) -> None:
        super().__init__(registration, procedure, prediction, call, prediction.rows_outputs)
        self._count = 0
        self._packed = bytearray()

    @property
    def is_answered(self) -> bool:
        """Whether the only answer is ready."""
        return self._final is not None

    def take_answers(self) -> list[tuple[bytes, Answer]]:
        """The answer, once it is ready."""
        return [(self._call.number, self._final)] if self._final is not None else []

    @property
    def _has_capacity(self) -> bool:
        return True

    def _keep(self, packed: list[bytes]) -> None:
        self._count += len(packed)
        self._packed += b"".join(packed)
        try:
            check_size(len(self._packed) + _MAX_HEAD_BYTES)
        except ResultTooLarge as error:
            raise FailedError(error, None) from error

    def _success(self) -> bytes:
        return ok_event(msgpack.Packer().pack_array_header(self._count) + self._packed)

    def _error_prefix(self, index: int) -> str:
        return f"rows[{index}]: "


class StreamJob(LongJob):
    """A call that is answered with a stream.

    The job computes only as many items as its reader can take, and the rest of the model's batch.
    """

    def __init__(
        self, registration: Registration, procedure: str, prediction: Prediction, call: Call, source: Source
    ) -> None:
        super().__init__(registration, procedure, prediction, call, source)
        self._slots = 1  # a sender starts with one (zerorpc `BufferedChannel`)
        self._items: deque[bytes] = deque()
        self._is_answered = False

    def add_slots(self, slots: int) -> None:
        """Let the reader take that many more events."""
        self._slots += slots

    @property
    def is_answered(self) -> bool:
        """Whether the last event has been taken."""
        return self._is_answered

    def take_answers(self) -> list[tuple[bytes, Answer]]:
        """As many items as the reader can take, and after the last item the end of the stream."""
        answers: list[tuple[bytes, Answer]] = []
        number = self._call.number
        is_cancelled = self._is_cancelled(self._call)
        if is_cancelled:
            self._items.clear()
        while self._items and self._slots:
            self._slots -= 1
            answers.append((number, (protocol.REPLY, _STREAM_HEAD + self._items.popleft())))
        if self._final is not None and not self._items and (self._slots or is_cancelled) and not self._is_answered:
            self._is_answered = True
            answers.append((number, self._final))
        return answers

    @property
    def _has_capacity(self) -> bool:
        return len(self._items) < self._slots

    def _keep(self, packed: list[bytes]) -> None:
        self._items.extend(packed)

    def _success(self) -> bytes:
        return _STREAM_DONE

    def _error_prefix(self, index: int) -> str:
        return ""  # the reader has counted the items
