"""Notices that files have changed, in a thread of its own: reading them must not delay the message loop."""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)

CHECK_INTERVAL_S = 0.3
"""Seconds between two looks at the files. A change should be in force within a second."""

Signature = dict[str, tuple[int, int, int]]


def signature(path: Path) -> Signature:
    """Return what changes when a file, or a file in a folder, does: times, sizes and numbers of the files."""
    found: Signature = {}
    with suppress(OSError):  # it is gone, or cannot be read any more
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            with suppress(FileNotFoundError):  # it has just been removed
                status = file.stat()
                found[file.name] = (status.st_mtime_ns, status.st_size, status.st_ino)
    return found


class FileWatch:
    """Calls a function after each change of some files and folders."""

    def __init__(self) -> None:
        self._watched: list[tuple[Path, Callable[[], None]]] = []
        self._seen: dict[Path, Signature] = {}
        self._stop = threading.Event()

    def add(self, path: Path, changed: Callable[[], None]) -> None:
        """Watch a file or a folder.

        Args:
            path: of it; what is there now counts as seen.
            changed: is called in the thread of the watch.
        """
        self._watched.append((path, changed))
        self._seen[path] = signature(path)

    def start(self) -> None:
        """Start the thread, if there is something to watch."""
        if self._watched:
            threading.Thread(target=self._run, name="file-watch", daemon=True).start()

    def stop(self) -> None:
        """Stop the thread."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(CHECK_INTERVAL_S):
            for path, changed in self._watched:
                try:
                    now = signature(path)
                    if now != self._seen[path]:
                        self._seen[path] = now
                        changed()
                except Exception:
                    log.exception("cannot watch %s", path)
