"""The addresses of the cluster before a start: they must be free, and a sentence says who has one that is not."""

import contextlib
import errno
from dataclasses import replace

import psutil

from cluster.runtime.settings import bind_error, split_host_port
from scripts.cluster_settings import ClusterSettings, fail
from zmtp.endpoint import TcpEndpoint
from zmtp.listen import listen

_LAST_PORT = 65535


def check_free(made: ClusterSettings) -> None:
    """Bind each address and release it again; one that is taken ends the command."""
    addresses = [
        ("BROKER_FRONTEND", made.broker.frontend),
        ("BROKER_BACKEND", made.broker.backend),
        ("BROKER_HTTP", made.broker.http),
        *(("WORKER_HTTP", address) for address in _worker_addresses(made)),
    ]
    for setting, address in addresses:
        if address.startswith("ipc://"):
            continue  # the broker itself looks at what is there
        error = _bind(address)
        if error is not None:
            who = _listener(address) if error.errno == errno.EADDRINUSE else ""
            fail(f"{bind_error(setting, address, error)}{who}")


def with_free_worker_ports(made: ClusterSettings) -> ClusterSettings:
    """Return settings with the first ports from `WORKER_HTTP` on that are free for all workers."""
    host, _, first = made.worker.http.rpartition(":")
    _, broker_http = split_host_port(made.broker.http)
    for port in range(int(first), _LAST_PORT - made.workers + 2):
        moved = replace(made, worker=made.worker.model_copy(update={"http": f"{host}:{port}"}))
        if not port <= broker_http < port + made.workers and not any(map(_bind, _worker_addresses(moved))):
            return moved
    return made  # the check of all addresses says what is wrong


def _worker_addresses(made: ClusterSettings) -> list[str]:
    _, first = split_host_port(made.worker.http)
    return [made.worker_address(f"worker-{port}") for port in range(first, first + made.workers)]


def _bind(address: str) -> OSError | None:
    """Return why an address cannot be bound; None if it can."""
    try:
        listen(TcpEndpoint(*split_host_port(address.removeprefix("tcp://")))).close()
    except OSError as error:
        return error
    return None


def _listener(address: str) -> str:
    """Name the process that listens at an address, as far as this user may see it."""
    _, port = split_host_port(address.removeprefix("tcp://"))
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
            if listens and connection.pid:
                process = psutil.Process(connection.pid)
                return f". It is pid {process.pid}, {' '.join(process.cmdline())[:200]!r}, started in {process.cwd()}"
    return ""
