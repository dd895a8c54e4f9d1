"""Open calls over several connections to a ZeroRPC service, as cheap for the caller as they can be."""

from collections.abc import Callable, Iterator
from selectors import EVENT_READ, DefaultSelector
from typing import Any

import msgpack

from zmtp.dealer import Dealer
from zmtp.mechanism import Mechanism, Null

# A first event, as stock Python clients write it (zerorpc `Event.pack`).
_HEAD = b"\x93\x82\xaamessage_id\xc4\x20"
_VERSION = b"\xa1v\x03"

# The two orders in which servers write the header of an answer: its first 16 bytes, from which the places of the call's
# id and of the event's name follow. An answer that begins in another way is unpacked.
_ID_FIRST = b"\x93\x83\xabresponse_to\xc4\x20"
_ID_LAST = b"\x93\x83\xaamessage_id\xc4\x20"


class Calls:
    """Calls of one procedure with one argument, over several connections.

    Attributes:
        dealers: the connections.
        open: the unanswered calls: by id, the time at which each was due.
        made: number of calls so far.
    """

    def __init__(
        self,
        address: str,
        connections: int,
        procedure: str,
        argument: Any,
        mechanism: Callable[[], Mechanism] = Null,
    ) -> None:
        """Connect.

        Args:
            address: the service's.
            connections: how many to make.
            procedure: what to call.
            argument: its argument.
            mechanism: makes the security of each connection.

        Raises:
            ValueError: if the address is not valid.
            OSError: if its host is not known.
        """
        self._selector = DefaultSelector()
        self.dealers = [Dealer(address, self._selector, mechanism) for _ in range(connections)]
        self._dirty = set(self.dealers)  # they may have something to send, or have to reconnect
        self._tail = _VERSION + msgpack.packb(procedure) + msgpack.packb([argument])
        self.open: dict[bytes, float] = {}
        self.made = 0

    def call(self, dealer: Dealer, due_s: float) -> None:
        """Make a call that was due at `due_s`; it leaves with the next `answers`."""
        message_id = b"%032x" % self.made
        self.made += 1
        self.open[message_id] = due_s
        dealer.send(_HEAD + message_id + self._tail)
        self._dirty.add(dealer)

    def announce_slots(self, dealer: Dealer, message_id: bytes, slots: int) -> None:
        """Announce that the caller can take more items of a stream (`_zpc_more`)."""
        header = {"message_id": b"more", "v": 3, "response_to": message_id}
        dealer.send(msgpack.packb([header, "_zpc_more", [slots]]))
        self._dirty.add(dealer)

    def answers(self, wait_ms: int) -> Iterator[tuple[Dealer, list[tuple[bytes, bytes]]]]:
        """Send what is due, then yield the events of each connection: the id of the call, and name and arguments.

        Raises:
            PeerError: if the service's bytes cannot be read.
        """
        self._flush()
        for key, io_events in self._selector.select(wait_ms / 1000):
            dealer = key.data
            self._dirty.add(dealer)  # it may send what was left, or has to answer its peer
            if io_events & EVENT_READ:
                yield dealer, [_split_answer(event) for event in dealer.receive()]

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, set()
        for dealer in dirty:
            dealer.reconnect_if_due()
            dealer.flush()
            if not dealer.is_connected:
                self._dirty.add(dealer)  # until the reconnect is due


def _split_answer(event: bytes) -> tuple[bytes, bytes]:
    """Return the id of the call that an event belongs to, and the event's name and arguments as msgpack."""
    if event.startswith(_ID_FIRST) and event[62:64] == b"\xc4\x08":
        return event[16:48], event[72:]
    if event.startswith(_ID_LAST) and event[62:64] == b"\xc4\x20":
        return event[64:96], event[96:]
    header, name, arguments = msgpack.unpackb(event, strict_map_key=False)
    return header["response_to"], msgpack.packb(name) + msgpack.packb(arguments)


def read_body(body: bytes) -> tuple[str, Any]:
    """Return the name and the arguments of an event."""
    unpacker = msgpack.Unpacker(strict_map_key=False)
    unpacker.feed(body)
    return unpacker.unpack(), unpacker.unpack()
