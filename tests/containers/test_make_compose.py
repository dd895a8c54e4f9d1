"""`make compose` as a user runs it: a folder of one's own, and what is said when its model does not load."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zerorpc

from tests.containers.compose import IMAGE, Compose
from tests.containers.test_compose import WINE
from tests.processes import REPOSITORY

pytestmark = [pytest.mark.timeout(300), pytest.mark.one_process]


@pytest.fixture
def project() -> Iterator[Compose]:
    made = Compose()
    made.environment["COMPOSE_PROJECT_NAME"] += "-make"
    # An image of its own: one that changes beside test_compose.py would have its containers made anew.
    made.environment["BROKER_IMAGE"] = made.environment["WORKER_IMAGE"] = f"{IMAGE}-make"
    made("build", "--quiet")
    try:
        yield made
    finally:
        made("down", "--volumes", "--timeout=30")


@pytest.fixture
def app(tmp_path: Path) -> Path:
    folder = tmp_path / "Wine cellar"
    folder.mkdir()
    (folder / "wine.py").write_text(WINE)
    (folder / "models.py").write_text('class Mine:\n    models = [{"module_name": "wine", "class_name": "Wine"}]\n')
    (folder / "requirements.txt").write_text("pytz\n")
    return folder


def make_compose(project: Compose, **variables: str) -> tuple[int, str]:
    """Run `make compose`; return its exit code and all that it printed."""
    answer = subprocess.run(
        ["make", "compose", f"VENV={sys.prefix}"],
        cwd=REPOSITORY,
        env={**os.environ, **project.environment, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )
    return answer.returncode, answer.stdout


def test_a_folder_is_served_from_containers_by_one_command(project: Compose, app: Path) -> None:
    code, output = make_compose(project, APP=str(app), WORKERS="1")
    assert code != 0
    assert "FileNotFoundError: [Errno 2] No such file or directory: '/srv/app/weights.txt'" in output
    assert "error: `docker build" in output
    (app / "weights.txt").write_text("all there")
    code, output = make_compose(project, APP=str(app), WORKERS="1")
    assert code == 0, output
    assert "models:     wine\n" in output
    assert f"clients:    {project.frontend}\n" in output
    assert "note: other docker compose commands need the line WORKER_IMAGE=zerorpc-cluster-app-wine-cellar" in output
    client = zerorpc.Client(project.frontend, timeout=30)
    assert client.wine_predict(None) == "all there"
    client.close()


def test_a_worker_that_cannot_start_is_shown_with_its_reason_and_not_waited_for(project: Compose) -> None:
    project.environment["LOG_FORMAT"] = "text"
    begin_s = time.monotonic()
    code, output = make_compose(project, WORKER_MODELS="nope")
    assert code != 0
    assert "WORKER_MODELS='nope': the configuration has no model 'nope'; its models are iris_model" in output
    assert "error: every worker has ended; the log is above" in output
    assert "Traceback" not in output
    assert time.monotonic() - begin_s < 60  # the health check alone takes longer to give up


def test_a_wrong_folder_is_one_sentence_and_starts_nothing(project: Compose, tmp_path: Path) -> None:
    code, output = make_compose(project, APP=str(tmp_path))
    assert code != 0
    assert "it should be a folder with models.py" in output
    assert project.containers("broker") == []


def test_the_image_is_built_once() -> None:
    services = Compose()("config", "--format", "json")
    assert services.count('"dockerfile"') == 1
    assert services.count(f'"image": "{IMAGE}"') == 2
