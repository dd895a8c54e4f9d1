"""A folder of the user's own with the models to host: `make up APP=path/to/folder`.

It has `models.py`, in which a class lists the models, as in `worker/config.py`, and perhaps `requirements.txt`. So an
update of the cluster changes none of the user's files.
"""

import os
import sys
from pathlib import Path

from cluster.runtime.settings import ConfigError
from worker.models.configuration import configured_entries

MODULE = "models"


def app_folder() -> Path | None:
    """Return the folder that `APP` names; None if it is not set.

    Raises:
        ConfigError: if `APP` is set and is no such folder.
    """
    app = os.environ.get("APP")
    if not app:
        return None
    folder = Path(app).resolve()
    if not (folder / f"{MODULE}.py").is_file():
        raise ConfigError(
            f"APP={app!r} is wrong: it should be a folder with models.py, in which a class lists the models"
        )
    return folder


def app_settings() -> str:
    """Return what `APP_SETTINGS` should be for such a folder."""
    settings = os.environ.get("APP_SETTINGS", "")
    return settings if ":" in settings else f"{MODULE}:{settings}"


def use_app_folder() -> None:
    """Let this process, and all that it starts, find the modules of `APP`, and set `APP_SETTINGS`.

    Raises:
        ConfigError: if `APP` is set and is no such folder, or its models.py is wrong.
    """
    folder = app_folder()
    if folder is None:
        return
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
    os.environ["APP_SETTINGS"] = app_settings()
    try:
        configured_entries()
    except ConfigError as error:
        raise ConfigError(f"APP={os.environ['APP']!r}: {error}") from error
