"""Bad bytes hurt only their sender: raw frames are sent to a real cluster that also serves an honest client."""

import time
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
import zmq

from tests.figures import Figure
from tests.processes import Cluster, cluster, samples, total, wait_until

pytestmark = pytest.mark.one_process

ID = b"0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("bad"), "SleeperWithSlots", "EchoOnly") as running:
        yield running


class RawClient:
    """A DEALER that sends any frames."""

    def __init__(self, address: str, **options: Any) -> None:
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        self._socket.set(zmq.LINGER, 0)
        for name, value in options.items():
            self._socket.set(getattr(zmq, name), value)
        self._socket.connect(address)

    def send(self, *frames: bytes) -> None:
        self._socket.send_multipart(frames)

    def say(self, header: Any, name: Any, args: Any) -> None:
        self.send(b"", msgpack.packb([header, name, args]))

    def receive(self, timeout_s: float = 5.0) -> list[Any] | None:
        """Return the next event that is not a heartbeat; None if none arrives in time."""
        while self._socket.poll(int(timeout_s * 1000)):
            event: list[Any] = msgpack.unpackb(self._socket.recv_multipart()[-1], strict_map_key=False)
            if event[1] != "_zpc_hb":
                return event
        return None

    def call(self, name: Any, args: Any, header: Any = None) -> list[Any]:
        self.say(header or {"message_id": ID, "v": 3}, name, args)
        event = self.receive()
        assert event is not None, "no answer"
        return event

    def monitor(self, event: zmq.Event) -> zmq.Socket[bytes]:
        """Return a socket that becomes readable when the event happens to the connection."""
        return self._socket.get_monitor_socket(event)

    def close(self) -> None:
        self._socket.disable_monitor()
        self._socket.close()


@pytest.fixture
def raw(made: Cluster) -> Iterator[RawClient]:
    client = RawClient(made.frontend)
    yield client
    client.close()


@pytest.fixture(autouse=True)
def honest(made: Cluster) -> Iterator[None]:
    """After each test an honest call succeeds, and no call is left open."""
    before = [worker["id"] for worker in made.workers()]
    yield
    assert made.client().echo_predict({"still": "here"}) == {"still": "here"}
    wait_until(lambda: made.in_flight() == 0, 10, "nothing is in flight")
    wait_until(lambda: total(made.http, "zerorpc_broker_open_channels") == 0, 10, "no call is open")
    assert [worker["id"] for worker in made.workers()] == before, "no worker was hurt"


def bad_frames(made: Cluster) -> float:
    return sum(samples(made.http, "zerorpc_broker_bad_frames_total").values())


def packed(header: Any, name: Any = "echo_predict", args: Any = ("x",)) -> bytes:
    event: bytes = msgpack.packb([header, name, args])
    return event


GOOD = {"message_id": ID, "v": 3}

DROPPED: dict[str, tuple[bytes, ...]] = {
    "random bytes": (b"", b"\x8f\x1a\xff random \x00"),
    "an empty payload": (b"", b""),
    "a truncated event": (b"", packed(GOOD)[:-5]),
    "a truncated header": (b"", packed(GOOD)[:20]),
    "0xC1": (b"", b"\xc1"),
    "ten frames": (b"", *[b"x"] * 10),
    "an empty frame alone": (b"",),
    "no delimiter": (b"x", packed(GOOD)),
    "an int": (b"", msgpack.packb(5)),
    "a 2-tuple": (b"", msgpack.packb([GOOD, "echo_predict"])),
    "nil": (b"", msgpack.packb(None)),
    "no message_id": (b"", packed({"v": 3})),
    "a list as message_id": (b"", packed({"message_id": [1], "v": 3})),
    "a message_id of 1 MB": (b"", packed({"message_id": b"x" * 1_000_000, "v": 3})),
    "v a string": (b"", packed({"message_id": ID, "v": "3"})),
    "response_to a list": (b"", packed({**GOOD, "response_to": [1]})),
    "response_to unknown": (b"", packed({**GOOD, "response_to": b"nobody"}, "_zpc_hb", [0])),
    "the worker protocol": (b"\x01", b"x"),
    "a worker's sign of life": (b"\x06",),
}


@pytest.mark.fault(24, 25, 26, 27, 38)
@pytest.mark.parametrize("case", DROPPED)
def test_a_message_that_is_not_an_event_is_dropped_and_counted(made: Cluster, raw: RawClient, case: str) -> None:
    before = bad_frames(made)
    raw.send(*DROPPED[case])
    wait_until(lambda: bad_frames(made) == before + 1, 5, "it is counted")
    assert raw.call("echo_predict", ["and the sender goes on"])[2] == ["and the sender goes on"]


@pytest.mark.fault(30, 31)
@pytest.mark.parametrize(
    ("name", "args", "error"),
    [
        ("nope", [], "NameError"),
        ("__init__", [], "NameError"),
        ("_model", [], "NameError"),
        ("run", [], "NameError"),
        ("n" * 1_000_000, [], "NameError"),
        (["echo_predict"], ["x"], "BadRequest"),
        (5, ["x"], "BadRequest"),
        ("echo_predict", 5, "BadRequest"),
        ("echo_predict", [], "BadRequest"),
        ("echo_predict", ["x", "y"], "BadRequest"),
        ("get_models", ["x"], "BadRequest"),
        ("get_model_metadata", [5], "ValueError"),
    ],
)
def test_what_cannot_be_called_is_answered_with_an_error(raw: RawClient, name: Any, args: Any, error: str) -> None:
    header, event, arguments = raw.call(name, args)
    assert header["response_to"] == ID
    assert (event, arguments[0]) == ("ERR", error)
    assert len(arguments[1]) < 300


@pytest.mark.alone
@pytest.mark.fault(30)
def test_an_unknown_procedure_is_refused_within_50_ms(raw: RawClient, figure: Figure) -> None:
    took_s = []
    for i in range(100):
        started_s = time.monotonic()
        assert raw.call("nope", [], {"message_id": i, "v": 3})[2][0] == "NameError"
        took_s.append(time.monotonic() - started_s)
    median_s = sorted(took_s)[50]
    figure("median until an unknown procedure is refused", median_s, "s")
    assert median_s < 0.05


@pytest.mark.fault(32, 34)
@pytest.mark.parametrize(
    "arguments",
    [
        b"\xdd\x05\xf5\xe1\x00",  # declares 100 million
        b"\x91" * 2000 + b"\x90",  # nested 2,000 deep
        b"\x80" * 1_000_000,
        b"\x91\xa2\xff\xff",  # invalid UTF-8
        b"\x91\xc1",
        b"\x91",  # truncated
        b"\x91\x01\x01",  # more bytes than declared
        b"\x91\xd6\xff\x00\x00\x00\x00",  # a timestamp
        b"\x91\xd4\x05\x00",  # an extension type
        b"\x91\x81\x01\x02",  # an integer as key
    ],
)
def test_odd_arguments_are_always_answered(made: Cluster, raw: RawClient, arguments: bytes) -> None:
    before = made.memory_bytes()
    raw.send(b"", b"\x93" + msgpack.packb(GOOD) + msgpack.packb("echo_predict") + arguments)
    event = raw.receive()
    assert event is not None
    assert event[0]["response_to"] == ID
    assert event[1] in ("OK", "ERR")
    assert made.memory_bytes() - before < 10 << 20


@pytest.mark.fault(35)
@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf"), -0.0, 2**63, -(2**63), 2**64 - 1, ""])
def test_odd_values_come_back_bit_for_bit(raw: RawClient, number: Any) -> None:
    assert msgpack.packb(raw.call("echo_predict", [number])[2]) == msgpack.packb([number])


@pytest.mark.fault(33)
def test_too_large_a_message_is_refused_alone(made: Cluster, raw: RawClient) -> None:
    raw.say({"message_id": b"large", "v": 3}, "echo_predict", [b"x" * (17 << 20)])
    raw.say({"message_id": b"small", "v": 3}, "echo_predict", ["x"])
    events = [raw.receive(20), raw.receive(20)]
    by_id = {event[0]["response_to"]: event for event in events if event is not None}
    assert by_id[b"large"][2][0] == "MessageTooLarge"
    assert by_id[b"small"][2] == ["x"]
    assert total(made.http, "zerorpc_broker_requests_total", method="echo_predict", outcome="too_large") == 1


@pytest.mark.fault(32)
@pytest.mark.parametrize("name", ["_zerorpc_help", "_zerorpc_args", "get_model_metadata"])
@pytest.mark.parametrize(
    "argument",
    [
        b"\x91" * 1001 + b"\x90",
        b"\xdd" + (10 << 20).to_bytes(4, "big") + b"\x80" * (10 << 20),
        b"\xc7\x00\x05",
        b"\xc1",
    ],
    ids=["deep", "10 MiB of 0x80", "extension", "0xC1"],
)
def test_the_broker_itself_stands_odd_arguments(made: Cluster, raw: RawClient, name: str, argument: bytes) -> None:
    before = total(made.http, "process_resident_memory_bytes")
    raw.send(b"", b"\x93" + msgpack.packb(GOOD) + msgpack.packb(name) + b"\x91" + argument)
    event = raw.receive()
    assert event is not None
    assert event[1] == "ERR"
    # What libzmq and Python keep of the message itself is at most three copies.
    assert total(made.http, "process_resident_memory_bytes") - before < 3 * len(argument) + (10 << 20)


@pytest.mark.fault(36)
def test_a_huge_announcement_of_slots_is_dropped_unread(made: Cluster, raw: RawClient) -> None:
    before = bad_frames(made)
    raw.say(GOOD, "sleeper_predict", [0.5])
    head = msgpack.packb({"message_id": b"m", "v": 3, "response_to": ID}) + msgpack.packb("_zpc_more")
    raw.send(b"", b"\x93" + head + b"\xdd" + (20 << 20).to_bytes(4, "big") + b"\x80" * (20 << 20))
    event = raw.receive(20)
    assert event is not None
    assert event[1] == "OK"
    assert bad_frames(made) == before + 1


@pytest.mark.fault(36)
@pytest.mark.parametrize(("slots", "bad"), [(2**62, 0), (0, 0), (-1, 1), ("5", 1), ([5], 1), (None, 1), (1.5, 1)])
def test_an_odd_announcement_of_slots_is_clamped_or_dropped(
    made: Cluster, raw: RawClient, slots: Any, bad: int
) -> None:
    before = bad_frames(made)
    raw.say(GOOD, "sleeper_predict", [0.3])
    raw.say({"message_id": b"m", "v": 3, "response_to": ID}, "_zpc_more", [slots])
    event = raw.receive()
    assert event is not None
    assert event[1] == "OK"
    assert bad_frames(made) == before + bad


@pytest.mark.fault(28)
def test_unasked_events_on_an_open_call_are_dropped_and_it_completes(made: Cluster, raw: RawClient) -> None:
    before = bad_frames(made)
    raw.say(GOOD, "sleeper_predict", [1.0])
    for i in range(10_000):
        raw.say({"message_id": i, "v": 3, "response_to": ID}, "STREAM", [i])
    event = raw.receive(20)
    assert event is not None
    assert event[1] == "OK"
    wait_until(lambda: bad_frames(made) == before + 10_000, 10, "they are counted")


@pytest.mark.fault(29)
def test_the_same_id_twice_from_one_client_is_answered_once(made: Cluster, raw: RawClient) -> None:
    before = bad_frames(made)
    raw.say(GOOD, "sleeper_predict", [0.3])
    raw.say(GOOD, "sleeper_predict", [0.3])
    assert raw.receive() is not None
    assert raw.receive(timeout_s=1.0) is None
    assert bad_frames(made) == before + 1


@pytest.mark.fault(29)
def test_the_same_id_from_two_clients_is_answered_twice(made: Cluster, raw: RawClient) -> None:
    other = RawClient(made.frontend)
    raw.say(GOOD, "sleeper_predict", [0.3])
    other.say(GOOD, "echo_predict", ["other"])
    mine, theirs = raw.receive(), other.receive()
    assert mine is not None
    assert isinstance(mine[2][0], int)
    assert theirs is not None
    assert theirs[2] == ["other"]
    other.close()


@pytest.mark.fault(27)
def test_a_client_cannot_send_to_the_call_of_another(made: Cluster, raw: RawClient) -> None:
    before = bad_frames(made)
    intruder = RawClient(made.frontend)
    raw.say(GOOD, "sleeper_predict", [0.5])
    wait_until(lambda: made.in_flight() == 1, 5, "the call runs")
    intruder.say({"message_id": b"m", "v": 3, "response_to": ID}, "_zpc_more", [5])
    intruder.say({"message_id": b"n", "v": 3, "response_to": ID}, "_zpc_hb", [0])
    event = raw.receive()
    assert event is not None
    assert event[1] == "OK"
    assert intruder.receive(timeout_s=0.2) is None
    assert bad_frames(made) == before + 2
    intruder.close()


@pytest.mark.fault(37)
def test_a_routing_id_that_is_taken_cannot_be_claimed(made: Cluster) -> None:
    owner = RawClient(made.frontend, ROUTING_ID=b"the-owner")
    assert owner.call("echo_predict", [1])[2] == [1]
    thief = RawClient(made.frontend, ROUTING_ID=b"the-owner")
    thief.say(GOOD, "echo_predict", ["stolen"])
    assert thief.receive(timeout_s=0.5) is None
    assert owner.call("echo_predict", [2])[2] == [2]
    thief.close()
    owner.close()


@pytest.mark.fault(38)
def test_a_client_that_connects_to_the_backend_is_not_answered(made: Cluster) -> None:
    before = bad_frames(made)
    lost = RawClient(made.backend)
    lost.say(GOOD, "echo_predict", ["x"])
    wait_until(lambda: bad_frames(made) > before, 5, "it is counted")
    assert lost.receive(timeout_s=0.2) is None
    lost.close()


@pytest.mark.fault(23)
@pytest.mark.parametrize("version", [1, 2])
def test_clients_of_older_protocol_versions_are_served(made: Cluster, raw: RawClient, version: int) -> None:
    header = {"message_id": ID, "v": version}
    assert raw.call("echo_predict", ["x"], header)[2] == ["x"]
    error = raw.call("sleeper_predict", ["no number"], {"message_id": b"e", "v": version})
    assert error[1] == "ERR"
    assert len(error[2]) == (1 if version == 1 else 3)
    if version == 1:
        assert error[2][0].startswith("TypeError(")


@pytest.mark.fault(23)
def test_a_client_of_version_1_that_names_no_version_is_served(raw: RawClient) -> None:
    assert raw.call("echo_predict", ["x"], {"message_id": ID})[2] == ["x"]


@pytest.mark.fault(33)
def test_a_message_of_more_than_64_mib_costs_its_sender_the_connection(made: Cluster) -> None:
    greedy = RawClient(made.frontend, RECONNECT_IVL=-1)
    disconnected = greedy.monitor(zmq.EVENT_DISCONNECTED)
    greedy.say(GOOD, "echo_predict", [b"x" * (65 << 20)])
    assert disconnected.poll(10_000), "the broker closes the connection"
    disconnected.close()
    greedy.close()
