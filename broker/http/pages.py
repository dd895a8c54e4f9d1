"""The broker's HTTP pages. The message loop copies what a page needs, in slices; the HTTP threads make the page."""

import json
import time
from http import HTTPStatus

from prometheus_client import CONTENT_TYPE_LATEST

from broker.core.core import Core
from broker.http import metrics, status
from broker.io.loop import Loop
from cluster.runtime.http_server import Handler, Response, text_response


def pages(core: Core, loop: Loop, expected_models: list[str]) -> dict[str, Handler]:
    """Return the handlers, by path."""
    registry = metrics.registry(core, loop.ask)

    def show_metrics() -> Response:
        return Response(metrics.page(registry), content_type=CONTENT_TYPE_LATEST)

    def healthz() -> Response:
        loop.ask(lambda: None)
        return text_response("ok")

    def readyz() -> Response:
        draining, is_empty, missing, withheld = status.readiness(core, loop.ask, expected_models)
        if draining:
            return text_response("the broker is draining", HTTPStatus.SERVICE_UNAVAILABLE)
        if missing:
            return text_response(f"no ready worker hosts {', '.join(missing)}", HTTPStatus.SERVICE_UNAVAILABLE)
        if is_empty:
            return text_response("no worker has registered yet", HTTPStatus.SERVICE_UNAVAILABLE)
        if withheld:
            return text_response(f"ready; configured and unloaded: {', '.join(withheld)}")
        return text_response("ready")

    def workers() -> Response:
        return _json(status.workers(core, loop.ask, time.monotonic()))

    def prometheus_targets() -> Response:
        return _json(status.prometheus_targets(core, loop.ask))

    handlers: dict[str, Handler] = {
        "/metrics": show_metrics,
        "/healthz": healthz,
        "/readyz": readyz,
        "/workers": workers,
        "/prometheus/targets": prometheus_targets,
    }
    return {path: _in_time(handler) for path, handler in handlers.items()}


def _in_time(handler: Handler) -> Handler:
    def answer() -> Response:
        try:
            return handler()
        except TimeoutError:
            return text_response("the message loop does not respond", HTTPStatus.SERVICE_UNAVAILABLE)

    return answer


def _json(value: object) -> Response:
    return Response(json.dumps(value, indent=1).encode() + b"\n", content_type="application/json")
