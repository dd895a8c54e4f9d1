"""A pool's waiting calls: fair among addresses, then among an address's clients, the oldest first within a client.

Addresses take turns, and within an address its clients do. A turn is one call. A large call takes further turns, one
for each `TURN_BYTES`, because it keeps a worker busy for long. Knows no limits and no clock.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, Protocol, TypeVar

TURN_BYTES = 64 * 1024
"""A call takes a turn more for each of these bytes."""


class Owner(Protocol):
    """What the queue reads of a client."""

    @property
    def identity(self) -> Hashable:
        """Name of the client's connection."""

    @property
    def address(self) -> Hashable:
        """Where the client connects from; the clients of one address share its turns."""


class Queued(Protocol):
    """What the queue reads of a call."""

    @property
    def owner(self) -> Owner:
        """The client that made the call."""

    @property
    def size(self) -> int:
        """Bytes of the call's first event."""

    @property
    def deaths(self) -> int:
        """Workers that died while they had the call; above 0, the call is a retry."""


CallT = TypeVar("CallT", bound=Queued)


class _Lane(Generic[CallT]):
    """The waiting calls of one client.

    Attributes:
        identity: the client's.
        group: the lanes of its address.
        waiting: how many calls there are.
        bytes: bytes of their first events.
        debt: turns that its last calls have taken in advance.
    """

    __slots__ = ("bytes", "calls", "debt", "group", "identity", "waiting")

    def __init__(self, identity: Hashable, group: _Group[CallT]) -> None:
        self.identity = identity
        self.group = group
        self.calls: deque[CallT] = deque()
        self.waiting = 0
        self.bytes = 0
        self.debt = 0


class _Group(Generic[CallT]):
    """The lanes of one address; the other attributes are those of a lane, for all of them together."""

    __slots__ = ("address", "debt", "lanes", "waiting")

    def __init__(self, address: Hashable) -> None:
        self.address = address
        self.lanes: OrderedDict[Hashable, _Lane[CallT]] = OrderedDict()  # the first one has the next turn
        self.waiting = 0
        self.debt = 0


class _Member(Protocol):
    """What takes turns: a lane or a group."""

    waiting: int
    debt: int


MemberT = TypeVar("MemberT", bound=_Member)


class FairQueue(Generic[CallT]):
    """Waiting calls, and the retries apart from them.

    Attributes:
        calls: number of waiting calls, retries included.
        bytes: bytes of their first events.
        retries: the calls whose worker died, the oldest first. They leave by `pop_retry`, all others by `pop`.
    """

    __slots__ = ("_groups", "_head", "bytes", "calls", "retries")

    def __init__(self) -> None:
        self.calls = 0
        self.bytes = 0
        self.retries: deque[CallT] = deque()
        self._groups: OrderedDict[Hashable, _Group[CallT]] = OrderedDict()  # the first one has the next turn
        self._head: _Lane[CallT] | None = None  # whose turn it is, once that has been found out

    def __len__(self) -> int:
        return self.calls

    def __iter__(self) -> Iterator[CallT]:
        """Iterate over all waiting calls, in no particular order."""
        yield from self.retries
        for group in self._groups.values():
            for lane in group.lanes.values():
                yield from lane.calls

    # -- shares ---------------------------------------------------------------------------------------------------

    def share(self, client: Owner) -> tuple[int, int]:
        """Return the calls and the bytes that wait for one client."""
        group = self._groups.get(client.address)
        lane = group.lanes.get(client.identity) if group is not None else None
        return (lane.waiting, lane.bytes) if lane is not None else (0, 0)

    def fair_part(self, whole: int, client: Owner) -> int:
        """Return a client's part of a limit if each address that waits had an equal part, and each client of it."""
        group = self._groups.get(client.address)
        addresses = len(self._groups) + (group is None)
        clients = len(group.lanes) + (client.identity not in group.lanes) if group is not None else 1
        return whole // addresses // clients

    def is_below_part(self, whole: int, client: Owner) -> bool:
        """Whether fewer calls of the client's address wait than an equal part of a limit for each address."""
        group = self._groups.get(client.address)
        addresses = len(self._groups) + (group is None)
        return group is None or group.waiting < whole // addresses

    # -- changes --------------------------------------------------------------------------------------------------

    def append(self, call: CallT) -> None:
        """Add a call behind the other calls of its client."""
        owner = call.owner
        group = self._groups.get(owner.address)
        if group is None:
            group = self._groups[owner.address] = _Group(owner.address)
        lane = group.lanes.get(owner.identity)
        if lane is None:
            lane = group.lanes[owner.identity] = _Lane(owner.identity, group)
            if self.calls == len(self.retries):
                self._head = lane  # nobody else waits
        size = call.size
        lane.calls.append(call)
        lane.waiting += 1
        lane.bytes += size
        group.waiting += 1
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
        return (self._head or self._find_head()).calls[0]

    def _find_head(self) -> _Lane[CallT]:
        group = next(iter(self._groups.values()))
        if group.debt or not group.waiting:
            group = _next(self._groups)
        lane = next(iter(group.lanes.values()))
        if lane.debt or not lane.waiting:
            lane = _next(group.lanes)
        self._head = lane
        return lane

    def prefer(self, is_wanted: Callable[[CallT], bool]) -> bool:
        """Have a client take the next turn whose next call is wanted; return whether there is one.

        A client in debt takes it only if all others are in debt, too. The cost grows with the clients whose next call
        is not wanted.
        """
        for may_owe in (False, True):
            for group in self._groups.values():
                for lane in group.lanes.values():
                    if lane.waiting and is_wanted(lane.calls[0]) and (may_owe or not (lane.debt or group.debt)):
                        lane.debt = group.debt = 0
                        group.lanes.move_to_end(lane.identity, last=False)
                        self._groups.move_to_end(group.address, last=False)
                        self._head = lane
                        return True
        return False

    def pop(self, further_turns: int = 0) -> CallT:
        """Remove and return the oldest call of the client whose turn it is; it then moves to the end.

        Args:
            further_turns: turns that the call takes beside those for itself and its size.
        """
        lane = self._head or self._find_head()
        group = lane.group
        call = lane.calls.popleft()
        turns = call.size // TURN_BYTES + further_turns
        if turns:
            lane.debt += turns
            group.debt += turns
        if len(group.lanes) > 1:
            group.lanes.move_to_end(lane.identity)
        if len(self._groups) > 1:
            self._groups.move_to_end(group.address)
        self._removed(call, lane)
        return call

    def remove(self, call: CallT) -> None:
        """Remove one call, wherever it stands.

        Calls that are removed together are mostly a client's oldest, which the lane finds first.
        """
        if call.deaths:
            self.retries.remove(call)
            self.calls -= 1
            self.bytes -= call.size
            return
        lane = self._groups[call.owner.address].lanes[call.owner.identity]
        lane.calls.remove(call)
        self._removed(call, lane)

    def _removed(self, call: CallT, lane: _Lane[CallT]) -> None:
        size, group = call.size, lane.group
        lane.waiting -= 1
        lane.bytes -= size
        group.waiting -= 1
        self.calls -= 1
        self.bytes -= size
        self._head = None
        if self.calls == len(self.retries):
            self._groups.clear()  # nobody waits, so nobody has to wait for another's debt
        elif not lane.waiting and not lane.debt:
            del group.lanes[lane.identity]
            if not group.waiting and not group.debt:
                del self._groups[group.address]


def _next(members: OrderedDict[Hashable, MemberT]) -> MemberT:
    """Return the member that has the next turn, and move it to the front. At least one has calls.

    A member in debt gives up its turn. If all are in debt, as many turns pass at once as the least of them owes.
    """
    for _ in range(len(members)):
        key, member = next(iter(members.items()))
        if member.waiting and not member.debt:
            return member
        member.debt -= member.debt > 0
        members.move_to_end(key)
        if not member.waiting and not member.debt:
            del members[key]
    least = min(member.debt for member in members.values() if member.waiting)
    for member in members.values():
        member.debt = max(0, member.debt - least)
    return _next(members)
