"""Which modules an order of the broker may import: an import runs code before anything shows that it is a model."""

import re
from collections.abc import Collection, Iterable
from importlib.metadata import Distribution, distributions, entry_points, packages_distributions
from importlib.util import find_spec

from cluster.runtime.settings import ConfigError
from worker.models.entry import ModelEntry

BASES = frozenset({"ml-model-abc", "ml-base"})
"""Distributions of the base class. A distribution that depends on one of them has models."""

ENTRY_POINTS = "ml_model_abc.models"
"""The group of entry points by which a distribution may declare packages with models."""

ANY = "*"

_REQUIREMENT_NAME = re.compile(r"[A-Za-z0-9._-]+")


class LoadableModules:
    """The packages from which orders may load models."""

    def __init__(self, packages: Collection[str] = (), configured: Iterable[str] = ()) -> None:
        """Build.

        Args:
            packages: modules and packages (`WORKER_LOADABLE`); `*` stands for all. If there are none, those of the
                installed distributions that depend on the base class or declare `ENTRY_POINTS`.
            configured: modules of the configuration, whose packages may always be loaded from.
        """
        self._packages = frozenset(packages)
        self._configured = {module.partition(".")[0] for module in configured}

    def check(self, entry: ModelEntry) -> None:
        """Refuse an entry whose module may not be imported. A module that does not exist is left to the import.

        Raises:
            ConfigError: the text says from where models may be loaded.
        """
        if ANY in self._packages:
            return
        packages = self._configured | (self._packages or _packages_with_models())
        if any(f"{entry.module_name}.".startswith(f"{package}.") for package in packages):
            return
        if not _exists(entry.module_name.partition(".")[0]):
            return
        raise ConfigError(
            f"{entry.label}: this worker loads models only from {', '.join(sorted(packages)) or 'nothing'}: install a "
            "package that depends on ml-model-abc, or add the module to WORKER_LOADABLE"
        )


def _exists(top_level: str) -> bool:
    try:
        return find_spec(top_level) is not None  # imports nothing, as the name has no dot
    except ValueError:  # no name at all, or a module without a spec
        return True


def _packages_with_models() -> set[str]:
    """Return the packages of the distributions that have models."""
    with_models = {_normalized(one.name) for one in distributions() if _depends_on_base(one)}
    found = {name.replace("-", "_") for name in with_models}  # some editable installations do not list their packages
    found |= {
        package
        for package, names in packages_distributions().items()
        if not with_models.isdisjoint(map(_normalized, names))
    }
    return found | {point.module for point in entry_points(group=ENTRY_POINTS)}


def _depends_on_base(distribution: Distribution) -> bool:
    names = (_REQUIREMENT_NAME.match(requirement) for requirement in distribution.requires or ())
    return any(name is not None and _normalized(name[0]) in BASES for name in names)


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
