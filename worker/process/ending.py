"""Ends a worker process, whatever its models have left behind.

An interpreter that ends waits for threads that are no daemons, for exit handlers, and for whatever a library has open.
A model's thread may run for ever, and a worker that does not end is killed much later.
"""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn

from cluster.runtime import logs
from cluster.runtime.threads import ServerThread

log = logging.getLogger(__name__)

GRACE_S = 3.0
"""How long exit handlers and other threads may take once the worker has nothing left to do, in seconds."""


def end_after(main: Callable[[], None]) -> NoReturn:
    """Run a program, and end the process at most `GRACE_S` after it has returned or raised."""
    code = 1
    try:
        main()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        raise
    except BaseException as error:
        log.critical("this worker ends: %r", error, exc_info=error)
        logs.flush()
    finally:
        ServerThread(target=_end_after_grace, args=[code], name="end", daemon=True).start()
    sys.exit(code)


def _end_after_grace(code: int) -> None:
    time.sleep(GRACE_S)
    main = threading.main_thread()
    left = [one.name for one in threading.enumerate() if not one.daemon and one is not main]
    log.warning("ending although not everything has ended: %s", ", ".join(left) or "an exit handler or a library")
    logs.flush()
    os._exit(code)
