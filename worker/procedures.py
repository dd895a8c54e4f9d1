"""The procedures that a worker answers: bytes of an event in, bytes of its answer out. Knows no socket, no thread."""

import logging
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgpack

from cluster import events, protocol
from cluster.events import ClientEvent
from cluster.protocol import ProcedureDescription
from worker.metrics import ERROR, INVALID_INPUT, OK, ModelMetrics, WorkerMetrics
from worker.models import HostedModel

log = logging.getLogger(__name__)

VALIDATION_EXCEPTION = "MLModelSchemaValidationException"
"""By name: a model may raise its own library's exception of that name (ml_base has one)."""

MAX_RESULT_BYTES = 64 * 1024 * 1024
"""Largest result that is sent, in bytes."""

MAX_TEXT = 16 * 1024
"""Longest text of an error that is sent, in characters."""

_OK_HEAD = events.worker_event(events.OK, [None])[:-1]
"""Of an OK, all that stands before its value."""

Answer = tuple[bytes, bytes]
"""(kind of message, event): REPLY if the procedure was executed, REFUSE if it was not."""


class ResultTooLarge(Exception):  # noqa: N818 - callers see the name
    """A model's result is larger than what is sent."""


class Procedures:
    """Every procedure of a worker process."""

    def __init__(self, models: Iterable[HostedModel], metrics: WorkerMetrics, *, expose_tracebacks: bool) -> None:
        """Give each model its procedures.

        Args:
            models: the loaded models.
            metrics: where predictions are counted.
            expose_tracebacks: whether an ERR carries the traceback to the caller.
        """
        made = [
            PredictProcedure(model, metrics.of_model(model.description), expose_tracebacks=expose_tracebacks)
            for model in models
        ]
        self._by_name = {procedure.description.name: procedure for procedure in made}

    @property
    def descriptions(self) -> list[ProcedureDescription]:
        """What READY says of them."""
        return [procedure.description for procedure in self._by_name.values()]

    def find(self, event: ClientEvent) -> "PredictProcedure | None":
        """The procedure that an event calls."""
        return self._by_name.get(event.name) if event.name is not None else None


class PredictProcedure:
    """`<qualified_name>_predict(data)`."""

    def __init__(self, model: HostedModel, metrics: ModelMetrics, *, expose_tracebacks: bool) -> None:
        name = model.description.qualified_name
        self.description = ProcedureDescription(
            f"{name}_predict", name, f"Predict with the {model.description.display_name}.", ["data"]
        )
        self.timeout_s = model.description.timeout_s
        self._model = model
        self._metrics = metrics
        self._expose_tracebacks = expose_tracebacks
        self._logged_s = float("-inf")

    def answer(self, calls: Sequence[tuple[ClientEvent, bytes]]) -> list[Answer]:
        """Run calls together: each is the head of an event and the event; the answers are in their order.

        Whatever the model raises becomes an ERR; nothing is raised here.
        """
        answers: list[Answer | None] = []
        rows: list[Any] = []
        for event, payload in calls:
            try:
                arguments = events.read_arguments(payload, event.args_at)
                if len(arguments) != 1:
                    raise events.BadArgumentsError(f"1 argument is taken, {len(arguments)} given")
            except events.BadArgumentsError as error:
                answers.append(_refusal(f"{self.description.name}: {error}"))
            else:
                rows.append(arguments[0])
                answers.append(None)
        if not rows:
            return [answer for answer in answers if answer is not None]
        predicted = iter(self._predict(rows))
        return [answer or (protocol.REPLY, next(predicted)) for answer in answers]

    def _predict(self, rows: list[Any]) -> list[bytes]:
        """The events with the outputs of those rows."""
        self._metrics.begin(len(rows))
        outputs = self._outputs(rows)
        pack = msgpack.Packer(default=_plain).pack
        replies: list[bytes] = []
        outcomes: Counter[str] = Counter()
        for output in outputs:
            wrong = output if isinstance(output, BaseException) else None
            if wrong is None:
                try:
                    replies.append(_result(pack(output)))
                except Exception as error:  # what msgpack cannot carry, or is too large
                    wrong = error
            if wrong is not None:
                outcome = INVALID_INPUT if type(wrong).__name__ == VALIDATION_EXCEPTION else ERROR
                outcomes[outcome] += 1
                replies.append(self._error(wrong, outcome))
        outcomes[OK] = len(rows) - outcomes.total()
        self._metrics.end(outcomes)
        return replies

    def _outputs(self, rows: list[Any]) -> list[Any]:
        """What the model returns for each row, or raises."""
        if len(rows) > 1 and self._model.predict_batch is not None:
            try:
                outputs: list[Any] = self._timed(self._model.predict_batch, rows, len(rows))
                return outputs
            except BaseException:  # one bad row must not cost the others their answers
                log.debug("%s: predict_batch raised; the rows go one by one", self.description.name, exc_info=True)
        outputs = []
        for row in rows:
            try:
                outputs.append(self._timed(self._model.predict, row, 1))
            except BaseException as error:  # a model that raises SystemExit ends its call, not the worker
                outputs.append(error)
        return outputs

    def _timed(self, function: Callable[[Any], Any], argument: Any, rows: int) -> Any:
        started_s = time.perf_counter()
        try:
            return function(argument)
        finally:
            self._metrics.called(rows, time.perf_counter() - started_s)

    def _error(self, error: BaseException, outcome: str) -> bytes:
        name = type(error).__name__
        trace = _carried("".join(traceback.format_exception(error)))
        now_s = time.monotonic()
        if outcome == ERROR and now_s - self._logged_s >= 1.0:  # the metrics count them all
            self._logged_s = now_s
            log.warning("%s raised %s\n%s", self.description.name, name, trace)
        return events.worker_error(name, _text(error), trace if self._expose_tracebacks else None)


def _result(packed: bytes) -> bytes:
    event = _OK_HEAD + packed
    if len(event) > MAX_RESULT_BYTES:
        raise ResultTooLarge(f"the model's result has {len(event)} bytes; at most {MAX_RESULT_BYTES} are sent")
    return event


def _refusal(text: str) -> Answer:
    return protocol.REFUSE, events.worker_error("BadRequest", text)


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


def _plain(value: Any) -> Any:
    """What msgpack cannot pack, as plain values: numpy's scalars and arrays, for which models need no conversion."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, int):
        raise OverflowError("the model returned an integer that does not fit 64 bits, which msgpack cannot carry")
    raise TypeError(
        f"the model returned a value of type {type(value).__name__!r}, which msgpack cannot carry: "
        "it should return numbers, text, bytes, lists and dictionaries"
    )
