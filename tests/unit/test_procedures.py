"""A worker's procedures: an event's bytes in, its answer's bytes out."""

from typing import Any

import msgpack
import pytest

from cluster.wire import events, protocol
from worker.http.metrics import WorkerMetrics
from worker.jobs import prediction
from worker.jobs.calls import Call, Registration
from worker.jobs.counters import WorkerCounters
from worker.jobs.hosted_models import HostedModels
from worker.jobs.job import Job
from worker.jobs.long_job import StreamJob
from worker.models.configuration import configured_entries
from worker.models.manager import ModelManager


class Bench:
    def __init__(self, config: str, *, expose_tracebacks: bool = False) -> None:
        manager = ModelManager(configured_entries({"APP_SETTINGS": f"tests.services.configs:{config}"}))
        self.models = {model.description.qualified_name: model for model in manager.load()}
        counters = WorkerCounters()
        self.metrics = WorkerMetrics(counters)
        self.registration = Registration("id")
        self.hosted = HostedModels(counters, expose_tracebacks=expose_tracebacks)
        for model in self.models.values():
            self.hosted.add(model)

    def call_bytes(self, name: str, args: bytes) -> tuple[bytes, str, Any]:
        (answer,) = self.call_batch(name, [args])
        return answer

    def call_batch(self, name: str, batch: list[bytes]) -> list[tuple[bytes, str, Any]]:
        (job,) = self.jobs(name, batch)
        job.run()
        assert job.is_answered
        return self.taken(job)

    def jobs(self, name: str, batch: list[bytes]) -> list[Job]:
        calls = []
        for number, args in enumerate(batch):
            payload = b"\x93" + msgpack.packb({"message_id": b"id", "v": 3}) + msgpack.packb(name) + args
            calls.append(Call(b"%08d" % number, payload, events.arguments_at(payload)))
        described = [(model, procedure.name) for model in self.hosted.descriptions for procedure in model.procedures]
        (work_name,) = [model.pinned(one) for model, one in described if one == name]
        make_jobs = self.hosted.job_factory(work_name.encode())
        assert make_jobs is not None
        return make_jobs(self.registration, calls)

    def stream(self, name: str, argument: Any) -> StreamJob:
        (job,) = self.jobs(name, [msgpack.packb([argument])])
        assert isinstance(job, StreamJob)
        return job

    @staticmethod
    def taken(job: Job) -> list[tuple[bytes, str, Any]]:
        """The answers of a job: kind of message, name and arguments of the event."""
        answers = []
        for _, (kind, reply) in job.take_answers():
            header, reply_name, reply_args = msgpack.unpackb(reply, strict_map_key=False)
            assert header == {}
            answers.append((kind, reply_name, reply_args))
        return answers

    def all_of(self, job: Job) -> list[tuple[bytes, str, Any]]:
        """Run a job to its end, and return all its answers."""
        found = []
        while not job.is_answered:
            if isinstance(job, StreamJob):
                job.add_slots(1)
            if job.has_more_work:
                job.run()
            found += self.taken(job)
        return found

    def gather(self, *rows: Any) -> list[Any]:
        """The result of each row of a batch, or the name and text of its error."""
        answers = self.call_batch("gatherer_predict", [msgpack.packb([row]) for row in rows])
        return [args[0] if name == "OK" else tuple(args[:2]) for _, name, args in answers]

    def rows(self, model: str) -> float:
        """How many rows the model was given, or items it made."""
        value = self.metrics.registry.get_sample_value("zerorpc_worker_batch_size_sum", {"model": model})
        assert value is not None
        return value

    def in_progress(self, model: str) -> float | None:
        return self.metrics.registry.get_sample_value("zerorpc_worker_predictions_in_progress", {"model": model})

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
    (model,) = Bench("EchoOnly").hosted.descriptions
    described = {one.name: one for one in model.procedures}
    assert list(described) == ["echo_predict", "echo_predict_batch", "echo_predict_stream"]
    assert (described["echo_predict"].doc, described["echo_predict"].args) == ("Predict with the Echo.", ["data"])
    assert described["echo_predict_batch"].args == described["echo_predict_stream"].args == ["rows"]
    assert [one.is_stream for one in described.values()] == [False, False, True]


@pytest.mark.parametrize(
    "value",
    [None, 0, -0.0, 2**63, 2**64 - 1, -(2**63), "", "é", b"\xff", [1, [2]], {"a": {"b": 1}}, {b"a": 2}, float("inf")],
)
def test_values_go_through_as_they_are(value: Any) -> None:
    assert Bench("EchoOnly").call("echo_predict", value) == (protocol.REPLY, "OK", [value])


def test_not_a_number_goes_through() -> None:
    _, _, (value,) = Bench("EchoOnly").call("echo_predict", float("nan"))
    assert value != value  # noqa: PLR0124


@pytest.mark.parametrize(
    ("command", "name", "text"),
    [
        ("please", "MLModelException", "cannot: please"),
        ("exit", "SystemExit", "3"),
        ("unpackable", "TypeError", "the model's result['x'] is of type 'object', which msgpack cannot carry"),
        ("huge", "OverflowError", "the model's result is an integer beyond 64 bits"),
        ("odd", "OddError", ""),
        ("surrogate", "MLModelException", "bad ? text"),
    ],
)
def test_the_caller_gets_every_error_of_a_model_by_name(command: str, name: str, text: str) -> None:
    bench = Bench("Misbehaving")
    kind, reply, args = bench.call("misbehaver_predict", command)
    assert (kind, reply, args[0], args[2]) == (protocol.REPLY, "ERR", name, None)
    assert args[1].startswith(text)
    assert bench.predictions("misbehaver") == {"ok": 0, "invalid_input": 0, "error": 1}


def test_invalid_input_is_counted_apart() -> None:
    bench = Bench("Misbehaving")
    bench.call("misbehaver_predict", "invalid")
    assert bench.predictions("misbehaver") == {"ok": 0, "invalid_input": 1, "error": 0}


def test_an_integer_where_a_float_is_needed_is_explained() -> None:
    bench = Bench("Misbehaving")
    assert bench.call("misbehaver_predict", "integer")[2][1] == (
        "Key 'x' error:\n5 should be instance of 'float' (a float is needed: write 5.0)"
    )
    assert bench.call("misbehaver_predict", "text")[2][1] == "Key 'x' error:\n'5' should be instance of 'float'"


def test_tracebacks_are_sent_only_where_asked_for() -> None:
    _, _, args = Bench("Misbehaving", expose_tracebacks=True).call("misbehaver_predict", "x")
    assert "Traceback" in args[2]
    assert "MLModelException: cannot: x" in args[2]


@pytest.mark.parametrize("command", ["surrogate", "odd", "unpackable", "exit"])
def test_tracebacks_of_odd_errors_are_sent_too(command: str) -> None:
    bench = Bench("Misbehaving", expose_tracebacks=True)
    _, reply, args = bench.call("misbehaver_predict", command)
    assert reply == "ERR"
    assert "Traceback" in args[2]
    assert (
        bench.metrics.registry.get_sample_value("zerorpc_worker_predictions_in_progress", {"model": "misbehaver"}) == 0
    )


def test_the_text_of_an_error_is_shortened() -> None:
    _, _, args = Bench("Misbehaving").call("misbehaver_predict", "x" * 1_000_000)
    assert args[1].startswith("cannot: xxx")
    assert args[1].endswith("(1000008 characters)")
    assert len(args[1]) < 20_000


def test_a_result_that_is_too_large_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction, "MAX_RESULT_BYTES", 1000)
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


def test_a_batch_that_raises_is_predicted_row_by_row() -> None:
    bench = Bench("GathererOnly")
    assert bench.gather(0, "raise", 0) == [1, ("MLModelException", "raise alone"), 1]
    assert bench.predictions("gatherer") == {"ok": 2, "invalid_input": 0, "error": 1}


def test_a_batch_that_raises_after_it_changed_its_rows_is_predicted_from_the_rows_as_sent() -> None:
    bench = Bench("Answers")
    rows = [{"number": number} for number in range(150)]
    answers = bench.call_batch("rowchanger_predict", [msgpack.packb([row]) for row in rows])
    assert [value for _, _, (value,) in answers] == rows
    (job,) = bench.jobs("rowchanger_predict_batch", [msgpack.packb([rows])])
    assert bench.all_of(job) == [(protocol.REPLY, "OK", [rows])], "in batches of 128"
    items = bench.all_of(bench.stream("rowchanger_predict_stream", rows))
    assert [value for _, name, value in items if name == "STREAM"] == rows


@pytest.mark.parametrize("returns", ["list", "tuple", "array", "tolist"])
def test_a_sequence_of_outputs_answers_a_batch(returns: str) -> None:
    assert odd_returns(returns) == [1, 2, 3]


@pytest.mark.parametrize(
    ("returns", "name", "text"),
    [
        ("dict", "TypeError", "predict_batch returned a value of type 'dict' for 3 rows: it should return a list, a "),
        ("set", "TypeError", "predict_batch returned a value of type 'set' for 3 rows"),
        ("generator", "TypeError", "predict_batch returned a value of type 'generator' for 3 rows"),
        ("text", "TypeError", "predict_batch returned a value of type 'str' for 3 rows"),
        ("none", "TypeError", "predict_batch returned a value of type 'NoneType' for 3 rows"),
        ("scalar", "TypeError", "predict_batch returned a value of type 'float64' for 3 rows"),
        ("short", "ValueError", "predict_batch returned 2 outputs for 3 rows"),
        ("long", "ValueError", "predict_batch returned 4 outputs for 3 rows"),
    ],
)
def test_anything_else_for_a_batch_is_an_error_of_every_row(
    returns: str, name: str, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    answers = odd_returns(returns)
    assert [one[0] for one in answers] == [name] * 3
    assert all(one[1].startswith(text) for one in answers)
    assert len([record for record in caplog.records if "oddreturns raised" in record.message]) == 1, "logged once"


def odd_returns(returns: str) -> list[Any]:
    args = [msgpack.packb([{"number": number, "returns": returns}]) for number in (1, 2, 3)]
    answers = Bench("Answers").call_batch("oddreturns_predict", args)
    return [args[0] if name == "OK" else tuple(args[:2]) for _, name, args in answers]


UNREADABLE = [
    ("number as key", "TypeError", "the model's result['scores'][0] has the key 0 of type int: keys should be text"),
    ("numpy number as key", "TypeError", "the model's result has the key np.int64(3) of type int64"),
    ("none as key", "TypeError", "the model's result[0]['a'] has the key None of type NoneType"),
    ("key in an object array", "TypeError", "the model's result[0] has the key 1 of type int"),
    ("too many bits", "OverflowError", "the model's result['counts'][1] is an integer beyond 64 bits"),
    ("too deep", "ValueError", "the model's result is nested too deep: at most 500 levels are sent"),
    ("surrogate", "ValueError", "the model's result['text'][1] is text that UTF-8 cannot carry"),
    ("unknown", "TypeError", "the model's result['when'][1] is of type 'object', which msgpack cannot carry"),
]


@pytest.mark.parametrize(("what", "name", "text"), UNREADABLE)
def test_a_result_that_a_stock_client_cannot_read_is_an_error(what: str, name: str, text: str) -> None:
    bench = Bench("Answers")
    _, reply, args = bench.call("unreadable_predict", what)
    assert (reply, args[0]) == ("ERR", name)
    assert args[1].startswith(text)
    items = bench.all_of(bench.stream("unreadable_predict_stream", what))
    assert [(one, args if one == "STREAM" else args[0]) for _, one, args in items] == [
        ("STREAM", "first"),
        ("ERR", name),
    ]


def test_keys_of_text_and_bytes_and_the_largest_integers_are_sent() -> None:
    bench = Bench("Answers")
    assert bench.call("unreadable_predict", "text and bytes as keys")[2] == [{"a": {b"b": 1}, "c": 2}]
    assert bench.call("unreadable_predict", "largest integers")[2] == [[2**64 - 1, -(2**63)]]


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


# -- many rows in a call ------------------------------------------------------------------------------------------


def test_a_list_of_rows_is_answered_with_the_list_of_their_outputs() -> None:
    bench = Bench("GathererOnly")
    (job,) = bench.jobs("gatherer_predict_batch", [msgpack.packb([[0] * 258])])
    assert bench.all_of(job) == [(protocol.REPLY, "OK", [[128] * 256 + [2] * 2])], "the model's batches have 128 rows"
    assert bench.predictions("gatherer") == {"ok": 1, "invalid_input": 0, "error": 0}, "it is one call"
    (job,) = bench.jobs("gatherer_predict_batch", [msgpack.packb([[]])])
    assert bench.all_of(job) == [(protocol.REPLY, "OK", [[]])]


def test_a_row_that_is_refused_is_named() -> None:
    bench = Bench("GathererOnly")
    (job,) = bench.jobs("gatherer_predict_batch", [msgpack.packb([[0] * 66 + ["bad", 0]])])
    error = ["MLModelException", "rows[66]: bad among others", None]
    assert bench.all_of(job) == [(protocol.REPLY, "ERR", error)]
    assert bench.predictions("gatherer") == {"ok": 0, "invalid_input": 0, "error": 1}


def test_a_long_list_lets_other_jobs_have_their_turns() -> None:
    bench = Bench("SleeperOnly")
    (job,) = bench.jobs("sleeper_predict_batch", [msgpack.packb([[0.006] * 3])])
    for _ in range(3):
        job.run()
        assert not job.is_answered
        assert job.has_more_work
    job.run()
    assert [name for _, name, _ in bench.taken(job)] == ["OK"]


@pytest.mark.parametrize("args", [b"\x91\x05", b"\x91\x81\x01\x02", b"\x90", b"\x92\x90\x90", b"\x91\x92\x01", b"\x05"])
@pytest.mark.parametrize("what", ["batch", "stream"])
def test_rows_that_are_not_a_list_are_refused_before_the_first_runs(what: str, args: bytes) -> None:
    bench = Bench("EchoOnly")
    (job,) = bench.jobs(f"echo_predict_{what}", [args])
    ((kind, name, reply),) = bench.all_of(job)
    assert (kind, name, reply[0]) == (protocol.REFUSE, "ERR", "BadRequest")
    assert reply[1].startswith(f"echo_predict_{what}: ")
    assert sum(bench.predictions("echo").values()) == 0


def test_a_list_of_outputs_that_is_too_large_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction, "MAX_RESULT_BYTES", 1000)
    bench = Bench("EchoOnly")
    (job,) = bench.jobs("echo_predict_batch", [msgpack.packb([["x" * 100] * 10])])
    ((_, _, args),) = bench.all_of(job)
    assert args[0] == "ResultTooLarge"


def test_a_cancelled_list_is_not_computed_to_its_end() -> None:
    bench = Bench("SleeperOnly")
    (job,) = bench.jobs("sleeper_predict_batch", [msgpack.packb([[0.006] * 1000])])
    job.run()
    bench.registration.cancelled.add(job.calls[0].number)
    job.run()
    assert [(kind, args[0]) for kind, _, args in bench.taken(job)] == [(protocol.REFUSE, "Cancelled")]
    assert bench.in_progress("sleeper") == 0
    assert sum(bench.predictions("sleeper").values()) == 0


# -- streams ------------------------------------------------------------------------------------------------------


def test_a_stream_gives_each_row_in_order_and_then_ends() -> None:
    bench = Bench("EchoOnly")
    found = bench.all_of(bench.stream("echo_predict_stream", list(range(100))))
    assert found == [(protocol.REPLY, "STREAM", i) for i in range(100)] + [(protocol.REPLY, "STREAM_DONE", None)]
    assert bench.predictions("echo") == {"ok": 1, "invalid_input": 0, "error": 0}


def test_a_stream_computes_no_more_than_its_reader_can_take() -> None:
    bench = Bench("EchoOnly")
    stream = bench.stream("echo_predict_stream", list(range(100)))
    stream.run()
    assert [args for _, _, args in bench.taken(stream)] == [0]
    assert not stream.has_more_work
    assert bench.rows("echo") == 1
    stream.add_slots(10)
    assert stream.has_more_work
    stream.run()
    assert [args for _, _, args in bench.taken(stream)] == list(range(1, 11))
    assert bench.rows("echo") == 11


def test_a_stream_of_a_model_with_batches_computes_at_most_a_batch_ahead() -> None:
    bench = Bench("GathererOnly")
    stream = bench.stream("gatherer_predict_stream", [0] * 1000)
    stream.run()
    assert bench.rows("gatherer") == 128
    assert len(bench.taken(stream)) == 1
    stream.add_slots(127)
    assert not stream.has_more_work, "the job has computed that many"
    assert len(bench.taken(stream)) == 127
    stream.add_slots(1)
    assert stream.has_more_work


def test_the_end_of_a_stream_waits_for_a_slot() -> None:
    bench = Bench("EchoOnly")
    stream = bench.stream("echo_predict_stream", [])
    stream.run()
    assert [name for _, name, _ in bench.taken(stream)] == ["STREAM_DONE"], "a stream has one slot to begin with"
    stream = bench.stream("echo_predict_stream", ["only"])
    stream.run()
    assert [name for _, name, _ in bench.taken(stream)] == ["STREAM"]
    stream.add_slots(1)
    stream.run()
    assert [name for _, name, _ in bench.taken(stream)] == ["STREAM_DONE"]
    assert stream.is_answered
    assert bench.taken(stream) == []


def test_a_bad_row_ends_a_stream_at_its_place() -> None:
    bench = Bench("GathererOnly")
    found = bench.all_of(bench.stream("gatherer_predict_stream", [0, 0, "bad", 0]))
    assert found == [
        (protocol.REPLY, "STREAM", 4),
        (protocol.REPLY, "STREAM", 4),
        (protocol.REPLY, "ERR", ["MLModelException", "bad among others", None]),
    ]
    assert bench.predictions("gatherer") == {"ok": 0, "invalid_input": 0, "error": 1}


def test_a_cancelled_stream_ends_at_once() -> None:
    bench = Bench("EchoOnly")
    stream = bench.stream("echo_predict_stream", list(range(10)))
    stream.run()
    bench.registration.cancelled.add(stream.calls[0].number)
    assert stream.has_more_work
    stream.run()
    assert [(kind, args[0]) for kind, _, args in bench.taken(stream)] == [(protocol.REFUSE, "Cancelled")]
    assert stream.is_answered
    assert bench.rows("echo") == 1
    assert bench.in_progress("echo") == 0


def test_a_model_may_make_its_own_streams() -> None:
    bench = Bench("CounterOnly")
    (model,) = bench.hosted.descriptions
    (description,) = [one for one in model.procedures if one.is_stream]
    assert description.args == ["data"]
    assert bench.all_of(bench.stream("counter_predict_stream", 3)) == [
        (protocol.REPLY, "STREAM", 0),
        (protocol.REPLY, "STREAM", 1),
        (protocol.REPLY, "STREAM", 2),
        (protocol.REPLY, "STREAM_DONE", None),
    ]


def test_a_stream_that_raises_ends_with_the_error_after_its_items() -> None:
    bench = Bench("CounterOnly")
    found = bench.all_of(bench.stream("counter_predict_stream", -2))
    assert [args for _, _, args in found] == [0, 1, ["MLModelException", "enough", None]]


def test_the_generator_of_a_stream_is_closed_when_its_registration_has_ended() -> None:
    bench = Bench("CounterOnly")
    stream = bench.stream("counter_predict_stream", 1000)
    stream.run()
    model = bench.models["counter"]
    assert model.predict(None) == {"open": 1}
    bench.registration.is_live = False
    stream.run()
    assert model.predict(None) == {"open": 0}
    assert stream.is_answered or not stream.has_more_work
