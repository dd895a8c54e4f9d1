"""`python -m broker`: settings, sockets, signals, then the loop."""

import contextlib
import logging
import os
import resource
import signal
import sys
from types import FrameType

from broker.http import pages
from broker.loop import Loop
from broker.routing import Core
from broker.settings import BrokerSettings
from broker.state import StateFile
from cluster import logs
from cluster.endpoint import HttpEndpoint
from cluster.refusal import refuse
from cluster.settings import WrongSettingError, load

log = logging.getLogger("broker")

MOST_DESCRIPTORS = 65_536
"""Open connections and files that the broker asks the system for, if it may have so many."""


def main() -> None:
    """Run a broker until SIGTERM or SIGINT; a second one ends it at once."""
    _interrupt_nobody()
    try:
        logs.configure()
        _allow_many_connections()
        settings = load(BrokerSettings)
        state = StateFile(settings.state)
        core = Core(max_message_bytes=settings.max_message_bytes, limits=settings.limits(), plan=state.read())
        loop = Loop(core, settings, state.write)
        http = HttpEndpoint("BROKER_HTTP", settings.http, pages(core, loop, settings.expected()))
    except WrongSettingError as error:
        refuse(error)

    def stop(_signal: int, _frame: FrameType | None) -> None:
        loop.stop()

    signal.set_wakeup_fd(loop.signal_fd, warn_on_full_buffer=False)
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, stop)
    http.start()
    log.info("clients at %s, workers at %s, HTTP at %s", settings.frontend, settings.backend, settings.http)
    try:
        loop.run()
    finally:
        loop.close()
    log.info("stopped")


def _allow_many_connections() -> None:
    """Each client takes a descriptor, and the usual soft limit is for small programs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # a system may have a lower limit of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _interrupt_nobody() -> None:
    """Have the system let others go on while they run, instead of us in their place the moment that we wake.

    The first message of a burst wakes the broker. In the place of the peer that is still sending the rest it would find
    that one message, and send it on alone; after it, it finds them all (docs/performance.md).
    """
    if sys.platform == "linux" and os.sched_getscheduler(0) == os.SCHED_OTHER:  # or somebody has decided otherwise
        with contextlib.suppress(OSError):  # it is for speed alone, and a sandbox may forbid it
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


if __name__ == "__main__":
    main()
