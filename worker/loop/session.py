"""The worker's registration with the broker: READY and WELCOME, signs of life in both directions, and draining.

Knows no socket and no job; time is an argument. docs/protocol.md has the rules.
"""

import logging
import os
import platform
import secrets
from collections.abc import Callable
from enum import StrEnum

from cluster.wire import protocol
from cluster.wire.descriptions import write_description
from cluster.wire.protocol import WorkerDescription
from worker.jobs.calls import Registration
from worker.jobs.counters import WorkerCounters
from worker.loop.connection import Connection

log = logging.getLogger(__name__)

READY_INTERVAL_S = 0.5
"""Seconds between two READYs until the broker accepts one."""


class WorkerState(StrEnum):
    """What a worker does at present, in the words of `/readyz`."""

    LOADING = "loading its models"
    CONNECTING = "not registered with the broker"
    READY = "ready"
    DRAINING = "draining"


class BrokerSession:
    """One registration after the other, with what the broker has acknowledged of the present one.

    Attributes:
        registration: the present one.
        is_registered: whether the broker has accepted READY.
        state: of the worker.
        last_received_s: when the last message of the broker came, in monotonic seconds.
    """

    def __init__(
        self, connection: Connection, counters: WorkerCounters, describe: Callable[[str], WorkerDescription]
    ) -> None:
        """Build; `register` begins the first registration.

        Args:
            connection: to the broker.
            counters: show whether the worker is registered.
            describe: makes the worker's description for READY from its id.
        """
        self.registration = Registration("")
        self.state = WorkerState.LOADING
        self.last_received_s = self._sent_ready_s = self._sent_ping_s = float("-inf")
        self._connection = connection
        self._counters = counters
        self._describe = describe
        self.is_registered = False
        self._may_be_known = False  # a READY has left, so the broker may send work
        self._is_draining = False
        self._drain_acknowledged = False

    def register(self, reason: str, now_s: float) -> None:
        """End the present registration, and begin one with a new id on a new socket."""
        self.registration.is_live = False
        self.registration = Registration(f"{platform.node()}-{os.getpid()}-{secrets.token_hex(4)}")
        self.is_registered = self._may_be_known = False
        self._counters.is_connected = False
        self.state = WorkerState.DRAINING if self._is_draining else WorkerState.CONNECTING
        self._connection.connect()
        self.last_received_s = now_s
        self._sent_ready_s = float("-inf")
        log.info("registering with %s as %s (%s)", self._connection.address, self.registration.id, reason)

    def on_welcome(self) -> None:
        """The broker has accepted READY."""
        if not self.is_registered:
            log.info("registered as %s", self.registration.id)
        self.is_registered = True
        self._counters.is_connected = True
        self.state = WorkerState.READY

    def send_due(self, now_s: float) -> None:
        """Send READY or PING if it is due."""
        if self._is_draining:
            # A broker that cannot be reached expects no answers.
            self._may_be_known = self._may_be_known and self._connection.send([protocol.PING])
        elif not self.is_registered:
            if now_s - self._sent_ready_s >= READY_INTERVAL_S:
                ready = [protocol.READY, write_description(self._describe(self.registration.id))]
                if self._connection.send(ready):
                    self._sent_ready_s = now_s
                    self._may_be_known = True
        elif now_s - self._sent_ping_s >= protocol.WORKER_PING_INTERVAL_S:
            self._sent_ping_s = now_s
            self._connection.send([protocol.PING])

    def start_draining(self) -> None:
        """Ask the broker for no more work."""
        log.info("draining: %d calls are in flight", len(self.registration.unanswered))
        self._is_draining = True
        self.state = WorkerState.DRAINING
        self._connection.send([protocol.DRAIN])

    def on_drain(self) -> None:
        """The broker has acknowledged DRAIN: it sends no more work."""
        self._drain_acknowledged = True

    @property
    def has_drained(self) -> bool:
        """Whether every call is answered and none can come any more."""
        # Until the broker has acknowledged DRAIN, work may be on its way.
        return not self._may_be_known or (self._drain_acknowledged and not self.registration.unanswered)
