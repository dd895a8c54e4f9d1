"""Connections to a ZeroRPC service, and the calls that are open on them: quick, for programs that put load on one."""

from collections.abc import Iterator
from selectors import EVENT_READ, DefaultSelector
from typing import Any

import msgpack

from zmtp.dealer import Dealer

# As stock Python clients write it (zerorpc `Event.pack`).
_HEAD = b"\x93\x82\xaamessage_id\xc4\x20"
_VERSION = b"\xa1v\x03"

# The two orders in which servers write the header of an answer: its first 16 bytes, and where the call's id and the
# name of the event begin. Any other is unpacked.
_ID_FIRST = b"\x93\x83\xabresponse_to\xc4\x20"
_ID_LAST = b"\x93\x83\xaamessage_id\xc4\x20"


class Calls:
    """Calls of one procedure with one argument, over so many connections.

    Attributes:
        dealers: the connections.
        open: when the calls that are not answered should have been sent, by their ids.
        made: how many calls there were.
    """

    def __init__(self, address: str, connections: int, procedure: str, argument: Any) -> None:
        """Connect.

        Raises:
            ValueError: if the address is none.
            OSError: if its host is not known.
        """
        self._selector = DefaultSelector()
        self.dealers = [Dealer(address, self._selector) for _ in range(connections)]
        self._dirty = set(self.dealers)  # they may have something to send, or have to reconnect
        self._tail = _VERSION + msgpack.packb(procedure) + msgpack.packb([argument])
        self.open: dict[bytes, float] = {}
        self.made = 0

    def call(self, dealer: Dealer, due_s: float) -> None:
        """Make a call that should have been made at that time; it leaves with the next look for answers."""
        message_id = b"%032x" % self.made
        self.made += 1
        self.open[message_id] = due_s
        dealer.send(_HEAD + message_id + self._tail)
        self._dirty.add(dealer)

    def more(self, dealer: Dealer, message_id: bytes, slots: int) -> None:
        """Say that there is room for so many more items of a stream."""
        header = {"message_id": b"more", "v": 3, "response_to": message_id}
        dealer.send(msgpack.packb([header, "_zpc_more", [slots]]))
        self._dirty.add(dealer)

    def answers(self, wait_ms: int) -> Iterator[tuple[Dealer, list[tuple[bytes, bytes]]]]:
        """Send what is to be sent; then the events that have come: for each the id of the call, and name and arguments.

        Raises:
            PeerError: if they cannot be read.
        """
        self._flush()
        for key, events in self._selector.select(wait_ms / 1000):
            dealer = key.data
            self._dirty.add(dealer)  # it may have unsent bytes, or have to answer its peer
            if events & EVENT_READ:
                yield dealer, [_answer(event) for event in dealer.receive()]

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, set()
        for dealer in dirty:
            dealer.reconnect_if_due()
            dealer.flush()
            if not dealer.is_connected:
                self._dirty.add(dealer)  # until it is due


def _answer(event: bytes) -> tuple[bytes, bytes]:
    """The id of the call that an event belongs to, and its name and arguments."""
    if event.startswith(_ID_FIRST) and event[62:64] == b"\xc4\x08":
        return event[16:48], event[72:]
    if event.startswith(_ID_LAST) and event[62:64] == b"\xc4\x20":
        return event[64:96], event[96:]
    header, name, arguments = msgpack.unpackb(event, strict_map_key=False)
    return header["response_to"], msgpack.packb(name) + msgpack.packb(arguments)


def read(body: bytes) -> tuple[str, Any]:
    """Name and arguments of an event."""
    unpacker = msgpack.Unpacker(strict_map_key=False)
    unpacker.feed(body)
    return unpacker.unpack(), unpacker.unpack()
