"""Both Python clients behind one interface, so that one test shows a behaviour of both."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from zerorpc_cluster import AsyncClient, AsyncStream, Client, Options

Value = TypeVar("Value")


class EitherStream(Iterator[Any], Protocol):
    """An open stream."""

    def close(self) -> None: ...


class Either(AbstractContextManager["Either"], Protocol):
    """A client."""

    def call(self, procedure: str, *arguments: Any, timeout_s: float | None = None) -> Any: ...

    def stream(self, procedure: str, *arguments: Any, timeout_s: float | None = None) -> EitherStream: ...

    def map(
        self, procedure: str, rows: Any, *, chunk_rows: int = 100, in_flight: int = 4, timeout_s: float | None = None
    ) -> Iterator[Any]: ...

    def close(self) -> None: ...


class InLoop:
    """An `AsyncClient` in an event loop that runs in a thread of its own."""

    def __init__(self, address: str, options: Options | None = None) -> None:
        self._client = AsyncClient(address, options)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Value]) -> Value:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def call(self, procedure: str, *arguments: Any, timeout_s: float | None = None) -> Any:
        return self.run(self._client.call(procedure, *arguments, timeout_s=timeout_s))

    def stream(self, procedure: str, *arguments: Any, timeout_s: float | None = None) -> "StreamInLoop":
        async def begin() -> AsyncStream:
            return self._client.stream(procedure, *arguments, timeout_s=timeout_s)

        return StreamInLoop(self, self.run(begin()))

    def map(
        self, procedure: str, rows: Any, *, chunk_rows: int = 100, in_flight: int = 4, timeout_s: float | None = None
    ) -> Iterator[Any]:
        made = self._client.map(procedure, rows, chunk_rows=chunk_rows, in_flight=in_flight, timeout_s=timeout_s)
        return _items(self, made)

    def close(self) -> None:
        if self._thread.is_alive():
            self.run(self._client.close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
            self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class StreamInLoop:
    """An `AsyncStream`, read by a thread."""

    def __init__(self, client: InLoop, stream: AsyncStream) -> None:
        self._client = client
        self._stream = stream

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        async def take() -> Any:
            async for item in self._stream:
                return [item]
            return []

        taken = self._client.run(take())
        if not taken:
            raise StopIteration
        return taken[0]

    def close(self) -> None:
        self._client.run(self._stream.close())


def _items(client: InLoop, iterator: AsyncIterator[Any]) -> Iterator[Any]:
    async def take() -> Any:
        async for item in iterator:
            return [item]
        return []

    while taken := client.run(take()):
        yield taken[0]


MAKERS: dict[str, Callable[..., Either]] = {"threads": Client, "asyncio": InLoop}
