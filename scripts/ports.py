"""Checks before a start that the cluster's addresses are free, so that a taken one is a sentence and not a log."""

from cluster.runtime.settings import bind_error, split_host_port
from scripts.cluster_settings import ClusterSettings, fail
from zmtp.endpoint import TcpEndpoint
from zmtp.listen import listen


def check_free(made: ClusterSettings) -> None:
    """Bind each address and release it again; one that is taken ends the command."""
    _, first = split_host_port(made.worker.http)
    addresses = [
        ("BROKER_FRONTEND", made.broker.frontend),
        ("BROKER_BACKEND", made.broker.backend),
        ("BROKER_HTTP", made.broker.http),
        *(("WORKER_HTTP", made.worker_address(f"worker-{port}")) for port in range(first, first + made.workers)),
    ]
    for setting, address in addresses:
        if address.startswith("ipc://"):
            continue  # the broker itself looks at what is there
        try:
            listen(TcpEndpoint(*split_host_port(address.removeprefix("tcp://")))).close()
        except OSError as error:
            fail(str(bind_error(setting, address, error)))
