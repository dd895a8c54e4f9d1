"""A stock `zerorpc.Server` as in its documentation, with a few more methods.

python -m tests.services.plain_server ADDRESS
"""

import sys
import time
from collections.abc import Iterator
from typing import Any

import gevent
import zerorpc


class Headers:
    """A middleware that keeps the header of the last call."""

    def __init__(self) -> None:
        self.last: dict[str, Any] = {}

    def server_before_exec(self, request_event: Any) -> None:
        self.last = dict(request_event.header)


class Service:
    def __init__(self, headers: Headers) -> None:
        self._headers = headers
        self._open = 0

    def hello(self, name: str) -> str:
        """Greets."""
        return f"Hello, {name}"

    def fail(self) -> None:
        raise ValueError("as asked")

    def wait(self, seconds: float) -> float:
        """Waits, while the server goes on."""
        gevent.sleep(seconds)
        return seconds

    def block(self, seconds: float) -> float:
        """Stops the whole server."""
        time.sleep(seconds)
        return seconds

    @zerorpc.stream  # type: ignore[untyped-decorator]
    def count(self, number: int) -> Iterator[int]:
        self._open += 1
        try:
            yield from range(number)
        finally:
            self._open -= 1

    def open_streams(self) -> int:
        return self._open

    def header(self) -> dict[str, Any]:
        return {key: value for key, value in self._headers.last.items() if isinstance(value, str)}


def main(address: str) -> None:
    headers = Headers()
    context = zerorpc.Context()
    context.register_middleware(headers)
    server = zerorpc.Server(Service(headers), context=context)
    server.bind(address)
    server.run()


if __name__ == "__main__":
    main(sys.argv[1])
