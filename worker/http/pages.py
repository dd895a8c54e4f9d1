"""The worker's HTTP pages."""

import time
from http import HTTPStatus

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from cluster.runtime.http_server import Handler, Response, text_response
from worker.http.metrics import WorkerMetrics
from worker.loop.server import STATE_LOADING, STATE_READY, Server

STUCK_S = 5.0
"""Seconds without a turn of the message loop after which a worker calls itself unhealthy."""


def pages(server: Server, metrics: WorkerMetrics) -> dict[str, Handler]:
    """What the worker answers, by path."""

    def show_metrics() -> Response:
        return Response(generate_latest(metrics.registry), content_type=CONTENT_TYPE_LATEST)

    def healthz() -> Response:
        # While it loads its models there is no loop yet, and loading may take minutes.
        if server.state != STATE_LOADING and time.monotonic() - server.turned_s > STUCK_S:
            return text_response("the message loop does not turn", HTTPStatus.SERVICE_UNAVAILABLE)
        return text_response("ok")

    def readyz() -> Response:
        if server.state != STATE_READY:
            return text_response(f"this worker is {server.state}", HTTPStatus.SERVICE_UNAVAILABLE)
        return text_response("ready")

    return {"/metrics": show_metrics, "/healthz": healthz, "/readyz": readyz}
