"""Loads every configured model as a worker does, and ends with the reason if one cannot be loaded.

The build of an image runs it: what is missing in the image then ends the build, and not the worker much later.
"""

import sys
import traceback

from cluster.runtime.settings import ConfigError
from worker.models.configuration import configured_entries
from worker.models.manager import ModelManager


def main() -> None:
    """Load the models, one line for each."""
    try:
        for model in ModelManager(configured_entries()).load():
            name, version = model.description.key
            print(f"ok  {name} {version}", flush=True)
    except ConfigError as error:
        sys.exit(f"error: {error}")
    except Exception as error:
        traceback.print_exc()
        sys.exit(f"error: a model cannot be loaded here: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
