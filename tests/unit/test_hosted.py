"""The models that a worker hosts, and how it loads more while it runs."""

import importlib
import site
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from cluster.runtime.settings import ConfigError
from cluster.wire.protocol import Version
from tests.processes import wait_until
from worker.http.metrics import WorkerMetrics
from worker.jobs.calls import Registration
from worker.jobs.counters import WorkerCounters
from worker.jobs.hosted_models import HostedModels
from worker.loop.loader import Loader, LoadResult
from worker.models.entry import parse_entry
from worker.models.installed import InstalledPackages
from worker.models.loadable import LoadableModules
from worker.models.reloading import load_from_disk

CODE = """\
from ml_model_abc import MLModel
from {package}.values import VALUE


class Constant(MLModel):
    display_name = qualified_name = "constant"
    description = "Returns the value of its package."
    major_version, minor_version = {version}
    input_schema = output_schema = None

    def __init__(self):
        {init}

    def predict(self, data):
        return VALUE
"""


class Package:
    """A package on disk that changes."""

    def __init__(self, folder: Path) -> None:
        self.name = folder.name
        self._folder = folder
        folder.mkdir()
        (folder / "__init__.py").touch()
        self.entry = parse_entry({"module_name": f"{self.name}.model", "class_name": "Constant"})

    def write(self, value: int, version: tuple[int, int] = (1, 0), init: str = "pass") -> None:
        (self._folder / "values.py").write_text(f"VALUE = {value}\n")
        (self._folder / "model.py").write_text(CODE.format(package=self.name, version=version, init=init))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Package]:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    made = Package(tmp_path / f"package_{tmp_path.name.replace('-', '_')}")
    yield made
    for name in [name for name in sys.modules if name.partition(".")[0] == made.name]:
        del sys.modules[name]


def test_a_model_is_loaded_from_the_code_on_disk_and_older_instances_keep_theirs(package: Package) -> None:
    package.write(1)
    old = load_from_disk(package.entry)
    package.write(2)
    new = load_from_disk(package.entry)
    assert (old.predict(None), new.predict(None)) == (1, 2)


@pytest.mark.parametrize("init", ["raise OSError('no weights')", "import sys; sys.exit(3)", "no_such_name"])
def test_a_failed_load_restores_the_modules(package: Package, init: str) -> None:
    package.write(1)
    old = load_from_disk(package.entry)
    before = {name: module for name, module in sys.modules.items() if name.startswith(package.name)}
    package.write(2, init=init)
    with pytest.raises((OSError, SystemExit, NameError)):
        load_from_disk(package.entry)
    after = {name: module for name, module in sys.modules.items() if name.startswith(package.name)}
    assert after == before
    assert sys.modules[package.name].model is before[f"{package.name}.model"]
    assert old.predict(None) == 1


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ({"module_name": "m"}, "the entry lacks 'class_name'"),
        ({"module_name": "m", "class_name": "C", "slots": "two"}, "the entry: slots='two' is wrong"),
        ("m", "the entry='m': an entry should be a dictionary"),
    ],
)
def test_a_wrong_entry_is_refused(raw: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_entry(raw)


def test_a_package_that_is_installed_while_the_process_runs_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages, source = tmp_path / "site-packages", tmp_path / "source"
    packages.mkdir()
    source.mkdir()
    monkeypatch.setattr(site, "getsitepackages", lambda: [str(packages)])
    monkeypatch.setattr(sys, "path", [*sys.path])
    count = tmp_path / "count"
    (packages / "old.pth").write_text(f"import pathlib; pathlib.Path({str(count)!r}).touch()\n")
    installed = InstalledPackages()
    (source / "installed_late.py").touch()
    (packages / "new.pth").write_text(f"{source}\n")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("installed_late")
    installed.refresh()
    importlib.import_module("installed_late")
    assert not count.exists(), "the path files of the start are not read again"


def test_models_are_added_and_removed_and_two_versions_are_hosted_side_by_side(package: Package) -> None:
    counters = WorkerCounters()
    hosted = HostedModels(counters, expose_tracebacks=False)
    package.write(1)
    hosted.add(load_from_disk(package.entry))
    package.write(2, (1, 1))
    hosted.add(load_from_disk(package.entry))
    assert [str(model.version) for model in hosted.descriptions] == ["1.0", "1.1"]
    for name in (b"constant_v1_0_predict", b"constant_v1_1_predict_stream"):
        assert hosted.job_factory(name) is not None
    assert hosted.slots == 2
    hosted.remove(("constant", Version(1, 0)))
    hosted.remove(("constant", Version(9, 9)))
    assert hosted.job_factory(b"constant_v1_0_predict") is None
    assert hosted.slots == 1
    assert info(WorkerMetrics(counters)) == {("constant", "1.1")}


def info(metrics: WorkerMetrics) -> set[tuple[str, str]]:
    return {
        (sample.labels["model"], sample.labels["version"])
        for family in metrics.collect()
        for sample in family.samples
        if sample.name == "zerorpc_worker_model_info"
    }


def test_the_counts_of_a_models_versions_are_added_up_and_outlast_the_versions(package: Package) -> None:
    counters = WorkerCounters()
    for version in ((1, 0), (1, 1)):
        package.write(1, version)
        one = counters.host(load_from_disk(package.entry).description)
        one.on_calls_started(2)
        one.on_model_called(2, 0.1)
        one.on_calls_ended("ok", 2)
    counters.remove(("constant", Version(1, 0)))
    found = {
        sample.name: sample.value
        for family in WorkerMetrics(counters).collect()
        for sample in family.samples
        if sample.labels.get("outcome", "ok") == "ok" and "le" not in sample.labels
    }
    assert found["zerorpc_worker_predictions_total"] == 4
    assert found["zerorpc_worker_batch_size_sum"] == 4
    assert found["zerorpc_worker_predictions_in_progress"] == 0


def test_a_loader_loads_one_model_after_the_other_and_survives_failures(package: Package) -> None:
    woken = threading.Event()
    loader = Loader(woken.set, LoadableModules(["*"]))
    registration = Registration("one")
    package.write(1)
    good = package.entry.model_dump(exclude_unset=True)
    for number, entry in enumerate((good, {"module_name": "sys"}, {**good, "class_name": "Nothing"}, good)):
        loader.load(registration, b"%d" % number, msgpack.packb(entry))
    loader.load(registration, b"4", b"\xc1")
    assert loader.unfinished == 5
    done: list[LoadResult] = []

    def take() -> bool:
        while (one := loader.take()) is not None:
            done.append(one)
        return len(done) == 5

    wait_until(take, 30, "all orders have a result")
    assert woken.is_set()
    assert loader.unfinished == 0
    assert [one.number for one in done] == [b"0", b"1", b"2", b"3", b"4"]
    assert [one.model is not None for one in done] == [True, False, False, True, False]
    assert "lacks 'class_name'" in done[1].error
    assert "the module has no class 'Nothing'" in done[2].error
