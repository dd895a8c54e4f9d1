"""The compiled core: extension modules that take the place of Python modules (`make up COMPILED=1`).

`scripts/compile_core.py` makes them in a folder of their own, so that the Python files alone decide what runs unless
`CLUSTER_COMPILED` names that folder. The broker and the worker call `use` before they import anything else.
"""

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

VARIABLE = "CLUSTER_COMPILED"

MANIFEST = "sources.json"
"""The file in that folder that tells what the modules were made from: a hash for each file."""

REPOSITORY = Path(__file__).resolve().parents[2]


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


class _State:
    """What has become of `use` in this process.

    Attributes:
        is_used: whether it imports compiled modules.
        objection: why it does not, although the environment asks for them.
    """

    is_used = False
    objection = ""


def hashes(files: Sequence[Path]) -> dict[str, str]:
    """Return a hash for each of some files of this repository, by their paths in it."""
    return {str(path.relative_to(REPOSITORY)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def use() -> None:
    """Import the modules of the folder that `CLUSTER_COMPILED` names instead of the Python modules of their names.

    If that cannot be, or the code is not the code that was compiled, the process goes on with the Python modules, which
    always belong together; `objection` says why.
    """
    folder = os.environ.get(VARIABLE)
    if not folder or _State.is_used:
        return
    finder = _Finder(Path(folder))
    _State.objection = _objection(Path(folder), finder)
    if not _State.objection:
        sys.meta_path.insert(0, finder)
        _State.is_used = True


def _objection(folder: Path, finder: _Finder) -> str:
    try:
        made_from: dict[str, str] = json.loads((folder / MANIFEST).read_text())
        now = hashes([REPOSITORY / path for path in made_from])
    except (OSError, ValueError):
        return f"{VARIABLE}={str(folder)!r} has no compiled core for this code"
    if now != made_from:
        return "the code has changed since the core was compiled"
    if not finder.paths:
        return f"{VARIABLE}={str(folder)!r} has no extension modules for this Python"
    if late := sorted(finder.paths.keys() & sys.modules.keys()):
        return f"{', '.join(late)} had been imported before"
    return ""


def is_used() -> bool:
    """Whether this process imports compiled modules."""
    return _State.is_used


def objection() -> str:
    """Return why this process runs without compiled modules although it should have them; empty otherwise."""
    return _State.objection
