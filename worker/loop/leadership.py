"""Which thread runs the message loop: the pattern Leader/Followers (Schmidt et al., POSA volume 2).

The thread that leads takes messages from the socket. A quick batch it runs itself, because to wake another thread and
be woken by it costs more than many a model does. Before a slow one it hands the lead over; and should a batch that was
thought quick take long, the lead is taken from it. So the loop goes on whatever a model does, short of holding the
interpreter's lock.
"""

import threading
import time
from collections.abc import Callable

PATIENCE_S = 0.02
"""How long the leader may be away in a model before another leads, in seconds."""


class Leadership:
    """Lets one of several threads lead at a time."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self._lock = threading.Lock()
        self._vacant = threading.Semaphore(0)
        self._lead: Callable[[int], None] = lambda term: None
        self._threads = 0
        self._term = 0  # grows with each change of the leader
        self._away_since_s: float | None = None

    def start(self, threads: int, lead: Callable[[int], None]) -> None:
        """Start the threads, one of which leads at once.

        Args:
            threads: how many: one more than may be away in a model at one time.
            lead: what the leader does, given its term; it returns when it has handed over or lost the lead.
        """
        self._lead = lead
        self.grow_to(threads)
        self._vacant.release()

    def grow_to(self, threads: int) -> None:
        """Have at least so many threads."""
        while self._threads < threads:
            # Daemons: a predict that never returns must not keep the process from ending.
            threading.Thread(target=self._follow, name=f"loop-{self._threads}", daemon=True).start()
            self._threads += 1

    def _follow(self) -> None:
        while True:
            self._vacant.acquire()
            self._lead(self._term)

    def hand_over(self) -> None:
        """Let another lead. For the leader, who must touch nothing of the loop from here on."""
        with self._lock:
            self._change()

    def go_away(self) -> None:
        """The leader begins what should be quick."""
        self._away_since_s = time.monotonic()

    def come_back(self, term: int) -> bool:
        """It has ended; whether this thread still leads."""
        with self._lock:
            if term != self._term:
                return False
            self._away_since_s = None
            return True

    def relieve(self, now_s: float) -> None:
        """Have another lead if the leader has been away for too long. For a thread that never leads."""
        with self._lock:
            if self._away_since_s is not None and now_s - self._away_since_s >= PATIENCE_S:
                self._change()

    def _change(self) -> None:
        self._term += 1
        self._away_since_s = None
        self._vacant.release()
