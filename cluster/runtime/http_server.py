"""The HTTP server of a process: a few fixed paths, served by threads of its own. It does not know what a path means."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from wsgiref.types import StartResponse, WSGIEnvironment

import waitress

from cluster.runtime import forks
from cluster.runtime.settings import bind_error, split_host_port
from cluster.runtime.threads import ServerThread

MAX_BODY_BYTES = 1024 * 1024
"""The server refuses a request whose body has this size, in bytes, and does not read the body. No path takes one."""

MAX_CONNECTIONS = 300
"""Most connections, unless the process has fewer descriptors."""

IDLE_TIMEOUT_S = 10
"""How long a connection may bring nothing, in seconds."""

CLEANUP_INTERVAL_S = 2
"""Seconds between two checks for idle connections."""


@dataclass(frozen=True, slots=True)
class Response:
    """The response of a path."""

    body: bytes
    status: HTTPStatus = HTTPStatus.OK
    content_type: str = "text/plain; charset=utf-8"


def text_response(body: str, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """Return a response with one line of text."""
    return Response(f"{body}\n".encode(), status)


Handler = Callable[[], Response]


class HttpServer:
    """Serves GET and HEAD on a fixed set of paths; the answer to anything else is 404 or 405."""

    def __init__(
        self, setting: str, address: str, handlers: Mapping[str, Handler], *, max_connections: int = MAX_CONNECTIONS
    ) -> None:
        """Bind the address; `start` serves it.

        Args:
            setting: the name of the setting that holds the address, for the error.
            address: `host:port`.
            handlers: one function for each path; the server's threads call them.
            max_connections: most connections; further ones wait until one ends.

        Raises:
            ConfigError: if the address is in use or does not belong to this machine.
        """
        self._handlers = handlers
        self._map: dict[int, object] = {}  # by descriptor, everything that the server has open
        host, port = split_host_port(address)
        try:
            self._server = waitress.create_server(
                self._application,
                host=host,
                port=port,
                threads=4,
                ident="cluster",
                map=self._map,
                asyncore_use_poll=True,  # select() fails at descriptor 1,024, and a broker has one for each client
                max_request_body_size=MAX_BODY_BYTES,
                inbuf_overflow=2 * MAX_BODY_BYTES,  # no body is written to the disk
                connection_limit=max_connections,
                channel_timeout=IDLE_TIMEOUT_S,
                cleanup_interval=CLEANUP_INTERVAL_S,
                log_socket_errors=False,  # a peer that goes away, or a lack of descriptors, must not fill the log
            )
        except (OSError, ValueError) as error:  # waitress raises ValueError for a name that does not resolve
            raise bind_error(setting, address, error) from error
        self._thread = ServerThread(target=self._run, name="http", daemon=True)
        forks.register(self)

    def start(self) -> None:
        """Start the threads that serve requests until the process ends."""
        self._thread.start()

    def leave_to_parent(self) -> None:
        """In a forked child: release the port, and the connections."""
        for descriptor in list(self._map):
            forks.hide(descriptor)

    def _run(self) -> None:
        self._server.run()
        raise RuntimeError("the HTTP server has ended by itself")

    def _application(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        handler = self._handlers.get(environ["PATH_INFO"])
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            response = text_response("only GET and HEAD are allowed", HTTPStatus.METHOD_NOT_ALLOWED)
        elif handler is None:
            response = text_response(f"no such page; the pages are {', '.join(self._handlers)}", HTTPStatus.NOT_FOUND)
        else:
            response = handler()
        status = f"{response.status.value} {response.status.phrase}"
        headers = [("Content-Type", response.content_type), ("Content-Length", str(len(response.body)))]
        start_response(status, headers)
        return [response.body] if environ["REQUEST_METHOD"] == "GET" else []
