"""Loads models that the broker orders, one after the other, in a thread of its own. Calls go on meanwhile."""

import logging
import os
import signal
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue

import msgpack

from cluster.runtime.settings import ConfigError
from cluster.runtime.threads import ServerThread
from worker.jobs.calls import Registration
from worker.models.entry import parse_entry
from worker.models.gevent_checks import PatchedError
from worker.models.installed import InstalledPackages
from worker.models.loadable import LoadableModules
from worker.models.loaded_model import LoadedModel
from worker.models.reloading import load_from_disk

log = logging.getLogger(__name__)

MAX_TEXT = 2000
"""Longest reason why a model could not be loaded, in characters."""


@dataclass(frozen=True, slots=True)
class LoadResult:
    """The result of an order to load a model.

    Attributes:
        registration: the registration in which the order came.
        number: of the order.
        model: the loaded model; None if loading failed.
        error: why loading failed.
    """

    registration: Registration
    number: bytes
    model: LoadedModel | None
    error: str = ""


class Loader:
    """Loads models.

    Attributes:
        unfinished: how many orders have no result that was taken.
    """

    def __init__(self, wake: Callable[[], None], loadable: LoadableModules) -> None:
        """Build; the thread starts with the first order.

        Args:
            wake: called when there is a result.
            loadable: what may be imported.
        """
        self._results: deque[LoadResult] = deque()
        self._wake = wake
        self._loadable = loadable
        self.unfinished = 0
        self._orders: SimpleQueue[tuple[Registration, bytes, bytes]] = SimpleQueue()
        self._thread: ServerThread | None = None
        self._installed = InstalledPackages()

    def load(self, registration: Registration, number: bytes, entry: bytes) -> None:
        """Order a model.

        Args:
            registration: the registration in which the order came.
            number: of the order.
            entry: the model's entry, as msgpack.
        """
        self.unfinished += 1
        self._orders.put((registration, number, entry))
        if self._thread is None:
            # A daemon: a constructor that never returns must not keep the process from ending.
            self._thread = ServerThread(target=self._run, name="loader", daemon=True)
            self._thread.start()

    def take(self) -> LoadResult | None:
        """The next result; None if there is none."""
        if not self._results:
            return None
        self.unfinished -= 1
        return self._results.popleft()

    def _run(self) -> None:
        while True:
            registration, number, entry = self._orders.get()
            self._results.append(self._load(registration, number, entry))
            self._wake()

    def _load(self, registration: Registration, number: bytes, entry: bytes) -> LoadResult:
        if not registration.is_live:
            return LoadResult(registration, number, None, "the registration in which the order came has ended")
        try:
            self._installed.refresh()
            parsed = parse_entry(msgpack.unpackb(entry))
            self._loadable.check(parsed)
            model = load_from_disk(parsed)
        except PatchedError as error:
            log.critical("%s. This process ends, so that another can serve", error)
            os.kill(os.getpid(), signal.SIGTERM)
            return LoadResult(registration, number, None, str(error)[:MAX_TEXT])
        except ConfigError as error:
            return LoadResult(registration, number, None, str(error)[:MAX_TEXT])
        except BaseException as error:  # a constructor may even exit, and this thread has other orders
            log.exception("a model could not be loaded")
            return LoadResult(registration, number, None, f"{type(error).__name__}: {error}"[:MAX_TEXT])
        return LoadResult(registration, number, model)
