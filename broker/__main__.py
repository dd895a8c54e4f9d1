"""`python -m broker`: settings, sockets, signals, then the loop."""

import logging
import os
import signal
from types import FrameType

from broker.core.core import Core
from broker.core.state.counters import BROKEN, CLIENT_SOCKET, WORKER_SOCKET
from broker.http.pages import pages
from broker.io import process
from broker.io.loop import Loop
from broker.io.peer_limits import divide
from broker.io.plan_writer import PlanWriter
from broker.io.security import Security, exposed
from broker.io.state_file import StateFile
from broker.settings import BrokerSettings
from cluster.runtime import allocator, compiled, logs, standard_input
from cluster.runtime.config_error import exit_config_error
from cluster.runtime.http_server import HttpServer
from cluster.runtime.settings import ConfigError, load_settings
from cluster.wire.server_events import INSTANCE_BYTES

log = logging.getLogger("broker")


def main() -> None:
    """Run a broker until SIGTERM or SIGINT; a second one ends it at once."""
    process.use_batch_scheduling()
    allocator.keep_memory()
    standard_input.close()
    try:
        logs.configure()
        process.raise_descriptor_limit()
        settings = load_settings(BrokerSettings)
        state = StateFile(settings.state)
        security = Security(settings)
        core = Core(
            max_message_bytes=settings.max_message_bytes,
            limits=settings.limits(),
            plan=state.read(),
            access=security.rules,
            servers=settings.servers(),
            instance=os.urandom(INSTANCE_BYTES),
        )
        core.counters.state_file[BROKEN] += state.was_broken
        connections = divide(process.descriptor_limit())
        loop = Loop(core, settings, PlanWriter(state.write, settings.state), connections, security)
        page_handlers = pages(core, loop, settings.expected())
        http = HttpServer("BROKER_HTTP", settings.http, page_handlers, max_connections=connections.http)
    except ConfigError as error:
        exit_config_error(error)

    def stop(_signal: int, _frame: FrameType | None) -> None:
        loop.stop()

    signal.set_wakeup_fd(loop.signal_fd, warn_on_full_buffer=False)
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, stop)
    http.start()
    security.watch(loop)
    _warn_if_exposed(settings, security)
    if compiled.is_used():
        log.info("the core is compiled")
    elif compiled.objection():
        log.warning("the core is not compiled: %s (run make down, then make up COMPILED=1)", compiled.objection())
    log.info("clients at %s, workers at %s, HTTP at %s", settings.frontend, settings.backend, settings.http)
    try:
        loop.run()
    finally:
        security.stop()
        loop.close()
    log.info("stopped")


def _warn_if_exposed(settings: BrokerSettings, security: Security) -> None:
    ports = {
        CLIENT_SOCKET: ("BROKER_FRONTEND", settings.frontend),
        WORKER_SOCKET: ("BROKER_BACKEND", settings.backend),
    }
    names = exposed(dict(port for socket, port in ports.items() if not security.is_keyed(socket)))
    if names:
        log.warning(
            "%s can be reached by other machines and has no keys: every peer is trusted (docs/security.md)",
            " and ".join(names),
        )


if __name__ == "__main__":
    main()
