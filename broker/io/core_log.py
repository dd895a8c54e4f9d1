"""Logs what the core and the routers report, at a bounded rate: a peer must not be able to fill the disk."""

import logging
from collections.abc import Iterable, Sized

from broker.core.core import Core
from broker.io.process import descriptor_limit
from zmtp.errors import PeerError

log = logging.getLogger(__name__)

MAX_LINES_PER_TICK = 10
"""Lines about workers and models that are logged at one tick; the rest is only counted."""

_BAD_FRAMES_INTERVAL_S = 1.0
_FULL_SOCKETS_INTERVAL_S = 60.0
_MISPLACED_INTERVAL_S = 60.0


class CoreLog:
    """Logs the notes and the bad frames of a core."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._logged_s = float("-inf")
        self._logged_bad_frames = 0
        self._peer_errors: dict[str, str] = {}  # the last text for each reason since the last line
        self._full_logged_s = float("-inf")
        self._misplaced_logged_s = float("-inf")
        self._logged_pauses = 0

    def log_notes(self) -> None:
        """Log the lines that the core has produced."""
        notes = self._core.outbox.take_notes()
        for note in notes[:MAX_LINES_PER_TICK]:
            log.info(note.text, extra={name: value for name, value in note.fields.items() if value})
        if len(notes) > MAX_LINES_PER_TICK:
            log.info("... and %d more lines of this kind", len(notes) - MAX_LINES_PER_TICK)

    def log_bad_frames(self, peer_errors: Iterable[PeerError], now_s: float) -> None:
        """Count connections that were closed for what the peer did; log bad frames at most once a second.

        An event of a conversation that has ended is counted alone: a stock client sends one after most streams.
        """
        for error in peer_errors:
            self._core.counters.bad_frames[error.reason] += 1
            self._peer_errors[error.reason] = f"; a connection was closed: {error}"
        reasons = self._core.counters.bad_frames
        total = reasons.total() - reasons["unknown_conversation"]
        if total > self._logged_bad_frames and now_s - self._logged_s >= _BAD_FRAMES_INTERVAL_S:
            count, so_far = total - self._logged_bad_frames, dict(+reasons)
            log.warning("%d bad frames dropped; so far: %s%s", count, so_far, "".join(self._peer_errors.values()))
            self._logged_bad_frames = total
            self._logged_s = now_s
            self._peer_errors.clear()

    def log_misplaced_servers(self, identities: Sized, now_s: float) -> None:
        """Log, at most once a minute, that servers have connected to the address for clients."""
        if len(identities) and now_s - self._misplaced_logged_s >= _MISPLACED_INTERVAL_S:
            log.warning("a ZeroRPC server has connected to BROKER_FRONTEND; connect it to BROKER_BACKEND instead")
            self._misplaced_logged_s = now_s

    def log_full_sockets(self, now_s: float) -> None:
        """Log, at most once a minute, that a socket has had all the connections that it may have."""
        counts = self._core.counters
        pauses = counts.accept_pauses.total()
        if pauses > self._logged_pauses and now_s - self._full_logged_s >= _FULL_SOCKETS_INTERVAL_S:
            log.warning(
                "no descriptor is left for further connections, which wait until one ends; raise the limit of open "
                "files (ulimit -n, now %d); connections: %s",
                descriptor_limit(),
                dict(counts.connections),
            )
            self._logged_pauses = pauses
            self._full_logged_s = now_s
