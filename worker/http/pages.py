"""The worker's HTTP pages."""

import time
from collections.abc import Callable
from http import HTTPStatus

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from cluster.runtime.http_server import Handler, Response, text_response
from worker.http.metrics import WorkerMetrics
from worker.loop.server import Server
from worker.loop.session import WorkerState

STUCK_S = 5.0
"""Seconds without a turn of the message loop after which the worker is unhealthy."""


def pages(server: Server, metrics: WorkerMetrics, own_metrics: Callable[[], bytes]) -> dict[str, Handler]:
    """The pages of a worker, by path.

    Args:
        server: the worker.
        metrics: its metrics.
        own_metrics: returns those of its models, as text.
    """

    def show_metrics() -> Response:
        return Response(generate_latest(metrics.registry) + own_metrics(), content_type=CONTENT_TYPE_LATEST)

    def healthz() -> Response:
        # The loop does not run yet while the worker loads its models, which may take minutes.
        if server.state != WorkerState.LOADING and time.monotonic() - server.turned_s > STUCK_S:
            return text_response("the message loop does not turn", HTTPStatus.SERVICE_UNAVAILABLE)
        return text_response("ok")

    def readyz() -> Response:
        if server.state != WorkerState.READY:
            return text_response(f"this worker is {server.state}", HTTPStatus.SERVICE_UNAVAILABLE)
        return text_response("ready")

    return {"/metrics": show_metrics, "/healthz": healthz, "/readyz": readyz}
