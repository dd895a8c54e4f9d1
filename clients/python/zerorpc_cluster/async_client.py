"""The client for asyncio."""

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from types import TracebackType
from typing import Any, Self

from zerorpc_cluster.attempts import Attempts
from zerorpc_cluster.calls import Call
from zerorpc_cluster.chunks import check_chunks, check_outputs
from zerorpc_cluster.errors import ClientClosedError
from zerorpc_cluster.ids import Ids
from zerorpc_cluster.loop_driver import LoopDriver
from zerorpc_cluster.options import DEFAULT_ADDRESS, Options, check_address


class AsyncClient:
    """Calls the procedures of a ZeroRPC server. Any number of tasks of one event loop may share it.

    It connects with the first call, and again whenever the connection breaks. A task that is cancelled ends its call,
    also at the server.

        async with AsyncClient("tcp://127.0.0.1:4242") as client:
            await client.iris_model_predict(flower)  # the same as client.call("iris_model_predict", flower)
    """

    def __init__(self, address: str = DEFAULT_ADDRESS, options: Options | None = None) -> None:
        """Take the address; connect with the first call.

        Args:
            address: `tcp://host:port` or `ipc://path`.
            options: how to make the calls.

        Raises:
            ValueError: if the address is malformed.
        """
        self._address = check_address(address)
        self._options = options or Options()
        self._ids = Ids()
        self._is_closed = False
        self._driver: LoopDriver | None = None

    def __getattr__(self, procedure: str) -> Callable[..., Awaitable[Any]]:
        if procedure.startswith("__"):
            raise AttributeError(procedure)
        return partial(self.call, procedure)

    async def call(self, procedure: str, *arguments: Any, timeout_s: float | None = None) -> Any:
        """Call a procedure and return its result. Arguments and errors are those of `Client.call`."""
        return (await _settle(self._begin(procedure, arguments, timeout_s))).result

    def stream(self, procedure: str, *arguments: Any, timeout_s: float | None = None) -> "AsyncStream":
        """Call a procedure that answers with a stream. Arguments and errors are those of `Client.stream`.

        Returns:
            An asynchronous iterator. Close it, leave its `async with` block, or drop the last reference to it, and the
            server stops.
        """
        return AsyncStream(self._begin(procedure, arguments, timeout_s, is_stream=True))

    def map(
        self,
        procedure: str,
        rows: Iterable[Any] | AsyncIterable[Any],
        *,
        chunk_rows: int = 100,
        in_flight: int = 4,
        timeout_s: float | None = None,
    ) -> AsyncIterator[Any]:
        """Call a procedure that takes a list of rows, with many rows in chunks. Arguments and errors: `Client.map`."""
        check_chunks(chunk_rows, in_flight)
        return self._map(procedure, rows, chunk_rows, in_flight, timeout_s)

    async def _map(
        self,
        procedure: str,
        rows: Iterable[Any] | AsyncIterable[Any],
        chunk_rows: int,
        in_flight: int,
        timeout_s: float | None,
    ) -> AsyncIterator[Any]:
        begun: deque[tuple[Attempts[LoopDriver], int]] = deque()
        try:
            async for chunk in _chunks(rows, chunk_rows):
                begun.append((self._begin(procedure, (chunk,), timeout_s), len(chunk)))
                if len(begun) == in_flight:
                    for output in await _outputs(*begun.popleft()):
                        yield output
            while begun:
                for output in await _outputs(*begun.popleft()):
                    yield output
        finally:
            for attempts, _ in begun:
                attempts.leave()

    async def close(self) -> None:
        """Close the connection. Calls in flight raise `ClientClosedError`. May be called twice."""
        self._is_closed = True
        if self._driver is not None:
            self._driver.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    # -- attempts -------------------------------------------------------------------------------------------------

    def _begin(
        self, procedure: str, arguments: tuple[Any, ...], timeout_s: float | None, *, is_stream: bool = False
    ) -> Attempts[LoopDriver]:
        if self._is_closed:
            raise ClientClosedError("the client has been closed")
        if self._driver is None:
            self._driver = LoopDriver(self._address, self._options)
        elif self._driver.loop is not asyncio.get_running_loop():
            raise RuntimeError("an AsyncClient belongs to the event loop of its first call: make one for each loop")
        return Attempts(
            self._driver,
            self._ids,
            self._options,
            procedure,
            arguments,
            timeout_s,
            self._driver.loop.time(),
            is_stream=is_stream,
        )


async def _settle(attempts: Attempts[LoopDriver]) -> Call:
    """Wait for the result or the next item, and return the attempt that has it.

    Raises:
        ClientError: as `Client.call` does.
    """
    driver = attempts.driver
    while True:
        call = attempts.call
        try:
            await driver.wait(call, attempts.until_s)
        except BaseException:  # the task has been cancelled
            attempts.leave()
            raise
        if not call.is_settled:
            driver.expire(call, attempts.timeout_s)
        if call.items or call.error is None:
            return call
        delay_s = attempts.delay_s(call.error, attempts.driver.loop.time())
        if delay_s is None:
            raise call.error
        await asyncio.sleep(delay_s)
        attempts.start()


async def _outputs(attempts: Attempts[LoopDriver], rows: int) -> list[Any]:
    return check_outputs(attempts.call.procedure, (await _settle(attempts)).result, rows)


async def _chunks(rows: Iterable[Any] | AsyncIterable[Any], chunk_rows: int) -> AsyncIterator[list[Any]]:
    """Divide rows into lists of `chunk_rows`; the last one may have fewer."""
    chunk: list[Any] = []
    if isinstance(rows, AsyncIterable):
        async for row in rows:
            chunk.append(row)
            if len(chunk) == chunk_rows:
                yield chunk
                chunk = []
    else:
        for row in rows:
            chunk.append(row)
            if len(chunk) == chunk_rows:
                yield chunk
                chunk = []
    if chunk:
        yield chunk


class AsyncStream:
    """The items of a stream, for one task at a time."""

    def __init__(self, attempts: Attempts[LoopDriver]) -> None:
        self._attempts = attempts
        self._is_closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        attempts = self._attempts
        if self._is_closed:
            raise StopAsyncIteration
        if not attempts.call.items:
            attempts.restart_clock(attempts.driver.loop.time())
            await _settle(attempts)
        if not attempts.call.items:
            raise StopAsyncIteration
        attempts.stop_retrying()
        return attempts.driver.take_item(attempts.call)

    async def close(self) -> None:
        """End the stream, and with it the server's work. May be called twice."""
        self._is_closed = True
        self._attempts.leave()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        self._attempts.driver.abandon_soon(self._attempts.call)
