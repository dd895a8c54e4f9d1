"""Reads the entries of the configuration class that `APP_SETTINGS` names."""

import importlib
import os
from collections.abc import Mapping
from types import ModuleType

from cluster.runtime.settings import ConfigError
from worker.models.entry import ModelEntry, parse_entry

DEFAULT_CONFIG = "ProdConfig"

IMAGE_SETTING = "APP_SETTINGS_DEFAULT"
"""What an image sets in place of `DEFAULT_CONFIG`: compose removes `APP_SETTINGS` itself if its user has set none."""

DEFAULT_MODULE = "worker.config"


def configured_entries(environ: Mapping[str, str] = os.environ) -> list[ModelEntry]:
    """The entries of the configuration.

    Raises:
        ConfigError: if there is no class of the name that `APP_SETTINGS` has, or one of its entries is wrong.
    """
    config = _config_class(environ.get("APP_SETTINGS") or environ.get(IMAGE_SETTING) or DEFAULT_CONFIG)
    where = f"{config.__module__}.{config.__qualname__}.models"
    models = getattr(config, "models", None)
    if not isinstance(models, list) or not models:
        raise ConfigError(f"{where} should be a list of at least one entry")
    return [parse_entry(entry, f"{where}[{position}]") for position, entry in enumerate(models)]


def _config_class(name: str) -> type:
    """Import the configuration: `Class` of `worker.config`, `module:Class`, or `module:` for the only one there."""
    module_name, colon, class_name = name.rpartition(":")
    if not colon:
        module_name = DEFAULT_MODULE
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a mistake in the file may raise anything
        raise ConfigError(
            f"APP_SETTINGS={name!r}: {module_name or DEFAULT_MODULE} cannot be imported: "
            f"{type(error).__name__}: {error}"
        ) from error
    if colon and not class_name:
        return _only_config(module)
    config = getattr(module, class_name, None)
    if not isinstance(config, type):
        known = [key for key, value in vars(module).items() if isinstance(value, type) and hasattr(value, "models")]
        raise ConfigError(
            f"APP_SETTINGS={name!r} is not a configuration; the configurations are {', '.join(known) or 'none'}"
        )
    return config


def _only_config(module: ModuleType) -> type:
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and value.__module__ == module.__name__
        and isinstance(getattr(value, "models", None), list)
    ]
    if len(found) != 1:
        known = ", ".join(one.__name__ for one in found) or "none"
        raise ConfigError(
            f"{module.__name__} should have one class with a list `models`; it has {known}: name one, as in "
            f"APP_SETTINGS={module.__name__}:{found[0].__name__ if found else 'Mine'}"
        )
    return found[0]
