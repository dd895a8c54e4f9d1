"""A service's waiting calls: bounded by its users, fair among clients, the oldest first within one client."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker.conversation import Client, Conversation


class Lane:
    """The waiting calls of one client."""

    __slots__ = ("bytes", "calls")

    def __init__(self) -> None:
        self.calls: OrderedDict[bytes, Conversation] = OrderedDict()
        self.bytes = 0


class CallQueue:
    """Calls that wait for room.

    Attributes:
        calls, bytes: how many there are, and how many bytes their events have.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.bytes = 0
        self._again: OrderedDict[bytes, Conversation] = OrderedDict()
        self._lanes: OrderedDict[Client, Lane] = OrderedDict()  # whose turn it is next comes first

    def __len__(self) -> int:
        return self.calls

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
        lane.calls[conversation.number] = conversation
        lane.bytes += len(conversation.event)
        self.calls += 1
        self.bytes += len(conversation.event)

    def put_first(self, conversation: Conversation) -> None:
        """Let a call be the next; it has had its turn once."""
        self._again[conversation.number] = conversation
        self._again.move_to_end(conversation.number, last=False)
        self.calls += 1
        self.bytes += len(conversation.event)

    def pop(self) -> Conversation:
        """Take the next call: the oldest of the client whose turn it is, which then comes after all others."""
        if self._again:
            _, conversation = self._again.popitem(last=False)
        else:
            client, lane = next(iter(self._lanes.items()))
            _, conversation = lane.calls.popitem(last=False)
            lane.bytes -= len(conversation.event)
            if lane.calls:
                self._lanes.move_to_end(client)
            else:
                del self._lanes[client]
        self.calls -= 1
        self.bytes -= len(conversation.event)
        return conversation

    def remove(self, conversation: Conversation) -> None:
        """Take one call out, wherever it stands. Its client must still be known."""
        self.calls -= 1
        self.bytes -= len(conversation.event)
        if self._again.pop(conversation.number, None) is not None:
            return
        client = conversation.client
        assert client is not None
        lane = self._lanes[client]
        del lane.calls[conversation.number]
        lane.bytes -= len(conversation.event)
        if not lane.calls:
            del self._lanes[client]
