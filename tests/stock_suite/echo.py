"""A service whose hooks and whose clients' hooks the tests watch."""

from collections.abc import Iterator

import gevent
import zerorpc


class Echo:
    def echo(self, text: str) -> str:
        return f"echo: {text}"

    @zerorpc.stream  # type: ignore[untyped-decorator]
    def echoes(self, text: str) -> Iterator[str]:
        yield from [f"echo: {text}"] * 3

    def crash(self, text: str) -> None:
        raise RuntimeError(f"broken: {text}")

    @zerorpc.stream  # type: ignore[untyped-decorator]
    def crashes(self, text: str) -> Iterator[str]:
        self.crash(text)
        yield text

    def stall(self) -> None:
        gevent.sleep(2)
