"""A worker's procedures: an event's bytes in, its answer's bytes out."""

from typing import Any

import msgpack
import pytest

from cluster import events, protocol
from worker import procedures
from worker.metrics import WorkerMetrics
from worker.models import ModelManager, configured_entries
from worker.procedures import Procedures


class Bench:
    def __init__(self, config: str, *, expose_tracebacks: bool = False) -> None:
        manager = ModelManager(configured_entries({"APP_SETTINGS": f"tests.services.configs:{config}"}))
        manager.load()
        self.metrics = WorkerMetrics()
        self.procedures = Procedures(manager.models.values(), self.metrics, expose_tracebacks=expose_tracebacks)

    def call_bytes(self, name: str, args: bytes) -> tuple[bytes, str, Any]:
        (answer,) = self.call_batch(name, [args])
        return answer

    def call_batch(self, name: str, batch: list[bytes]) -> list[tuple[bytes, str, Any]]:
        calls = []
        for args in batch:
            payload = b"\x93" + msgpack.packb({"message_id": b"id", "v": 3}) + msgpack.packb(name) + args
            calls.append((events.read_event(payload), payload))
        procedure = self.procedures.find(calls[0][0])
        assert procedure is not None
        answers = []
        for kind, reply in procedure.answer(calls):
            header, reply_name, reply_args = msgpack.unpackb(reply, strict_map_key=False)
            assert header == {}
            answers.append((kind, reply_name, reply_args))
        return answers

    def gather(self, *rows: Any) -> list[Any]:
        """The result of each row of a batch, or the name and text of its error."""
        answers = self.call_batch("gatherer_predict", [msgpack.packb([row]) for row in rows])
        return [args[0] if name == "OK" else tuple(args[:2]) for _, name, args in answers]

    def call(self, name: str, *args: Any) -> tuple[bytes, str, Any]:
        return self.call_bytes(name, msgpack.packb(args))

    def predictions(self, model: str) -> dict[str, float]:
        return {
            outcome: self.metrics.registry.get_sample_value(
                "zerorpc_worker_predictions_total", {"model": model, "outcome": outcome}
            )
            or 0.0
            for outcome in ("ok", "invalid_input", "error")
        }


def test_a_procedure_describes_itself() -> None:
    (description,) = Bench("EchoOnly").procedures.descriptions
    assert (description.name, description.doc, description.args) == ("echo_predict", "Predict with the Echo.", ["data"])


@pytest.mark.parametrize(
    "value",
    [None, 0, -0.0, 2**63, 2**64 - 1, -(2**63), "", "é", b"\xff", [1, [2]], {"a": {"b": 1}}, {1: 2}, float("inf")],
)
def test_values_go_through_as_they_are(value: Any) -> None:
    assert Bench("EchoOnly").call("echo_predict", value) == (protocol.REPLY, "OK", [value])


def test_not_a_number_goes_through() -> None:
    _, _, (value,) = Bench("EchoOnly").call("echo_predict", float("nan"))
    assert value != value  # noqa: PLR0124


@pytest.mark.parametrize(
    ("told", "name", "text"),
    [
        ("please", "MLModelException", "cannot: please"),
        ("exit", "SystemExit", "3"),
        ("unpackable", "TypeError", "the model returned a value of type 'object'"),
        ("huge", "OverflowError", ""),
        ("odd", "OddError", ""),
        ("surrogate", "MLModelException", "bad ? text"),
    ],
)
def test_whatever_a_model_does_its_caller_gets_an_error_by_name(told: str, name: str, text: str) -> None:
    bench = Bench("Misbehaving")
    kind, reply, args = bench.call("misbehaver_predict", told)
    assert (kind, reply, args[0], args[2]) == (protocol.REPLY, "ERR", name, None)
    assert args[1].startswith(text)
    assert bench.predictions("misbehaver") == {"ok": 0, "invalid_input": 0, "error": 1}


def test_invalid_input_is_counted_apart() -> None:
    bench = Bench("Misbehaving")
    bench.call("misbehaver_predict", "invalid")
    assert bench.predictions("misbehaver") == {"ok": 0, "invalid_input": 1, "error": 0}


def test_tracebacks_are_sent_only_where_asked_for() -> None:
    _, _, args = Bench("Misbehaving", expose_tracebacks=True).call("misbehaver_predict", "x")
    assert "Traceback" in args[2]
    assert "MLModelException: cannot: x" in args[2]


@pytest.mark.parametrize("told", ["surrogate", "odd", "unpackable", "exit"])
def test_tracebacks_of_odd_errors_are_sent_too(told: str) -> None:
    bench = Bench("Misbehaving", expose_tracebacks=True)
    _, reply, args = bench.call("misbehaver_predict", told)
    assert reply == "ERR"
    assert "Traceback" in args[2]
    assert (
        bench.metrics.registry.get_sample_value("zerorpc_worker_predictions_in_progress", {"model": "misbehaver"}) == 0
    )


def test_the_text_of_an_error_is_no_longer_than_can_be_read() -> None:
    _, _, args = Bench("Misbehaving").call("misbehaver_predict", "x" * 1_000_000)
    assert args[1].startswith("cannot: xxx")
    assert args[1].endswith("(1000008 characters)")
    assert len(args[1]) < 20_000


def test_a_result_that_is_too_large_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procedures, "MAX_RESULT_BYTES", 1000)
    _, reply, args = Bench("EchoOnly").call("echo_predict", "x" * 1000)
    assert (reply, args[0]) == ("ERR", "ResultTooLarge")
    assert "at most 1000 are sent" in args[1]


def test_numpy_values_become_plain_ones() -> None:
    _, _, (value,) = Bench("Misbehaving").call("numpymodel_predict", None)
    assert value == {"scalar": 0.5, "array": [0, 1, 2], "integer": 7}


@pytest.mark.parametrize(
    "args",
    [
        b"\x91\xc1",
        b"\x91\xa2\xff\xff",
        b"\x91" * 2000 + b"\x90",
        b"\x91\xdd\x05\xf5\xe1\x00",
        b"\x90",
        b"\x92\x01\x01",
        b"\x05",
        b"\x91\x01\x01",
    ],
)
def test_arguments_that_cannot_be_read_are_refused_and_count_as_no_prediction(args: bytes) -> None:
    bench = Bench("EchoOnly")
    kind, reply, reply_args = bench.call_bytes("echo_predict", args)
    assert (kind, reply, reply_args[0]) == (protocol.REFUSE, "ERR", "BadRequest")
    assert sum(bench.predictions("echo").values()) == 0


def test_calls_that_come_together_are_one_call_of_a_model_that_can() -> None:
    bench = Bench("GathererOnly")
    assert bench.gather(0, 0, 0) == [3, 3, 3]
    assert bench.gather(0) == [1]
    assert bench.predictions("gatherer") == {"ok": 4, "invalid_input": 0, "error": 0}
    sizes = {"model": "gatherer"}
    assert bench.metrics.registry.get_sample_value("zerorpc_worker_batch_size_sum", sizes) == 4
    assert bench.metrics.registry.get_sample_value("zerorpc_worker_batch_size_count", sizes) == 2


def test_a_model_without_batches_gets_the_calls_one_by_one() -> None:
    answers = Bench("Misbehaving").call_batch("misbehaver_predict", [msgpack.packb([row]) for row in ("a", "b")])
    assert [args[1] for _, _, args in answers] == ["cannot: a", "cannot: b"]


def test_a_row_that_the_model_refuses_fails_alone() -> None:
    bench = Bench("GathererOnly")
    assert bench.gather(0, "bad", 0) == [3, ("MLModelException", "bad among others"), 3]
    assert bench.predictions("gatherer") == {"ok": 2, "invalid_input": 0, "error": 1}


def test_where_the_whole_batch_raises_the_rows_go_one_by_one() -> None:
    bench = Bench("GathererOnly")
    assert bench.gather(0, "raise", 0) == [1, ("MLModelException", "raise alone"), 1]
    assert bench.predictions("gatherer") == {"ok": 2, "invalid_input": 0, "error": 1}


def test_too_few_outputs_are_nobodys() -> None:
    assert Bench("GathererOnly").gather(0, "short", 0) == [1, ("MLModelException", "short alone"), 1]


def test_arguments_that_cannot_be_read_fail_alone() -> None:
    good = msgpack.packb([0])
    answers = Bench("GathererOnly").call_batch("gatherer_predict", [good, b"\x91\xc1", good, b"\x90"])
    assert [(kind, name) for kind, name, _ in answers] == [
        (protocol.REPLY, "OK"),
        (protocol.REFUSE, "ERR"),
        (protocol.REPLY, "OK"),
        (protocol.REFUSE, "ERR"),
    ]
    assert answers[0][2] == [2]
