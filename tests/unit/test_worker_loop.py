"""The worker's message loop over a fake connection: messages in, messages out, without sockets, threads or waiting."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, cast

import msgpack
import pytest

from cluster.wire import events, protocol
from cluster.wire.descriptions import read_description, read_model_description
from cluster.wire.pairs import read_pairs, write_pairs
from cluster.wire.protocol import WorkerDescription
from worker.jobs.calls import Registration
from worker.jobs.counters import WorkerCounters
from worker.jobs.hosted_models import HostedModels
from worker.jobs.job import Job
from worker.loop.leadership import Leadership
from worker.loop.load_orders import LoadOrders
from worker.loop.loader import LoadResult
from worker.loop.message_loop import MessageLoop, RefusedError
from worker.loop.session import READY_INTERVAL_S, BrokerSession, WorkerState
from worker.models.configuration import configured_entries
from worker.models.loadable import LoadableModules
from worker.models.manager import ModelManager

DRAIN_TIMEOUT_S = 20.0

Step = Callable[[], None] | list[bytes]
"""A message of the broker, or what else happens while the loop waits."""


class FakeConnection:
    """A connection to a broker that a test plays. Each wait of the loop is one step of the test's script."""

    address = "fake://broker"

    def __init__(self) -> None:
        self.is_up = True
        self.connects = 0
        self.sent: list[list[bytes]] = []
        self.script: list[Step] = []
        self.on_script_end: Callable[[], None] = lambda: None
        self._arrived: list[list[bytes]] = []

    def connect(self) -> None:
        self.connects += 1
        self._arrived.clear()

    def send(self, frames: list[bytes]) -> bool:
        if self.is_up:
            self.sent.append(frames)
        return self.is_up

    def arrive(self, *messages: list[bytes]) -> None:
        self._arrived += messages

    def receive(self) -> list[list[bytes]]:
        arrived, self._arrived = self._arrived, []
        return arrived

    def wait(self, timeout_ms: int, *, may_poll: bool) -> None:
        if timeout_ms == 0:  # the loop has a job to run first
            return
        if not self.script:
            self.on_script_end()
            return
        step = self.script.pop(0)
        if callable(step):
            step()
        else:
            self.arrive(step)

    def wake(self) -> None:
        pass


class Loop:
    """A message loop, with everything around it but sockets, threads and time."""

    def __init__(self, config: str = "EchoOnly") -> None:
        self.now_s = 1000.0
        self.connection = FakeConnection()
        self.connection.on_script_end = self.kill
        counters = WorkerCounters()
        self.counters = counters
        self.hosted = HostedModels(counters, expose_tracebacks=False)
        for model in ModelManager(configured_entries({"APP_SETTINGS": f"tests.services.configs:{config}"})).load():
            self.hosted.add(model, is_configured=True)
        self.session = BrokerSession(self.connection, counters, self.describe)
        self.leadership = Leadership()
        self.orders = LoadOrders(self.connection, self.session, self.hosted, self.leadership, LoadableModules())
        self.loop = MessageLoop(
            self.connection,
            self.session,
            self.hosted,
            self.orders,
            self.leadership,
            DRAIN_TIMEOUT_S,
            clock=lambda: self.now_s,
        )
        self.loop.start()
        self.term = 0

    def describe(self, worker_id: str) -> WorkerDescription:
        return WorkerDescription(protocol.VERSION, worker_id, "host", 1, "host:1", self.hosted.descriptions, loads=True)

    def kill(self) -> None:
        self.loop.stop()
        self.loop.stop()

    def run(self, *script: Step) -> list[list[bytes]]:
        """Run the loop through a script, in this thread. Returns what it sent, without its PINGs and final DRAIN."""
        self.connection.script = list(script)
        while (job := self.loop.run(self.term)) is not None:  # the loop expects another leader from here on
            self.loop.hand_back(job)
            self.term += 1
        sent, self.connection.sent = self.connection.sent, []
        return [frames for frames in sent if frames[0] not in (protocol.PING, protocol.DRAIN)]

    def advance(self, seconds: float) -> Callable[[], None]:
        def step() -> None:
            self.now_s += seconds

        return step

    def ids(self, sent: list[list[bytes]]) -> list[str]:
        return [read_description(frames[1]).id for frames in sent if frames[0] == protocol.READY]


@pytest.fixture
def echo() -> Iterator[Loop]:
    made = Loop()
    yield made
    assert not made.loop.running, "every job has been handed back"


WELCOME = [protocol.WELCOME]


def work(procedure: str, *arguments: Any, first: int = 0) -> list[bytes]:
    pairs = [
        (number(first + i), msgpack.packb([{"message_id": b"id", "v": 3}, procedure, [argument]]))
        for i, argument in enumerate(arguments)
    ]
    name, _, rest = procedure.partition("_")
    return write_pairs(protocol.WORK, pairs, f"{name}_v1_0_{rest}".encode())


def number(value: int) -> bytes:
    return b"%08d" % value


def answers(sent: list[list[bytes]]) -> list[tuple[bytes, bytes, str, Any]]:
    """Kind of message, call number, name and arguments of each event that was sent."""
    found = []
    for frames in sent:
        if frames[0] in (protocol.REPLY, protocol.REFUSE):
            for call, event in read_pairs(frames[1:]):
                _, name, args = msgpack.unpackb(event)
                found.append((frames[0], call, name, args))
    return found


def test_it_sends_ready_until_the_broker_welcomes_it(echo: Loop) -> None:
    again, too_early = echo.advance(READY_INTERVAL_S), echo.advance(0)
    sent = echo.run(again, too_early, again, lambda: echo.connection.arrive(WELCOME), again, again)
    assert [frames[0] for frames in sent] == [protocol.READY] * 3
    assert len(set(echo.ids(sent))) == 1, "it is one registration"
    assert echo.counters.is_connected


def test_a_ready_that_could_not_be_sent_is_sent_again() -> None:
    echo = Loop()
    echo.connection.sent.clear()
    echo.connection.is_up = False

    def up() -> None:
        echo.connection.is_up = True
        echo.now_s += READY_INTERVAL_S

    sent = echo.run(echo.advance(READY_INTERVAL_S), echo.advance(READY_INTERVAL_S), up)
    assert [frames[0] for frames in sent] == [protocol.READY]


def test_calls_of_one_message_are_answered_in_one_message(echo: Loop) -> None:
    sent = echo.run(WELCOME, work("echo_predict", "a", "b"))
    assert [frames[0] for frames in sent] == [protocol.READY, protocol.REPLY]
    assert answers(sent) == [
        (protocol.REPLY, number(0), "OK", ["a"]),
        (protocol.REPLY, number(1), "OK", ["b"]),
    ]
    assert echo.session.registration.unanswered == set()


def test_the_first_job_of_a_model_promotes_a_new_leader_and_a_quick_one_does_not(echo: Loop) -> None:
    echo.run(WELCOME, work("echo_predict", 1), work("echo_predict", 2, first=1))
    assert echo.term == 1


def test_a_call_of_a_procedure_that_is_not_hosted_is_refused(echo: Loop) -> None:
    sent = echo.run(WELCOME, work("other_predict", 1))
    ((kind, _, name, args),) = answers(sent)
    assert (kind, name, args[0]) == (protocol.REFUSE, "ERR", "NameError")
    assert echo.session.registration.unanswered == set()


def test_a_cancelled_call_is_not_computed(echo: Loop) -> None:
    def both() -> None:
        echo.connection.arrive(work("echo_predict", "a", "b"), [protocol.CANCEL, number(1)])

    assert [(kind, args[0]) for kind, _, _, args in answers(echo.run(WELCOME, both))] == [
        (protocol.REPLY, "a"),
        (protocol.REFUSE, "Cancelled"),
    ]
    assert echo.session.registration.cancelled == set()


def test_a_stream_sends_as_many_items_as_its_reader_can_take(echo: Loop) -> None:
    more = [protocol.MORE, number(0), (2).to_bytes(4, "big")]
    sent = echo.run(WELCOME, work("echo_predict_stream", [0, 1, 2, 3]), more)
    assert [args for _, _, _, args in answers(sent)] == [0, 1, 2]
    assert echo.session.registration.unanswered == {number(0)}


def test_cancel_ends_a_stream_that_waits_for_its_reader(echo: Loop) -> None:
    sent = echo.run(WELCOME, work("echo_predict_stream", [0, 1, 2]), [protocol.CANCEL, number(0)])
    assert [(kind, name) for kind, _, name, _ in answers(sent)] == [
        (protocol.REPLY, "STREAM"),
        (protocol.REFUSE, "ERR"),
    ]
    assert echo.session.registration.unanswered == set()


def test_reset_begins_a_registration_with_a_new_id_on_a_new_socket(echo: Loop) -> None:
    sent = echo.run(WELCOME, [protocol.RESET], WELCOME)
    first, second = echo.ids(sent)
    assert first != second
    assert echo.connection.connects == 2
    assert echo.counters.is_connected


def test_messages_after_a_reset_are_for_the_registration_that_has_ended(echo: Loop) -> None:
    def both() -> None:
        echo.connection.arrive([protocol.RESET], work("echo_predict", 1))

    assert answers(echo.run(WELCOME, both)) == []


def test_answers_of_a_registration_that_has_ended_are_not_sent() -> None:
    counter = Loop("CounterOnly")
    sent = counter.run(WELCOME, work("counter_predict_stream", 1000), [protocol.RESET], WELCOME)
    assert [name for _, _, name, _ in answers(sent)] == ["STREAM"], "one item, and no end"
    assert [model.in_progress for model in counter.counters.models.values()] == [0], "the job of the stream has ended"
    assert counter.session.registration.unanswered == set()


def test_a_broker_that_is_silent_for_too_long_is_registered_with_again(echo: Loop) -> None:
    sent = echo.run(
        WELCOME,
        echo.advance(protocol.SILENCE_S - 0.1),
        [protocol.PING],
        echo.advance(protocol.SILENCE_S - 0.1),
        echo.advance(0.1),
    )
    assert len(echo.ids(sent)) == 2
    assert echo.connection.connects == 2


def test_messages_that_arrived_during_a_pause_of_the_worker_end_the_silence(echo: Loop) -> None:
    def pause() -> None:
        echo.now_s += 10 * protocol.SILENCE_S
        echo.connection.arrive([protocol.PING])

    echo.run(WELCOME, pause)
    assert echo.connection.connects == 1


def test_a_registered_worker_sends_a_ping_each_interval(echo: Loop) -> None:
    echo.connection.script = [WELCOME, *[echo.advance(protocol.WORKER_PING_INTERVAL_S / 2)] * 8]
    assert echo.loop.run(0) is None
    pings = [frames for frames in echo.connection.sent if frames == [protocol.PING]]
    assert len(pings) == 5, "one at once, and four in four intervals"


@pytest.mark.parametrize(("parts", "says"), [([b"wrong version"], "wrong version"), ([], "no reason given")])
def test_bye_of_the_broker_ends_the_loop_with_the_reason(echo: Loop, parts: list[bytes], says: str) -> None:
    with pytest.raises(RefusedError, match=f"fake://broker refuses this worker: {says}"):
        echo.run([protocol.BYE, *parts])


def drain_steps(echo: Loop, *after: Step) -> list[Step]:
    return [WELCOME, work("echo_predict_stream", [0, 1]), echo.loop.stop, *after]


def test_a_draining_worker_finishes_what_it_has_and_then_ends(echo: Loop) -> None:
    ended_early: list[Step] = []
    more = [protocol.MORE, number(0), (9).to_bytes(4, "big")]
    echo.connection.on_script_end = lambda: ended_early.append([])
    sent = echo.run(*drain_steps(echo, [protocol.DRAIN], more))
    assert [name for _, _, name, _ in answers(sent)] == ["STREAM", "STREAM", "STREAM_DONE"]
    assert echo.session.state == WorkerState.DRAINING
    assert echo.session.has_drained


def test_a_draining_worker_waits_for_the_brokers_acknowledgement(echo: Loop) -> None:
    steps: list[Step] = [WELCOME, echo.loop.stop, work("echo_predict", "late"), [protocol.DRAIN]]
    assert [args for _, _, _, args in answers(echo.run(*steps))] == [["late"]]
    assert not echo.connection.script, "it did not end before"


def test_a_draining_worker_ends_when_its_time_is_over(echo: Loop) -> None:
    unused = echo.advance(0)
    echo.run(*drain_steps(echo, [protocol.DRAIN], echo.advance(DRAIN_TIMEOUT_S), unused))
    assert echo.connection.script == [unused]
    assert echo.session.registration.unanswered == {number(0)}


def test_a_draining_worker_ends_at_once_when_its_broker_is_gone(echo: Loop) -> None:
    unused = echo.advance(0)

    def down() -> None:
        echo.connection.is_up = False

    echo.run(*drain_steps(echo, down, echo.advance(0), unused))
    assert unused in echo.connection.script


def test_a_second_stop_ends_the_loop_at_once(echo: Loop) -> None:
    unused = echo.advance(0)
    echo.run(*drain_steps(echo, echo.loop.stop, unused))
    assert echo.connection.script == [unused]


class FakeLoader:
    """Has the results that a test gives it."""

    def __init__(self, *results: LoadResult) -> None:
        self._results = list(results)

    @property
    def unfinished(self) -> int:
        return len(self._results)

    def take(self) -> LoadResult | None:
        return self._results.pop(0) if self._results else None


def test_a_loaded_model_is_hosted_and_reported(echo: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    (model,) = ModelManager(configured_entries({"APP_SETTINGS": "tests.services.configs:CounterOnly"})).load()
    registration = echo.session.registration
    results = [
        LoadResult(registration, b"1", model),
        LoadResult(registration, b"2", None, "no weights"),
        LoadResult(Registration("former"), b"3", model),
    ]
    monkeypatch.setattr(echo.orders, "loader", FakeLoader(*results))
    monkeypatch.setattr(echo.leadership, "grow_to", lambda threads: None)
    sent = echo.run(WELCOME, work("counter_predict", None))
    loaded, failed = (frames for frames in sent if frames[0] in (protocol.LOADED, protocol.FAILED))
    assert (loaded[:2], read_model_description(loaded[2]).qualified_name) == ([protocol.LOADED, b"1"], "counter")
    assert failed == [protocol.FAILED, b"2", b"no weights"]
    assert [name for _, _, name, _ in answers(sent)] == [events.OK]


def test_a_reload_with_more_slots_runs_what_has_waited(echo: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    (queue,) = echo.hosted.queues.values()
    queue._running.add(cast(Job, object()))  # a job of a former registration, say, that takes long
    (model,) = ModelManager(configured_entries({"APP_SETTINGS": "tests.services.configs:EchoOnly"})).load()
    wider = replace(model, description=replace(model.description, slots=2))
    loader = FakeLoader()
    monkeypatch.setattr(echo.orders, "loader", loader)
    monkeypatch.setattr(echo.leadership, "grow_to", lambda threads: None)
    before = echo.run(WELCOME, work("echo_predict", 1))
    assert answers(before) == []
    echo.loop._stop_requests = 0
    loader._results.append(LoadResult(echo.session.registration, b"1", wider))
    assert [name for _, _, name, _ in answers(echo.run([protocol.PING]))] == [events.OK]


def test_an_unloaded_model_is_reported_and_its_calls_are_refused(echo: Loop) -> None:
    sent = echo.run(WELCOME, [protocol.UNLOAD, b"7", b"echo", b"1.0"], work("echo_predict", 1))
    assert [protocol.UNLOADED, b"7"] in sent
    assert [args[0] for _, _, _, args in answers(sent)] == ["NameError"]
