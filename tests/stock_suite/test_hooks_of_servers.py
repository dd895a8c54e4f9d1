"""Hooks of a server's context: zerorpc-python's test_middleware_before_after_exec."""

from typing import Any

import pytest
import zerorpc

from tests.processes import wait_until
from tests.stock_suite.cases import case
from tests.stock_suite.conftest import Call, NewContext, Serve
from tests.stock_suite.echo import Echo

FILE = "test_middleware_before_after_exec"


class Recorder:
    """Keeps what the hooks of a server were given."""

    def __init__(self) -> None:
        self.before: list[str] = []
        self.after: list[tuple[str, str | None]] = []

    def server_before_exec(self, request: Any) -> None:
        self.before.append(request.name)

    def server_after_exec(self, request: Any, reply: Any) -> None:
        self.after.append((request.name, reply and reply.name))


@pytest.fixture
def context(serve: Serve, new_context: NewContext) -> zerorpc.Context:
    context = new_context()
    serve(Echo(), context=context)
    return context


@case(FILE, "test_hook_server_before_exec")
def test_before_a_method(context: zerorpc.Context, connect: Call) -> None:
    client = connect()
    assert client.echo("x") == "echo: x"
    context.register_middleware(recorder := Recorder())
    assert client.echo("x") == "echo: x"
    assert recorder.before == ["echo"]


@case(FILE, "test_hook_server_before_exec_stream")
def test_before_a_stream(context: zerorpc.Context, connect: Call) -> None:
    context.register_middleware(recorder := Recorder())
    items = connect().echoes("x")
    assert recorder.before == ["echoes"]
    assert list(items) == ["echo: x"] * 3
    assert recorder.before == ["echoes"]


@case(FILE, "test_hook_server_after_exec")
def test_after_a_method(context: zerorpc.Context, connect: Call) -> None:
    context.register_middleware(recorder := Recorder())
    assert connect().echo("x") == "echo: x"
    assert recorder.after == [("echo", "OK")]


@case(FILE, "test_hook_server_after_exec_stream")
def test_after_a_stream(context: zerorpc.Context, connect: Call) -> None:
    context.register_middleware(recorder := Recorder())
    assert list(connect().echoes("x")) == ["echo: x"] * 3
    wait_until(lambda: recorder.after == [("echoes", "STREAM_DONE")], 10, "the hook after the stream")


@case(FILE, "test_hook_server_after_exec_on_error")
def test_not_after_a_method_that_raises(context: zerorpc.Context, connect: Call) -> None:
    _fails(context, connect, "crash")


@case(FILE, "test_hook_server_after_exec_on_error_stream")
def test_not_after_a_stream_that_raises(context: zerorpc.Context, connect: Call) -> None:
    _fails(context, connect, "crashes")


def _fails(context: zerorpc.Context, connect: Call, method: str) -> None:
    context.register_middleware(recorder := Recorder())
    client = connect()
    with pytest.raises(zerorpc.RemoteError):
        client(method, "x")
    assert client.echo("x") == "echo: x"
    assert recorder.before == [method, "echo"]
    assert recorder.after == [("echo", "OK")]
