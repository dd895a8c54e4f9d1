"""Listening sockets: bound to an endpoint, non-blocking."""

import errno
import socket
from pathlib import Path

from zmtp.endpoint import Endpoint, IpcEndpoint, TcpEndpoint

BACKLOG = 4096
"""Most connections that wait to be accepted. The system may allow fewer."""


def listen(endpoint: Endpoint) -> socket.socket:
    """Listen at an endpoint.

    A socket file that another process has left behind is replaced. The caller makes sure that no process listens there.

    Raises:
        OSError: if the endpoint cannot be bound.
    """
    listener = _listen_ipc(endpoint.path) if isinstance(endpoint, IpcEndpoint) else _listen_tcp(*endpoint)
    listener.setblocking(False)
    return listener


def bound_endpoint(endpoint: Endpoint, listener: socket.socket) -> Endpoint:
    """The endpoint at which `listener` really listens: port 0 is replaced by the port that the system chose."""
    return endpoint if isinstance(endpoint, IpcEndpoint) else TcpEndpoint(endpoint.host, listener.getsockname()[1])


def _listen_ipc(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    if Path(path).is_socket():
        Path(path).unlink()
    try:
        listener.bind(path)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _listen_tcp(host: str, port: int) -> socket.socket:
    if host == "*":
        try:
            return _listen_tcp("::", port)
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise
            return _listen_tcp("0.0.0.0", port)  # the machine has no IPv6
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, *_, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    is_dual = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
    return socket.create_server(address, family=family, backlog=BACKLOG, dualstack_ipv6=is_dual)
