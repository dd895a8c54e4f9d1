"""A service's waiting calls: bounded by its users, fair among clients, the oldest first within one client."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker.core.state.calls import Call, Client


class Lane:
    """The waiting calls of one client."""

    __slots__ = ("bytes", "calls")

    def __init__(self) -> None:
        self.calls: deque[Call] = deque()
        self.bytes = 0


class FairQueue:
    """Calls that wait for room.

    Attributes:
        calls, bytes: how many there are, and how many bytes their events have.
        again: those among them whose worker died, the oldest first.
    """

    __slots__ = ("_lanes", "again", "bytes", "calls")

    def __init__(self) -> None:
        self.calls = 0
        self.bytes = 0
        self.again: deque[Call] = deque()
        self._lanes: OrderedDict[Client, Lane] = OrderedDict()  # whose turn it is next comes first

    def __len__(self) -> int:
        return self.calls

    def __iter__(self) -> Iterator[Call]:
        """All that wait, in no particular order."""
        yield from self.again
        for lane in self._lanes.values():
            yield from lane.calls

    def share(self, client: Client | None) -> tuple[int, int]:
        """How many calls and bytes of one client wait."""
        lane = self._lanes.get(client) if client is not None else None
        return (len(lane.calls), lane.bytes) if lane is not None else (0, 0)

    def append(self, call: Call) -> None:
        """Let a call wait until the calls of its client that came before it have gone."""
        client = call.client
        assert client is not None
        lane = self._lanes.get(client)
        if lane is None:
            lane = self._lanes[client] = Lane()
        size = len(call.event)
        lane.calls.append(call)
        lane.bytes += size
        self.calls += 1
        self.bytes += size

    def push_retry(self, call: Call) -> None:
        """Let a call whose worker died be the next of its kind."""
        self.again.appendleft(call)
        self.calls += 1
        self.bytes += len(call.event)

    def pop_retry(self) -> Call:
        """Take the next of the calls whose worker died."""
        call = self.again.popleft()
        self.calls -= 1
        self.bytes -= len(call.event)
        return call

    def drain_all(self) -> tuple[list[Call], list[Call]]:
        """Take out those whose worker died, the oldest first, and all others, in the order of `pop`."""
        again = [self.pop_retry() for _ in range(len(self.again))]
        return again, [self.pop() for _ in range(self.calls)]

    @property
    def first(self) -> Call:
        """What `pop` would take."""
        return next(iter(self._lanes.values())).calls[0]

    def pop(self) -> Call:
        """Take the next of the others: the oldest of the client whose turn it is, which then comes after all others."""
        lanes = self._lanes
        client = next(iter(lanes))
        lane = lanes[client]
        call = lane.calls.popleft()
        size = len(call.event)
        lane.bytes -= size
        if not lane.calls:
            del lanes[client]
        elif len(lanes) > 1:
            lanes.move_to_end(client)
        self.calls -= 1
        self.bytes -= size
        return call

    def remove(self, call: Call) -> None:
        """Take one call out, wherever it stands. Its client must still be known.

        Those that are taken out together are mostly a client's oldest, which are found at once.
        """
        size = len(call.event)
        self.calls -= 1
        self.bytes -= size
        if call.deaths:
            self.again.remove(call)
            return
        client = call.client
        assert client is not None
        lane = self._lanes[client]
        lane.calls.remove(call)
        lane.bytes -= size
        if not lane.calls:
            del self._lanes[client]
