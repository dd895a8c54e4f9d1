"""`make up COMPILED=1`: the cluster with its core compiled."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import zerorpc

from cluster.runtime import compiled
from tests.integration.made import Made
from tests.integration.test_hosts import PREDICTION
from tests.processes import REPOSITORY

COMPILATION_S = 900
FLOWER = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}


@pytest.fixture
def make(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    made = Made(tmp_path_factory.mktemp("compiled"))
    yield made
    made("down")


@pytest.mark.timeout(COMPILATION_S)
def test_the_compiled_core_serves(make: Made) -> None:
    command = (sys.executable, "-m", "scripts.compile_core")
    subprocess.run(command, cwd=REPOSITORY, check=True, timeout=COMPILATION_S, capture_output=True)
    assert PREDICTION in make("up", COMPILED="1")
    log = (make.run_folder / "logs" / "broker.log").read_text()
    assert "the core is compiled" in log
    client = zerorpc.Client(make.frontend, timeout=20)
    try:
        for name, arguments in (("iris_model_predict", (FLOWER,)), ("iris_model_predict_batch", ([FLOWER],))):
            assert "setosa" in str(client(name, *arguments))
        with pytest.raises(zerorpc.RemoteError, match="NameError"):
            client("no_such_procedure")
    finally:
        client.close()


def test_a_folder_without_modules_is_an_error(tmp_path: Path) -> None:
    environment = {**os.environ, compiled.VARIABLE: str(tmp_path)}
    done = subprocess.run(
        (sys.executable, "-m", "broker"), cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode
    assert f"{compiled.VARIABLE}={str(tmp_path)!r} has no extension modules for this Python" in done.stderr


def test_without_a_compiler_it_says_what_to_install(tmp_path: Path) -> None:
    sources = tmp_path / "code"  # a clone in which nothing is compiled yet
    subprocess.run(("git", "clone", "--quiet", str(REPOSITORY), str(sources)), check=True, capture_output=True)
    done = subprocess.run(
        (sys.executable, "-m", "scripts.compile_core"),
        cwd=sources,
        env={**os.environ, "PATH": str(tmp_path), "PYTHONPATH": str(sources)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "COMPILED=1 needs a C compiler (cc) and Python's headers" in done.stderr
