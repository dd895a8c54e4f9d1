"""The Python clients against an unmodified `zerorpc.Server`."""

import signal
import time
from collections.abc import Iterator

import pytest
from opentelemetry import propagate
from opentelemetry.sdk.trace import TracerProvider
from zerorpc_cluster import ConnectionLostError, RemoteError, StreamMismatchError

from tests.clients.conftest import Connect
from tests.processes import end_talking, free_port, talking_process, wait_until

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def address() -> Iterator[str]:
    made = f"tcp://127.0.0.1:{free_port()}"
    server = talking_process("tests.services.plain_server", made)
    try:
        yield made
    finally:
        end_talking(server)


def test_a_plain_server_is_called(address: str, connect: Connect) -> None:
    client = connect(address)
    assert client.call("hello", "RPC") == "Hello, RPC"
    with pytest.raises(RemoteError) as raised:
        client.call("fail")
    assert (raised.value.name, raised.value.msg) == ("ValueError", "as asked")
    assert "Traceback" in str(raised.value)
    assert not raised.value.not_executed
    with pytest.raises(StreamMismatchError):
        client.call("count", 3)


def test_a_plain_server_streams(address: str, connect: Connect) -> None:
    client = connect(address)
    assert list(client.stream("count", 3000)) == list(range(3000))
    assert list(client.stream("count", 0)) == []


def test_a_plain_server_sees_that_the_reader_of_a_stream_has_left(address: str, connect: Connect) -> None:
    client = connect(address)
    stream = client.stream("count", 10_000_000)
    assert next(stream) == 0
    assert client.call("open_streams") == 1
    stream.close()
    wait_until(lambda: client.call("open_streams") == 0, 20, "heartbeats of the stream are missing")


def test_a_call_of_twelve_seconds_keeps_its_heartbeats(address: str, connect: Connect) -> None:
    assert connect(address).call("wait", 12) == 12


def test_a_plain_server_that_is_blocked_is_given_up(address: str, connect: Connect) -> None:
    client = connect(address, heartbeat_s=0.5)
    client.call("hello", "RPC")
    with pytest.raises(ConnectionLostError, match="no sign of life for 1 s; the call may have been executed"):
        client.call("block", 3)


def test_a_frozen_server_does_not_hold_the_next_calls(connect: Connect) -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    server = talking_process("tests.services.plain_server", address)
    try:
        client = connect(address, heartbeat_s=0.5)
        client.call("hello", "RPC")
        server.send_signal(signal.SIGSTOP)
        started_s = time.monotonic()
        with pytest.raises(ConnectionLostError):
            client.call("hello", "RPC")
        assert time.monotonic() - started_s < 5
        server.send_signal(signal.SIGCONT)
        assert client.call("hello", "again") == "Hello, again"
    finally:
        end_talking(server)


def test_the_trace_context_is_in_the_header(address: str, connect: Connect) -> None:
    client = connect(address, trace_context=lambda: {"traceparent": TRACE, "tracestate": "a=1"})
    header = client.call("header")
    assert header == {"traceparent": TRACE, "tracestate": "a=1"}


def test_the_trace_context_of_opentelemetry_is_that_of_the_span(address: str, connect: Connect) -> None:
    tracer = TracerProvider().get_tracer("test")

    def trace_context() -> dict[str, str]:
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        return carrier

    client = connect(address, trace_context=trace_context)
    with tracer.start_as_current_span("outer") as span:
        header = client.call("header")
    trace_id = span.get_span_context().trace_id
    assert header["traceparent"].split("-")[1] == f"{trace_id:032x}"
    assert client.call("header") == {}, "there is no span now"
