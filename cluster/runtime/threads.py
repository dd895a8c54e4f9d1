"""The threads of a server. One that dies of an unforeseen exception ends its process.

A process without its HTTP server, its loader or its message loop looks alive and is not. supervisor starts a process
again that ends with this code. Threads that a model starts are the model's own: they may die.
"""

import logging
import os
import threading

from cluster.runtime import logs

log = logging.getLogger(__name__)

EXIT_CODE = 70
"""EX_SOFTWARE of sysexits.h: an internal error."""


class ServerThread(threading.Thread):
    """A daemon thread without which the process cannot serve."""

    def run(self) -> None:
        """Run the target. An exception ends the process, with the reason in the log."""
        try:
            super().run()
        except BaseException as error:
            log.critical("the thread %r died, so this process ends: %r", self.name, error, exc_info=error)
            logs.flush()
            os._exit(EXIT_CODE)
