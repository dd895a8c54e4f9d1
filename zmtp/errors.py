"""The errors that this package raises."""


class ZmtpError(Exception):
    """Base class of the errors of this package."""


ZMTP = "zmtp"
"""Reason of a `PeerError`: a violation of the protocol, or of a limit."""

MECHANISM = "mechanism"
"""Reason of a `PeerError`: the peer uses another security mechanism."""


class PeerError(ZmtpError):
    """The peer broke the protocol or is not acceptable. The text says what the peer did. Close the connection.

    Attributes:
        reason: a short word for counting: ZMTP, MECHANISM, or one of `zmtp.curve`.
    """

    def __init__(self, text: str, reason: str = ZMTP) -> None:
        super().__init__(text)
        self.reason = reason


class UnreachableError(ZmtpError):
    """No connection has this identity."""


class StalledError(ZmtpError):
    """The peer does not read, and its limit of unsent messages is reached."""
