"""The calls of a worker: a registration with the broker, one call of it, and the form of an answer."""

from dataclasses import dataclass, field

Answer = tuple[bytes, bytes]
"""(kind of message, event). REPLY: the procedure was executed. REFUSE: it was not, or was stopped."""


@dataclass(slots=True)
class Registration:
    """One registration with the broker: from READY until the broker or the worker ends it.

    Attributes:
        id: the worker's id in this registration.
        is_live: False once the registration has ended. Its calls need no answers then.
        unanswered: the numbers of the calls that the broker expects an answer to.
        cancelled: the numbers of those among them that the broker has cancelled.
    """

    id: str
    is_live: bool = True
    unanswered: set[bytes] = field(default_factory=set)
    cancelled: set[bytes] = field(default_factory=set)


@dataclass(slots=True)
class Call:
    """One call.

    Attributes:
        number: the broker's name for it.
        payload: the client's event as it came.
        args_at: where its arguments begin.
    """

    number: bytes
    payload: bytes
    args_at: int
