"""`scripts/new_model.py`: the package that it creates passes its test and can be served."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import REPOSITORY, cluster, own_environment

SCRIPT = str(REPOSITORY / "scripts" / "new_model.py")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The part of a checkout that the script reads."""
    made = tmp_path / "checkout"
    (made / "worker").mkdir(parents=True)
    for name in ("requirements.txt", "worker/config.py"):
        shutil.copy(REPOSITORY / name, made / name)
    return made


def new_model(root: Path, name: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPT, name, "--root", str(root)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_new_model_passes_its_test_and_is_served(root: Path, tmp_path: Path) -> None:
    done = new_model(root, "fever_model")
    assert done.returncode == 0, done.stderr
    assert "make up" in done.stdout
    package, site = root / "models" / "fever_model", tmp_path / "site"
    assert (root / "requirements.txt").read_text().endswith("\n-e ./models/iris-model\n-e ./models/fever_model\n")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*install, "--target", str(site), str(package)], check=True, timeout=100)
    environment = {**own_environment(), "PYTHONPATH": str(site)}
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(package)]
    subprocess.run(tests, cwd=package, env=environment, check=True, timeout=100)
    subprocess.run([sys.executable, "-m", "fever_model.train"], cwd=site, env=environment, check=True, timeout=60)

    shutil.copy(root / "worker" / "config.py", site / "made_config.py")
    with cluster(tmp_path) as made:
        made.start_worker(PYTHONPATH=str(site), APP_SETTINGS="made_config:ProdConfig")
        made.wait_for_workers(1)
        client = made.client()
        assert [model["qualified_name"] for model in client.get_models()] == ["iris_model", "fever_model"]
        assert client.fever_model_predict({"x": 5.0, "y": 5.0}) == {"group": "right"}
        (described,) = [one for one in client.get_service_schema()["methods"] if one["name"] == "fever_model_predict"]
        assert described["examples"][0]["result"]["value"] == {"group": "left"}


@pytest.mark.parametrize("name", ["json", "iris_model", "scripts"])
def test_a_name_that_python_has_already_is_refused(root: Path, name: str) -> None:
    done = new_model(root, name)
    assert (done.returncode, done.stderr) == (
        1,
        f"error: there is a Python module {name!r} already: choose another name\n",
    )


@pytest.mark.parametrize("name", ["Fever", "fever-model", "9lives", "class", "none", "_x", ""])
def test_a_name_that_is_not_an_identifier_is_refused(root: Path, name: str) -> None:
    done = new_model(root, name)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {name!r} is not a name for a model")
    assert not (root / "models").exists()


def test_a_refused_model_leaves_no_file(root: Path) -> None:
    assert new_model(root, "twice").returncode == 0
    before = [(root / name).read_text() for name in ("requirements.txt", "worker/config.py")]
    again = new_model(root, "twice")
    assert (again.returncode, "exists already" in again.stderr) == (1, True)
    assert [(root / name).read_text() for name in ("requirements.txt", "worker/config.py")] == before
    (root / "worker" / "config.py").write_text("models = []\n")
    other = new_model(root, "other")
    assert (other.returncode, "add the model's entry by hand" in other.stderr) == (1, True)
    assert not (root / "models" / "other").exists()
