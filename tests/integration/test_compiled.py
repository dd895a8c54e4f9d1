"""`make up COMPILED=1`: the cluster with its core compiled."""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
import zerorpc

from cluster.runtime import compiled
from tests.integration.made import Made
from tests.integration.test_hosts import FLOWER, PREDICTION, call
from tests.needs import unless
from tests.processes import REPOSITORY

COMPILATION_S = 900


@pytest.fixture
def make(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    made = Made(tmp_path_factory.mktemp("compiled"))
    yield made
    made("down")


@pytest.fixture
def folder() -> Path:
    """Where the compiled modules are."""
    unless(shutil.which("cc") is not None and Path(sysconfig.get_path("include"), "Python.h").exists(), "a C compiler")
    command = (sys.executable, "-m", "scripts.compile_core")
    done = subprocess.run(command, cwd=REPOSITORY, check=True, timeout=COMPILATION_S, capture_output=True, text=True)
    return Path(done.stdout.strip())


def importing(folder: Path, code: str, repository: Path = REPOSITORY) -> str:
    """Import the broker with the modules of a folder, and return what the code prints."""
    done = subprocess.run(
        (sys.executable, "-c", f"import broker.core.core as core\nfrom cluster.runtime import compiled\n{code}"),
        cwd=repository,
        env={**os.environ, compiled.VARIABLE: str(folder), "PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.timeout(COMPILATION_S)
def test_the_compiled_core_serves(make: Made, folder: Path) -> None:
    assert PREDICTION in make("up", COMPILED="1")
    log = (make.run_folder / "logs" / "broker.log").read_text()
    assert "the core is compiled" in log
    assert call(make, "iris_model_predict", FLOWER) == {"species": "setosa"}
    assert call(make, "iris_model_predict_batch", [FLOWER]) == [{"species": "setosa"}]
    with pytest.raises(zerorpc.RemoteError, match="NameError"):
        call(make, "no_such_procedure")
    assert "the cluster is running already" in make("up", COMPILED="1")
    assert "runs already, with the compiled core: run make down first" in make("up", code=1, COMPILED="0")


@pytest.mark.timeout(COMPILATION_S)
def test_code_that_has_changed_runs_as_it_is(folder: Path, tmp_path: Path) -> None:
    assert importing(folder, "print(core.__file__)").startswith(str(folder))
    for package in ("broker", "cluster", "zmtp"):
        shutil.copytree(REPOSITORY / package, tmp_path / package)
    assert importing(folder, "print(core.__file__)", tmp_path).startswith(str(folder)), "the code is the same"
    with (tmp_path / "broker" / "core" / "state" / "plan.py").open("a") as file:
        file.write("# a change\n")
    assert importing(folder, "print(core.__file__)", tmp_path).startswith(str(tmp_path))
    told = importing(folder, "print(compiled.objection())", tmp_path)
    assert told == "the code has changed since the core was compiled"


def test_a_folder_without_modules_is_not_used(tmp_path: Path) -> None:
    assert importing(tmp_path, "print(core.__file__)").startswith(str(REPOSITORY))
    told = importing(tmp_path, "print(compiled.objection())")
    assert told == f"{compiled.VARIABLE}={str(tmp_path)!r} has no compiled core for this code"


def test_without_a_compiler_it_says_what_to_install(tmp_path: Path) -> None:
    for package in ("broker", "cluster", "zmtp", "scripts", "worker"):  # nothing is compiled there yet
        shutil.copytree(REPOSITORY / package, tmp_path / package)
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    done = subprocess.run(
        (sys.executable, "-m", "scripts.compile_core"),
        cwd=tmp_path,
        env={**os.environ, "PATH": str(tmp_path), "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "COMPILED=1 needs a C compiler (cc) and Python's headers" in done.stderr
