"""Who has the open streams of a pool: counts by client, and by the address that clients connect from."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable
from typing import Protocol

RESERVED_PART = 10
"""One of so many streams of a pool is reserved for clients that have few."""


class Owner(Protocol):
    """What this reads of a client."""

    @property
    def identity(self) -> Hashable:
        """Name of the client's connection."""

    @property
    def address(self) -> Hashable:
        """Where the client connects from."""


class StreamShares:
    """The streams of one pool that workers have, by client.

    Attributes:
        total: how many there are.
    """

    __slots__ = ("_by_address", "total")

    def __init__(self) -> None:
        self.total = 0
        self._by_address: defaultdict[Hashable, Counter[Hashable]] = defaultdict(Counter)

    def add(self, owner: Owner) -> None:
        """Count a stream that a worker has got."""
        self.total += 1
        self._by_address[owner.address][owner.identity] += 1

    def remove(self, owner: Owner) -> None:
        """Count a stream that a worker has ended."""
        self.total -= 1
        clients = self._by_address[owner.address]
        clients[owner.identity] -= 1
        if not clients[owner.identity]:
            del clients[owner.identity]
            if not clients:
                del self._by_address[owner.address]

    def of(self, owner: Owner) -> int:
        """Return how many a client has."""
        clients = self._by_address.get(owner.address)
        return clients[owner.identity] if clients is not None else 0

    def by_client(self) -> dict[tuple[Hashable, Hashable], int]:
        """Return how many each client has, by address and identity."""
        return {
            (address, identity): count
            for address, clients in self._by_address.items()
            for identity, count in clients.items()
        }

    def may_open(self, owner: Owner, free: int) -> bool:
        """Whether a client may have one more, of `free` that no client has.

        The last tenth is for clients that have fewer streams than are free, and the last twentieth for addresses that
        have fewer. No client can therefore take all, nor can the clients of one address, and a new client finds room.
        """
        reserved = (free + self.total) // RESERVED_PART
        if free > reserved:
            return True
        if self.of(owner) >= free:
            return False
        return free > reserved // 2 or sum(self._by_address.get(owner.address, _NONE).values()) < free

    def fair_part(self, whole: int, owner: Owner) -> int:
        """Return a client's part of a limit if each address with streams had an equal part, and each client of it."""
        clients = self._by_address.get(owner.address, _NONE)
        addresses = len(self._by_address) + (not clients)
        return whole // addresses // (len(clients) + (owner.identity not in clients))


_NONE: Counter[Hashable] = Counter()
