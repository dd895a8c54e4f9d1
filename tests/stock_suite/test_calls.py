"""Calls, errors and time-outs: zerorpc-python's test_server, test_client, test_client_async and test_reqstream."""

from collections.abc import Iterator
from typing import Any

import gevent
import pytest
import zerorpc

from tests.processes import Cluster
from tests.stock_suite.cases import case
from tests.stock_suite.conftest import SERVICE, Call, Serve

NO_PROCEDURE = "'donotexist' is not a procedure of this service; _zerorpc_list returns their names"
OWN_TEXT = "the text of a `NameError` is the broker's"
ASYNCHRONOUS = {"async": True}  # which is no name in Python any more


class Calculator:
    def answer(self) -> int:
        """Return the answer."""
        return 42

    def add(self, a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    def add_slowly(self, a: int, b: int) -> int:
        """Add two numbers in two seconds."""
        gevent.sleep(2)
        return a + b

    def fifth(self, values: Any) -> Any:
        """Return the fifth value."""
        return values[4]

    def fail(self) -> None:
        """Raise."""
        raise RuntimeError("oops!")

    @zerorpc.rep  # type: ignore[untyped-decorator]
    def listed(self, end: int) -> list[int]:
        """Return numbers at once."""
        return list(range(end))

    @zerorpc.stream  # type: ignore[untyped-decorator]
    def streamed(self, end: int) -> Iterator[int]:
        """Return numbers one by one."""
        return iter(range(end))


class OwnServer(zerorpc.Server):  # type: ignore[misc]
    """A server whose methods are its own."""

    def answer(self) -> int:
        """Return the answer."""
        return 42


def multiplexer(address: str) -> tuple[zerorpc.Events, zerorpc.ChannelMultiplexer]:
    """The parts of a client: events, and channels over them."""
    events = zerorpc.Events(zerorpc.zmq.DEALER)
    events.connect(address)
    return events, zerorpc.ChannelMultiplexer(events, ignore_broadcast=True)


@case("test_server", "test_server_manual")
def test_a_client_made_of_events_and_channels_is_answered(broker: Cluster, serve: Serve) -> None:
    serve(Calculator())
    events, channels = multiplexer(broker.frontend)
    for name, args, result in (("answer", (), 42), ("add", (1, 2), 3)):
        channel = channels.channel()
        channel.emit(name, args)
        assert list(channel.recv().args) == [result]
        channel.close()
    channels.close()
    events.close()


@case("test_server", "test_client_server")
def test_a_client_calls_methods(serve: Serve, connect: Call) -> None:
    serve(Calculator())
    client = connect()
    assert [client.answer() for _ in range(3)] == [42] * 3
    assert [client.add(1, 4), client.add(-1, 1)] == [5, 0]


@case("test_server", "test_client_server_client_timeout")
def test_a_client_waits_as_long_as_it_wants(serve: Serve, connect: Call) -> None:
    serve(Calculator())
    with pytest.raises(zerorpc.TimeoutExpired):
        connect(timeout=1).add_slowly(1, 4)


@case("test_server", "test_client_server_exception")
def test_an_exception_ends_its_call_alone(serve: Serve, connect: Call) -> None:
    serve(Calculator())
    client = connect(timeout=5)
    with pytest.raises(zerorpc.RemoteError):
        client.fifth(42)
    assert client.fifth([0, 1, 2, 3, 4]) == 4


@case("test_server", "test_client_server_detailed_exception")
def test_an_exception_has_name_text_and_traceback(serve: Serve, connect: Call) -> None:
    serve(Calculator())
    with pytest.raises(zerorpc.RemoteError) as raised:
        connect(timeout=5).fail()
    assert (raised.value.name, raised.value.msg) == ("RuntimeError", "oops!")
    assert 'raise RuntimeError("oops!")' in raised.value.traceback


@case("test_server", "test_exception_compat_v1", difference=OWN_TEXT)
def test_a_client_of_version_1_gets_one_text(broker: Cluster, serve: Serve) -> None:
    serve(Calculator())
    events, channels = multiplexer(broker.frontend)
    channel = channels.channel()
    channel.emit("donotexist", ())
    event = channel.recv()
    assert event.name == "ERR"
    name, text, _ = event.args
    assert (name, text) == ("NameError", NO_PROCEDURE)
    channel.close()
    for method, answer in (
        ("donotexist", f"NameError({NO_PROCEDURE!r})"),
        ("fail", "RuntimeError('oops!')"),
    ):
        channel = channels.channel()
        channel.emit(method, (), xheader={"v": 1})
        event = channel.recv()
        assert (event.name, list(event.args)) == ("ERR", [answer])
        channel.close()
    channels.close()
    events.close()


@case("test_client", "test_client_connect")
def test_a_server_whose_methods_are_its_own_is_called(broker: Cluster, serve: Serve) -> None:
    serve(OwnServer(name=SERVICE))
    client = zerorpc.Client()
    client.connect(broker.frontend)
    assert client.answer() == 42
    client.close()


@case("test_client", "test_client_quick_connect")
def test_a_client_connects_when_it_is_made(broker: Cluster, serve: Serve) -> None:
    serve(OwnServer(name=SERVICE))
    client = zerorpc.Client(broker.frontend)
    assert client.answer() == 42
    client.close()


@case("test_client_async", "test_client_server_client_timeout_with_async")
def test_an_asynchronous_call_times_out(serve: Serve, connect: Call) -> None:
    serve(Calculator())
    result = connect(timeout=1).add_slowly(1, 4, **ASYNCHRONOUS)
    with pytest.raises(zerorpc.TimeoutExpired):
        result.get()


@case("test_client_async", "test_client_server_with_async")
def test_asynchronous_calls_are_answered(serve: Serve, connect: Call) -> None:
    serve(Calculator())
    client = connect()
    results = [client.answer(**ASYNCHRONOUS), client.add(1, 4, **ASYNCHRONOUS)]
    assert [result.get(timeout=10) for result in results] == [42, 5]


@case("test_reqstream", "test_rcp_streaming")
def test_a_list_comes_at_once_and_a_stream_item_by_item(serve: Serve, connect: Call) -> None:
    serve(Calculator(), heartbeat=1)
    client = connect(heartbeat=1)
    assert list(client.listed(10)) == list(range(10))
    items = client.streamed(10)
    assert isinstance(items, Iterator)
    gevent.sleep(3)  # heartbeats keep an unread stream
    assert list(items) == list(range(10))
