"""Connections to a ZeroRPC service, and the calls that are open on them: quick, for programs that put load on one."""

import select
from collections.abc import Iterator
from typing import Any

import msgpack
import zmq
import zmq.backend

FEW = 64
"""Up to so many connections it is quicker to look at all of them."""

# As stock Python clients write it (zerorpc `Event.pack`).
_HEAD = b"\x93\x82\xaamessage_id\xc4\x20"
_VERSION = b"\xa1v\x03"

# The two orders in which servers write the header of an answer: its first 16 bytes, and where the call's id and the
# name of the event begin. Any other is unpacked.
_ID_FIRST = b"\x93\x83\xabresponse_to\xc4\x20"
_ID_LAST = b"\x93\x83\xaamessage_id\xc4\x20"

_NOBLOCK = int(zmq.NOBLOCK)
_NOBLOCK_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
_receive = zmq.backend.Socket.recv
_send = zmq.backend.Socket.send


class _FewSockets:
    """Which sockets have something: ZeroMQ looks at each of them, every time."""

    def __init__(self) -> None:
        self._poller = zmq.Poller()

    def add(self, dealer: zmq.Socket[bytes]) -> None:
        """Look at this one, too."""
        self._poller.register(dealer, zmq.POLLIN)

    def sent_to(self, dealer: zmq.Socket[bytes]) -> None:
        """Something was sent there."""

    def wait(self, wait_ms: int) -> list[zmq.Socket[bytes]]:
        """Those that may have something."""
        return [dealer for dealer, _ in self._poller.poll(wait_ms)]


class _ManySockets(_FewSockets):
    """The same at a cost that does not grow with the sockets: the system says at which something happened.

    It says so once (libzmq, `ZMQ_FD`), and a send may use that up; so those that were sent to are looked at, too.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._by_fd: dict[int, zmq.Socket[bytes]] = {}
        self._touched: set[zmq.Socket[bytes]] = set()

    def add(self, dealer: zmq.Socket[bytes]) -> None:
        self._by_fd[dealer.FD] = dealer
        self._epoll.register(dealer.FD, select.EPOLLIN)

    def sent_to(self, dealer: zmq.Socket[bytes]) -> None:
        self._touched.add(dealer)

    def wait(self, wait_ms: int) -> list[zmq.Socket[bytes]]:
        touched, self._touched = self._touched, set()
        happened = {self._by_fd[fd] for fd, _ in self._epoll.poll(0 if touched else wait_ms / 1000)}
        return list(happened | touched)


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
            zmq.ZMQError: if the address is none.
        """
        context = zmq.Context(io_threads=1)
        context.set(zmq.MAX_SOCKETS, connections + 16)
        self._readiness = _ManySockets() if connections > FEW else _FewSockets()
        self.dealers: list[zmq.Socket[bytes]] = []
        for _ in range(connections):
            dealer = context.socket(zmq.DEALER)
            dealer.linger = 0
            dealer.sndhwm = dealer.rcvhwm = 0
            dealer.connect(address)
            self.dealers.append(dealer)
            self._readiness.add(dealer)
        self._tail = _VERSION + msgpack.packb(procedure) + msgpack.packb([argument])
        self.open: dict[bytes, float] = {}
        self.made = 0

    def call(self, dealer: zmq.Socket[bytes], due_s: float) -> None:
        """Make a call that should have been made at that time."""
        message_id = b"%032x" % self.made
        self.made += 1
        self.open[message_id] = due_s
        _send(dealer, b"", _NOBLOCK_MORE)
        _send(dealer, _HEAD + message_id + self._tail, _NOBLOCK)
        self._readiness.sent_to(dealer)

    def more(self, dealer: zmq.Socket[bytes], message_id: bytes, slots: int) -> None:
        """Say that there is room for so many more items of a stream."""
        header = {"message_id": b"more", "v": 3, "response_to": message_id}
        _send(dealer, b"", _NOBLOCK_MORE)
        _send(dealer, msgpack.packb([header, "_zpc_more", [slots]]), _NOBLOCK)
        self._readiness.sent_to(dealer)

    def answers(self, wait_ms: int) -> Iterator[tuple[zmq.Socket[bytes], list[tuple[bytes, bytes]]]]:
        """The events that have come on each connection: the id of the call, and the name and arguments."""
        for dealer in self._readiness.wait(wait_ms):
            yield dealer, self._take(dealer)

    @staticmethod
    def _take(dealer: zmq.Socket[bytes]) -> list[tuple[bytes, bytes]]:
        """(id of the call, name and arguments) of each event that has come."""
        answers: list[tuple[bytes, bytes]] = []
        while True:
            try:
                delimiter = _receive(dealer, _NOBLOCK)
            except zmq.Again:
                return answers
            if delimiter:
                raise ValueError(f"the service sent {delimiter[:40]!r} where an empty delimiter should be")
            event = _receive(dealer, _NOBLOCK)
            if event.startswith(_ID_FIRST) and event[62:64] == b"\xc4\x08":
                answers.append((event[16:48], event[72:]))
            elif event.startswith(_ID_LAST) and event[62:64] == b"\xc4\x20":
                answers.append((event[64:96], event[96:]))
            else:
                header, name, arguments = msgpack.unpackb(event, strict_map_key=False)
                answers.append((header["response_to"], msgpack.packb(name) + msgpack.packb(arguments)))


def read(body: bytes) -> tuple[str, Any]:
    """Name and arguments of an event."""
    unpacker = msgpack.Unpacker(strict_map_key=False)
    unpacker.feed(body)
    return unpacker.unpack(), unpacker.unpack()
