"""The calls of the Python client, without a connection: events in, events to send out."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgpack
import pytest
from zerorpc_cluster import ConnectionLostError, RemoteError, StreamMismatchError
from zerorpc_cluster.calls import Call, Calls
from zerorpc_cluster.errors import ClientError
from zerorpc_cluster.events import BadEventError, encode_body, encode_call
from zerorpc_cluster.ids import Ids

HEARTBEAT_S = 5.0
SLOTS = 10


class World:
    """The calls of one client, and a server that is written by hand."""

    def __init__(self, heartbeat_s: float | None = HEARTBEAT_S) -> None:
        self.calls = Calls(Ids(), heartbeat_s, SLOTS)
        self.now_s = 100.0
        self.woken: list[Call] = []
        self._ids = Ids()

    def call(self, *, is_stream: bool = False) -> Call:
        number = next(self._ids)
        made = Call(number, "work", encode_call(number, None, encode_body("work", (1,))), is_stream=is_stream)
        made.wake = lambda: self.woken.append(made)
        self.calls.add(made)
        return made

    def sent(self) -> list[tuple[str, Any]]:
        """Take what is to be sent: name and arguments."""
        events = [msgpack.unpackb(event) for event in self.calls.take_unsent(self.now_s)]
        return [(name, arguments) for _, name, arguments in events]

    def say(self, call: Call, name: str, arguments: Any) -> None:
        header = {"message_id": b"server", "v": 3, "response_to": call.id}
        self.calls.receive(msgpack.packb([header, name, arguments]), self.now_s)

    def pass_time(self, seconds: float) -> bool:
        self.now_s += seconds
        return self.calls.tick(self.now_s)


@pytest.fixture
def world() -> World:
    return World()


def test_a_call_is_sent_once_and_ends_with_its_result(world: World) -> None:
    call = world.call()
    assert world.sent() == [("work", [1])]
    assert world.sent() == []
    world.say(call, "OK", [{"species": "setosa"}])
    assert (call.is_done, call.result, call.error) == (True, {"species": "setosa"}, None)
    assert world.woken == [call]
    assert not world.calls.open


@pytest.mark.parametrize(
    ("arguments", "name", "text", "traceback"),
    [
        (["ValueError", "too small", None], "ValueError", "too small", None),
        (["ValueError", "too small", "Traceback"], "ValueError", "too small", "Traceback"),
        (["ValueError('too small')"], "RemoteError", "ValueError('too small')", None),
        (["ValueError"], "RemoteError", "ValueError", None),
        ([], "RemoteError", "", None),
        (7, "RemoteError", "", None),
        ([1, 2, 3], "RemoteError", "", None),
    ],
)
def test_an_error_is_read_whatever_its_form(
    world: World, arguments: Any, name: str, text: str, traceback: str | None
) -> None:
    call = world.call()
    world.sent()
    world.say(call, "ERR", arguments)
    assert isinstance(call.error, RemoteError)
    assert (call.error.name, call.error.msg, call.error.traceback) == (name, text, traceback)


@pytest.mark.parametrize(
    ("name", "text", "traceback", "not_executed", "may_pass"),
    [
        ("ServerBusy", "the queue is full", None, True, True),
        ("NoWorkers", "none", None, True, True),
        ("Draining", "later", None, True, True),
        ("MessageTooLarge", "17 MiB", None, True, False),
        ("DeadlineExceeded", "the call waited 2.0 s for a worker; it was not executed", None, True, False),
        ("DeadlineExceeded", "the call began and has not ended; it may still end", None, False, False),
        ("WorkerLost", "it may have been executed", None, False, False),
        ("ServerBusy", "a class of the model's own", "Traceback", False, False),
        ("ValueError", "it was not executed", None, False, False),
    ],
)
def test_an_error_says_whether_the_call_was_executed(
    name: str, text: str, traceback: str | None, not_executed: bool, may_pass: bool
) -> None:
    error = RemoteError(name, text, traceback)
    assert (error.not_executed, error.may_pass) == (not_executed, may_pass)


def test_the_reader_of_a_stream_announces_slots_as_it_takes_items(world: World) -> None:
    stream = world.call(is_stream=True)
    world.sent()
    world.say(stream, "STREAM", 0)
    assert world.sent() == [], "nothing has been taken"
    assert world.calls.take_item(stream) == 0
    assert world.sent() == [("_zpc_more", [SLOTS])]
    for i in range(1, SLOTS + 1):
        world.say(stream, "STREAM", i)
    taken = [world.calls.take_item(stream) for _ in range(SLOTS // 2 - 1)]
    assert world.sent() == []
    taken.append(world.calls.take_item(stream))
    assert world.sent() == [("_zpc_more", [SLOTS // 2])]
    assert taken == [1, 2, 3, 4, 5]
    world.say(stream, "STREAM_DONE", None)
    assert [world.calls.take_item(stream) for _ in range(SLOTS // 2)] == [6, 7, 8, 9, 10]
    assert world.sent() == [], "the server needs no slots any more"
    assert (stream.is_done, stream.error) == (True, None)


def test_the_items_before_an_error_are_kept(world: World) -> None:
    stream = world.call(is_stream=True)
    world.sent()
    world.say(stream, "STREAM", "a")
    world.say(stream, "ERR", ["ValueError", "b", None])
    assert world.calls.take_item(stream) == "a"
    assert isinstance(stream.error, RemoteError)


@pytest.mark.parametrize(("is_stream", "answer"), [(False, "STREAM"), (False, "STREAM_DONE"), (True, "OK")])
def test_the_other_kind_of_answer_says_which_method_to_use(world: World, is_stream: bool, answer: str) -> None:
    call = world.call(is_stream=is_stream)
    world.sent()
    world.say(call, answer, [1])
    assert isinstance(call.error, StreamMismatchError)
    assert f"use {'call' if is_stream else 'stream'}()" in str(call.error)
    assert world.sent() == [("_zpc_cancel", [])]


def test_a_call_has_heartbeats_while_it_is_open(world: World) -> None:
    call = world.call()
    world.sent()
    for _ in range(4):
        world.pass_time(HEARTBEAT_S)
        assert world.sent() == [("_zpc_hb", 0)]
        world.say(call, "_zpc_hb", [0])
    assert not call.is_settled
    world.say(call, "OK", [1])
    world.pass_time(HEARTBEAT_S)
    assert world.sent() == []


def test_a_call_of_a_silent_server_fails_and_is_cancelled(world: World) -> None:
    call = world.call()
    world.sent()
    assert not world.pass_time(2 * HEARTBEAT_S)
    assert world.pass_time(0.1)
    assert isinstance(call.error, ConnectionLostError)
    assert "no sign of life for 10 s" in str(call.error)
    assert not call.error.not_executed
    assert ("_zpc_cancel", []) in world.sent()


def test_without_heartbeats_silence_lasts_as_long_as_it_likes() -> None:
    world = World(heartbeat_s=None)
    call = world.call()
    world.sent()
    assert not world.pass_time(1000)
    assert world.sent() == []
    assert not call.is_settled


def test_a_call_that_was_not_sent_waits_for_the_next_connection(world: World) -> None:
    sent, unsent = world.call(), None
    world.sent()
    unsent = world.call()
    world.calls.disconnected("Connection reset by peer")
    assert isinstance(sent.error, ConnectionLostError)
    assert "work: Connection reset by peer before the answer came" in str(sent.error)
    assert not unsent.is_settled
    world.pass_time(100)
    assert not unsent.is_settled, "nobody can answer it yet"
    assert world.sent() == [("work", [1])]


def test_heartbeats_of_a_lost_connection_are_not_sent_on_the_next(world: World) -> None:
    world.call()
    world.sent()
    world.pass_time(HEARTBEAT_S)
    world.calls.disconnected("gone")
    assert world.sent() == []


def test_a_call_that_its_caller_leaves_is_cancelled_if_it_was_sent(world: World) -> None:
    sent = world.call()
    world.sent()
    unsent = world.call()
    for call in (sent, unsent, sent, unsent):
        world.calls.abandon(call)
    assert world.sent() == [("_zpc_cancel", [])]
    assert isinstance(sent.error, ClientError)
    world.say(sent, "OK", [1])
    assert sent.result is None, "it comes too late"


def test_answers_to_other_calls_are_ignored(world: World) -> None:
    call, other = world.call(), World().call()
    world.sent()
    world.say(other, "OK", [1])
    world.say(call, "_zpc_more", [100])
    world.say(call, "SOMETHING", [100])
    assert not call.is_settled


@pytest.mark.parametrize(
    "event",
    [b"", b"\xc1", b"\x93", msgpack.packb(7), msgpack.packb([{}, "OK", [1]]), msgpack.packb([7, "OK", [1]])]
    + [msgpack.packb([{"response_to": response_to}, name, []]) for response_to, name in [("text", "OK"), (b"id", 7)]],
)
def test_bytes_that_are_no_answer_are_refused(world: World, event: bytes) -> None:
    with pytest.raises(BadEventError, match="the server sent an event"):
        world.calls.receive(event, world.now_s)


def test_a_header_may_have_keys_of_its_own_but_not_those_of_the_protocol() -> None:
    number, body = next(Ids()), encode_body("work", ())
    header, name, arguments = msgpack.unpackb(encode_call(number, {"traceparent": "00-a-b-01"}, body))
    assert header == {"message_id": number, "v": 3, "traceparent": "00-a-b-01"}
    assert (name, arguments) == ("work", [])
    with pytest.raises(ValueError, match="message_id"):
        encode_call(number, {"message_id": "mine"}, body)


@pytest.mark.parametrize("argument", [object(), 2**64, {1, 2}])
def test_an_argument_that_msgpack_does_not_have_is_refused_at_once(argument: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        encode_body("work", (argument,))


def test_threads_take_ids_at_the_same_time() -> None:
    ids = Ids()
    with ThreadPoolExecutor(8) as pool:
        taken = pool.map(lambda _: [next(ids) for _ in range(20_000)], range(8))
        assert len({number for part in taken for number in part}) == 160_000
