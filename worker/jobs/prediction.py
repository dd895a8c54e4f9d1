"""One model's predictions: rows in, events out, each timed and counted. Knows no socket, no thread and no job."""

import logging
import re
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

from cluster.wire import events
from cluster.wire.arguments import read_arguments, read_batches
from cluster.wire.protocol import MAX_RESULT_BYTES
from worker.jobs.calls import Call
from worker.jobs.counters import ERROR, INVALID_INPUT, OK, ModelCounters
from worker.jobs.errors import ResultTooLarge, wrong_argument_count
from worker.models.loaded_model import BatchResultError, LoadedModel
from worker.models.packing import Packer

log = logging.getLogger(__name__)

VALIDATION_EXCEPTION = "MLModelSchemaValidationException"
"""Compared by name, because a model may raise its own library's exception of that name (ml_base has one)."""

MAX_TEXT = 16 * 1024
"""Longest text of an error that is sent, in characters."""

_INTEGER_FOR_FLOAT = re.compile(r"(?<![\w.'])(-?\d{1,20}) should be instance of 'float'")

_OK_HEAD = events.encode_worker_event(events.OK, [None])[:-1]
"""The bytes of an OK before its value."""


class FailedError(Exception):
    """A model failed at one of several rows or items.

    Attributes:
        error: what the model raised.
        index: of the row or item, from 0; None if the error does not belong to one of them.
    """

    def __init__(self, error: BaseException, index: int | None) -> None:
        super().__init__(error, index)
        self.error = error
        self.index = index


class Prediction:
    """What the jobs of all procedures of one model have in common.

    Attributes:
        model: the loaded model.
        key: its name and version.
        counters: count its calls.
    """

    def __init__(self, model: LoadedModel, counters: ModelCounters, *, expose_tracebacks: bool) -> None:
        """Build.

        Args:
            model: the loaded model.
            counters: count its calls.
            expose_tracebacks: whether an ERR carries the traceback to the caller.
        """
        self.model = model
        self.key = model.description.key
        self.counters = counters
        self._expose_tracebacks = expose_tracebacks
        self._logged_s = float("-inf")

    # -- calls of one row each --------------------------------------------------------------------------------------

    def argument(self, call: Call) -> Any:
        """Read a call's only argument.

        Raises:
            BadArgumentsError: if the arguments cannot be read, or are not exactly one.
        """
        arguments = read_arguments(call.payload, call.args_at)
        if len(arguments) != 1:
            raise wrong_argument_count(len(arguments))
        return arguments[0]

    def answers(self, rows: list[Any], decode_again: Callable[[], Iterable[Any]]) -> list[bytes]:
        """Predict, and make the event of each row: an OK, or an ERR with the model's exception. Raises nothing.

        Args:
            rows: at least one. The model may change the list and the rows.
            decode_again: returns the rows as they were sent.
        """
        counters = self.counters
        right = len(rows)
        counters.on_calls_started(right)
        outputs = self._outputs(rows, decode_again)
        pack = Packer().pack
        answers: list[bytes] = []
        for output in outputs:
            wrong = output if isinstance(output, BaseException) else None
            if wrong is None:
                try:
                    answers.append(ok_event(pack(output)))
                    continue
                except Exception as error:  # a client could not read the output, or it is too large
                    wrong = error
            answer, outcome = self.error_event(wrong)
            answers.append(answer)
            counters.on_calls_ended(outcome, 1)
            right -= 1
        if right:
            counters.on_calls_ended(OK, right)
        return answers

    # -- calls of many rows -----------------------------------------------------------------------------------------

    def rows_outputs(self, call: Call) -> Generator[list[bytes], None, None]:
        """Yield the packed outputs of a call's rows, in order, one batch of the model at a time.

        Raises:
            BadArgumentsError: if the call's only argument is not an array of rows.
            FailedError: at the first row that the model refuses, after the outputs of the rows before it.
        """
        batches = read_batches(call.payload, call.args_at, self.model.description.max_batch_size)
        call.payload = b""  # the batches keep it as long as they need it
        done = 0
        for batch in batches:
            packed: list[bytes] = []
            failed: FailedError | None = None
            pack = Packer().pack
            outputs = self._outputs(batch.rows, batch.decode_again)
            for output in outputs:
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
            done += len(outputs)

    def stream_outputs(self, call: Call) -> Generator[list[bytes], None, None]:
        """Yield the packed items of the model's own `predict_stream`, one at a time.

        Raises:
            BadArgumentsError: if the call's argument cannot be read.
            FailedError: where the model raises.
        """
        data = self.argument(call)
        call.payload = b""
        stream = self.model.predict_stream
        assert stream is not None
        items: Iterator[Any] | None = None
        pack = Packer().pack
        done = 0
        try:
            while True:
                try:
                    if items is None:
                        items = iter(stream(data))
                    started_s = time.perf_counter()
                    packed = _checked(pack(next(items)))
                    self.counters.on_model_called(1, time.perf_counter() - started_s)
                except StopIteration:
                    return
                except BaseException as error:
                    raise FailedError(error, done) from error
                yield [packed]
                done += 1
        finally:
            self._close(items)

    # -- both -------------------------------------------------------------------------------------------------------

    def error_event(self, error: BaseException, prefix: str = "") -> tuple[bytes, str]:
        """Make the ERR for an exception of the model.

        Args:
            error: what the model raised.
            prefix: stands before its text.

        Returns:
            The event, and the outcome that the call counts as.
        """
        name = type(error).__name__
        outcome = INVALID_INPUT if name == VALIDATION_EXCEPTION else ERROR
        text = prefix + _text(error)
        if outcome == INVALID_INPUT:
            text += _hint(text)
        trace = _sendable("".join(traceback.format_exception(error)))
        now_s = time.monotonic()
        if outcome == ERROR and now_s - self._logged_s >= 1.0:  # the metrics count them all
            self._logged_s = now_s
            log.warning("%s raised %s\n%s", self.model.description.qualified_name, name, trace)
        return events.encode_worker_error(name, text, trace if self._expose_tracebacks else None), outcome

    def _close(self, items: object) -> None:
        close = getattr(items, "close", None)  # generators have it
        if close is not None:
            try:
                close()
            except BaseException:
                log.warning("%s: its stream did not close", self.model.description.qualified_name, exc_info=True)

    def _outputs(self, rows: list[Any], decode_again: Callable[[], Iterable[Any]]) -> list[Any]:
        """Call the model. Returns its output for each row, or the exception that it raised."""
        count = len(rows)
        one_by_one: Iterable[Any] = rows
        if count > 1 and self.model.predict_batch is not None:
            try:
                outputs: list[Any] = self._timed(self.model.predict_batch, rows, count)
                return outputs
            except BatchResultError as wrong:
                return [wrong.error] * count
            except BaseException:  # one bad row must not cost the others their answers
                name = self.model.description.qualified_name
                log.debug("%s: predict_batch raised; predicting the rows one by one", name, exc_info=True)
                one_by_one = decode_again()  # the model may have changed the list and the rows
        outputs = []
        for row in one_by_one:
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
            self.counters.on_model_called(rows, time.perf_counter() - started_s)


def ok_event(packed: bytes) -> bytes:
    """Make the OK with that packed value.

    Raises:
        ResultTooLarge: if the event is larger than `MAX_RESULT_BYTES`.
    """
    return _checked(_OK_HEAD + packed)


def check_size(size: int) -> None:
    """Check the size of a result, in bytes.

    Raises:
        ResultTooLarge: if it is larger than `MAX_RESULT_BYTES`.
    """
    if size > MAX_RESULT_BYTES:
        raise ResultTooLarge(size, MAX_RESULT_BYTES)


def _checked(packed: bytes) -> bytes:
    check_size(len(packed))
    return packed


def _hint(text: str) -> str:
    """What a caller should write where a schema wants a float: JSON and JavaScript do not tell 5.0 from 5."""
    integer = _INTEGER_FOR_FLOAT.search(text)
    return f" (a float is needed: write {integer[1]}.0)" if integer is not None else ""


def _text(error: BaseException) -> str:
    try:
        return _sendable(str(error))
    except Exception:  # the `__str__` of a model's own exception may raise
        return ""


def _sendable(text: str) -> str:
    """Shorten a text, which may quote a long input, to `MAX_TEXT`, and replace what UTF-8 cannot carry."""
    if len(text) > MAX_TEXT:
        text = f"{text[:MAX_TEXT]}... ({len(text)} characters)"
    return text.encode("utf-8", "replace").decode()
