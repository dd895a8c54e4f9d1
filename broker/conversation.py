"""One call and all that is said in it, and the client it belongs to. State only; what happens to it is in routing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cluster.events import ReplyWriter

if TYPE_CHECKING:
    from broker.catalogue import Hosting, Procedure


class Client:
    """A connection to the frontend that has calls open.

    Attributes:
        identity: ZeroMQ's own name for the connection.
        open: its conversations, by message id (as msgpack bytes, so that b"1", "1" and 1 differ).
    """

    __slots__ = ("identity", "open")

    def __init__(self, identity: bytes) -> None:
        self.identity = identity
        self.open: dict[bytes, Conversation] = {}


class Conversation:
    """A call from its first event to its last.

    Attributes:
        number: its name between broker and worker; unique, because processes forked from one client send equal ids.
        client: who asked; None once that one has gone and only the worker's answer is still to come.
        message_id: the client's name for it, as msgpack bytes.
        version: the client's protocol version.
        procedure: what is called.
        event: the client's first event as it came, kept until the end because it may have to be sent again.
        replies: writes the events that go to the client.
        hosting: the model and worker that answers it; None while it waits in the queue.
        arrived_s, beaten_s: when it came, when a heartbeat last went to the client; monotonic seconds.
        slots: how many more stream items the client has said it can take.
        streamed: whether the client has got an item of a stream.
        deaths: how many workers died while they had it.
        failure: the body of an ERR that waits for a free slot, and the outcome that it is counted as.
    """

    __slots__ = (
        "arrived_s",
        "beaten_s",
        "client",
        "deaths",
        "event",
        "failure",
        "hosting",
        "message_id",
        "number",
        "procedure",
        "replies",
        "slots",
        "streamed",
        "version",
    )

    def __init__(
        self,
        number: bytes,
        client: Client,
        message_id: bytes,
        version: int,
        procedure: Procedure,
        event: bytes,
        now_s: float,
    ) -> None:
        self.number = number
        self.client: Client | None = client
        self.message_id = message_id
        self.version = version
        self.procedure = procedure
        self.event = event
        self.replies = ReplyWriter(message_id, version, number)
        self.hosting: Hosting | None = None
        self.arrived_s = now_s
        self.beaten_s = now_s
        self.slots = 1  # a sender starts with one (zerorpc `BufferedChannel`)
        self.streamed = False
        self.deaths = 0
        self.failure: tuple[bytes, str] | None = None
