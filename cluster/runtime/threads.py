"""Ends the process when one of its threads dies of an unforeseen exception.

A process without its HTTP server, its loader or its message loop looks alive and is not. supervisor starts a process
again that ends with this code.
"""

import logging
import os
import threading

from cluster.runtime import logs

log = logging.getLogger(__name__)

EXIT_CODE = 70
"""EX_SOFTWARE of sysexits.h: an internal error."""


def end_with_any_thread() -> None:
    """From now on, an exception that ends a thread ends the process, with the reason in the log."""
    threading.excepthook = _end_process


def _end_process(died: threading.ExceptHookArgs) -> None:
    name = died.thread.name if died.thread is not None else "unknown"
    error = died.exc_value
    log.critical("the thread %r died, so this process ends: %r", name, error, exc_info=error)
    logs.flush()
    os._exit(EXIT_CODE)
