"""`python -m worker`: settings, HTTP, models, signals, then the loop."""

import logging
import os
import signal
from types import FrameType

from cluster.runtime import logs
from cluster.runtime.config_error import exit_config_error
from cluster.runtime.http_server import HttpServer
from cluster.runtime.settings import ConfigError, load_settings
from worker.http.metrics import WorkerMetrics
from worker.http.pages import pages
from worker.loop.server import STATE_LOADING, RefusedError, Server
from worker.models.models import ModelManager, configured_entries
from worker.settings import WorkerSettings

log = logging.getLogger("worker")


def main() -> None:
    """Run a worker until SIGTERM or SIGINT; a second one ends it at once."""
    metrics = WorkerMetrics()
    try:
        logs.configure()
        settings = load_settings(WorkerSettings)
        manager = ModelManager(configured_entries(), settings.hosted_models())
        server = Server(settings, metrics)
        # Before the models are loaded: while that takes its time, /readyz says so.
        http = HttpServer("WORKER_HTTP", settings.http, pages(server, metrics))
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
        if server.state == STATE_LOADING:
            # There is nothing to finish, loading may take minutes, and a constructor may catch what is raised here.
            os._exit(0)
        server.stop()

    signal.set_wakeup_fd(server.signal_fd, warn_on_full_buffer=False)
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, stop)


if __name__ == "__main__":
    main()
