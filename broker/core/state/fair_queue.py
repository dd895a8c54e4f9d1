"""A pool's waiting calls: fair among clients, the oldest first within one client. Knows no limits and no clock."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterator
from typing import Generic, Protocol, TypeVar


class Queued(Protocol):
    """What the queue reads of a call."""

    @property
    def client(self) -> Hashable | None:
        """The client that made the call."""

    @property
    def size(self) -> int:
        """Bytes of the call's first event."""

    @property
    def deaths(self) -> int:
        """Workers that died while they had the call; above 0, the call is a retry."""


CallT = TypeVar("CallT", bound=Queued)


class _Lane(Generic[CallT]):
    """The waiting calls of one client."""

    __slots__ = ("bytes", "calls")

    def __init__(self) -> None:
        self.calls: deque[CallT] = deque()
        self.bytes = 0


class FairQueue(Generic[CallT]):
    """Waiting calls, one lane for each client, and the retries apart from them.

    Attributes:
        calls: number of waiting calls, retries included.
        bytes: bytes of their first events.
        retries: the calls whose worker died, the oldest first. They leave by `pop_retry`, all others by `pop`.
    """

    __slots__ = ("_lanes", "bytes", "calls", "retries")

    def __init__(self) -> None:
        self.calls = 0
        self.bytes = 0
        self.retries: deque[CallT] = deque()
        self._lanes: OrderedDict[Hashable, _Lane[CallT]] = OrderedDict()  # the first lane has the next turn

    def __len__(self) -> int:
        return self.calls

    def __iter__(self) -> Iterator[CallT]:
        """Iterate over all waiting calls, in no particular order."""
        yield from self.retries
        for lane in self._lanes.values():
            yield from lane.calls

    def share(self, client: Hashable | None) -> tuple[int, int]:
        """Return the calls and the bytes that wait for one client."""
        lane = self._lanes.get(client) if client is not None else None
        return (len(lane.calls), lane.bytes) if lane is not None else (0, 0)

    def append(self, call: CallT) -> None:
        """Add a call behind the other calls of its client."""
        client = call.client
        assert client is not None
        lane = self._lanes.get(client)
        if lane is None:
            lane = self._lanes[client] = _Lane()
        size = call.size
        lane.calls.append(call)
        lane.bytes += size
        self.calls += 1
        self.bytes += size

    def push_retry(self, call: CallT) -> None:
        """Add a call whose worker died, before all other retries."""
        self.retries.appendleft(call)
        self.calls += 1
        self.bytes += call.size

    def pop_retry(self) -> CallT:
        """Remove and return the oldest retry."""
        call = self.retries.popleft()
        self.calls -= 1
        self.bytes -= call.size
        return call

    def drain_all(self) -> tuple[list[CallT], list[CallT]]:
        """Remove and return every call: the retries, the oldest first, and all others in the order of `pop`."""
        retries = [self.pop_retry() for _ in range(len(self.retries))]
        return retries, [self.pop() for _ in range(self.calls)]

    @property
    def first(self) -> CallT:
        """The call that `pop` would return."""
        return next(iter(self._lanes.values())).calls[0]

    def pop(self) -> CallT:
        """Remove and return the oldest call of the client that has the turn; that client then moves to the end."""
        lanes = self._lanes
        client = next(iter(lanes))
        lane = lanes[client]
        call = lane.calls.popleft()
        size = call.size
        lane.bytes -= size
        if not lane.calls:
            del lanes[client]
        elif len(lanes) > 1:
            lanes.move_to_end(client)
        self.calls -= 1
        self.bytes -= size
        return call

    def remove(self, call: CallT) -> None:
        """Remove one call, wherever it stands. Its client must still be known.

        Calls that are removed together are mostly a client's oldest, which the lane finds first.
        """
        size = call.size
        self.calls -= 1
        self.bytes -= size
        if call.deaths:
            self.retries.remove(call)
            return
        client = call.client
        assert client is not None
        lane = self._lanes[client]
        lane.calls.remove(call)
        lane.bytes -= size
        if not lane.calls:
            del self._lanes[client]
