"""The errors that a call can raise, and whether the call may be made again."""

_REFUSALS = frozenset(("ServerBusy", "NoWorkers", "Draining", "MessageTooLarge", "NotAllowed"))
"""Names of the cluster's errors that always mean: the call was not executed (README, Errors of the cluster)."""

_PASSING_REFUSALS = frozenset(("ServerBusy", "NoWorkers", "Draining"))
"""Those of them that another attempt may not meet."""

_NOT_EXECUTED = "it was not executed"


class ClientError(Exception):
    """Base class of the errors of this package.

    Attributes:
        not_executed: whether the call was certainly not executed. If False, it may have been.
    """

    not_executed = False


class RemoteError(ClientError):
    """The server answered the call with an error.

    Attributes:
        name: the class of the error, as the server names it.
        msg: its text.
        traceback: the server's traceback; None if it sent none.
    """

    def __init__(self, name: str, msg: str, traceback: str | None = None) -> None:
        super().__init__(name, msg, traceback)
        self.name = name
        self.msg = msg
        self.traceback = traceback
        # A model or a plain server may raise a class of the same name. The cluster's own errors have no traceback.
        is_refusal = traceback is None and name in _REFUSALS
        self.not_executed = is_refusal or (name == "DeadlineExceeded" and _NOT_EXECUTED in msg)

    def __str__(self) -> str:
        return f"{self.name}: {self.msg}" if self.traceback is None else self.traceback

    @property
    def may_pass(self) -> bool:
        """Whether the call was not executed and another attempt may succeed."""
        return self.not_executed and self.name in _PASSING_REFUSALS


class CallTimeoutError(ClientError, TimeoutError):
    """There was no answer in time. The server has been told that nobody waits for it any more."""

    def __init__(self, text: str, *, not_executed: bool) -> None:
        super().__init__(text)
        self.not_executed = not_executed


class ConnectionLostError(ClientError, ConnectionError):
    """The connection ended, or the server has shown no sign of life, before the answer came."""

    def __init__(self, text: str, *, not_executed: bool) -> None:
        super().__init__(text)
        self.not_executed = not_executed


class StreamMismatchError(ClientError):
    """The procedure answers with a stream and was called for one result, or the other way round."""


class ClientClosedError(ClientError):
    """The client has been closed."""
