"""Endpoints, `tcp://host:port` and `ipc://path`: parsed, written, and resolved to an address to connect to."""

import socket
from typing import NamedTuple

_MAX_PORT = 65535


class TcpEndpoint(NamedTuple):
    """`tcp://host:port`.

    Attributes:
        host: a name or an address; an IPv6 address has no brackets here. `*` is every address of this machine.
        port: 0 to listen at a port that the system chooses.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"tcp://[{self.host}]:{self.port}" if ":" in self.host else f"tcp://{self.host}:{self.port}"


class IpcEndpoint(NamedTuple):
    """`ipc://path`, a socket in the file system."""

    path: str

    def __str__(self) -> str:
        return f"ipc://{self.path}"


Endpoint = TcpEndpoint | IpcEndpoint


def parse_endpoint(text: str) -> Endpoint:
    """Parse an endpoint.

    Raises:
        ValueError: if it has neither form.
    """
    transport, _, address = text.partition("://")
    if transport == "ipc" and address:
        return IpcEndpoint(address)
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if transport != "tcp" or not host or not (port.isascii() and port.isdecimal()) or int(port) > _MAX_PORT:
        raise ValueError(f"an endpoint should be tcp://host:port or ipc://path, not {text!r}")
    return TcpEndpoint(host, int(port))


def resolve(endpoint: Endpoint) -> tuple[int, tuple[object, ...] | str]:
    """Look up where to connect to; return the address family and the address.

    A name means its IPv4 address, as for libzmq, or its IPv6 address if it has no other.

    Raises:
        OSError: if the host is unknown, or no name that could exist.
    """
    if isinstance(endpoint, IpcEndpoint):
        return socket.AF_UNIX, endpoint.path
    host, port = endpoint
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise OSError(f"{host!r} is not the name of a host: {error}") from error
    family, _, _, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    return family, address
