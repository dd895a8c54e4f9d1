"""Hooks of a client's context: zerorpc-python's test_middleware_client."""

from typing import Any

import pytest
import zerorpc

from tests.stock_suite.cases import case
from tests.stock_suite.conftest import Call, NewContext, Serve
from tests.stock_suite.echo import Echo

FILE = "test_middleware_client"


class Recorder:
    """Keeps what the hooks of a client were given."""

    def __init__(self) -> None:
        self.before: list[str] = []
        self.after: list[tuple[str, str | None, Exception | None]] = []

    def client_before_request(self, request: Any) -> None:
        self.before.append(request.name)

    def client_after_request(self, request: Any, reply: Any, exception: Exception | None) -> None:
        self.after.append((request.name, reply and reply.name, exception))


class Raiser(Recorder):
    """Makes an exception of its own of a remote error."""

    def client_handle_remote_error(self, event: Any) -> Exception:
        name, text, _ = event.args
        return LookupError(f"{name}: {text}")


class Inspector:
    """Looks at remote errors, and leaves them as they are."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def client_handle_remote_error(self, event: Any) -> None:
        self.seen.append(event.name)


@pytest.fixture
def context(serve: Serve, new_context: NewContext) -> zerorpc.Context:
    serve(Echo())
    return new_context()


@case(FILE, "test_hook_client_before_request")
def test_before_a_request(context: zerorpc.Context, connect: Call) -> None:
    client = connect(context=context)
    assert client.echo("x") == "echo: x"
    recorder = Recorder()
    context.register_middleware(recorder)
    assert client.echo("x") == "echo: x"
    assert recorder.before == ["echo"]


@case(FILE, "test_hook_client_after_request")
def test_after_a_request(context: zerorpc.Context, connect: Call) -> None:
    context.register_middleware(recorder := Recorder())
    assert connect(context=context).echo("x") == "echo: x"
    assert recorder.after == [("echo", "OK", None)]


@case(FILE, "test_hook_client_after_request_stream")
def test_after_a_stream(context: zerorpc.Context, connect: Call) -> None:
    context.register_middleware(recorder := Recorder())
    items = connect(context=context).echoes("x")
    assert next(items) == "echo: x"
    assert recorder.after == []
    assert list(items) == ["echo: x"] * 2
    assert recorder.after == [("echoes", "STREAM_DONE", None)]


@case(FILE, "test_hook_client_after_request_timeout")
def test_after_a_timeout(context: zerorpc.Context, connect: Call) -> None:
    context.register_middleware(recorder := Recorder())
    with pytest.raises(zerorpc.TimeoutExpired, match="stall"):
        connect(context=context, timeout=1).stall()
    ((name, reply, exception),) = recorder.after
    assert (name, reply) == ("stall", None)
    assert isinstance(exception, zerorpc.TimeoutExpired)


@case(FILE, "test_hook_client_after_request_remote_error")
def test_after_a_remote_error(context: zerorpc.Context, connect: Call) -> None:
    _fails_remotely(context, connect, "crash")


@case(FILE, "test_hook_client_after_request_remote_error_stream")
def test_after_a_remote_error_of_a_stream(context: zerorpc.Context, connect: Call) -> None:
    _fails_remotely(context, connect, "crashes")


def _fails_remotely(context: zerorpc.Context, connect: Call, method: str) -> None:
    context.register_middleware(recorder := Recorder())
    with pytest.raises(zerorpc.RemoteError):
        connect(context=context)(method, "x")
    ((name, reply, exception),) = recorder.after
    assert (name, reply) == (method, "ERR")
    assert isinstance(exception, zerorpc.RemoteError)
    assert (exception.name, exception.msg) == ("RuntimeError", "broken: x")


@case(FILE, "test_hook_client_handle_remote_error_inspect")
def test_a_hook_looks_at_a_remote_error(context: zerorpc.Context, connect: Call) -> None:
    context.register_middleware(inspector := Inspector())
    with pytest.raises(zerorpc.RemoteError) as raised:
        connect(context=context).crash("x")
    assert raised.value.name == "RuntimeError"
    assert inspector.seen == ["ERR"]


@case(FILE, "test_hook_client_handle_remote_error_eval")
def test_a_hook_makes_another_exception_of_a_remote_error(context: zerorpc.Context, connect: Call) -> None:
    context.register_middleware(Raiser())
    with pytest.raises(LookupError, match="RuntimeError: broken: x"):
        connect(context=context).crash("x")


@case(FILE, "test_hook_client_handle_remote_error_eval_stream")
def test_a_hook_makes_another_exception_of_a_stream_s_error(context: zerorpc.Context, connect: Call) -> None:
    context.register_middleware(Raiser())
    with pytest.raises(LookupError, match="RuntimeError: broken: x"):
        connect(context=context).crashes("x")


@case(FILE, "test_hook_client_after_request_custom_error")
def test_the_other_exception_reaches_the_hook_after_the_request(context: zerorpc.Context, connect: Call) -> None:
    context.register_middleware(raiser := Raiser())
    with pytest.raises(LookupError):
        connect(context=context).crash("x")
    ((name, _, exception),) = raiser.after
    assert name == "crash"
    assert isinstance(exception, LookupError)
