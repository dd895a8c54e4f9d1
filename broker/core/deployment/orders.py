"""The LOAD and UNLOAD orders to workers: numbers and sends them. Knows nothing of the reasons for an order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cluster.wire import events, protocol
from cluster.wire.protocol import ModelKey

if TYPE_CHECKING:
    from broker.core.state.outbox import Outbox
    from broker.core.state.pool import Worker


class Orders:
    """Sends orders. A worker's answer names the number of its order."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._last_number = 0

    def load(self, worker: Worker, entry: dict[str, Any]) -> bytes:
        """Order a worker to load a model from a configuration entry. Returns the number of the order."""
        number = self._next_number()
        self._outbox.to_worker(worker.identity, protocol.LOAD, number, events.pack(entry))
        return number

    def unload(self, worker: Worker, key: ModelKey) -> bytes:
        """Order a worker to unload a model version. Returns the number of the order."""
        number = self._next_number()
        name, version = key
        self._outbox.to_worker(worker.identity, protocol.UNLOAD, number, name.encode(), str(version).encode())
        return number

    def _next_number(self) -> bytes:
        self._last_number += 1
        return self._last_number.to_bytes(protocol.NUMBER_BYTES, "big")
