"""The worker's server: builds the message loop, starts the threads that run it, and watches from the main thread."""

import logging
import os
import platform
import time
from collections.abc import Callable, Iterable

from cluster.runtime.curve_files import read_public, read_secret
from cluster.runtime.settings import ConfigError
from cluster.wire import protocol
from cluster.wire.protocol import WorkerDescription
from worker.jobs.counters import WorkerCounters
from worker.jobs.hosted_models import HostedModels
from worker.loop.connection import BrokerConnection
from worker.loop.leadership import LEADER_TIMEOUT_S, Leadership
from worker.loop.load_orders import LoadOrders
from worker.loop.message_loop import POLL_MS, MessageLoop
from worker.loop.session import BrokerSession, WorkerState
from worker.loop.watchdog import Watchdog
from worker.models.loadable import LoadableModules
from worker.models.loaded_model import LoadedModel
from worker.settings import WorkerSettings
from zmtp.curve import CurveKeys

log = logging.getLogger(__name__)


def _keys(settings: WorkerSettings) -> tuple[CurveKeys | None, bytes]:
    """Return this worker's keys and the broker's key; None if it has none.

    Raises:
        ConfigError: if only one is set, or a file is wrong.
    """
    if bool(settings.curve_secret) != bool(settings.broker_key):
        missing = "WORKER_BROKER_KEY" if settings.curve_secret else "WORKER_CURVE_SECRET"
        raise ConfigError(
            f"{missing} is not set: a worker with keys needs its own secret key and the broker's public key"
        )
    if not settings.curve_secret:
        return None, b""
    return (
        read_secret("WORKER_CURVE_SECRET", settings.curve_secret),
        read_public("WORKER_BROKER_KEY", settings.broker_key),
    )


class Server:
    """Serves a worker's models to the broker."""

    def __init__(self, settings: WorkerSettings, counters: WorkerCounters, loadable: LoadableModules) -> None:
        """Build; `serve` serves.

        Raises:
            ConfigError: if the settings of the keys are wrong.
        """
        self._settings = settings
        self._hosted = HostedModels(counters, expose_tracebacks=settings.expose_tracebacks)
        self._connection = BrokerConnection(settings.broker, *_keys(settings), busy_poll_us=settings.busy_poll_us)
        self._session = BrokerSession(self._connection, counters, self._describe)
        self._leadership = Leadership()
        self._orders = LoadOrders(self._connection, self._session, self._hosted, self._leadership, loadable)
        self._loop = MessageLoop(
            self._connection, self._session, self._hosted, self._orders, self._leadership, settings.drain_timeout_s
        )
        self._watchdog = Watchdog()
        self._failure: BaseException | None = None  # the exception that ended the loop

    @property
    def signal_fd(self) -> int:
        """The file descriptor to which Python writes a byte for each signal (`signal.set_wakeup_fd`)."""
        return self._connection.signal_fd

    @property
    def state(self) -> WorkerState:
        """What the worker does at present."""
        return self._session.state

    @property
    def turned_s(self) -> float:
        """When the message loop last went round, in monotonic seconds."""
        return self._loop.turned_s

    def stop(self) -> None:
        """Drain, then stop; stop at once if called again. For signal handlers: it only notes the request."""
        self._loop.stop()

    def serve(self, models: Iterable[LoadedModel], keep_signals: Callable[[str], None]) -> None:
        """Serve until `stop`. For the main thread, which runs no model, so that it can always handle signals.

        Args:
            models: the configured models. Each is loaded when its turn comes.
            keep_signals: makes signals call `stop`; called with who may have prevented it, after each load.

        Raises:
            RefusedError: if the broker refuses this worker.
        """
        for model in models:
            self._hosted.add(model, is_configured=True)
            keep_signals(model.description.qualified_name)
        self._loop.start()
        self._leadership.start(1 + self._hosted.slots, self._lead)
        loads_seen = self._orders.ended
        while not self._leadership.over.wait(LEADER_TIMEOUT_S if self._loop.running else POLL_MS / 1000):
            now_s = time.monotonic()
            self._leadership.check_leader(now_s)
            if loads_seen != self._orders.ended:
                loads_seen = self._orders.ended
                keep_signals("a loaded model")
            self._watchdog.check(tuple(self._loop.running), self._orders.timeout_s, now_s)
        self._watchdog.close()
        if self._failure is not None:
            raise self._failure
        self._connection.send([protocol.BYE])
        unanswered = self._session.registration.unanswered
        if unanswered:
            log.warning("stopping with %d calls unanswered", len(unanswered))

    def close(self) -> None:
        """Let the last messages leave, then close. May be called twice."""
        self._connection.close()

    def _lead(self, term: int) -> None:
        """Run the loop until it ends or another thread leads."""
        try:
            job = self._loop.run(term)
        except BaseException as error:
            self._failure = error
            job = None
        if job is None:
            self._leadership.over.set()
        else:
            self._loop.hand_back(job)

    def _describe(self, worker_id: str) -> WorkerDescription:
        return WorkerDescription(
            protocol=protocol.VERSION,
            id=worker_id,
            host=platform.node(),
            pid=os.getpid(),
            metrics_address=self._settings.advertised_address(),
            models=self._hosted.descriptions,
            loads=True,
        )
