"""Compiles the broker's core and the ZMTP code to extension modules, with mypyc: `make up COMPILED=1`.

    python -m scripts.compile_core        prints the folder of the modules, after it has made them if need be

The folder's name is a hash of everything that the compiler sees, so a changed file is compiled again.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from cluster.runtime import compiled
from scripts.cluster_settings import REPOSITORY, fail

_SOURCES = (
    "zmtp/*.py",
    "broker/core/*.py",
    "broker/core/state/*.py",
    "broker/core/scheduling/*.py",
    "broker/core/handlers/*.py",
    *(
        f"cluster/wire/{name}.py"
        for name in ("arguments", "decodable", "events", "pairs", "server_events", "unpacking")
    ),
)
"""What is compiled: the modules that handle each message. The other modules of `cluster.wire` have dataclasses that
pydantic validates, which mypyc cannot compile; those of `broker.core.deployment` are not on the way of a call."""

_LEFT_OUT = ("__init__.py", "plan.py")
"""Files that are not compiled. A plan comes from a file, and may have wrong types until it has been checked."""

_PACKAGES = ("zmtp", "broker", "cluster")
"""What the compiler has to see."""

_TOOLS = (REPOSITORY / "pyproject.toml", Path(__file__).resolve())
"""What else decides how it compiles."""

_KEPT_S = 7 * 86_400.0
"""How long the modules of other code are kept, in seconds: a cluster that runs may start another process with them."""

_FOLDER = REPOSITORY / "build" / "compiled"
_OPTIMIZATION = {"MYPYC_OPT_LEVEL": "2"}


def compile_core() -> Path:
    """Return the folder of the extension modules, for `CLUSTER_COMPILED`; a failure ends the command.

    It takes a minute or two, unless the modules are there.
    """
    sources = sorted(path for pattern in _SOURCES for path in REPOSITORY.glob(pattern) if path.name not in _LEFT_OUT)
    seen = sorted(path for package in _PACKAGES for path in (REPOSITORY / package).rglob("*.py"))
    folder = _FOLDER / _hash([*seen, *_TOOLS])
    if folder.exists():
        return folder
    if shutil.which("cc") is None or not Path(sysconfig.get_path("include"), "Python.h").exists():
        fail(
            "COMPILED=1 needs a C compiler (cc) and Python's headers: install them (Debian: apt-get install gcc "
            "python3-dev), or leave COMPILED=1 out"
        )
    print(f"compiling {len(sources)} modules, which takes a minute or two", file=sys.stderr, flush=True)
    _FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_FOLDER) as name:
        work, made = Path(name, "work"), Path(name, "made")
        for package in _PACKAGES:
            shutil.copytree(REPOSITORY / package, work / package, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(REPOSITORY / "pyproject.toml", work)
        _run_mypyc(work, [str(path.relative_to(REPOSITORY)) for path in sources])
        for path in work.rglob(f"*{sysconfig.get_config_var('EXT_SUFFIX')}"):
            if "build" not in path.relative_to(work).parts:
                target = made / path.relative_to(work)
                target.parent.mkdir(parents=True, exist_ok=True)
                path.rename(target)
        (made / compiled.MANIFEST).write_text(json.dumps(compiled.hashes(seen), indent=1))
        with suppress(OSError):  # another command may have made it meanwhile
            made.rename(folder)
    _remove_old(folder)
    return folder


def _remove_old(newest: Path) -> None:
    """Remove what was compiled from other code. A process that runs it has it in memory already."""
    for folder in _FOLDER.iterdir():
        if folder != newest and time.time() - folder.stat().st_mtime > _KEPT_S:
            shutil.rmtree(folder, ignore_errors=True)


def _run_mypyc(work: Path, sources: list[str]) -> None:
    mypyc = Path(sys.executable).parent / "mypyc"
    done = subprocess.run(
        [sys.executable, str(mypyc), *sources],
        cwd=work,
        env={**os.environ, **_OPTIMIZATION},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        output = (done.stdout + done.stderr).strip().splitlines()[-20:]
        fail("mypyc could not compile the core:\n" + "\n".join(output))


def _hash(files: list[Path]) -> str:
    """Return a hash of the files, of this Python, and of the compiler."""
    versions = [sys.version, sysconfig.get_platform(), version("mypy"), version("setuptools")]
    return hashlib.sha256(json.dumps([versions, compiled.hashes(files)]).encode()).hexdigest()[:16]


if __name__ == "__main__":
    print(compile_core())
