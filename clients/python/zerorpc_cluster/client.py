"""The client for threads."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from types import TracebackType
from typing import Any, Self

from zerorpc_cluster.attempts import Attempts
from zerorpc_cluster.calls import Call
from zerorpc_cluster.chunks import check_chunks, check_outputs
from zerorpc_cluster.errors import ClientClosedError
from zerorpc_cluster.ids import Ids
from zerorpc_cluster.options import DEFAULT_ADDRESS, Options, check_address
from zerorpc_cluster.thread_driver import ThreadDriver


class Client:
    """Calls the procedures of a ZeroRPC server. Any number of threads may share it.

    It connects with the first call, and again whenever the connection breaks. After a fork, the child gets a
    connection of its own.

        with Client("tcp://127.0.0.1:4242") as client:
            client.iris_model_predict(flower)  # the same as client.call("iris_model_predict", flower)
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
        self._is_closed = False
        self._start_driver()

    def _start_driver(self) -> None:
        self._pid = os.getpid()
        self._ids = Ids()
        self._driver = ThreadDriver(self._address, self._options)

    def __getattr__(self, procedure: str) -> Callable[..., Any]:
        if procedure.startswith("__"):
            raise AttributeError(procedure)
        return partial(self.call, procedure)

    def call(self, procedure: str, *arguments: Any, timeout_s: float | None = None) -> Any:
        """Call a procedure and return its result.

        Args:
            procedure: its name.
            arguments: what msgpack can encode.
            timeout_s: how long the call may take, in seconds, retries included; None for that of the options.

        Raises:
            RemoteError: if the server answers with an error.
            CallTimeoutError: if there is no answer in time.
            ConnectionLostError: if the connection or the server is lost before the answer.
            StreamMismatchError: if the procedure answers with a stream.
            TypeError, ValueError: if msgpack cannot encode an argument.
            ClientClosedError: if the client has been closed.
        """
        return _settle(self._begin(procedure, arguments, timeout_s)).result

    def stream(self, procedure: str, *arguments: Any, timeout_s: float | None = None) -> "Stream":
        """Call a procedure that answers with a stream.

        Args:
            procedure: its name.
            arguments: what msgpack can encode.
            timeout_s: how long to wait for each item, in seconds; None for that of the options.

        Returns:
            An iterator. It raises the errors of `call` when they occur. Close it, leave its `with` block, or drop the
            last reference to it, and the server stops.
        """
        return Stream(self._begin(procedure, arguments, timeout_s, is_stream=True))

    def map(
        self,
        procedure: str,
        rows: Iterable[Any],
        *,
        chunk_rows: int = 100,
        in_flight: int = 4,
        timeout_s: float | None = None,
    ) -> Iterator[Any]:
        """Call a procedure that takes a list of rows and returns a list of outputs, with many rows in chunks.

        Args:
            procedure: its name, such as `iris_model_predict_batch`.
            rows: any number of rows; they are taken as they are needed.
            chunk_rows: most rows of one call.
            in_flight: most calls at once.
            timeout_s: how long one call may take, in seconds; None for that of the options.

        Returns:
            The outputs, in the order of the rows. It raises the errors of `call`, and `ClientError` if the outputs are
            not as many as the rows.

        Raises:
            ValueError: if `chunk_rows` or `in_flight` is less than 1.
        """
        check_chunks(chunk_rows, in_flight)
        return self._map(procedure, iter(rows), chunk_rows, in_flight, timeout_s)

    def _map(
        self, procedure: str, rows: Iterator[Any], chunk_rows: int, in_flight: int, timeout_s: float | None
    ) -> Iterator[Any]:
        begun: deque[tuple[Attempts[ThreadDriver], int]] = deque()
        try:
            while chunk := list(islice(rows, chunk_rows)):
                begun.append((self._begin(procedure, (chunk,), timeout_s), len(chunk)))
                if len(begun) == in_flight:
                    yield from _outputs(*begun.popleft())
            while begun:
                yield from _outputs(*begun.popleft())
        finally:
            for attempts, _ in begun:
                attempts.leave()

    def close(self) -> None:
        """Close the connection. Calls in flight raise `ClientClosedError`. May be called twice."""
        self._is_closed = True
        if self._pid == os.getpid():
            self._driver.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _begin(
        self, procedure: str, arguments: tuple[Any, ...], timeout_s: float | None, *, is_stream: bool = False
    ) -> Attempts[ThreadDriver]:
        if self._is_closed:
            raise ClientClosedError("the client has been closed")
        if self._pid != os.getpid():
            self._start_driver()
        return Attempts(
            self._driver,
            self._ids,
            self._options,
            procedure,
            arguments,
            timeout_s,
            time.monotonic(),
            is_stream=is_stream,
        )


def _settle(attempts: Attempts[ThreadDriver]) -> Call:
    """Wait for the result or the next item, and return the attempt that has it.

    Raises:
        ClientError: as `Client.call` does.
    """
    driver = attempts.driver
    while True:
        call = attempts.call
        try:
            driver.wait(call, attempts.until_s)
        except BaseException:  # an interrupt
            attempts.leave()
            raise
        if not call.is_settled:
            driver.expire(call, attempts.timeout_s)
        if call.items or call.error is None:
            return call
        delay_s = attempts.delay_s(call.error, time.monotonic())
        if delay_s is None:
            raise call.error
        time.sleep(delay_s)
        attempts.start()


def _outputs(attempts: Attempts[ThreadDriver], rows: int) -> list[Any]:
    return check_outputs(attempts.call.procedure, _settle(attempts).result, rows)


class Stream:
    """The items of a stream, for one thread at a time."""

    def __init__(self, attempts: Attempts[ThreadDriver]) -> None:
        self._attempts = attempts
        self._is_closed = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        attempts = self._attempts
        if self._is_closed:
            raise StopIteration
        if not attempts.call.items:
            attempts.restart_clock(time.monotonic())
            _settle(attempts)
        if not attempts.call.items:
            raise StopIteration
        attempts.stop_retrying()
        return attempts.driver.take_item(attempts.call)

    def close(self) -> None:
        """End the stream, and with it the server's work. May be called twice."""
        self._is_closed = True
        self._attempts.leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self._attempts.driver.abandon_unlocked(self._attempts.call)
