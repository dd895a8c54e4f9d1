"""Unread streams: while streams of others wait, the client with the most open ones has to give up those it leaves."""

from __future__ import annotations

from collections import Counter

from broker.core import errors
from broker.core.state.call_table import CallTable
from broker.core.state.calls import STREAMING, Call, Client
from broker.core.state.conversations import Conversations
from broker.core.state.pool import WorkerPool

UNREAD_S = 10.0
"""A stream whose client has had no free slot for this long, in seconds, is unread."""

_CHECK_INTERVAL_S = 0.25


class UnreadStreams:
    """Ends unread streams when clients that have fewer streams wait for room."""

    def __init__(self, calls: CallTable, conversations: Conversations) -> None:
        self._calls = calls
        self._conversations = conversations
        self._checked_s = float("-inf")

    def make_room_if_due(self, now_s: float) -> None:
        """End as many unread streams of each pool as streams wait for it."""
        if now_s - self._checked_s < _CHECK_INTERVAL_S:
            return
        self._checked_s = now_s
        waiting = [pool for pool, queue in self._calls.queues.items() if pool.is_for_streams and queue]
        if waiting:
            unread = self._calls.unread(now_s - UNREAD_S)
            for pool in waiting:
                self._make_room(pool, [call for call in unread if call.target.pool is pool], now_s)

    def _make_room(self, pool: WorkerPool, unread: list[Call], now_s: float) -> None:
        """Move streams, one by one, from the client that has the most to the client that waits and has the fewest."""
        shares = self._calls.shares[pool]
        takers = []  # what the client of each waiting stream has before it gets that one
        taken: Counter[Client] = Counter()
        for call in self._calls.queues[pool]:
            takers.append(shares.of(call.owner) + taken[call.owner])
            taken[call.owner] += 1
        takers.sort()
        givers = []  # what the client of each unread stream has before it gives that one up
        given: Counter[Client] = Counter()
        are_ending = 0
        for call in unread:
            if call.state is STREAMING:
                givers.append((shares.of(call.owner) - given[call.owner], call))
                given[call.owner] += 1
            else:
                are_ending += self._calls.is_with_its_worker(call)
        givers.sort(key=_first, reverse=True)
        for (has, call), will_have in zip(givers, takers[are_ending:], strict=False):
            if has <= will_have + 1:
                break
            self._end(call, now_s)

    def _end(self, call: Call, now_s: float) -> None:
        self._conversations.cancel(call)
        self._calls.fail(call, *errors.stream_unread(now_s - call.full_since_s), now_s)


def _first(pair: tuple[int, Call]) -> int:
    return pair[0]
