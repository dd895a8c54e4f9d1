"""One model's predictions: rows in, events out, each timed and counted. Knows no socket, no thread, no call."""

import logging
import time
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from itertools import islice
from typing import Any

import msgpack

from cluster.wire import events
from worker.http.metrics import ERROR, INVALID_INPUT, OK, ModelMetrics
from worker.jobs.job import Call
from worker.models.models import HostedModel
from worker.models.values import plain

log = logging.getLogger(__name__)

VALIDATION_EXCEPTION = "MLModelSchemaValidationException"
"""By name: a model may raise its own library's exception of that name (ml_base has one)."""

MAX_RESULT_BYTES = 64 * 1024 * 1024
"""Largest result that is sent, in bytes."""

MAX_TEXT = 16 * 1024
"""Longest text of an error that is sent, in characters."""

_OK_HEAD = events.encode_worker_event(events.OK, [None])[:-1]
"""Of an OK, all that stands before its value."""


class ResultTooLarge(Exception):  # noqa: N818 - callers see the name
    """A model's result is larger than what is sent."""


class FailedError(Exception):
    """A model failed at one of several rows or items.

    Attributes:
        error: what it raised.
        place: how many came before; None if it is not the fault of one of them.
    """

    def __init__(self, error: BaseException, place: int | None) -> None:
        super().__init__(error, place)
        self.error = error
        self.place = place


class Prediction:
    """What all procedures of one model do."""

    def __init__(self, model: HostedModel, metrics: ModelMetrics, *, expose_tracebacks: bool) -> None:
        """Build.

        Args:
            model: the loaded model.
            metrics: where it is counted.
            expose_tracebacks: whether an ERR carries the traceback to the caller.
        """
        self.model = model
        self.metrics = metrics
        self._expose_tracebacks = expose_tracebacks
        self._logged_s = float("-inf")

    # -- calls of one row each --------------------------------------------------------------------------------------

    def argument(self, call: Call) -> Any:
        """A call's only argument.

        Raises:
            BadArgumentsError: if it cannot be read, or there is not just one.
        """
        arguments = events.read_arguments(call.payload, call.event.args_at)
        if len(arguments) != 1:
            raise events.BadArgumentsError(f"1 argument is taken, {len(arguments)} given")
        return arguments[0]

    def answers(self, rows: list[Any]) -> list[bytes]:
        """For each row the event with its output, or with what the model raised. Nothing is raised here."""
        self.metrics.begin(len(rows))
        outputs = self._outputs(rows)
        pack = msgpack.Packer(default=plain).pack
        answers: list[bytes] = []
        outcomes: Counter[str] = Counter()
        for output in outputs:
            wrong = output if isinstance(output, BaseException) else None
            if wrong is None:
                try:
                    answers.append(ok_event(pack(output)))
                except Exception as error:  # what msgpack cannot carry, or is too large
                    wrong = error
            if wrong is not None:
                answer, outcome = self.error(wrong)
                outcomes[outcome] += 1
                answers.append(answer)
        outcomes[OK] = len(rows) - outcomes.total()
        self.metrics.end(outcomes)
        return answers

    # -- calls of many rows -----------------------------------------------------------------------------------------

    def of_rows(self, call: Call) -> Generator[list[bytes], None, None]:
        """The packed outputs of a call's rows, in order, a batch of the model at a time.

        Raises:
            BadArgumentsError: if the call's only argument is no array of rows.
            FailedError: where the model refuses a row, after the outputs of those before it.
        """
        rows = events.read_rows(call.payload, call.event.args_at)
        call.payload = b""  # it may be large, and the stream long
        done = 0
        while batch := list(islice(rows, self.model.description.max_batch_size)):
            packed: list[bytes] = []
            failed: FailedError | None = None
            pack = msgpack.Packer(default=plain).pack
            for output in self._outputs(batch):
                try:
                    if isinstance(output, BaseException):
                        raise output
                    packed.append(_checked(pack(output)))
                except BaseException as error:
                    failed = FailedError(error, done + len(packed))
                    break
            yield packed
            if failed is not None:
                raise failed
            done += len(batch)

    def of_stream(self, call: Call) -> Generator[list[bytes], None, None]:
        """The packed items of the model's own `predict_stream`, one at a time.

        Raises:
            BadArgumentsError: if the call's argument cannot be read.
            FailedError: where the model raises.
        """
        data = self.argument(call)
        call.payload = b""
        stream = self.model.predict_stream
        assert stream is not None
        items: Iterator[Any] | None = None
        done = 0
        try:
            while True:
                try:
                    if items is None:
                        items = iter(stream(data))
                    started_s = time.perf_counter()
                    packed = _checked(msgpack.packb(next(items), default=plain))
                    self.metrics.called(1, time.perf_counter() - started_s)
                except StopIteration:
                    return
                except BaseException as error:
                    raise FailedError(error, done) from error
                yield [packed]
                done += 1
        finally:
            self._close(items)

    # -- both -------------------------------------------------------------------------------------------------------

    def error(self, error: BaseException, where: str = "") -> tuple[bytes, str]:
        """The event that tells a caller of what a model raised, and the outcome that it counts as.

        Args:
            error: what was raised.
            where: put before its text.
        """
        name = type(error).__name__
        outcome = INVALID_INPUT if name == VALIDATION_EXCEPTION else ERROR
        trace = _carried("".join(traceback.format_exception(error)))
        now_s = time.monotonic()
        if outcome == ERROR and now_s - self._logged_s >= 1.0:  # the metrics count them all
            self._logged_s = now_s
            log.warning("%s raised %s\n%s", self.model.description.qualified_name, name, trace)
        return events.encode_worker_error(
            name, where + _text(error), trace if self._expose_tracebacks else None
        ), outcome

    def _close(self, items: object) -> None:
        close = getattr(items, "close", None)  # generators have it
        if close is not None:
            try:
                close()
            except BaseException:
                log.warning("%s: its stream did not close", self.model.description.qualified_name, exc_info=True)

    def _outputs(self, rows: list[Any]) -> list[Any]:
        """What the model returns for each row, or raises."""
        if len(rows) > 1 and self.model.predict_batch is not None:
            try:
                outputs: list[Any] = self._timed(self.model.predict_batch, rows, len(rows))
                return outputs
            except BaseException:  # one bad row must not cost the others their answers
                name = self.model.description.qualified_name
                log.debug("%s: predict_batch raised; the rows go one by one", name, exc_info=True)
        outputs = []
        for row in rows:
            try:
                outputs.append(self._timed(self.model.predict, row, 1))
            except BaseException as error:  # a model that raises SystemExit ends its call, not the worker
                outputs.append(error)
        return outputs

    def _timed(self, function: Callable[[Any], Any], argument: Any, rows: int) -> Any:
        started_s = time.perf_counter()
        try:
            return function(argument)
        finally:
            self.metrics.called(rows, time.perf_counter() - started_s)


def ok_event(packed: bytes) -> bytes:
    """The OK with that value.

    Raises:
        ResultTooLarge: if it is larger than what is sent.
    """
    return _checked(_OK_HEAD + packed)


def check_size(size: int) -> None:
    """Check the size of a result, in bytes.

    Raises:
        ResultTooLarge: if it is larger than what is sent.
    """
    if size > MAX_RESULT_BYTES:
        raise ResultTooLarge(f"the model's result has {size} bytes; at most {MAX_RESULT_BYTES} are sent")


def _checked(packed: bytes) -> bytes:
    check_size(len(packed))
    return packed


def _text(error: BaseException) -> str:
    try:
        return _carried(str(error))
    except Exception:  # a model's own exception class may fail to say what it is
        return ""


def _carried(text: str) -> str:
    """Text as it can be sent: valid, and not as long as an input that it may quote."""
    if len(text) > MAX_TEXT:
        text = f"{text[:MAX_TEXT]}... ({len(text)} characters)"
    return text.encode("utf-8", "replace").decode()
