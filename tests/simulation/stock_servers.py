"""A simulated stock ZeroRPC server in a network: its conversations, its heartbeats, and all its bad habits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgpack

from tests.simulation.links import Link

if TYPE_CHECKING:
    from tests.simulation.network import Network

SERVICE = "green"
METHODS = ("green_add", "green_count", "green_safe")
RETRIED = "green_safe"
HEARTBEAT_S = 5.0
TIMEOUT_S = 15.0
"""How long a call may run at a server."""

SERVER_CALLS = 4
"""How many calls a server may have at one time."""


@dataclass(eq=False)
class Conversation:
    """What a server knows of a call. It starts with the right to send one event."""

    what: dict[str, Any]
    link: Link
    beat_s: float
    last_received_s: float | None = None
    slots: int = 1
    items: int = 0
    ended: bool = False


class StockServer:
    """A process with one socket. Supervisor starts it again whenever it has ended."""

    def __init__(self, network: Network, name: str, methods: tuple[str, ...] = METHODS) -> None:
        self.name = name
        self.is_frozen = False
        self.is_alive = True
        self._methods = methods
        self._network = network
        self._is_blocked = False
        self._deferred: list[Callable[[], None]] = []
        self._conversations: dict[str, Conversation] = {}
        self.link = network.connect_server(self)
        network.agenda.every(0.25, self._beat)

    # -- the process ----------------------------------------------------------------------------------------------

    def kill(self, down_s: float = 1.0) -> None:
        """The process ends at once."""
        if self.is_alive:
            self.is_alive = False
            self.link.break_off()
            self._conversations.clear()
            self._deferred.clear()
            self._network.agenda.after(down_s, self._start)

    def _start(self) -> None:
        self.is_alive, self.is_frozen, self._is_blocked = True, False, False
        self.link = self._network.connect_server(self)

    def block(self, seconds: float) -> None:
        """The loop is blocked, for instance by a computation; libzmq's thread answers the broker's heartbeats."""
        self._is_blocked = True
        self._network.agenda.after(seconds, self._unblock)

    def _unblock(self) -> None:
        self._is_blocked = False
        self._go_on()

    def thaw(self) -> None:
        """Go on after a SIGSTOP."""
        self.is_frozen = False
        self._go_on()

    def _go_on(self) -> None:
        if self.is_alive and not self.is_frozen and not self._is_blocked:
            self._beat()  # timers are due before what has come meanwhile
            deferred, self._deferred = self._deferred, []
            for action in deferred:
                self._do(action)

    def receive(self, link: Link, frames: list[bytes]) -> None:
        self._do(lambda: self._handle(link, frames))

    def disconnected(self, link: Link) -> None:
        """Libzmq connects again by itself; open calls of the old connection have nobody to answer to."""
        if self.is_alive and link is self.link:
            self.link = self._network.connect_server(self)

    def abandoned(self, link: Link) -> None:
        raise AssertionError("servers are never stalled")

    def _do(self, action: Callable[[], None]) -> None:
        if self.is_frozen or self._is_blocked:
            self._deferred.append(action)
        elif self.is_alive:
            action()

    # -- conversations --------------------------------------------------------------------------------------------

    def _handle(self, link: Link, frames: list[bytes]) -> None:
        delimiter, payload = frames
        assert delimiter == b""
        header, name, args = msgpack.unpackb(payload)
        if "response_to" in header:
            conversation = self._conversations.get(header["response_to"])
            if conversation is not None:
                conversation.last_received_s = self._network.agenda.now_s
                if name == "_zpc_more":
                    conversation.slots += args[0]
                    self._stream(header["response_to"])
            return
        message_id = header["message_id"]
        if name == "_zerorpc_name":
            self._say(link, message_id, "OK", [SERVICE])
        elif name == "_zerorpc_list":
            self._say(link, message_id, "OK", [list(self._methods)])
        elif name == "_zerorpc_help":
            self._say(link, message_id, "OK", ["A method."])
        elif name == "_zerorpc_ping":
            self._say(link, message_id, "OK", [["pong", SERVICE]])
        elif name == "_zerorpc_inspect":
            self._say(link, message_id, "ERR", ["AttributeError", "getargspec", ""])
        else:
            self._begin(link, message_id, name, args[0])

    def _begin(self, link: Link, message_id: str, name: str, what: dict[str, Any]) -> None:
        assert name in self._methods, "a call of a method that the server does not have"
        assert message_id not in self._conversations, "the same call twice to one server"
        self._network.note_given(what["token"], 2 if name == RETRIED else 1)
        self._conversations[message_id] = Conversation(what, link, self._network.agenda.now_s)
        open_ones = [one for one in self._conversations.values() if not one.ended and one.link is self.link]
        # Those that it has abandoned itself are not counted, and those of which the broker does not know that yet are.
        assert len(open_ones) <= SERVER_CALLS, "more calls than a server may have"
        then: dict[str, Callable[[], None]] = {
            "answer": lambda: self._end(message_id, "OK", [what["token"]]),
            "raise": lambda: self._end(message_id, "ERR", ["ModelError", "text", None]),
            "babble": lambda: self._babble(message_id),
            "die": self.kill,
            "hang": lambda: None,
            "stream": lambda: self._stream(message_id),
        }
        self._network.agenda.after(what["after_s"], lambda: self._do(then[what["do"]]))

    def _say(self, link: Link, message_id: str, name: str, args: Any) -> None:
        header = {"message_id": b"%032x" % 1, "v": 3, "response_to": message_id}
        link.to_broker([b"", msgpack.packb([header, name, args])])

    def _end(self, message_id: str, name: str, args: Any) -> None:
        conversation = self._conversations.pop(message_id, None)
        if conversation is not None:
            conversation.ended = True
            self._say(conversation.link, message_id, name, args)

    def _babble(self, message_id: str) -> None:
        """Say much that is no answer, then the answer, then that again."""
        conversation = self._conversations.get(message_id)
        if conversation is None:
            return
        token = conversation.what["token"]
        self._say(conversation.link, message_id[:-1] + "z", "OK", [token])
        self._say(conversation.link, "0" * len(message_id), "OK", [token])
        self._say(conversation.link, message_id, "what", [token])
        conversation.link.to_broker([b"\xc1"])
        self._end(message_id, "OK", [token])
        self._say(conversation.link, message_id, "OK", [token])

    def _stream(self, message_id: str) -> None:
        """Send as much of a stream as there is room for."""
        conversation = self._conversations.get(message_id)
        if conversation is None or conversation.what["do"] != "stream":
            return
        while not conversation.ended and conversation.slots > 0:
            conversation.slots -= 1
            if conversation.items == conversation.what["items"]:
                self._end(message_id, "STREAM_DONE", None)
            else:
                self._say(conversation.link, message_id, "STREAM", [conversation.what["token"], conversation.items])
                conversation.items += 1

    def _beat(self) -> None:
        """Send the heartbeats that are due; end the calls of a client that was not heard (`HeartBeatOnChannel`)."""
        if not self.is_alive or self.is_frozen or self._is_blocked:
            return
        now_s = self._network.agenda.now_s
        for message_id, one in list(self._conversations.items()):
            if now_s - one.beat_s < HEARTBEAT_S:
                continue
            one.beat_s = now_s
            if one.last_received_s is None:
                one.last_received_s = now_s
            if now_s > one.last_received_s + 2 * HEARTBEAT_S:
                del self._conversations[message_id]
            else:
                self._say(one.link, message_id, "_zpc_hb", [0])
