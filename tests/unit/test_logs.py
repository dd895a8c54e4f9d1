"""The log drops lines while its queue is full, and can write them as JSON objects."""

import json
import logging
import queue

import pytest

from cluster.runtime import logs
from cluster.runtime.settings import ConfigError


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("name", logging.INFO, __file__, 1, text, None, None)


def test_a_full_queue_drops_lines_and_raises_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    lines: queue.Queue[logs.Line] = queue.Queue(1)
    handler = logs._Enqueue(lines, logging.Formatter())
    handler.handle(record("kept"))
    handler.handle(record("dropped"))
    kept = lines.get_nowait()
    assert isinstance(kept, logging.LogRecord)
    assert kept.getMessage() == "kept"
    assert lines.empty()
    assert capsys.readouterr().err == "", "logging reports no error"


def test_the_format_is_chosen_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_FORMAT", "json")
    line = json.loads(logs.formatter_from_environment().format(record("a line")))
    assert (line["level"], line["logger"], line["message"]) == ("INFO", "name", "a line")
    assert {"time", "pid"} < set(line)
    monkeypatch.setenv("LOG_FORMAT", "xml")
    with pytest.raises(ConfigError, match="LOG_FORMAT='xml' is wrong: it should be text or json"):
        logs.formatter_from_environment()
