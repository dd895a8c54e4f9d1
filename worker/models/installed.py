"""Packages that are installed while the process runs: what the interpreter looks for at its start only."""

import importlib
import site
from pathlib import Path


class Installed:
    """The path files (`.pth`) that have been read, by which editable installations are found."""

    def __init__(self) -> None:
        self._read = set(_path_files())

    def refresh(self) -> None:
        """See what was installed since the start of the process, or since this was last called."""
        for path in _path_files():
            if path not in self._read:
                self._read.add(path)
                site.addpackage(str(path.parent), path.name, None)
        importlib.invalidate_caches()


def _path_files() -> list[Path]:
    return [path for folder in site.getsitepackages() for path in sorted(Path(folder).glob("*.pth"))]
