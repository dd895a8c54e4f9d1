"""The examples of the README work: the tests run its code and compare its output."""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.made import Made
from tests.processes import REPOSITORY, Cluster, cluster, own_environment

pytestmark = pytest.mark.one_process

README = (REPOSITORY / "README.md").read_text()
ZERORPC = Path(sys.executable).parent / "zerorpc"
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


def test_stock_servers_and_their_client_run(tmp_path: Path) -> None:
    with cluster(tmp_path) as made:
        server = block("python", "class HelloRPC").replace("tcp://127.0.0.1:4243", made.backend)
        (tmp_path / "hello.py").write_text(server)
        for _ in range(3):
            made.start_server(sys.executable, tmp_path / "hello.py")
        made.wait_for_workers(3)
        client = block("python", 'client.hello("RPC")').replace(ADDRESS, made.frontend)
        printed = subprocess.run([sys.executable, "-c", client], check=True, capture_output=True, text=True, timeout=60)
        assert printed.stdout == "Hello, RPC\n[10, 12, 14, 16, 18]\n"
        for arguments in (["hello", "RPC"], ["-j", "streaming_range", "10", "20", "2"]):
            options = [one for one in arguments if one.startswith("-")]
            called = [one for one in arguments if not one.startswith("-")]
            command = [str(ZERORPC), *options, made.frontend, *called]
            printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
            assert f"{' '.join(['', *options, ADDRESS, *called])}\n{printed.stdout}" in README


@pytest.mark.nightly
@pytest.mark.alone  # it measures a time that installing beside it would double
def test_from_a_fresh_clone_to_a_prediction_of_ones_own_forest_takes_less_than_90_s(tmp_path: Path) -> None:
    """The commands of the README, in a clone without a virtual environment, with addresses of the test's own."""
    begin_s = time.monotonic()
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(tmp_path / "clone")], check=True)
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # a short path, for the sockets
        made = Made(Path(folder), tmp_path / "clone")
        del made.environment["VENV"], made.environment["APP_SETTINGS"]
        write_wine(tmp_path / "wine")
        try:
            printed = made("up", "APP=../wine")
            assert "models:     wine_model" in printed
            assert call_wine(tmp_path / "clone" / ".venv" / "bin" / "zerorpc", made) == "'class_0'\n"
        finally:
            made("down")
    assert time.monotonic() - begin_s < 90


def write_wine(folder: Path) -> None:
    folder.mkdir()
    (folder / "wine.py").write_text(block("python", "class WineModel"))
    (folder / "models.py").write_text(block("python", "class Mine"))


def call_wine(command: Path, made: Made) -> str:
    (call,) = re.findall(r"wine_model_predict '(.*)'\n'class_0'$", README, re.MULTILINE)
    arguments = [str(command), "-j", made.frontend, "wine_model_predict", call]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=True).stdout


def test_a_folder_of_ones_own_is_hosted(make: Made, tmp_path: Path) -> None:
    write_wine(tmp_path / "wine")
    del make.environment["APP_SETTINGS"]
    assert "models:     wine_model" in make("up", f"APP={tmp_path}/wine", "WORKERS=1")
    assert call_wine(Path(sys.executable).parent / "zerorpc", make) == "'class_0'\n"
    assert "all workers were restarted" in make("restart")
    assert call_wine(Path(sys.executable).parent / "zerorpc", make) == "'class_0'\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "it should be a folder with models.py, in which a class lists the models"),
        ("x = 1", "models should have one class with a list `models`; it has none"),
        ("class A:\n    models = []\nclass B:\n    models = []", "it has A, B: name one, as in APP_SETTINGS=models:A"),
        ("import no_such_module", "models cannot be imported: ModuleNotFoundError: No module named 'no_such_"),
    ],
)
def test_a_folder_that_is_not_as_it_should_be_is_one_sentence(
    make: Made, tmp_path: Path, text: str | None, says: str
) -> None:
    if text is not None:
        (tmp_path / "models.py").write_text(text)
    del make.environment["APP_SETTINGS"]
    printed = make("up", f"APP={tmp_path}", code=2)
    assert f"error: APP='{tmp_path}'" in printed
    assert says in printed
    assert "Traceback" not in printed


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

    (trying,) = re.findall(
        r"^    \.venv/bin/python (scripts/try_model\.py fever_model:FeverModel) '(.*)'$", README, re.M
    )
    command = [sys.executable, *trying[0].split(), trying[1]]
    environment = {**own_environment(), "PYTHONPATH": str(site)}
    tried = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True)
    assert "{'fever': True}" in tried.stdout

    with cluster(tmp_path) as made:
        made.start_worker(PYTHONPATH=str(site), APP_SETTINGS="my_config:Mine")
        made.wait_for_workers(1)
        client = made.client()
        assert [model["qualified_name"] for model in client.get_models()] == ["iris_model", "fever_model"]
        assert client.fever_model_predict({"celsius": 39.5}) == {"fever": True}
        assert client.get_model_metadata("fever_model")["input_schema"]["required"] == ["celsius"]
