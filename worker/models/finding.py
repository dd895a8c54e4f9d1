"""Finds a model's class: imports its module, and checks that the class is a model."""

import importlib
import inspect
import sys
from typing import Any

from ml_model_abc import MLModel

from cluster.runtime.settings import ConfigError
from worker.models.entry import ModelEntry
from worker.models.gevent_checks import check_process


def find_class(entry: ModelEntry) -> type[Any]:
    """Import the class of an entry.

    Raises:
        ConfigError: if the module or the class is missing, or the class is not a model or is abstract.
    """
    try:
        module = importlib.import_module(entry.module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{entry.module_name}.".startswith(f"{error.name}."):
            raise ConfigError(
                f"{entry.label}: there is no module {error.name!r}: install the model's package, "
                "or correct module_name in the configuration"
            ) from error
        raise ConfigError(f"{entry.label}: the import failed: {error}: install what the module needs") from error
    except Exception as error:
        raise ConfigError(
            f"{entry.label}: the import failed: {type(error).__name__}: {error}: correct the module"
        ) from error
    check_process(entry)
    found = getattr(module, entry.class_name, None)
    if found is None:
        raise ConfigError(
            f"{entry.label}: the module has no class {entry.class_name!r}: correct class_name in the configuration"
        )
    if not isinstance(found, type) or not issubclass(found, _model_bases()):
        raise ConfigError(f"{entry.label} is not an MLModel: derive it from ml_model_abc.MLModel")
    if inspect.isabstract(found):
        absent = ", ".join(sorted(getattr(found, "__abstractmethods__", ())))
        raise ConfigError(f"{entry.label} is abstract: define {absent}")
    return found


def name_of_class(model_class: type[Any]) -> str:
    """The qualified name, before a model is made; the name of the class if the property needs what a model loads."""
    name = inspect.getattr_static(model_class, "qualified_name", None)
    if isinstance(name, property):
        try:
            name = object.__new__(model_class).qualified_name
        except Exception:
            name = None
    return name if isinstance(name, str) else model_class.__name__


def _model_bases() -> tuple[type, ...]:
    # A model of the ml-base package has imported that package; this project does not depend on it.
    ml_base = sys.modules.get("ml_base")
    return (MLModel,) if ml_base is None else (MLModel, ml_base.MLModel)
