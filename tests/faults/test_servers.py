"""Stock ZeroRPC servers that die, freeze, are blocked, or want to do harm."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent
import msgpack
import pytest
import zerorpc
import zmq.green as zmq

from tests import npm
from tests.figures import Figure
from tests.processes import REPOSITORY, START_S, Cluster, Process, cluster, total, wait_until

TOOLS = REPOSITORY / "tests" / "node" / "tools.js"
LOST_S = 5.0
"""By when the broker drops a frozen server, in seconds."""


@contextmanager
def tools(folder: Path, count: int, **settings: str) -> Iterator[tuple[Cluster, list[Process]]]:
    """A broker and stock servers."""
    with cluster(folder, **settings) as made:
        servers = [made.start_server() for _ in range(count)]
        made.wait_for_workers(count)
        yield made, servers


def is_lost(stream: Iterator[int]) -> bool:
    """Whether a stream, of which five items have been read, ends with its server; if not, the items are right."""
    try:
        items = [next(stream) for _ in range(1000)]
    except zerorpc.RemoteError as error:
        return bool(error.name == "WorkerLost")
    assert items == list(range(5, 1005))
    return False


def error_of(call: Any) -> zerorpc.RemoteError:
    with pytest.raises(zerorpc.RemoteError) as raised:
        call.get()
    return raised.value


# -- death


@pytest.mark.alone
@pytest.mark.fault(67)
def test_a_killed_server_costs_its_own_calls_and_at_once(tmp_path: Path, figure: Figure) -> None:
    with tools(tmp_path, 2) as (made, servers):

        def call(client: Any) -> tuple[float, Any]:
            """When the call ended, and how."""
            try:
                answer = client.sleep(4)
            except zerorpc.RemoteError as error:
                answer = error
            return time.monotonic(), answer

        calls = [gevent.spawn(call, made.client()) for _ in range(10)]
        streams = [made.client().numbers(10_000_000) for _ in range(4)]
        for stream in streams:
            assert [next(stream) for _ in range(5)] == list(range(5))
        wait_until(lambda: made.in_flight() == 14, 5, "both servers have calls")
        begin_s = time.monotonic()
        servers[0].signal(signal.SIGKILL)
        gevent.joinall(calls, timeout=10, raise_error=True)
        errors = {one: ended_s for ended_s, one in (call.get() for call in calls) if one != servers[1].pid}
        assert errors
        took_s = max(errors.values()) - begin_s
        figure("longest wait for the error after a stock server was killed", 1000 * took_s, "ms")
        assert took_s < 0.5
        assert {error.name for error in errors} == {"WorkerLost"}
        assert all("may have been executed" in error.msg for error in errors)
        assert len(errors) + sum(is_lost(stream) for stream in streams) == 7, "each server had one half"


@pytest.mark.fault(67)
def test_servers_killed_under_load_cost_no_call_that_may_be_made_again(tmp_path: Path, figure: Figure) -> None:
    kills = 3
    with tools(tmp_path, 3, BROKER_RETRY_METHODS="dou*") as (made, servers):
        load = made.load("double", argument=4, in_flight=32, connections=8)
        for number in range(kills):
            wanted = made.outcomes("double")["ok"] + 300
            _wait_for_answers(made, wanted)
            servers[number].signal(signal.SIGKILL)
            servers.append(made.start_server())
            wait_until(lambda: servers[-1].pid in served(made), 20, "the new server answers")
        load.stop()
        result = load.result()
        figure(f"of {result['sent']} calls while {kills} stock servers were killed, lost", result["unanswered"], "")
        assert set(result["outcomes"]) == {"OK"}
        assert result["unanswered"] == result["unasked"] == 0
        assert total(made.http, "zerorpc_broker_worker_lost_total", reason="exit") == kills


def _wait_for_answers(made: Cluster, count: int) -> None:
    wait_until(lambda: made.outcomes("double")["ok"] >= count, 30, f"{count} calls are answered")


def served(made: Cluster) -> set[int]:
    """The processes that answer."""
    client = made.client()
    return {client.pid() for _ in range(12)}


@pytest.mark.fault(67)
def test_without_a_server_calls_wait_for_one_that_comes(tmp_path: Path) -> None:
    with tools(tmp_path, 1) as (made, servers):
        assert made.client().double(2) == 4
        servers[0].signal(signal.SIGKILL)
        made.wait_for_workers(0)
        call = gevent.spawn(made.client().double, 3)
        wait_until(lambda: made.open_calls() == 1, 5, "the call waits")
        made.start_server()
        assert call.get(timeout=20) == 6


@pytest.mark.fault(12)
def test_servers_come_back_to_a_broker_that_starts_again(tmp_path: Path) -> None:
    with tools(tmp_path, 2) as (made, _):
        client = made.client()
        assert client.double(2) == 4
        made.broker.signal(signal.SIGKILL)
        made.broker.wait(START_S)
        made.start_broker()
        made.wait_for_workers(2)
        assert client.double(3) == 6


# -- freezing and blocking


@pytest.mark.alone
@pytest.mark.fault(68)
def test_a_frozen_server_is_dropped_and_comes_back(tmp_path: Path, figure: Figure) -> None:
    with tools(tmp_path, 2) as (made, servers):
        load = made.load("double", argument=4, in_flight=8, connections=4)
        wait_until(lambda: made.outcomes("double")["ok"] > 300, 20, "both serve")
        begin_s = time.monotonic()
        servers[0].signal(signal.SIGSTOP)
        made.wait_for_workers(1, 2 * LOST_S)
        took_s = time.monotonic() - begin_s
        figure("time until a frozen stock server is dropped", took_s, "s")
        assert took_s < LOST_S + 1
        assert total(made.http, "zerorpc_broker_worker_lost_total", reason="heartbeat") == 1
        servers[0].signal(signal.SIGCONT)
        made.wait_for_workers(2)
        before = made.outcomes("double")["ok"]
        wait_until(lambda: made.outcomes("double")["ok"] > before + 300, 20, "calls go on")
        load.stop()
        result = load.result()
        assert set(result["outcomes"]) <= {"OK", "WorkerLost"}
        assert result["outcomes"]["WorkerLost"]["count"] <= 8, "a frozen server had at most what was in flight"
        assert result["unanswered"] == result["unasked"] == 0


@pytest.mark.fault(69)
@pytest.mark.parametrize("kind", ["python", "node"])
def test_a_server_that_computes_for_20_s_loses_nothing(tmp_path: Path, kind: str) -> None:
    with cluster(tmp_path) as made:
        command = () if kind == "python" else (npm.node()[0], TOOLS)
        server = made.start_server(*command)
        made.wait_for_workers(1)
        computation = gevent.spawn(made.client(timeout=60).compute, 20)
        wait_until(lambda: made.in_flight() == 1, 5, "it computes")
        made.start_server(*command)
        made.wait_for_workers(2)
        client = made.client()
        for number in range(100):
            assert client.double(number) == 2 * number
        assert computation.get(timeout=40) == server.pid
        assert total(made.http, "zerorpc_broker_worker_lost_total") == 0
        assert {dict(worker)["id"] for worker in made.workers()} == {"Tools-1", "Tools-2"}


@pytest.mark.fault(69)
def test_calls_at_the_only_server_wait_while_it_computes(tmp_path: Path) -> None:
    with tools(tmp_path, 1) as (made, _):
        computation = gevent.spawn(made.client(timeout=60).compute, 12)
        wait_until(lambda: made.in_flight() == 1, 5, "it computes")
        calls = [gevent.spawn(made.client(timeout=60).double, number) for number in range(20)]
        gevent.joinall([computation, *calls], timeout=60, raise_error=True)
        assert [call.get() for call in calls] == [2 * number for number in range(20)]


@pytest.mark.fault(69)
def test_a_call_that_a_server_drops_after_a_block_ends(tmp_path: Path) -> None:
    """A stock server takes the broker for lost if its own loop was blocked, and drops older calls without a word."""
    with tools(tmp_path, 1) as (made, _):
        older = gevent.spawn(made.client(timeout=90).sleep, 60)
        wait_until(lambda: made.in_flight() == 1, 5, "it waits")
        gevent.sleep(6)  # the server has sent a heartbeat for it
        assert made.client(timeout=60).compute(12) > 0
        begin_s = time.monotonic()
        error = error_of(older)
        assert error.name == "WorkerLost"
        assert "has dropped the call" in error.msg
        assert time.monotonic() - begin_s < 40
        assert made.client().double(1) == 2


@pytest.mark.fault(57)
def test_a_result_that_is_too_large_is_an_error_of_its_call_alone(tmp_path: Path) -> None:
    with tools(tmp_path, 1) as (made, _):
        other = gevent.spawn(made.client().sleep, 3)
        wait_until(lambda: made.in_flight() == 1, 5, "it waits")
        with pytest.raises(zerorpc.RemoteError) as raised:
            made.client(timeout=60, heartbeat=None).repeat("x", 70_000_000)
        assert raised.value.name == "ResultTooLarge"
        assert other.get(timeout=20) > 0


# -- harm


class Hostile:
    """A ROUTER that connects to the backend, gets the broker's questions, and answers them as it likes."""

    def __init__(self, address: str) -> None:
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(address)

    def questions(self, count: int = 3) -> dict[str, tuple[bytes, Any]]:
        """The broker's next questions by name: who asks, and with which id."""
        found = {}
        for _ in range(count):
            with gevent.Timeout(10):
                broker, _, payload = self.socket.recv_multipart()
            header, name, _ = msgpack.unpackb(payload)
            found[name] = broker, header["message_id"]
        return found

    def answer(self, question: tuple[bytes, Any], *args: Any, name: str = "OK") -> None:
        broker, conversation = question
        header = {"message_id": b"1", "v": 3, "response_to": conversation}
        self.send(broker, msgpack.packb([header, name, args]))

    def inspected(self, service: str, *methods: str) -> None:
        """Answer the inspection, with methods without texts."""
        described: dict[str, object] = {name: {} for name in methods}
        self.answer(self.questions()["_zerorpc_inspect"], {"name": service, "methods": described})

    def send(self, broker: bytes, payload: bytes) -> None:
        self.socket.send_multipart([broker, b"", payload])

    def close(self) -> None:
        self.socket.close()
        self._context.term()


def endless_list(hostile: Hostile) -> None:
    hostile.answer(hostile.questions()["_zerorpc_list"], ["x" * 200] * 100_000)


def endless_bytes(hostile: Hostile) -> None:
    hostile.answer(hostile.questions()["_zerorpc_list"], b"x" * (300 * 1024 * 1024))


def declared_lengths(hostile: Hostile) -> None:
    broker, conversation = hostile.questions()["_zerorpc_list"]
    head = msgpack.packb({"message_id": b"1", "v": 3, "response_to": conversation})
    hostile.send(broker, b"\x93" + head + b"\xa2OK\x91\xdd\xff\xff\xff\xff")


def deep_nesting(hostile: Hostile) -> None:
    broker, conversation = hostile.questions()["_zerorpc_inspect"]
    head = msgpack.packb({"message_id": b"1", "v": 3, "response_to": conversation})
    hostile.send(broker, b"\x93" + head + b"\xa2OK" + b"\x91" * 1_000_000)


def ten_thousand_methods(hostile: Hostile) -> None:
    hostile.inspected("Many", *(f"method_{number}" for number in range(10_000)))


def control_characters(hostile: Hostile) -> None:
    questions = hostile.questions()
    hostile.answer(questions["_zerorpc_name"], "Evil")
    hostile.answer(questions["_zerorpc_list"], ["\x1b[2J", "a\nb", "\u202edouble", ""])
    hostile.answer(questions["_zerorpc_inspect"], "AttributeError", "no", "", name="ERR")


def names_of_others(hostile: Hostile) -> None:
    hostile.inspected("Thief", "double", "numbers", "_zerorpc_list", "get_service_schema")


def other_ids(hostile: Hostile) -> None:
    broker, conversation = hostile.questions()["_zerorpc_name"]
    for number in range(20_000):
        other = f"{conversation[:-8]}{number:08x}"
        header = {"message_id": b"1", "v": 3, "response_to": other}
        hostile.send(broker, msgpack.packb([header, "OK", ["stolen"]]))


def unasked_calls(hostile: Hostile) -> None:
    broker, _ = hostile.questions()["_zerorpc_name"]
    for number in range(1000):
        hostile.send(broker, msgpack.packb([{"message_id": number, "v": 3}, "get_models", []]))


def rubbish(hostile: Hostile) -> None:
    broker, _ = hostile.questions()["_zerorpc_name"]
    for frames in ([b"\x01", b"READY"], [b""], [b"x"] * 8, [b"", b"\xc1"]):
        hostile.socket.send_multipart([broker, *frames])


def silence(hostile: Hostile) -> None:
    assert set(hostile.questions()) == {"_zerorpc_inspect", "_zerorpc_name", "_zerorpc_list"}


@pytest.mark.fault(70)
@pytest.mark.parametrize(
    "attack",
    [
        endless_list,
        endless_bytes,
        declared_lengths,
        deep_nesting,
        ten_thousand_methods,
        control_characters,
        names_of_others,
        other_ids,
        unasked_calls,
        rubbish,
        silence,
    ],
)
def test_a_hostile_server_hurts_nobody(attacked: Cluster, attack: Callable[[Hostile], None]) -> None:
    client = attacked.client()
    stream = client.numbers(100_000)
    assert next(stream) == 0
    memory = attacked.memory_bytes()
    hostile = Hostile(attacked.backend)
    attack(hostile)
    for number in range(300):
        assert client.double(number) == 2 * number
        assert next(stream) == number + 1
    assert [worker["id"] for worker in attacked.workers()] == ["Tools-1"]
    wait_until(lambda: attacked.memory_bytes() < memory + 100 * 1024 * 1024, 10, "the broker keeps none of it")
    hostile.close()
    log = attacked.broker.output()
    assert "Traceback" not in log
    assert not any(ord(character) < 32 and character != "\n" for character in log)
    assert total(attacked.http, "zerorpc_broker_bad_frames_total", reason="internal") == 0


@pytest.fixture
def attacked(tmp_path: Path) -> Iterator[Cluster]:
    with tools(tmp_path, 1) as (made, _):
        yield made


@pytest.mark.fault(70)
def test_a_hostile_server_hurts_only_its_own_callers(attacked: Cluster) -> None:
    hostile = Hostile(attacked.backend)
    hostile.inspected("Evil", "steal", "hoard")
    attacked.wait_for_workers(2)
    call = gevent.spawn(attacked.client().steal)
    question = hostile.questions(1)["steal"]
    for number in range(2000):  # the client has room for 101 at most
        hostile.answer(question, number, name="STREAM")
    stream = call.get()
    with pytest.raises(zerorpc.RemoteError) as raised:
        list(stream)
    assert raised.value.name == "WorkerError"
    assert "more items than the client has room for" in raised.value.msg
    silent = gevent.spawn(attacked.client(timeout=2).hoard)
    with pytest.raises(zerorpc.TimeoutExpired):
        silent.get()
    assert attacked.client().double(2) == 4
    hostile.close()
    attacked.wait_for_workers(1)
