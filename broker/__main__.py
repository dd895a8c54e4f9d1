"""`python -m broker`: settings, sockets, signals, then the loop."""

import logging
import signal
from types import FrameType

from broker import process
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


def main() -> None:
    """Run a broker until SIGTERM or SIGINT; a second one ends it at once."""
    process.interrupt_nobody()
    process.keep_memory()
    try:
        logs.configure()
        process.allow_many_connections()
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


if __name__ == "__main__":
    main()
