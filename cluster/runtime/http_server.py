"""A process's HTTP endpoint: a few fixed paths, answered in threads of their own. Knows nothing of what they say."""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from wsgiref.types import StartResponse, WSGIEnvironment

import waitress

from cluster.runtime.settings import bind_error, split_host_port


@dataclass(frozen=True, slots=True)
class Response:
    """What a path answers."""

    body: bytes
    status: HTTPStatus = HTTPStatus.OK
    content_type: str = "text/plain; charset=utf-8"


def text_response(body: str, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """A line of text for a person."""
    return Response(f"{body}\n".encode(), status)


Handler = Callable[[], Response]


class HttpServer:
    """Answers GET and HEAD on a fixed set of paths; anything else is 404 or 405."""

    def __init__(self, setting: str, address: str, handlers: Mapping[str, Handler]) -> None:
        """Bind; `start` answers.

        Args:
            setting: the name of the setting that the address comes from, for the error.
            address: `host:port`.
            handlers: what to answer, by path; called in the endpoint's threads.

        Raises:
            ConfigError: if the address is in use or is none of this machine's.
        """
        self._handlers = handlers
        host, port = split_host_port(address)
        try:
            self._server = waitress.create_server(self._application, host=host, port=port, threads=4, ident="cluster")
        except (OSError, ValueError) as error:  # waitress turns a name that does not resolve into a ValueError
            raise bind_error(setting, address, error) from error
        self._thread = threading.Thread(target=self._server.run, name="http", daemon=True)

    def start(self) -> None:
        """Answer from now on until the process ends, in threads of its own."""
        self._thread.start()

    def _application(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        handler = self._handlers.get(environ["PATH_INFO"])
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            response = text_response("only GET is answered here", HTTPStatus.METHOD_NOT_ALLOWED)
        elif handler is None:
            response = text_response(f"no such page; there are {', '.join(self._handlers)}", HTTPStatus.NOT_FOUND)
        else:
            response = handler()
        status = f"{response.status.value} {response.status.phrase}"
        headers = [("Content-Type", response.content_type), ("Content-Length", str(len(response.body)))]
        start_response(status, headers)
        return [response.body] if environ["REQUEST_METHOD"] == "GET" else []
