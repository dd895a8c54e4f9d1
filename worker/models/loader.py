"""Loads models on the broker's order, one after the other, in a thread of its own: calls go on meanwhile."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue

import msgpack

from cluster.runtime.settings import ConfigError
from worker.jobs.job import Registration
from worker.models.installed import Installed
from worker.models.models import HostedModel, load_anew, read_entry

log = logging.getLogger(__name__)

MAX_TEXT = 2000
"""Longest reason why a model could not be loaded, in characters."""


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What became of an order to load a model.

    Attributes:
        registration: whose order it is.
        number: of the order.
        model: what was loaded; None if it could not be.
        error: why not.
    """

    registration: Registration
    number: bytes
    model: HostedModel | None
    error: str = ""


class Loader:
    """Loads models.

    Attributes:
        unfinished: how many orders have been given, and not yet taken.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        """Build; the thread starts with the first order.

        Args:
            wake: called when there is something to take.
        """
        self._done: deque[LoadResult] = deque()
        self._wake = wake
        self.unfinished = 0
        self._orders: SimpleQueue[tuple[Registration, bytes, bytes]] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._installed = Installed()

    def load(self, registration: Registration, number: bytes, entry: bytes) -> None:
        """Load a model from an entry, msgpack of what a configuration has."""
        self.unfinished += 1
        self._orders.put((registration, number, entry))
        if self._thread is None:
            # A daemon: a constructor that never returns must not keep the process from ending.
            self._thread = threading.Thread(target=self._run, name="loader", daemon=True)
            self._thread.start()

    def take(self) -> LoadResult | None:
        """The next that has been carried out; None if there is none."""
        if not self._done:
            return None
        self.unfinished -= 1
        return self._done.popleft()

    def _run(self) -> None:
        while True:
            registration, number, entry = self._orders.get()
            self._done.append(_load(registration, number, entry, self._installed))
            self._wake()


def _load(registration: Registration, number: bytes, entry: bytes, installed: Installed) -> LoadResult:
    if not registration.live:
        return LoadResult(registration, number, None, "the broker has forgotten this worker")
    try:
        installed.refresh()
        model = load_anew(read_entry(msgpack.unpackb(entry)))
    except ConfigError as error:
        return LoadResult(registration, number, None, str(error)[:MAX_TEXT])
    except BaseException as error:  # a constructor may even exit, and this thread is to load others
        log.exception("a model could not be loaded")
        return LoadResult(registration, number, None, f"{type(error).__name__}: {error}"[:MAX_TEXT])
    return LoadResult(registration, number, model)
