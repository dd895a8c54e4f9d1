"""How every process of the cluster writes its log: one line a record, to standard error, in a thread of its own.

Whoever reads the log may stop reading it, and then a write never returns. Serving must go on all the same, so lines
wait in a queue, and those that find it full are dropped.
"""

import atexit
import contextlib
import logging
import os
import queue
import threading
from logging.handlers import QueueHandler

from pythonjsonlogger.json import JsonFormatter

from cluster.runtime.settings import ConfigError

MAX_QUEUED_LINES = 10_000
"""Lines that may wait for the log's reader; the next ones are dropped."""

FLUSH_S = 1.0
"""How long the last lines may take when the process ends, in seconds."""

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
"""A record, or what is set when all records before it have been written."""

_lines: queue.Queue[Line] = queue.Queue(MAX_QUEUED_LINES)


def configure() -> None:
    """Set up the root logger, in the format that LOG_FORMAT names.

    Raises:
        ConfigError: if there is no such format.
    """
    formatter = formatter_from_environment()
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.addHandler(_Enqueue(_lines))
    threading.Thread(target=_write, args=[formatter], name="log", daemon=True).start()
    atexit.register(flush)


def formatter_from_environment() -> logging.Formatter:
    """What LOG_FORMAT names.

    Raises:
        ConfigError: if there is no such format.
    """
    name = os.environ.get("LOG_FORMAT") or "text"
    if name not in _FORMATTERS:
        raise ConfigError(f"LOG_FORMAT={name!r} is wrong: it should be {' or '.join(_FORMATTERS)}")
    return _FORMATTERS[name]


def flush() -> None:
    """Wait until what was logged has been written, if anybody reads it."""
    written = threading.Event()
    try:
        _lines.put_nowait(written)
    except queue.Full:
        return
    written.wait(FLUSH_S)


class _Enqueue(QueueHandler):
    def enqueue(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(queue.Full):
            super().enqueue(record)


def _write(formatter: logging.Formatter) -> None:
    # With no object that takes a lock: a write that never returns would keep it, and Python's end would wait for it.
    while True:
        line = _lines.get()
        if isinstance(line, threading.Event):
            line.set()
            continue
        with contextlib.suppress(Exception):  # a line that cannot be written, on a full disk, must not be the last
            rest = (formatter.format(line) + "\n").encode(errors="backslashreplace")
            while rest:
                rest = rest[os.write(_STANDARD_ERROR, rest) :]
