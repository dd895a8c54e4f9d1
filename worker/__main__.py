"""`python -m worker`: reads the settings, starts the HTTP pages, loads the models, and runs the server."""

import logging
import os
import signal
from types import FrameType

from cluster.runtime import logs, threads
from cluster.runtime.config_error import exit_config_error
from cluster.runtime.http_server import HttpServer
from cluster.runtime.settings import ConfigError, load_settings
from worker.http.metrics import WorkerMetrics
from worker.http.pages import pages
from worker.jobs.counters import WorkerCounters
from worker.loop.message_loop import RefusedError
from worker.loop.server import Server
from worker.loop.session import WorkerState
from worker.models.configuration import configured_entries
from worker.models.loadable import LoadableModules
from worker.models.manager import ModelManager
from worker.settings import WorkerSettings

log = logging.getLogger("worker")


def main() -> None:
    """Run a worker until SIGTERM or SIGINT. A second signal ends it at once."""
    counters = WorkerCounters()
    try:
        logs.configure()
        threads.end_with_any_thread()
        settings = load_settings(WorkerSettings)
        entries = configured_entries()
        manager = ModelManager(entries, settings.hosted_models())
        loadable = LoadableModules(settings.loadable_modules(), [entry.module_name for entry in entries])
        server = Server(settings, counters, loadable)
        # Before the models are loaded, so that /readyz answers meanwhile.
        http = HttpServer("WORKER_HTTP", settings.http, pages(server, WorkerMetrics(counters)))
    except ConfigError as error:
        exit_config_error(error)
    _stop_on_signals(server)
    http.start()
    try:
        server.serve(manager.load())
    except ConfigError as error:
        exit_config_error(error)
    except RefusedError as error:
        exit_config_error(error)
    finally:
        server.close()
    log.info("stopped")


def _stop_on_signals(server: Server) -> None:
    def stop(_signal: int, _frame: FrameType | None) -> None:
        if server.state == WorkerState.LOADING:
            # There are no calls to finish. Loading may take minutes, and a constructor may catch an exception.
            os._exit(0)
        server.stop()

    signal.set_wakeup_fd(server.signal_fd, warn_on_full_buffer=False)
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, stop)


if __name__ == "__main__":
    main()
