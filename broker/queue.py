"""A service's waiting calls: bounded by its users, fair among clients, the oldest first within one client."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker.conversation import Client, Conversation


class Lane:
    """The waiting calls of one client."""

    __slots__ = ("bytes", "calls")

    def __init__(self) -> None:
        self.calls: deque[Conversation] = deque()
        self.bytes = 0


class CallQueue:
    """Calls that wait for room.

    Attributes:
        calls, bytes: how many there are, and how many bytes their events have.
        again: those among them whose worker died, the oldest first.
    """

    __slots__ = ("_lanes", "again", "bytes", "calls")

    def __init__(self) -> None:
        self.calls = 0
        self.bytes = 0
        self.again: deque[Conversation] = deque()
        self._lanes: OrderedDict[Client, Lane] = OrderedDict()  # whose turn it is next comes first

    def __len__(self) -> int:
        return self.calls

    def __iter__(self) -> Iterator[Conversation]:
        """All that wait, in no particular order."""
        yield from self.again
        for lane in self._lanes.values():
            yield from lane.calls

    def share(self, client: Client | None) -> tuple[int, int]:
        """How many calls and bytes of one client wait."""
        lane = self._lanes.get(client) if client is not None else None
        return (len(lane.calls), lane.bytes) if lane is not None else (0, 0)

    def append(self, conversation: Conversation) -> None:
        """Let a call wait until the calls of its client that came before it have gone."""
        client = conversation.client
        assert client is not None
        lane = self._lanes.get(client)
        if lane is None:
            lane = self._lanes[client] = Lane()
        size = len(conversation.event)
        lane.calls.append(conversation)
        lane.bytes += size
        self.calls += 1
        self.bytes += size

    def put_first(self, conversation: Conversation) -> None:
        """Let a call whose worker died be the next of its kind."""
        self.again.appendleft(conversation)
        self.calls += 1
        self.bytes += len(conversation.event)

    def pop_again(self) -> Conversation:
        """Take the next of the calls whose worker died."""
        conversation = self.again.popleft()
        self.calls -= 1
        self.bytes -= len(conversation.event)
        return conversation

    def take_all(self) -> tuple[list[Conversation], list[Conversation]]:
        """Take out those whose worker died, the oldest first, and all others, in the order of `pop`."""
        again = [self.pop_again() for _ in range(len(self.again))]
        return again, [self.pop() for _ in range(self.calls)]

    @property
    def first(self) -> Conversation:
        """What `pop` would take."""
        return next(iter(self._lanes.values())).calls[0]

    def pop(self) -> Conversation:
        """Take the next of the others: the oldest of the client whose turn it is, which then comes after all others."""
        lanes = self._lanes
        client = next(iter(lanes))
        lane = lanes[client]
        conversation = lane.calls.popleft()
        size = len(conversation.event)
        lane.bytes -= size
        if not lane.calls:
            del lanes[client]
        elif len(lanes) > 1:
            lanes.move_to_end(client)
        self.calls -= 1
        self.bytes -= size
        return conversation

    def remove(self, conversation: Conversation) -> None:
        """Take one call out, wherever it stands. Its client must still be known.

        Those that are taken out together are mostly a client's oldest, which are found at once.
        """
        size = len(conversation.event)
        self.calls -= 1
        self.bytes -= size
        if conversation.deaths:
            self.again.remove(conversation)
            return
        client = conversation.client
        assert client is not None
        lane = self._lanes[client]
        lane.calls.remove(conversation)
        lane.bytes -= size
        if not lane.calls:
            del self._lanes[client]
