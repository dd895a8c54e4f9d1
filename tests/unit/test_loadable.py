"""Which modules an order of the broker may import."""

import sys
import threading
from pathlib import Path

import msgpack
import pytest

from cluster.runtime.settings import ConfigError, load_settings
from tests.processes import wait_until
from worker.jobs.calls import Registration
from worker.loop.loader import Loader, LoadResult
from worker.models.entry import parse_entry
from worker.models.loadable import LoadableModules
from worker.settings import WorkerSettings


def may_load(loadable: LoadableModules, module: str) -> bool:
    try:
        loadable.check(parse_entry({"module_name": module, "class_name": "Model"}))
    except ConfigError:
        return False
    return True


@pytest.mark.fault(60)
def test_a_module_that_may_not_be_loaded_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "not_a_model.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    woken = threading.Event()
    loader = Loader(woken.set, LoadableModules(configured=["iris_model.iris_predict"]))
    entry = {"module_name": "not_a_model", "class_name": "Model"}
    loader.load(Registration("one"), b"1", msgpack.packb(entry))
    done: list[LoadResult | None] = []

    def is_done() -> bool:
        done.append(loader.take())
        return done[-1] is not None

    wait_until(is_done, 30, "the order has a result")
    assert done[-1] is not None
    assert done[-1].error.startswith("model not_a_model.Model: this worker loads models only from example_models, iris")
    assert "WORKER_LOADABLE" in done[-1].error
    assert "not_a_model" not in sys.modules


@pytest.mark.fault(60)
def test_by_default_installed_packages_with_models_are_loadable() -> None:
    loadable = LoadableModules(configured=["my_config_models.text"])
    loadables = ("iris_model.iris_predict", "iris_model", "example_models.topics", "my_config_models.other")
    assert all(may_load(loadable, module) for module in loadables)
    others = ("os", "sys", "antigravity", "worker.config", "sklearn.svm", "ml_model_abc", "")
    assert [module for module in others if may_load(loadable, module)] == []


@pytest.mark.fault(60)
def test_a_distribution_may_declare_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "declares-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: declares\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[ml_model_abc.models]\nany = declared.models\n")
    (tmp_path / "declared").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert may_load(LoadableModules(), "declared.models.text")
    assert not may_load(LoadableModules(), "declared.other")


def test_a_package_that_is_not_installed_is_left_to_the_import() -> None:
    assert may_load(LoadableModules(), "no_such_package.model")


def test_named_packages_and_those_of_the_configuration_are_loadable() -> None:
    loadable = LoadableModules(["pydantic.types", "msgpack"], ["iris_model.iris_predict"])
    loadables = ("msgpack", "msgpack.ext", "pydantic.types", "pydantic.types.a", "iris_model.x")
    assert all(may_load(loadable, one) for one in loadables)
    others = ("pydantic", "pydantic.types_a", "example_models.topics", "os")
    assert [one for one in others if may_load(loadable, one)] == []
    assert may_load(LoadableModules(["*"]), "os")


@pytest.mark.parametrize(("value", "names"), [("", []), ("*", ["*"]), ("a, b.c", ["a", "b.c"]), ("_x,ü", ["_x", "ü"])])
def test_the_setting(value: str, names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_LOADABLE", value)
    assert load_settings(WorkerSettings).loadable_modules() == names


@pytest.mark.parametrize("value", ["a-b", "a,,b", "a.", ".a", "a b", "a:B", "1a", "a.*"])
def test_a_wrong_setting(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_LOADABLE", value)
    with pytest.raises(ConfigError, match="it should be modules or packages, comma-separated, such as iris_model,"):
        load_settings(WorkerSettings)
