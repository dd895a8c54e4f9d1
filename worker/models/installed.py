"""Makes packages importable that were installed after the process started."""

import importlib
import site
from pathlib import Path


class InstalledPackages:
    """The path files (`.pth`) that this process has read. Editable installations are found through them."""

    def __init__(self) -> None:
        self._read = set(_path_files())

    def refresh(self) -> None:
        """Read the path files that are new since the start of the process, or since the last call."""
        for path in _path_files():
            if path not in self._read:
                self._read.add(path)
                site.addpackage(str(path.parent), path.name, None)
        importlib.invalidate_caches()


def _path_files() -> list[Path]:
    return [path for folder in site.getsitepackages() for path in sorted(Path(folder).glob("*.pth"))]
