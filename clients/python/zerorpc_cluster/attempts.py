"""One call of a user: what it sends, how long it may take, and when it is made again."""

import random
from typing import Any, Generic, Protocol, TypeVar

from zerorpc_cluster import events
from zerorpc_cluster.calls import Call
from zerorpc_cluster.errors import ClientError, RemoteError
from zerorpc_cluster.ids import Ids
from zerorpc_cluster.options import Options


class Driver(Protocol):
    """What moves the bytes of calls."""

    def start(self, call: Call) -> None:
        """Begin a call."""

    def abandon(self, call: Call) -> None:
        """End a call that nobody waits for any more."""


DriverT = TypeVar("DriverT", bound=Driver)


class Attempts(Generic[DriverT]):
    """The attempts of one call.

    Attributes:
        driver: moves their bytes.
        call: the present attempt.
        timeout_s: how long the call, or the next item of a stream, may take, in seconds.
        until_s: when the call must have ended, in monotonic seconds.
    """

    __slots__ = (
        "_body",
        "_delay_s",
        "_header",
        "_ids",
        "_is_stream",
        "_left",
        "_procedure",
        "call",
        "driver",
        "timeout_s",
        "until_s",
    )

    def __init__(
        self,
        driver: DriverT,
        ids: Ids,
        options: Options,
        procedure: str,
        arguments: tuple[Any, ...],
        timeout_s: float | None,
        now_s: float,
        *,
        is_stream: bool,
    ) -> None:
        """Make the first attempt.

        Args:
            driver: moves its bytes.
            ids: of the client.
            options: of the client.
            procedure: what to call.
            arguments: its arguments.
            timeout_s: how long the call may take, in seconds; None for the time in the options.
            now_s: monotonic seconds.
            is_stream: whether a stream is expected.

        Raises:
            TypeError, ValueError: if msgpack cannot encode an argument.
            ClientClosedError: if the client has been closed.
        """
        self.driver = driver
        self._ids = ids
        self._procedure = procedure
        self._body = events.encode_body(procedure, arguments)
        self._header = options.header()
        self._is_stream = is_stream
        chosen_s = options.timeout_s if timeout_s is None else timeout_s
        self.timeout_s = float("inf") if chosen_s is None else chosen_s
        self.until_s = now_s + self.timeout_s
        self._left = options.retries
        self._delay_s = options.retry_delay_s
        self.start()

    def start(self) -> None:
        """Make the next attempt."""
        number = next(self._ids)
        event = events.encode_call(number, self._header, self._body)
        self.call = Call(number, self._procedure, event, is_stream=self._is_stream)
        self.driver.start(self.call)

    def leave(self) -> None:
        """End the call if it is open, and tell the server that nobody waits for it."""
        self.driver.abandon(self.call)

    def restart_clock(self, now_s: float) -> None:
        """Give the next item of a stream the whole time."""
        self.until_s = now_s + self.timeout_s

    def stop_retrying(self) -> None:
        """Make no further attempt: the caller has got an item."""
        self._left = 0

    def delay_s(self, error: ClientError, now_s: float) -> float | None:
        """Return how long to wait before the next attempt, in seconds; None if there is none."""
        if not isinstance(error, RemoteError) or not error.may_pass or not self._left:
            return None
        delay_s = self._delay_s * random.uniform(0.5, 1.5)  # so that clients refused together do not return together
        if now_s + delay_s >= self.until_s:
            return None
        self._left -= 1
        self._delay_s *= 2
        return delay_s
