"""The compiled core: extension modules that take the place of Python modules (`make up COMPILED=1`).

`scripts/compile_core.py` makes them in a folder of their own, so that the Python files alone decide what runs unless
`CLUSTER_COMPILED` names that folder. The broker and the worker call `use` before they import anything else.
"""

import os
import sys
from collections.abc import Sequence
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

VARIABLE = "CLUSTER_COMPILED"


class _Finder:
    """Finds the modules of one folder, whose paths are their names."""

    def __init__(self, folder: Path) -> None:
        self.paths: dict[str, Path] = {}
        for suffix in reversed(EXTENSION_SUFFIXES):
            for path in folder.rglob(f"*{suffix}"):
                name = ".".join(path.relative_to(folder).parts).removesuffix(suffix)
                self.paths[name] = path

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how to load a module; None if the folder does not have it."""
        found = self.paths.get(fullname)
        return spec_from_file_location(fullname, found) if found is not None else None


def use() -> None:
    """Import the modules of the folder that `CLUSTER_COMPILED` names instead of the Python modules of their names.

    Raises:
        RuntimeError: if the folder has none, or the environment names one too late.
    """
    folder = os.environ.get(VARIABLE)
    if not folder or any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    finder = _Finder(Path(folder))
    if not finder.paths:
        raise RuntimeError(f"{VARIABLE}={folder!r} has no extension modules for this Python: run make up COMPILED=1")
    if late := sorted(finder.paths.keys() & sys.modules.keys()):
        raise RuntimeError(f"{VARIABLE} came too late for {', '.join(late)}")
    sys.meta_path.insert(0, finder)


def is_used() -> bool:
    """Whether this process imports compiled modules."""
    return any(isinstance(finder, _Finder) for finder in sys.meta_path)
