"""Names for addresses, task contexts that travel in headers, and exceptions that hooks see: test_middleware."""

from collections.abc import Callable, Iterator
from typing import Any

import gevent
import gevent.local
import pytest
import zerorpc

from tests.processes import Cluster
from tests.stock_suite.cases import case
from tests.stock_suite.conftest import SERVICE, Call, NewContext, Serve

FILE = "test_middleware"
OWN_QUESTIONS = "a server's hooks also see the broker's questions about its methods, which have no context"


class Echo:
    def echo(self, text: str) -> str:
        return text

    @zerorpc.stream  # type: ignore[untyped-decorator]
    def stream(self) -> Iterator[int]:
        yield 42

    def crash(self, text: str) -> None:
        raise RuntimeError(text)

    @zerorpc.stream  # type: ignore[untyped-decorator]
    def crashes(self, text: str) -> Iterator[int]:
        raise RuntimeError(text)


class Resolver:
    """Has a name for one address."""

    def __init__(self, name: str, address: str) -> None:
        self._name = name
        self._address = address

    def resolve_endpoint(self, endpoint: str) -> str:
        return self._address if endpoint == self._name else endpoint


class Tracer:
    """Gives each task a trace, which travels in the headers of its calls, and keeps what happened to it."""

    def __init__(self, first: str) -> None:
        self.first = first
        self.seen: list[tuple[str, str | None]] = []
        self._local = gevent.local.local()

    def load_task_context(self, header: dict[str, Any]) -> None:
        self._local.trace = header.get("trace_id")
        self.seen.append(("load", self._local.trace))

    def get_task_context(self) -> dict[str, str]:
        known = getattr(self._local, "trace", None)
        self._local.trace = known or self.first
        self.seen.append(("reuse" if known else "new", self._local.trace))
        return {"trace_id": self._local.trace}

    def forget(self) -> None:
        """Forget what was kept: the broker's questions have no trace."""
        assert all(trace in (None, self.first) for _, trace in self.seen)
        self.seen.clear()


Traced = Callable[[str], tuple[zerorpc.Context, Tracer]]


@pytest.fixture
def traced(new_context: NewContext) -> Traced:
    """Returns a function that makes a context with a tracer, whose own traces have that name."""

    def make(name: str) -> tuple[zerorpc.Context, Tracer]:
        context, tracer = new_context(), Tracer(name)
        context.register_middleware(tracer)
        return context, tracer

    return make


LOADED = [("load", "client's"), ("reuse", "client's")]


@case(FILE, "test_resolve_endpoint")
def test_each_resolver_of_a_context_has_its_name(broker: Cluster, new_context: NewContext) -> None:
    context, other = new_context(), new_context()
    for name in ("first", "second"):
        assert context.register_middleware(Resolver(name, broker.backend)) == 1
    assert context.hook_resolve_endpoint("first") == context.hook_resolve_endpoint("second") == broker.backend
    assert context.hook_resolve_endpoint("third") == "third"
    assert other.hook_resolve_endpoint("first") == "first"


@case(FILE, "test_resolve_endpoint_events")
def test_client_and_server_connect_by_name(broker: Cluster, serve: Serve, new_context: NewContext) -> None:
    context = new_context()
    server = zerorpc.Server(Echo(), name=SERVICE, context=context, heartbeat=1)
    with pytest.raises(zerorpc.zmq.ZMQError):
        server.connect("workers")
    context.register_middleware(Resolver("workers", broker.backend))
    context.register_middleware(Resolver("service", broker.frontend))
    serve(server, "workers")
    client = zerorpc.Client("service", heartbeat=1, context=context)
    assert client.echo("world") == "world"
    client.close()


@case(FILE, "test_task_context", difference=OWN_QUESTIONS)
def test_a_trace_travels_with_calls_and_streams(serve: Serve, connect: Call, traced: Traced) -> None:
    server_context, server_tracer = traced("server's")
    client_context, client_tracer = traced("client's")
    serve(Echo(), context=server_context)
    server_tracer.forget()
    client = connect(context=client_context)
    assert client.echo("hello") == "hello"
    assert list(client.stream()) == [42]
    assert client_tracer.seen == [("new", "client's"), ("reuse", "client's")]
    assert server_tracer.seen == LOADED * 2


@case(FILE, "test_task_context_relay", difference=OWN_QUESTIONS)
def test_a_trace_travels_on_from_a_server(serve: Serve, connect: Call, traced: Traced) -> None:
    assert _relay(serve, connect, traced, is_forked=False) == [*LOADED, ("reuse", "client's")]


@case(FILE, "test_task_context_relay_fork", difference=OWN_QUESTIONS)
def test_a_trace_travels_on_from_a_task_of_a_server(serve: Serve, connect: Call, traced: Traced) -> None:
    seen = _relay(serve, connect, traced, is_forked=True)
    assert seen == [*LOADED, *LOADED, ("reuse", "client's")]


def _relay(serve: Serve, connect: Call, traced: Traced, *, is_forked: bool) -> list[tuple[str, str | None]]:
    """Call a server that calls another one; return what its tracer saw."""
    last_context, last_tracer = traced("last's")
    relay_context, relay_tracer = traced("relay's")
    client_context, client_tracer = traced("client's")
    onward = connect(context=relay_context)

    class Relay:
        def relay(self, text: str) -> str:
            def work() -> str:
                return f"{onward.echo(text)} relayed"

            if not is_forked:
                return work()
            task = gevent.spawn(zerorpc.fork_task_context(work, relay_context))
            result: str = task.get()
            return result

    serve(Echo(), context=last_context)
    serve(Relay(), context=relay_context)
    last_tracer.forget()
    relay_tracer.forget()
    assert connect(context=client_context).relay("hello") == "hello relayed"
    assert client_tracer.seen == [("new", "client's")]
    assert last_tracer.seen == LOADED
    return relay_tracer.seen


class Inspector:
    """Keeps the exceptions of methods."""

    def __init__(self) -> None:
        self.exceptions: list[tuple[str, str, str, str]] = []

    def server_inspect_exception(self, request: Any, reply: Any, context: dict[str, str], exc_info: Any) -> None:
        if not request.name.startswith("_"):
            self.exceptions.append((request.name, reply.name, context["trace_id"], str(exc_info[1])))


@case(FILE, "test_server_inspect_exception_middleware")
def test_a_hook_sees_the_exception_of_a_method(serve: Serve, connect: Call, traced: Traced) -> None:
    _raises(serve, connect, traced, "crash")


@case(FILE, "test_server_inspect_exception_middleware_stream")
def test_a_hook_sees_the_exception_of_a_stream(serve: Serve, connect: Call, traced: Traced) -> None:
    _raises(serve, connect, traced, "crashes")


def _raises(serve: Serve, connect: Call, traced: Traced, method: str) -> None:
    context, _ = traced("client's")
    server_context, _ = traced("server's")
    server_context.register_middleware(inspector := Inspector())
    serve(Echo(), context=server_context)
    with pytest.raises(zerorpc.RemoteError) as raised:
        connect(context=context)(method, "x")
    assert raised.value.name == "RuntimeError"
    assert inspector.exceptions == [(method, "ERR", "client's", "x")]
