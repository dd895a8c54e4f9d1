"""Carries out the broker's orders to load and unload models: LOAD and UNLOAD."""

import logging

from cluster.wire import protocol
from cluster.wire.descriptions import write_description
from cluster.wire.protocol import Version, model_source
from worker.jobs.hosted_models import HostedModels
from worker.loop.connection import Connection
from worker.loop.leadership import Leadership
from worker.loop.loader import Loader
from worker.loop.session import BrokerSession
from worker.loop.watchdog import Watchdog
from worker.models.loadable import LoadableModules
from worker.models.loaded_model import LoadedModel

log = logging.getLogger(__name__)

LOADING_TIMEOUT_S = 600.0
"""How long a model that is being loaded may hold the interpreter's lock, in seconds, before the process ends."""


class LoadOrders:
    """The orders of the broker to this worker. Only the leader uses it, apart from `timeout_s` and `ended`.

    Attributes:
        loader: loads the models.
        ended: how many loads have ended, well or not. Any thread may read it.
    """

    def __init__(
        self,
        connection: Connection,
        session: BrokerSession,
        hosted: HostedModels,
        leadership: Leadership,
        loadable: LoadableModules,
    ) -> None:
        self._connection = connection
        self._session = session
        self._hosted = hosted
        self._leadership = leadership
        self.loader = Loader(connection.wake, loadable)
        self.ended = 0

    @property
    def timeout_s(self) -> float:
        """How long Python code may be held up without the process ending, in seconds."""
        return max(self._hosted.longest_timeout_s, LOADING_TIMEOUT_S if self.loader.unfinished else 0.0)

    def load(self, number: bytes, entry: bytes) -> None:
        """Begin to load a model."""
        Watchdog.arm(max(self._hosted.longest_timeout_s, LOADING_TIMEOUT_S))
        self.loader.load(self._session.registration, number, entry)

    def host_loaded(self) -> None:
        """Host the models that have been loaded, and report each to the broker."""
        while (result := self.loader.take()) is not None:
            self.ended += 1
            if result.registration is not self._session.registration:
                log.warning("dropped a loaded model: the registration in which the order came has ended")
                continue
            error = result.error or self._conflict(result.model)
            if result.model is None or error:
                log.warning("a model was not loaded: %s", error)
                self._connection.send([protocol.FAILED, result.number, error.encode("utf-8", "replace")])
                continue
            description = self._hosted.add(result.model)
            self._leadership.grow_to(1 + self._hosted.slots)
            log.info("loaded %s %s", *description.key)
            self._connection.send([protocol.LOADED, result.number, write_description(description)])

    def unload(self, number: bytes, name: bytes, version: bytes) -> None:
        """Stop hosting a model, and report it to the broker."""
        self._hosted.remove((name.decode(), Version.read(version.decode())))
        log.info("unloaded %s %s", name.decode(), version.decode())
        self._connection.send([protocol.UNLOADED, number])

    def _conflict(self, model: LoadedModel | None) -> str:
        """Why a loaded model cannot be hosted: a model of another class has its name. Empty if it can."""
        owner = self._hosted.get(model.description.key) if model is not None else None
        if model is None or owner is None or model_source(owner.entry) == model_source(model.description.entry):
            return ""
        return (
            f"the qualified name {owner.qualified_name!r} and the version {owner.version} are already those of "
            f"{model_source(owner.entry)}: rename the model, or give it another version"
        )
