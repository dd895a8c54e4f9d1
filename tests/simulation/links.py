"""Simulated time, and connections as ZeroMQ makes them: in order, slow at will, and either cut or broken.

A connection that is cut delivers nothing and tells nobody; heal it in time, and what was under way arrives after all.
Otherwise the broker's heartbeats give it up, and then all that was under way is lost, on both sides.
"""

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from typing import Protocol


class Agenda:
    """A clock, chance, and what is to happen when."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now_s = 1000.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Have something happen later."""
        heapq.heappush(self._due, (self.now_s + seconds, next(self._order), action))

    def every(self, interval_s: float, action: Callable[[], None]) -> None:
        """Have something happen again and again."""

        def act() -> None:
            action()
            self.after(interval_s, act)

        self.after(interval_s * self.chance.random(), act)

    def run(self, seconds: float) -> None:
        """Let that much time pass."""
        end_s = self.now_s + seconds
        while self._due and self._due[0][0] <= end_s:
            self.now_s, _, action = heapq.heappop(self._due)
            action()
        self.now_s = end_s


class End(Protocol):
    """Who is at an end of a link."""

    def receive(self, link: "Link", frames: list[bytes]) -> None:
        """A message has arrived."""
        ...

    def disconnected(self, link: "Link") -> None:
        """The connection is no more."""
        ...

    def abandoned(self, link: "Link") -> None:
        """The broker has given this end up, and the connection is still there: its calls will not be answered."""
        ...


class Link:
    """One connection between a peer and one of the broker's sockets; `identity` is what the broker calls it."""

    def __init__(self, agenda: Agenda, broker: End, peer: End, *, side: str, identity: bytes, silence_s: float) -> None:
        self.side = side
        self.identity = identity
        self.latency_s = 0.002
        self.is_broken = False
        self.unread = 0  # messages on their way to the peer
        self._agenda = agenda
        self._broker = broker
        self._peer = peer
        self._silence_s = silence_s
        self._cuts = 0
        self._is_cut = False
        self._under_way: dict[str, deque[Callable[[], None]]] = {"up": deque(), "down": deque()}
        self._last_arrival_s = {"up": 0.0, "down": 0.0}

    def to_broker(self, frames: list[bytes]) -> None:
        """The peer sends."""
        self._carry("up", lambda: self._broker.receive(self, frames))

    def to_peer(self, frames: list[bytes]) -> None:
        """The broker sends."""

        def arrive() -> None:
            self.unread -= 1
            self._peer.receive(self, frames)

        self.unread += 1
        self._carry("down", arrive)

    def cut(self) -> None:
        """Nothing comes through from here on; the heartbeats of the broker's socket notice after a while."""
        self._is_cut = True
        self._cuts += 1
        this_cut = self._cuts
        notice_s = self._silence_s * self._agenda.chance.uniform(1.0, 1.3)
        self._agenda.after(notice_s, lambda: self.break_off() if self._is_cut and self._cuts == this_cut else None)

    def heal(self) -> None:
        """What was held up comes through."""
        self._is_cut = False
        for way, messages in self._under_way.items():
            for _ in messages:
                self._deliver_later(way)

    def break_off(self) -> None:
        """The connection ends; what is under way is lost. The peer hears of it when it can."""
        if not self.is_broken:
            self.is_broken = True
            for messages in self._under_way.values():
                messages.clear()
            self._agenda.after(self._agenda.chance.uniform(0, 0.5), lambda: self._peer.disconnected(self))

    def give_up(self) -> None:
        """The broker drops whatever the peer has asked for."""
        self._peer.abandoned(self)

    def _carry(self, way: str, arrive: Callable[[], None]) -> None:
        if not self.is_broken:
            self._under_way[way].append(arrive)
            if not self._is_cut:
                self._deliver_later(way)

    def _deliver_later(self, way: str) -> None:
        latency_s = self.latency_s * self._agenda.chance.uniform(0.5, 1.5)
        # One connection delivers in order, however unequal the delays are.
        self._last_arrival_s[way] = max(self._last_arrival_s[way], self._agenda.now_s + latency_s)
        self._agenda.after(self._last_arrival_s[way] - self._agenda.now_s, lambda: self._deliver(way))

    def _deliver(self, way: str) -> None:
        if not self._is_cut and not self.is_broken and self._under_way[way]:
            self._under_way[way].popleft()()
