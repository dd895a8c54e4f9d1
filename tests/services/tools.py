"""A stock server that offers tools, and connects to a broker: python -m tests.services.tools BACKEND [NAME]."""

import os
import sys
import time
from collections.abc import Iterator

import gevent
import zerorpc


class Tools:
    """The same methods as tests/node/tools.js."""

    def double(self, number: float) -> float:
        """Return twice the number."""
        return number * 2

    @zerorpc.stream  # type: ignore[untyped-decorator]
    def numbers(self, end: int) -> Iterator[int]:
        """Return the numbers below the end, one by one."""
        return iter(range(end))

    def repeat(self, text: str, times: int) -> str:
        """Return a text that is repeated."""
        return text * times

    def pid(self) -> int:
        """Return the number of this process."""
        return os.getpid()

    def sleep(self, seconds: float) -> int:
        """Wait, while the server goes on; return the number of this process."""
        gevent.sleep(seconds)
        return os.getpid()

    def compute(self, seconds: float) -> int:
        """Stop the loop of the server, as a computation does; return the number of this process."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            pass
        return os.getpid()


def main(address: str, name: str = "Tools") -> None:
    server = zerorpc.Server(Tools(), name=name)
    server.connect(address)
    server.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
