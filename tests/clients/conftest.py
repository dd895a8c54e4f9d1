"""A client of either kind for the tests of this folder."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.clients.either import MAKERS, Either

Connect = Callable[..., Either]


@pytest.fixture(params=MAKERS)
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Returns a function that makes a client: of its address, and of its options."""
    with ExitStack() as made:

        def make(address: str, **options: Any) -> Either:
            from zerorpc_cluster import Options

            return made.enter_context(MAKERS[request.param](address, Options(**options)))

        yield make
