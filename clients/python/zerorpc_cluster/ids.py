"""Ids that tell the events of one client apart, and its calls from those of every other client."""

import itertools
import os
from typing import Self

from zerorpc_cluster import events


class Ids:
    """Ids for calls, each of `events.ID_BYTES`, that no other client uses.

    Threads share them; a generator would fail when two threads advance it at once.
    """

    def __init__(self) -> None:
        self._prefix = os.urandom(events.ID_BYTES - 8)
        self._numbers = itertools.count()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        return self._prefix + next(self._numbers).to_bytes(8, "big")
