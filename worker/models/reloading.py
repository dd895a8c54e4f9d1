"""Loads a model while the process runs, from the code that is on disk at that time."""

import sys

from worker.models import own_metrics
from worker.models.adapting import adapt
from worker.models.entry import ModelEntry
from worker.models.finding import find_class
from worker.models.loaded_model import LoadedModel

_NEVER_RELOADED = frozenset({"worker", "cluster", "ml_model_abc", "ml_base"})
"""Packages that must not be imported twice, because the worker recognizes a model by its base class from them."""


def load_from_disk(entry: ModelEntry) -> LoadedModel:
    """Make a model from its code as it is on disk now, also if its module was imported before.

    In that case all modules of the module's package are imported again. Models that are loaded already keep the modules
    that they came from. If loading fails, `sys.modules` is restored.

    Raises:
        ConfigError: if a module or class is missing, the class is not a model, or its metadata cannot be served.
        Exception: whatever the model's constructor raises.
    """
    with own_metrics.kept_on_failure():
        return _load_from_disk(entry)


def _load_from_disk(entry: ModelEntry) -> LoadedModel:
    package = entry.module_name.rpartition(".")[0] or entry.module_name
    if entry.module_name not in sys.modules or package.partition(".")[0] in _NEVER_RELOADED:
        return adapt(entry, find_class(entry)())
    # Copies of the dictionary, because running models may import something meanwhile.
    stale = {name: module for name, module in sys.modules.copy().items() if f"{name}.".startswith(f"{package}.")}
    for name in stale:
        del sys.modules[name]
    try:
        return adapt(entry, find_class(entry)())
    except BaseException:
        for name in [name for name in sys.modules.copy() if f"{name}.".startswith(f"{package}.")]:
            del sys.modules[name]
        sys.modules.update(stale)
        for name, module in stale.items():
            parent, _, child = name.rpartition(".")
            if parent in sys.modules:
                setattr(sys.modules[parent], child, module)
        raise
