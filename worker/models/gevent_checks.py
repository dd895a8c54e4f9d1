"""What a model may not do with gevent, on which zerorpc's clients run.

The worker runs on threads, without gevent. `monkey.patch_all()` replaces the threads of the whole process by greenlets,
which never run here. A client of zerorpc works only in the thread that made it, and a constructor runs in another
thread than `predict`.
"""

import logging
import sys
from typing import Any

from cluster.runtime.settings import ConfigError
from worker.models.entry import ModelEntry

log = logging.getLogger(__name__)

_PATCHED = ("thread", "threading", "socket", "select", "time", "queue")


class PatchedError(ConfigError):
    """The process has been patched by gevent, and cannot serve any more."""


def check_process(entry: ModelEntry, model: Any = None) -> None:
    """Check what a module or a constructor has done.

    Args:
        entry: whose module was imported, or whose model was made.
        model: the model; None if none has been made yet.

    Raises:
        PatchedError: if modules of the standard library are patched.
    """
    monkey = sys.modules.get("gevent.monkey")
    patched = [name for name in _PATCHED if monkey is not None and monkey.is_module_patched(name)]
    if patched:
        raise PatchedError(
            f"{entry.label}: its code has called gevent.monkey, which replaces {', '.join(patched)} in the whole "
            "process; the worker needs the real ones, and clients of zerorpc need no patches: remove the call"
        )
    if model is not None:
        _warn_of_clients(entry, model)


def _warn_of_clients(entry: ModelEntry, model: Any) -> None:
    zerorpc = sys.modules.get("zerorpc")
    client_class = getattr(zerorpc, "Client", None)
    if client_class is None:
        return
    for name, value in getattr(model, "__dict__", {}).items():
        if isinstance(value, client_class):
            log.warning(
                "%s keeps a zerorpc.Client as %r from its constructor: a client works only in the thread that made it, "
                "and predict runs in others; make one in predict, or one for each thread (docs/clients.md)",
                entry.label,
                name,
            )
