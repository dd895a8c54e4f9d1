"""The systems under test: the commands that start them, their addresses, and their load."""

import json
import os
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
SERVICES = REPOSITORY / "bench" / "services"
PEERS = REPOSITORY / "bench" / "peers"
PEER_VENVS = REPOSITORY / ".venv-peers"

FIRST_PORT, PORTS_PER_SYSTEM = 14_200, 100
"""Several systems run at the same time, so each has a block of ports. The load goes to the first port of the block."""

ZERORPC = "zerorpc"
HTTP = "http"

FLOWER = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
SPECIES = "setosa"
"""The input of every call, and a word that a correct answer contains."""


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
        protocol: `ZERORPC` or `HTTP`.
        address: the target of the load: a ZeroMQ endpoint, or a URL.
        broker_http: HTTP address of this project's broker, host:port; empty for other systems.
        procedure: name of the ZeroRPC procedure to call.
        body: body of an HTTP request.
        options: further options of scripts/load.py.
        workers: number of workers that the broker must know before the load starts.
        family: name of the product. Several settings of one product are compared by the best one at each load.
        can_idle: whether the system uses almost no CPU time without calls, so that other systems can be measured
            while it runs.
    """

    key: str
    title: str
    processes: tuple[Process, ...]
    protocol: str = ZERORPC
    address: str = f"tcp://127.0.0.1:{FIRST_PORT}"
    broker_http: str = ""
    procedure: str = "iris_model_predict"
    body: str = json.dumps(FLOWER)
    options: tuple[str, ...] = ()
    workers: int = 0
    family: str = ""
    can_idle: bool = True


def endpoints(port_block: int) -> tuple[str, str]:
    """Return the endpoints for clients and for workers in a block of ports."""
    port = FIRST_PORT + PORTS_PER_SYSTEM * port_block
    return f"tcp://127.0.0.1:{port}", f"tcp://127.0.0.1:{port + 1}"


def cluster(
    key: str, title: str, workers: int, config: str = "", procedure: str = "iris_model_predict", port_block: int = 0
) -> System:
    """Return this cluster with default settings.

    Args:
        key: as in `System`.
        title: as in `System`.
        workers: number of workers.
        config: value of APP_SETTINGS; empty for the default.
        procedure: as in `System`.
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
    settings = {"APP_SETTINGS": config} if config else {}
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
        broker_http=f"127.0.0.1:{first_http}",
        procedure=procedure,
        workers=workers,
    )


def service_process(name: str, *arguments: str) -> Process:
    """Return the process of a program in `services`."""
    return Process((sys.executable, str(SERVICES / f"{name}.py"), *arguments), {"PYTHONPATH": str(REPOSITORY)})


def zerorpc_systems() -> list[System]:
    """Return the systems that speak ZeroRPC."""
    endpoint, _ = endpoints(0)
    frontend, backend = endpoints(1)
    proxy = service_process("proxy", frontend, backend)
    stock = service_process("stock_server", "connect", backend)
    return [
        System(
            "stock", "one stock zerorpc.Server", (service_process("stock_server", "bind", endpoint),), address=endpoint
        ),
        System("proxy", "zmq.proxy, 2 stock servers", (proxy, stock, stock), address=frontend),
        cluster("cluster-1", "this cluster, 1 worker", 1, port_block=2),
        cluster("cluster-2", "this cluster, 2 workers", 2, port_block=3),
    ]


def echo_systems() -> list[System]:
    """Return a proxy and the broker, with workers that answer at once."""
    frontend, backend = endpoints(4)
    worker = service_process("echo_worker", "proxy", backend)
    processes = (service_process("proxy", frontend, backend), worker, worker)
    return [
        System("echo-proxy", "zmq.proxy, 2 echo workers", processes, address=frontend),
        echo_cluster("echo-broker", "this broker, 2 echo workers", port_block=5),
    ]


def echo_cluster(key: str, title: str, *arguments: str, procedure: str = "echo_predict", port_block: int = 0) -> System:
    """Return this broker with two workers that answer at once; they get `arguments`."""
    _, backend = endpoints(port_block)
    worker = service_process("echo_worker", "broker", backend, *arguments)
    bare = cluster(key, title, 0, procedure=procedure, port_block=port_block)
    return replace(bare, processes=(*bare.processes, worker, worker), workers=2)


def peer_systems() -> list[System]:
    """Return other model servers, each with two workers, in several settings."""
    systems: list[System] = []
    command: tuple[str, ...]
    for port_block, batch in ((6, 1), (7, 16), (8, 64)):
        command = ("python", str(PEERS / "mosec_server.py"), "--port", _PORT)
        systems.append(_peer("mosec", batch, command, "/inference", port_block=port_block))
    for batch in (1, 64):
        systems.append(_peer("litserve", batch, ("python", str(PEERS / "litserve_server.py")), "/predict"))
    for batch in (1, 64):
        command = ("bentoml", "serve", "bentoml_server:IrisService", "--working-dir", str(PEERS))
        command += ("--host", "127.0.0.1", "--port", _PORT)
        systems.append(_peer("bentoml", batch, command, "/predict", json.dumps({"rows": [FLOWER]})))
    for batch in (1, 64):
        systems.append(_peer("ray", batch, ("python", str(PEERS / "ray_server.py")), "/predict"))
    tensor = {"name": "measurements", "shape": [1, 4], "datatype": "FP64", "data": list(FLOWER.values())}
    for batch in (1, 64):
        command = ("mlserver", "start", str(PEERS / "mlserver"))
        systems.append(_peer("mlserver", batch, command, "/v2/models/iris/infer", json.dumps({"inputs": [tensor]})))
    uvicorn = ("python", "-m", "uvicorn", "fastapi_server:app", "--workers", "2", "--port", _PORT)
    systems.append(_peer("fastapi", 1, (*uvicorn, "--no-access-log"), "/predict", port_block=9))
    return systems


_PORT = "{port}"
"""Placeholder for the port in the command of a peer."""


def _peer(
    family: str,
    batch: int,
    command: tuple[str, ...],
    path: str,
    body: str = json.dumps(FLOWER),
    port_block: int | None = None,
) -> System:
    """Return a setting of a server in its virtual environment. Without a block of ports, the server must run alone."""
    port = FIRST_PORT + PORTS_PER_SYSTEM * (port_block or 0)
    scripts = PEER_VENVS / family / "bin"
    environment = {
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(PEERS),
        "BENCH_BATCH": str(batch),
        "BENCH_PORT": str(port),
        "MLSERVER_HTTP_PORT": str(port),
        "MLSERVER_GRPC_PORT": str(port + 1),
        "MLSERVER_METRICS_PORT": str(port + 2),
        "MLSERVER_MODEL_MAX_BATCH_SIZE": str(batch if batch > 1 else 0),
        "MLSERVER_MODEL_MAX_BATCH_TIME": "0.001" if batch > 1 else "0",
    }
    arguments = (argument.replace(_PORT, str(port)) for argument in command[1:])
    process = Process((str(scripts / command[0]), *arguments), environment)
    url = f"http://127.0.0.1:{port}{path}"
    title = f"{family}, batch {batch}" if family != "fastapi" else "fastapi, uvicorn"
    return System(
        f"{family}-{batch}", title, (process,), HTTP, url, body=body, family=family, can_idle=port_block is not None
    )
