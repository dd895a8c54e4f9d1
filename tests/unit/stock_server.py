"""A stock ZeroRPC server, seen from the broker: hand-made events over no socket."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgpack

from tests.unit.world import Reply, World

QUESTIONS = ("_zerorpc_inspect", "_zerorpc_name", "_zerorpc_list", "_zerorpc_help")
"""What the broker asks of a server that has connected."""


@dataclass
class Received:
    """An event that a server got."""

    header: dict[str, Any]
    name: str
    args: list[Any]

    @property
    def conversation(self) -> str:
        """The id that the broker has given the conversation."""
        conversation: str = self.header.get("response_to") or self.header["message_id"]
        return conversation


class StockServer:
    """A server that does what the test says, and describes itself as Python's does."""

    def __init__(self, world: World, identity: bytes = b"s1", service: str = "Tools", *methods: str, v: int = 3):
        self.world = world
        self.identity = identity
        self.service = service
        self.methods = methods or ("add", "count")
        self.v = v

    def connect(self) -> None:
        """Appear at the backend; the broker speaks first."""
        self.world.core.server_registrations.joined(self.identity, self.world.now_s)
        self.world.flush()

    def join(self) -> None:
        """Connect, and answer what the broker asks, as a server on Python 3.11 or later does."""
        self.connect()
        while questions := self.received(lambda event: event.name in QUESTIONS):
            for question in questions:
                self.introduce(question)

    def introduce(self, question: Received) -> None:
        """Answer one of the broker's questions."""
        answers: dict[str, Callable[[], object]] = {
            "_zerorpc_name": lambda: self.service,
            "_zerorpc_list": lambda: list(self.methods),
            "_zerorpc_help": lambda: f"The {question.args[0]} of {self.service}.",
        }
        answer = answers.get(question.name)
        if answer is None:
            self.say(question, "ERR", "AttributeError", "getargspec", "traceback")
        else:
            self.say(question, "OK", answer())

    def received(self, which: Callable[[Received], bool] = lambda _: True) -> list[Received]:
        """What it got since this was last asked; that which is not asked for stays."""
        taken = []
        for send in [send for send in self.world.to_workers if send[0] == self.identity]:
            delimiter, payload = send[1]
            event = Received(*msgpack.unpackb(payload, strict_map_key=False))
            assert delimiter == b""
            if which(event):
                self.world.to_workers.remove(send)
                taken.append(event)
        return taken

    def answer_pings(self, *pong: object) -> list[Reply]:
        """Show that the loop turns, if it was asked."""
        pong = pong or (["pong", self.service],)
        pings = self.received(lambda event: event.name == "_zerorpc_ping")
        return [reply for ping in pings for reply in self.say(ping, "OK", *pong)]

    def calls(self) -> list[Received]:
        """The calls among it; the rest is dropped."""
        return [event for event in self.received() if "response_to" not in event.header]

    def say(self, to: Received | str, name: str, *args: Any, **context: Any) -> list[Reply]:
        """Send an event of a conversation; return what clients get."""
        conversation = to if isinstance(to, str) else to.conversation
        header = {"message_id": b"%032x" % 7, "v": self.v, "response_to": conversation, **context}
        return self.say_bytes(msgpack.packb([header, name, args]))

    def say_bytes(self, payload: bytes) -> list[Reply]:
        """Send a message; return what clients get."""
        self.world.core.from_backend(self.identity, [b"", payload], self.world.now_s)
        return self.world.flush()

    def leave(self) -> list[Reply]:
        """The connection ends."""
        self.world.core.backend_lost(self.identity, self.world.now_s)
        return self.world.flush()
