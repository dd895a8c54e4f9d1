"""`make docs`: the page and the typed client that come from the running service's own document."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.browser import browser
from tests.processes import REPOSITORY, Cluster, cluster, own_environment

pytestmark = pytest.mark.one_process

USE = """
from service_client import Service

service = Service({address!r})
flower = {{"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": {petal_width}}}
answer = service.iris_model_predict(flower)
print(answer["species"], [one["species"] for one in service.iris_model_predict_stream([flower])])
print(sorted(model["qualified_name"] for model in service.get_models()), service.counter_predict_batch([1]))
service.close()
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("service"), None, "MlBase", "CounterOnly") as made:
        yield made


@pytest.fixture(scope="module")
def folder(service: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("made") / "service"
    command = [sys.executable, "-m", "scripts.describe", service.frontend, "--folder", str(made)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == [str(made / name) for name in ("openrpc.json", "index.html", "service_client.py")]
    return made


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.links += [value for name, value in attrs if name in ("href", "src") and value]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_shows_every_procedure_and_loads_nothing(folder: Path, service: Cluster) -> None:
    page = _Page((folder / "index.html").read_text())
    procedures = service.client()._zerorpc_list()
    assert set(procedures) < set(page.ids)
    pinned = re.compile(r"_v\d+_\d+_")
    assert page.links == [f"#{name}" for name in [*(name for name in procedures if not pinned.search(name)), "errors"]]
    assert set(page.links) <= {f"#{name}" for name in page.ids}
    assert "script" not in page.tags
    assert '"species": "setosa"' in page.text
    assert "in centimetres" in page.text, "what a model's schema says of a field"
    assert "Answered with a stream" in page.text


@pytest.mark.parametrize("width", [375, 1600])
def test_the_page_fits_a_phone_and_folds_the_versions(folder: Path, width: int) -> None:
    with browser(width) as page:
        page.get((folder / "index.html").as_uri())
        assert page.execute_script("return [innerWidth, document.documentElement.scrollWidth]") == [width, width]
        version = page.find_element("id", "iris_model_v0_1_predict")
        assert not version.is_displayed()
        assert page.find_element("id", "iris_model_predict").is_displayed()
        for folded in page.find_elements("css selector", "details"):
            page.execute_script("arguments[0].open = true", folded)
        assert version.is_displayed()
        assert page.execute_script("return document.documentElement.scrollWidth") == width
        assert page.get_log("browser") == []


def test_the_document_is_the_service_s(folder: Path, service: Cluster) -> None:
    assert json.loads((folder / "openrpc.json").read_text()) == service.client().get_service_schema()


def test_the_client_works(folder: Path, service: Cluster) -> None:
    (folder / "use.py").write_text(USE.format(address=service.frontend, petal_width=0.2))
    done = subprocess.run(
        [sys.executable, "use.py"], cwd=folder, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines() == ["setosa ['setosa']", "['colour_model', 'counter', 'iris_model'] [{'open': 0}]"]


@pytest.mark.parametrize(("petal_width", "code", "says"), [("0.2", 0, ""), ("'wide'", 1, "Incompatible types")])
def test_a_type_checker_knows_the_client(folder: Path, petal_width: str, code: int, says: str) -> None:
    source = USE.format(address="tcp://127.0.0.1:1", petal_width=petal_width)
    typed = source.replace("flower =", "flower: IrisModelInput =").replace(
        "import Service", "import IrisModelInput, Service"
    )
    (folder / "typed.py").write_text(typed)
    command = [sys.executable, "-m", "mypy", "--strict", "--ignore-missing-imports", "--config-file=", "typed.py"]
    done = subprocess.run(
        command, cwd=folder, env=own_environment(), capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == code, done.stdout
    assert says in done.stdout


def test_without_a_service_it_says_so(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "scripts.describe", "tcp://127.0.0.1:1", "--timeout", "0.5"]
    done = subprocess.run(
        [*command, "--folder", str(tmp_path)], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "is the cluster running" in done.stderr
    assert list(tmp_path.iterdir()) == []
