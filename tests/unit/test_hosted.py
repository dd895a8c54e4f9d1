"""What a worker hosts, and how it loads more."""

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
from worker.jobs.job import Registration
from worker.loop.hosted import Hosted
from worker.models.installed import Installed
from worker.models.loader import Loader, LoadResult
from worker.models.models import load_anew, read_entry

CODE = """\
from ml_model_abc import MLModel
from {package}.values import VALUE


class Constant(MLModel):
    display_name = qualified_name = "constant"
    description = "Says what it was made with."
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
        self.entry = read_entry({"module_name": f"{self.name}.model", "class_name": "Constant"})

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


def test_code_is_read_as_it_is_on_disk_and_what_was_made_before_stays(package: Package) -> None:
    package.write(1)
    old = load_anew(package.entry)
    package.write(2)
    new = load_anew(package.entry)
    assert (old.predict(None), new.predict(None)) == (1, 2)


@pytest.mark.parametrize("init", ["raise OSError('no weights')", "import sys; sys.exit(3)", "no_such_name"])
def test_what_cannot_be_loaded_leaves_the_modules_as_they_were(package: Package, init: str) -> None:
    package.write(1)
    old = load_anew(package.entry)
    before = {name: module for name, module in sys.modules.items() if name.startswith(package.name)}
    package.write(2, init=init)
    with pytest.raises((OSError, SystemExit, NameError)):
        load_anew(package.entry)
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
def test_an_entry_that_is_none_is_refused(raw: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read_entry(raw)


def test_what_is_installed_while_the_process_runs_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages, source = tmp_path / "site-packages", tmp_path / "source"
    packages.mkdir()
    source.mkdir()
    monkeypatch.setattr(site, "getsitepackages", lambda: [str(packages)])
    monkeypatch.setattr(sys, "path", [*sys.path])
    count = tmp_path / "count"
    (packages / "old.pth").write_text(f"import pathlib; pathlib.Path({str(count)!r}).touch()\n")
    installed = Installed()
    (source / "installed_late.py").touch()
    (packages / "new.pth").write_text(f"{source}\n")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("installed_late")
    installed.refresh()
    importlib.import_module("installed_late")
    assert not count.exists(), "what was there at the start is not read again"


def test_models_come_and_go_and_two_versions_stand_side_by_side(package: Package) -> None:
    metrics = WorkerMetrics()
    hosted = Hosted(metrics, expose_tracebacks=False)
    package.write(1)
    hosted.add(load_anew(package.entry))
    package.write(2, (1, 1))
    hosted.add(load_anew(package.entry))
    assert [str(model.version) for model in hosted.descriptions] == ["1.0", "1.1"]
    for name in (b"constant_v1_0_predict", b"constant_v1_1_predict_stream"):
        assert hosted.find(name) is not None
    assert hosted.slots == 2
    hosted.remove(("constant", Version(1, 0)))
    hosted.remove(("constant", Version(9, 9)))
    assert hosted.find(b"constant_v1_0_predict") is None
    assert hosted.slots == 1
    assert info(metrics) == {("constant", "1.1")}


def info(metrics: WorkerMetrics) -> set[tuple[str, str]]:
    return {
        (sample.labels["model"], sample.labels["version"])
        for family in metrics.collect()
        for sample in family.samples
        if sample.name == "zerorpc_worker_model_info"
    }


def test_the_counts_of_versions_are_those_of_the_model_and_outlast_them(package: Package) -> None:
    metrics = WorkerMetrics()
    for version in ((1, 0), (1, 1)):
        package.write(1, version)
        one = metrics.of_model(load_anew(package.entry).description)
        one.begin(2)
        one.called(2, 0.1)
        one.end({"ok": 2})
    metrics.forget(("constant", Version(1, 0)))
    found = {
        sample.name: sample.value
        for family in metrics.collect()
        for sample in family.samples
        if sample.labels.get("outcome", "ok") == "ok" and "le" not in sample.labels
    }
    assert found["zerorpc_worker_predictions_total"] == 4
    assert found["zerorpc_worker_batch_size_sum"] == 4
    assert found["zerorpc_worker_predictions_in_progress"] == 0


def test_a_loader_loads_one_after_the_other_and_outlives_what_cannot_be(package: Package) -> None:
    woken = threading.Event()
    loader = Loader(woken.set)
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

    wait_until(take, 30, "all have been carried out")
    assert woken.is_set()
    assert loader.unfinished == 0
    assert [one.number for one in done] == [b"0", b"1", b"2", b"3", b"4"]
    assert [one.model is not None for one in done] == [True, False, False, True, False]
    assert "lacks 'class_name'" in done[1].error
    assert "the module has no class 'Nothing'" in done[2].error
