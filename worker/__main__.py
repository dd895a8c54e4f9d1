"""`python -m worker`: reads the settings, starts the HTTP pages, loads the models, and runs the server."""

import atexit
import logging
import os

from cluster.runtime import allocator, compiled, logs, standard_input
from cluster.runtime.config_error import exit_config_error
from cluster.runtime.http_server import HttpServer
from cluster.runtime.settings import ConfigError, load_settings, split_host_port
from worker.http.metrics import WorkerMetrics
from worker.http.pages import pages
from worker.jobs.counters import WorkerCounters
from worker.loop.message_loop import RefusedError
from worker.loop.server import Server
from worker.loop.session import WorkerState
from worker.models import own_metrics
from worker.models.configuration import configured_entries
from worker.models.loadable import LoadableModules
from worker.models.manager import ModelManager
from worker.process import devices, numeric_threads
from worker.process.ending import end_after
from worker.process.signals import StopSignals
from worker.settings import WorkerSettings

log = logging.getLogger("worker")


def main() -> None:
    """Run a worker until SIGTERM or SIGINT. A second signal ends it at once."""
    allocator.keep_memory()
    counters = WorkerCounters()
    try:
        logs.configure()
        standard_input.close()
        settings = load_settings(WorkerSettings)
        entries = configured_entries()
        devices.choose(settings.device_names(), split_host_port(settings.http)[1])
        numeric_threads.limit(max(entry.threads for entry in entries))
        own_metrics.install()
        manager = ModelManager(entries, settings.hosted_models())
        loadable = LoadableModules(settings.loadable_modules(), [entry.module_name for entry in entries])
        server = Server(settings, counters, loadable)
        atexit.register(server.close)  # when little time is left: libzmq may be looking up the broker's name
        # Before the models are loaded, so that /readyz answers meanwhile.
        http = HttpServer("WORKER_HTTP", settings.http, pages(server, WorkerMetrics(counters), own_metrics.as_text))
    except ConfigError as error:
        exit_config_error(error)
    if compiled.objection():
        log.warning("the core is not compiled: %s (run make down, then make up COMPILED=1)", compiled.objection())
    signals = StopSignals(server.signal_fd, lambda: _stop(server))
    http.start()
    try:
        server.serve(manager.load(), signals.take_back)
    except ConfigError as error:
        exit_config_error(error)
    except RefusedError as error:
        exit_config_error(error)
    log.info("stopped")


def _stop(server: Server) -> None:
    if server.state == WorkerState.LOADING:
        # There are no calls to finish. Loading may take minutes, and a constructor may catch an exception.
        os._exit(0)
    server.stop()


if __name__ == "__main__":
    end_after(main)
