"""Loads the configured models of a worker process when it starts."""

import logging
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from cluster.runtime.settings import ConfigError
from cluster.wire.protocol import ModelKey
from worker.models.adapting import adapt
from worker.models.entry import ModelEntry
from worker.models.finding import find_class, name_of_class
from worker.models.loaded_model import LoadedModel

log = logging.getLogger(__name__)


class ModelManager:
    """The configured models of one worker process."""

    def __init__(self, entries: Iterable[ModelEntry], only: Collection[str] = ()) -> None:
        """Import the classes. `load` makes the models.

        Args:
            entries: of the configuration.
            only: qualified names of the models that this worker hosts (`WORKER_MODELS`); all models if it is empty.

        Raises:
            ConfigError: if a module or class is missing, or a class is not a model. With `only`, the packages of the
                other models need not be installed.
        """
        self._found: list[tuple[ModelEntry, type[Any]]] = []
        names: list[str] = []
        missing: list[ConfigError] = []
        for entry in entries:
            try:
                found = find_class(entry)
            except ConfigError as error:
                if not only:
                    raise
                missing.append(error)
                continue
            name = name_of_class(found)
            names.append(name)
            if not only or name in only:
                self._found.append((entry, found))
        for name in only:
            if name not in names:
                others = f"; another entry cannot be loaded: {missing[0]}" if missing else ""
                raise ConfigError(
                    f"WORKER_MODELS={','.join(only)!r}: the configuration has no model {name!r}; "
                    f"its models are {', '.join(names) or 'none'}{others}"
                )

    def load(self) -> Iterator[LoadedModel]:
        """Make every model, in the order of the configuration. Takes as long as their constructors take.

        Raises:
            ConfigError: if a model's metadata cannot be served, or two have one qualified name and one version.
            Exception: whatever a model's constructor raises.
        """
        entries: dict[ModelKey, ModelEntry] = {}
        for entry, model_class in self._found:
            model = adapt(entry, model_class())
            name, version = key = model.description.key
            if key in entries:
                raise ConfigError(
                    f"{entry.label}: the qualified name {name!r} is already that of another entry, "
                    f"{entries[key].label}, of the same version {version}; drop one entry, rename one model, or give "
                    "it another version"
                )
            entries[key] = entry
            log.info("loaded %s %s (%s)", name, version, entry.label)
            yield model
