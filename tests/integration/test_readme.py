"""The examples of the README work: the tests run its code and compare its output."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import REPOSITORY, Cluster, cluster

pytestmark = pytest.mark.one_process

README = (REPOSITORY / "README.md").read_text()
ADDRESS = "tcp://127.0.0.1:4242"


def block(language: str, containing: str) -> str:
    """Return the one code block of that language that contains the text, without its indentation."""
    found = [
        "\n".join(line.removeprefix(indent) for line in body.splitlines())
        for indent, body in re.findall(rf"^( *)```{language}\n(.*?)^ *```$", README, re.MULTILINE | re.DOTALL)
        if containing in body
    ]
    assert len(found) == 1, f"{len(found)} {language} blocks contain {containing!r}"
    return found[0]


@pytest.fixture(scope="module")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("readme"), None) as made:
        yield made


def test_the_python_example_runs(iris: Cluster) -> None:
    code = block("python", "client.get_models()").replace(ADDRESS, iris.frontend)
    printed = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    ).stdout
    assert "{'species': 'setosa'}" in printed
    assert "MLModelSchemaValidationException Failed to validate input data: Key 'petal_width' error:" in printed


def test_the_deadline_example_runs(iris: Cluster) -> None:
    code = block("python", "class Deadline").replace(ADDRESS, iris.frontend) + "\nprint(client.get_models())\n"
    printed = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    ).stdout
    assert "'qualified_name': 'iris_model'" in printed


def test_the_commands_output_is_as_shown(iris: Cluster) -> None:
    command = str(Path(sys.executable).parent / "zerorpc")
    printed = subprocess.run([command, iris.frontend], check=True, capture_output=True, text=True, timeout=60).stdout
    assert printed in README


def test_the_own_model_of_the_readme_can_be_hosted(tmp_path: Path) -> None:
    package = tmp_path / "fever-model"
    package.mkdir()
    (package / "pyproject.toml").write_text(block("toml", 'name = "fever-model"'))
    (package / "fever_model.py").write_text(block("python", "class FeverModel"))
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*install, "--target", str(site), str(package)], check=True, timeout=100)
    indented = block("python", '"module_name": "fever_model"').replace("\n", "\n    ")
    (site / "my_config.py").write_text(f"from typing import Any, ClassVar\n\n\nclass Mine:\n    {indented}\n")

    with cluster(tmp_path) as made:
        made.start_worker(PYTHONPATH=str(site), APP_SETTINGS="my_config:Mine")
        made.wait_for_workers(1)
        client = made.client()
        assert [model["qualified_name"] for model in client.get_models()] == ["iris_model", "fever_model"]
        assert client.fever_model_predict({"celsius": 39.5}) == {"fever": True}
        assert client.get_model_metadata("fever_model")["input_schema"]["required"] == ["celsius"]
