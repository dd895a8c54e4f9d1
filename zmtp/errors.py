"""The errors that this package raises."""


class ZmtpError(Exception):
    """Base class of the errors of this package."""


class PeerError(ZmtpError):
    """The peer broke the protocol or is not acceptable. The text says what the peer did. Close the connection."""


class UnreachableError(ZmtpError):
    """No connection has this identity."""


class StalledError(ZmtpError):
    """The peer does not read, and its limit of unsent messages is reached."""
