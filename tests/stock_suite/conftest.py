"""A broker without workers, and stock servers of this process that connect to it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import gevent
import pytest
import zerorpc

from tests.processes import Cluster, cluster, wait_until

Serve = Callable[..., None]
Call = Callable[..., Any]
NewContext = Callable[[], zerorpc.Context]

SERVICE = "Service"
"""The name of every service here: servers of one name may have different methods."""


@pytest.fixture(scope="package")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("stock_suite")) as made:
        yield made


@pytest.fixture
def new_context() -> Iterator[NewContext]:
    """Returns a function that makes a context of zerorpc, which ends after the test."""
    with ExitStack() as made:

        def new() -> zerorpc.Context:
            context = zerorpc.Context()
            made.callback(context.destroy, linger=0)
            return context

        yield new


@pytest.fixture
def serve(broker: Cluster, new_context: NewContext) -> Iterator[Serve]:
    """Returns a function that has a stock server offer an object's methods, and waits until the broker knows them.

    It takes the object, or a server, and options of `zerorpc.Server`. The address may be another name of the backend.
    """
    with ExitStack() as running:

        def start(methods: Any, address: str = broker.backend, **options: Any) -> None:
            known = len(broker.workers())
            is_server = isinstance(methods, zerorpc.Server)
            context = options.pop("context", None) or new_context()
            server = methods if is_server else zerorpc.Server(methods, SERVICE, context, **options)
            running.callback(wait_until, lambda: len(broker.workers()) == known, 10, "the broker forgets the server")
            running.callback(server.close)
            server.connect(address)
            task = gevent.spawn(server.run)
            running.callback(task.kill)
            wait_until(lambda: len(broker.workers()) == known + 1, 20, "the broker knows the server")

        yield start


@pytest.fixture
def connect(broker: Cluster, new_context: NewContext) -> Iterator[Call]:
    """Returns a function that connects a stock client; it takes options of `zerorpc.Client`."""
    made: list[zerorpc.Client] = []

    def connect(context: zerorpc.Context | None = None, **options: Any) -> zerorpc.Client:
        made.append(zerorpc.Client(broker.frontend, context=context or new_context(), **options))
        return made[-1]

    yield connect
    for client in made:
        client.close()
