"""What a call sends, how long it may take, and when it is made again."""

import random
from typing import Any

from zerorpc_cluster import events
from zerorpc_cluster.calls import Call
from zerorpc_cluster.errors import ClientError, RemoteError
from zerorpc_cluster.options import Options


class Attempts:
    """The attempts of one call.

    Attributes:
        timeout_s: how long the call, or the next item of a stream, may take, in seconds.
        until_s: when the call must have ended, in monotonic seconds.
    """

    __slots__ = ("_body", "_delay_s", "_header", "_is_stream", "_left", "_procedure", "timeout_s", "until_s")

    def __init__(
        self,
        procedure: str,
        arguments: tuple[Any, ...],
        options: Options,
        timeout_s: float | None,
        now_s: float,
        *,
        is_stream: bool,
    ) -> None:
        """Encode the call.

        Args:
            procedure: what to call.
            arguments: its arguments.
            options: of the client.
            timeout_s: how long the call may take, in seconds; None for the time in the options.
            now_s: monotonic seconds.
            is_stream: whether a stream is expected.

        Raises:
            TypeError, ValueError: if msgpack cannot encode an argument.
        """
        self._procedure = procedure
        self._body = events.encode_body(procedure, arguments)
        self._header = options.header()
        self._is_stream = is_stream
        chosen_s = options.timeout_s if timeout_s is None else timeout_s
        self.timeout_s = float("inf") if chosen_s is None else chosen_s
        self.until_s = now_s + self.timeout_s
        self._left = options.retries
        self._delay_s = options.retry_delay_s

    def new_call(self, number: bytes) -> Call:
        """Return the next attempt, with an id of its own."""
        event = events.encode_call(number, self._header, self._body)
        return Call(number, self._procedure, event, is_stream=self._is_stream)

    def restart(self, now_s: float) -> None:
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
