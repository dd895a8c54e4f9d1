"""The file that outlives a broker."""

import logging
from pathlib import Path

import pytest

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


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"unloaded": [["blue", "new"]]}',
        '{"routes": {"red": {"default": "1"}}}',
        '{"loaded": [1]}',
        "\xff",
    ],
)
def test_a_file_that_is_none_of_a_brokers_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError, match=r"BROKER_STATE='.*state.json' cannot be read .*: correct the file") as raised:
        StateFile(str(path)).read()
    assert "\n" not in str(raised.value)
    assert path.read_text(encoding="latin-1") == text


def test_a_folder_that_cannot_be_written_to_costs_what_is_kept_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    file = StateFile(str(folder / "state.json"))
    folder.rmdir()
    with caplog.at_level(logging.ERROR):
        file.write(PLAN)
    assert "ends with this broker" in caplog.text
