"""The log of every process: one line for each record, written to standard error by a thread of its own.

A write to standard error blocks for as long as its reader does not read. The log must not block the calls, so lines go
into a queue, and the process drops lines while the queue is full.
"""

import atexit
import contextlib
import logging
import os
import queue
import threading
from logging.handlers import QueueHandler

from pythonjsonlogger.json import JsonFormatter

from cluster.runtime import forks
from cluster.runtime.settings import ConfigError

MAX_QUEUED_LINES = 10_000
"""Largest number of lines in the queue."""

FLUSH_S = 1.0
"""How long the process waits for its last lines when it ends, in seconds."""

_STANDARD_ERROR = 2

_FORMATTERS: dict[str, logging.Formatter] = {
    "text": logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"),
    "json": JsonFormatter(
        "{levelname}{name}{process}{message}",
        style="{",
        timestamp=True,
        rename_fields={"timestamp": "time", "levelname": "level", "name": "logger", "process": "pid"},
    ),
}

Line = logging.LogRecord | threading.Event
"""A record, or an event that the thread sets after it has written all records before it."""

_lines: queue.Queue[Line] = queue.Queue(MAX_QUEUED_LINES)


def configure() -> None:
    """Set up the root logger with the format that LOG_FORMAT names.

    Raises:
        ConfigError: if LOG_FORMAT names another format.
    """
    formatter = formatter_from_environment()
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    handler = _Enqueue(_lines, formatter)
    root.addHandler(handler)
    threading.Thread(target=_write, args=[formatter], name="log", daemon=True).start()
    atexit.register(flush)
    forks.register(handler)


def formatter_from_environment() -> logging.Formatter:
    """Return the formatter that LOG_FORMAT names.

    Raises:
        ConfigError: if LOG_FORMAT names another format.
    """
    name = os.environ.get("LOG_FORMAT") or "text"
    if name not in _FORMATTERS:
        raise ConfigError(f"LOG_FORMAT={name!r} is wrong: it should be {' or '.join(_FORMATTERS)}")
    return _FORMATTERS[name]


def flush() -> None:
    """Wait until all records so far are written, at most `FLUSH_S`."""
    written = threading.Event()
    try:
        _lines.put_nowait(written)
    except queue.Full:
        return
    written.wait(FLUSH_S)


class _Enqueue(QueueHandler):
    def __init__(self, lines: queue.Queue[Line], formatter: logging.Formatter) -> None:
        super().__init__(lines)
        self._formatter = formatter
        self._is_forked = False

    def leave_to_parent(self) -> None:
        """In a forked child, which has no thread that writes: write each line at once."""
        self._is_forked = True
        atexit.unregister(flush)

    def enqueue(self, record: logging.LogRecord) -> None:
        if self._is_forked:
            _write_line(self._formatter, record)
            return
        with contextlib.suppress(queue.Full):
            super().enqueue(record)


def _write(formatter: logging.Formatter) -> None:
    # Use os.write, not a stream object: a write that blocks would hold the lock of the stream, and the interpreter
    # would wait for that lock when it ends.
    while True:
        line = _lines.get()
        if isinstance(line, threading.Event):
            line.set()
            continue
        _write_line(formatter, line)


def _write_line(formatter: logging.Formatter, record: logging.LogRecord) -> None:
    with contextlib.suppress(Exception):  # a write that fails, on a full disk, must not end this thread
        rest = (formatter.format(record) + "\n").encode(errors="backslashreplace")
        while rest:
            rest = rest[os.write(_STANDARD_ERROR, rest) :]
