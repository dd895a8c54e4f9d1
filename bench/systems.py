"""The systems under test: the commands that start them, their addresses, and their load."""

import os
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench import workloads
from bench.generator import http_request, zerorpc_request
from bench.workloads import Workload

REPOSITORY = Path(__file__).resolve().parents[1]
SERVICES = REPOSITORY / "bench" / "services"
PEERS = REPOSITORY / "bench" / "peers"
PEER_VENVS = REPOSITORY / ".venv-peers"

FIRST_PORT, PORTS_PER_SYSTEM = 14_200, 100
"""Several systems run at the same time, so each has a block of ports. The load goes to the first port of the block."""


@dataclass(frozen=True, eq=False)
class Process:
    """A program of a system: its command, and additional environment variables."""

    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class System:
    """A system under test.

    Attributes:
        key: name of the system in results and on the command line.
        title: name of the system in tables.
        processes: the programs of the system, in the order of their start.
        address: the target of the load: a ZeroMQ endpoint, or a URL.
        request: the bytes of a call (`bench.generator`).
        contains: what a correct answer contains; empty if every answer must equal the first one.
        broker_http: HTTP address of this project's broker, host:port; empty for other systems.
        script_options: options of scripts/load.py, if that makes the load, because it can use keys.
        workers: number of workers that the broker must know before the load starts.
        family: name of the product, for other model servers. Several settings of one product are compared by the best
            one at each load.
        can_idle: whether the system uses almost no CPU time without calls, so that other systems can be measured
            while it runs.
    """

    key: str
    title: str
    processes: tuple[Process, ...]
    address: str
    request: bytes
    contains: str = ""
    broker_http: str = ""
    script_options: tuple[str, ...] | None = None
    workers: int = 0
    family: str = ""
    can_idle: bool = True

    @property
    def is_http(self) -> bool:
        """Whether it speaks HTTP; otherwise ZeroRPC."""
        return self.address.startswith("http:")


def endpoints(port_block: int) -> tuple[str, str]:
    """Return the endpoints for clients and for workers in a block of ports."""
    port = FIRST_PORT + PORTS_PER_SYSTEM * port_block
    return f"tcp://127.0.0.1:{port}", f"tcp://127.0.0.1:{port + 1}"


def cluster(key: str, title: str, workers: int, workload: Workload = workloads.ROW, port_block: int = 0) -> System:
    """Return this cluster with default settings.

    Args:
        key: as in `System`.
        title: as in `System`.
        workers: number of workers.
        workload: what to call, of which models.
        port_block: number of the block of ports.
    """
    frontend, backend = endpoints(port_block)
    first_http = FIRST_PORT + PORTS_PER_SYSTEM * port_block + 2
    broker = Process(
        (sys.executable, "-m", "broker"),
        {
            "BROKER_FRONTEND": frontend,
            "BROKER_BACKEND": backend,
            "BROKER_HTTP": f"127.0.0.1:{first_http}",
            "BROKER_ADMIN": "",
        },
    )
    settings = {"APP_SETTINGS": workload.config} if workload.config else {}
    worker_processes = [
        Process(
            (sys.executable, "-m", "worker"),
            {"WORKER_BROKER": backend, "WORKER_HTTP": f"127.0.0.1:{first_http + 1 + i}", **settings},
        )
        for i in range(workers)
    ]
    return System(
        key,
        title,
        (broker, *worker_processes),
        address=frontend,
        request=zerorpc_request(workload.procedure, workload.argument),
        broker_http=f"127.0.0.1:{first_http}",
        workers=workers,
    )


def service_process(name: str, *arguments: str) -> Process:
    """Return the process of a program in `services`."""
    return Process((sys.executable, str(SERVICES / f"{name}.py"), *arguments), {"PYTHONPATH": str(REPOSITORY)})


def zerorpc_systems() -> list[System]:
    """Return the systems that speak ZeroRPC, for one row of the iris model."""
    endpoint, _ = endpoints(0)
    frontend, backend = endpoints(1)
    proxy = service_process("proxy", frontend, backend)
    stock = service_process("stock_server", "connect", backend)
    alone = service_process("stock_server", "bind", endpoint)
    request = zerorpc_request(workloads.ROW.procedure, workloads.ROW.argument)
    return [
        System("stock", "one stock zerorpc.Server", (alone,), endpoint, request),
        System("proxy", "zmq.proxy, 2 stock servers", (proxy, stock, stock), frontend, request),
        cluster("cluster-1", "this cluster, 1 worker", 1, port_block=2),
        cluster_of_two(workloads.ROW),
    ]


def cluster_of_two(workload: Workload) -> System:
    """Return this cluster as it is delivered: with two workers."""
    return cluster("cluster-2", "this cluster, 2 workers", 2, workload, port_block=3)


ECHO_REQUEST = zerorpc_request("echo_predict", workloads.FLOWER)


def echo_systems() -> list[System]:
    """Return a proxy and the broker, with workers that answer at once."""
    frontend, backend = endpoints(4)
    worker = service_process("echo_worker", "proxy", backend)
    processes = (service_process("proxy", frontend, backend), worker, worker)
    return [
        System("echo-proxy", "zmq.proxy, 2 echo workers", processes, frontend, ECHO_REQUEST),
        echo_cluster("echo-broker", "this broker, 2 echo workers", port_block=5),
    ]


def echo_cluster(key: str, title: str, *arguments: str, request: bytes = ECHO_REQUEST, port_block: int = 0) -> System:
    """Return this broker with two workers that answer at once; they get `arguments`."""
    _, backend = endpoints(port_block)
    worker = service_process("echo_worker", "broker", backend, *arguments)
    bare = cluster(key, title, 0, port_block=port_block)
    return replace(bare, processes=(*bare.processes, worker, worker), request=request, workers=2)


_PORT = "{port}"
"""Placeholder for the port in the command of a peer."""

_COMMANDS = {
    "mosec": (("python", str(PEERS / "mosec_server.py"), "--port", _PORT), "/inference"),
    "fastapi": (
        ("python", "-m", "uvicorn", "fastapi_server:app", "--workers", "2", "--port", _PORT, "--no-access-log"),
        "/predict",
    ),
    "litserve": (("python", str(PEERS / "litserve_server.py")), "/predict"),
    "bentoml": (
        ("bentoml", "serve", "bentoml_server:ModelService", "--working-dir", str(PEERS), "--port", _PORT),
        "/predict",
    ),
    "ray": (("python", str(PEERS / "ray_server.py")), "/predict"),
    "mlserver": (("mlserver", "start", str(PEERS / "mlserver")), "/v2/models/iris/infer"),
}
"""The other model servers: the command that starts each, and the path of its model."""

_BATCHES = {"mosec": (1, 16, 64), "fastapi": (1,)}
"""The largest batches with which a server is measured, if they are not 1 and 64. Only one row can be batched."""

_IDLING = ("mosec", "fastapi")
"""The servers that use no CPU time while they idle."""


def peer_systems(workload: Workload) -> list[System]:
    """Return the other model servers that can do this work, each with two workers, in several settings."""
    systems = []
    port_block = 6
    for family in _COMMANDS:
        if workload.items and family == "mlserver":
            continue  # it streams only without parallel workers
        for batch in _BATCHES.get(family, (1, 64)) if workload is workloads.ROW else (1,):
            systems.append(_peer(family, batch, workload, port_block))
            port_block += family in _IDLING
    return systems


def _peer(family: str, batch: int, workload: Workload, port_block: int) -> System:
    """Return a setting of a server in its virtual environment."""
    command, path = _COMMANDS[family]
    port = FIRST_PORT + PORTS_PER_SYSTEM * port_block
    scripts = PEER_VENVS / family / "bin"
    environment = {
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{PEERS}{os.pathsep}{REPOSITORY}",
        "BENCH_MODEL": workload.key,
        "BENCH_BATCH": str(batch),
        "BENCH_PORT": str(port),
        "BENTOML_HOST": "127.0.0.1",
        "MLSERVER_HTTP_PORT": str(port),
        "MLSERVER_GRPC_PORT": str(port + 1),
        "MLSERVER_METRICS_PORT": str(port + 2),
        "MLSERVER_MODEL_MAX_BATCH_SIZE": str(batch if batch > 1 else 0),
        "MLSERVER_MODEL_MAX_BATCH_TIME": "0.001" if batch > 1 else "0",
    }
    program, *arguments = (argument.replace(_PORT, str(port)) for argument in command)
    url = f"http://127.0.0.1:{port}{path}"
    return System(
        f"{family}-{batch}",
        f"{family}, batch {batch}" if len(_BATCHES.get(family, (1, 64))) > 1 else family,
        (Process((str(scripts / program), *arguments), environment),),
        url,
        http_request(url, *workload.http_body(family)),
        contains=workload.contains or ("outputs" if family == "mlserver" else ""),  # each answer has an id of its own
        family=family,
        can_idle=family in _IDLING,
    )
