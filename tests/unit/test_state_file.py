"""The file that outlives a broker."""

import errno
import json
import logging
import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest

from broker.core.deployment.checks import MAX_WEIGHT
from broker.core.state.plan import DeploymentPlan, LoadedModel, SavedRoute
from broker.io.state_file import StateFile
from cluster.runtime.settings import ConfigError

PLAN = DeploymentPlan(
    [LoadedModel({"module_name": "m", "class_name": "C", "slots": 2}, ["gpu-*"], "red", "1.0")],
    [("blue", "0.1")],
    {"red": SavedRoute("1.0", {"1.0": 9, "1.1": 1})},
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = StateFile(str(tmp_path / "state.json"))
    assert file.read() == DeploymentPlan()
    file.write(PLAN)
    assert file.read() == PLAN
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


def test_without_a_path_nothing_is_kept() -> None:
    file = StateFile("")
    file.write(PLAN)
    assert file.read() == DeploymentPlan()


def test_only_the_brokers_user_can_read_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    (tmp_path / "state.json.new").write_text("left by a broker that was killed")
    umask = os.umask(0)
    try:
        StateFile(str(path)).write(PLAN)
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)  # an earlier release wrote it
    assert StateFile(str(path)).read() == PLAN
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_file_and_folder_reach_the_disk_before_the_write_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.json"
    synced: list[tuple[bool, bool]] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), path.exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    StateFile(str(path)).write(PLAN)
    assert synced == [(False, False), (True, True)], "the file before it gets its name, and the folder after that"


MODEL: dict[str, Any] = {
    "entry": {"module_name": "m", "class_name": "C"},
    "workers": [],
    "model": "red",
    "version": "1.0",
}


def loaded(**changes: Any) -> str:
    return json.dumps({"loaded": [{**MODEL, **changes}]})


def routed(default: str, split: Any) -> str:
    return json.dumps({"routes": {"red": {"default": default, "split": split}}})


WEIGHT = f"a weight should be a whole number up to {MAX_WEIGHT}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "Expecting value"),
        ("{", "Expecting property name"),
        (json.dumps({"loaded": [MODEL]})[:-20], "Expecting"),
        ("\0" * 200, "Expecting value"),
        ("\xff", "can't decode"),
        ("not JSON", "Expecting value"),
        ("[" * 100_000, "recursion"),
        ("[]", "1 validation error"),
        ('{"loaded": [1]}', "1 validation error"),
        ('{"unloaded": [["blue", "new"]]}', "'new' is not a version: it should be two numbers, such as 0.1"),
        ('{"unloaded": [["blue", "1.0"], ["blue", "01.0"]]}', "blue 1.0 is named twice"),
        (json.dumps({"loaded": [MODEL], "unloaded": [["red", "1.0"]]}), "red 1.0 is named twice"),
        (json.dumps({"loaded": [MODEL, MODEL]}), "red 1.0 is named twice"),
        ('{"routes": {"red": {"default": "1.0"}, "red": {"default": "1.1"}}}', "'red' is named twice"),
        (routed("1", {}), "the route of red: '1' is not a version"),
        (routed("1.0", {"1.0": -1, "1.1": 2}), f"the route of red: 1.0=-1: {WEIGHT}"),
        (routed("1.0", {"1.0": True}), f"1.0=True: {WEIGHT}"),
        (routed("1.0", {"1.0": 1.5}), f"1.0=1.5: {WEIGHT}"),
        (routed("1.0", {"1.0": "9"}), f"1.0='9': {WEIGHT}"),
        (routed("1.0", {"1.0": MAX_WEIGHT + 1}), WEIGHT),
        (routed("1.0", {"1.0": 0, "1.1": 0}), "at least one version should have a weight above 0"),
        (routed("1.0", {"newest": 1}), "'newest' is not a version"),
        (routed("1.0", {"1.0": 1, "1.00": 1}), "1.00: the version 1.0 is named twice"),
        (routed("1.0", []), "weights should be a map from versions to whole numbers"),
        (loaded(version="x"), "'x' is not a version"),
        (loaded(entry={"module_name": "m"}), "the entry lacks 'class_name'"),
        (loaded(entry={**MODEL["entry"], "slots": [1]}), "the entry's 'slots' should be a string, number or boolean"),
        (loaded(entry={**MODEL["entry"], "slots": 1 << 64}), "the entry's 'slots' should be"),
        (loaded(entry={**MODEL["entry"], "timeout_s": float("nan")}), "the entry's 'timeout_s' should be"),
        (loaded(workers=[1]), "workers should be a list of strings"),
        (loaded(workers="gpu"), "workers should be a list of strings"),
    ],
)
def test_a_broken_file_is_set_aside_and_the_plan_is_empty(
    tmp_path: Path, text: str, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state.json"
    path.write_text(text, encoding="latin-1")
    file = StateFile(str(path))
    with caplog.at_level(logging.ERROR):
        assert file.read() == DeploymentPlan()
    assert file.was_broken
    (aside,) = tmp_path.iterdir()
    assert re.fullmatch(r"state\.json\.broken-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d", aside.name)
    assert aside.read_text(encoding="latin-1") == text
    (line,) = caplog.messages
    assert says in line
    assert aside.name in line
    assert "\n" not in line


def test_two_files_that_break_in_one_second_are_both_kept(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    for text in ("one", "two", "three"):
        path.write_text(text)
        StateFile(str(path)).read()
    assert sorted(aside.read_text() for aside in tmp_path.iterdir()) == ["one", "three", "two"]


def test_versions_are_read_in_their_usual_form(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text('{"unloaded": [["blue", "01.02"]], "routes": {"red": {"default": "1.00", "split": {"1.01": 2}}}}')
    plan = StateFile(str(path)).read()
    assert (plan.unloaded, plan.routes) == ([("blue", "1.2")], {"red": SavedRoute("1.0", {"1.1": 2})})


def test_a_path_that_is_no_file_is_a_wrong_setting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(ConfigError, match=rf"BROKER_STATE='.*{name}' cannot be read .*not a regular file"):
            StateFile(str(tmp_path / name)).read()
    with pytest.raises(ConfigError, match="a folder that exists and is writable"):
        StateFile(str(tmp_path / "gone" / "state.json")).read()


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.json"
    file = StateFile(str(path))
    file.write(PLAN)

    def fsync(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="no space left"):
        file.write(DeploymentPlan())
    assert file.read() == PLAN
