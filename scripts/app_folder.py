"""A folder of the user's own with the models to host: `make up APP=path/to/folder`.

It has `models.py`, in which a class lists the models, as in `worker/config.py`, and perhaps `requirements.txt`. So an
update of the cluster changes none of the user's files.
"""

import importlib
import os
import sys
from pathlib import Path

from cluster.runtime.settings import ConfigError

MODULE = "models"


def use_app_folder() -> None:
    """Let this process, and all that it starts, find the modules of `APP`, and set `APP_SETTINGS`.

    Raises:
        ConfigError: if `APP` is set and is no such folder.
    """
    app = os.environ.get("APP")
    if not app:
        return
    folder = Path(app).resolve()
    if not (folder / f"{MODULE}.py").is_file():
        raise ConfigError(
            f"APP={app!r} is wrong: it should be a folder with models.py, in which a class lists the models"
        )
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
    settings = os.environ.get("APP_SETTINGS")
    if not settings:
        os.environ["APP_SETTINGS"] = f"{MODULE}:{_only_configuration(app)}"
    elif ":" not in settings:
        os.environ["APP_SETTINGS"] = f"{MODULE}:{settings}"


def _only_configuration(app: str) -> str:
    try:
        module = importlib.import_module(MODULE)
    except Exception as error:  # a mistake in the file may raise anything
        raise ConfigError(f"APP={app!r}: models.py cannot be imported: {type(error).__name__}: {error}") from error
    found = [
        name
        for name, value in vars(module).items()
        if isinstance(value, type) and value.__module__ == MODULE and isinstance(getattr(value, "models", None), list)
    ]
    if len(found) != 1:
        known = ", ".join(found) or "none"
        raise ConfigError(
            f"APP={app!r}: models.py should have one class with a list `models`; it has {known}: name one, as in "
            f"APP_SETTINGS={found[0] if found else 'Mine'}"
        )
    return found[0]
