"""The systems that are compared: how each one starts, its address, and the kind of load."""

import json
import os
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
SERVICES = REPOSITORY / "bench" / "services"
PEERS = REPOSITORY / "bench" / "peers"
PEER_VENVS = REPOSITORY / ".venv-peers"

FIRST_PORT, PORTS_OF_EACH = 14_200, 100
"""Each system has its own range of ports, because several run at once; the load goes to the first port."""

ZERORPC = "zerorpc"
HTTP = "http"

FLOWER = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
SPECIES = "setosa"
"""The input of every call, and a text that every answer must contain."""


@dataclass(frozen=True, eq=False)
class Process:
    """A program of a system: its command, and its additional environment variables."""

    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class System:
    """One of the systems under test.

    Attributes:
        key: names it in results and on the command line.
        title: names it in tables.
        processes: that it consists of, in the order of their start.
        protocol: `ZERORPC` or `HTTP`.
        address: where the load goes: a ZeroMQ endpoint, or a URL.
        broker_http: where this broker says which workers it has, host:port; empty if there is no such broker.
        procedure: what is called, where that has a name.
        body: of a request to an HTTP server.
        options: further ones for scripts/load.py.
        workers: how many the broker must know before it begins.
        family: systems of one family are settings of one product, of which the best counts at each load.
        rests: whether it takes next to nothing while nobody calls, so that others can be measured meanwhile.
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
    rests: bool = True


def endpoints(place: int) -> tuple[str, str]:
    """Return the addresses for clients and workers of the system at a place."""
    port = FIRST_PORT + PORTS_OF_EACH * place
    return f"tcp://127.0.0.1:{port}", f"tcp://127.0.0.1:{port + 1}"


def cluster(
    key: str, title: str, workers: int, config: str = "", procedure: str = "iris_model_predict", place: int = 0
) -> System:
    """Return this cluster with a number of workers and default settings."""
    frontend, backend = endpoints(place)
    first_http = FIRST_PORT + PORTS_OF_EACH * place + 2
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
    hosts = [
        Process(
            (sys.executable, "-m", "worker"),
            {"WORKER_BROKER": backend, "WORKER_HTTP": f"127.0.0.1:{first_http + 1 + i}", **settings},
        )
        for i in range(workers)
    ]
    return System(
        key,
        title,
        (broker, *hosts),
        address=frontend,
        broker_http=f"127.0.0.1:{first_http}",
        procedure=procedure,
        workers=workers,
    )


def service(name: str, *arguments: str) -> Process:
    """Return the process of a program in `services`."""
    return Process((sys.executable, str(SERVICES / f"{name}.py"), *arguments), {"PYTHONPATH": str(REPOSITORY)})


def of_zerorpc() -> list[System]:
    """Return the systems that speak ZeroRPC."""
    alone, _ = endpoints(0)
    frontend, backend = endpoints(1)
    proxy = service("proxy", frontend, backend)
    stock = service("stock_server", "connect", backend)
    return [
        System("stock", "one stock zerorpc.Server", (service("stock_server", "bind", alone),), address=alone),
        System("proxy", "zmq.proxy, 2 stock servers", (proxy, stock, stock), address=frontend),
        cluster("cluster-1", "this cluster, 1 worker", 1, place=2),
        cluster("cluster-2", "this cluster, 2 workers", 2, place=3),
    ]


def of_echo() -> list[System]:
    """Return brokers with workers that answer at once."""
    frontend, backend = endpoints(4)
    worker = service("echo_worker", "proxy", backend)
    processes = (service("proxy", frontend, backend), worker, worker)
    return [
        System("echo-proxy", "zmq.proxy, 2 echo workers", processes, address=frontend),
        echo("echo-broker", "this broker, 2 echo workers", place=5),
    ]


def echo(key: str, title: str, *arguments: str, procedure: str = "echo_predict", place: int = 0) -> System:
    """Return this broker with two workers that answer at once and take these arguments."""
    _, backend = endpoints(place)
    worker = service("echo_worker", "broker", backend, *arguments)
    bare = cluster(key, title, 0, procedure=procedure, place=place)
    return replace(bare, processes=(*bare.processes, worker, worker), workers=2)


def of_peers() -> list[System]:
    """Return other model servers, each with two workers and the settings that were tried."""
    made: list[System] = []
    command: tuple[str, ...]
    for place, batch in ((6, 1), (7, 16), (8, 64)):
        command = ("python", str(PEERS / "mosec_server.py"), "--port", _ITS_PORT)
        made.append(_peer("mosec", batch, command, "/inference", place=place))
    for batch in (1, 64):
        made.append(_peer("litserve", batch, ("python", str(PEERS / "litserve_server.py")), "/predict"))
    for batch in (1, 64):
        command = ("bentoml", "serve", "bentoml_server:IrisService", "--working-dir", str(PEERS))
        command += ("--host", "127.0.0.1", "--port", _ITS_PORT)
        made.append(_peer("bentoml", batch, command, "/predict", json.dumps({"rows": [FLOWER]})))
    for batch in (1, 64):
        made.append(_peer("ray", batch, ("python", str(PEERS / "ray_server.py")), "/predict"))
    tensor = {"name": "measurements", "shape": [1, 4], "datatype": "FP64", "data": list(FLOWER.values())}
    for batch in (1, 64):
        command = ("mlserver", "start", str(PEERS / "mlserver"))
        made.append(_peer("mlserver", batch, command, "/v2/models/iris/infer", json.dumps({"inputs": [tensor]})))
    uvicorn = ("python", "-m", "uvicorn", "fastapi_server:app", "--workers", "2", "--port", _ITS_PORT)
    made.append(_peer("fastapi", 1, (*uvicorn, "--no-access-log"), "/predict", place=9))
    return made


_ITS_PORT = "{port}"
"""Stands for the port in a peer's command."""


def _peer(
    family: str,
    batch: int,
    command: tuple[str, ...],
    path: str,
    body: str = json.dumps(FLOWER),
    place: int | None = None,
) -> System:
    """Return one setting of a server in its own virtual environment; without a place, it must run alone."""
    port = FIRST_PORT + PORTS_OF_EACH * (place or 0)
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
    arguments = (argument.replace(_ITS_PORT, str(port)) for argument in command[1:])
    process = Process((str(scripts / command[0]), *arguments), environment)
    url = f"http://127.0.0.1:{port}{path}"
    title = f"{family}, batch {batch}" if family != "fastapi" else "fastapi, uvicorn"
    return System(f"{family}-{batch}", title, (process,), HTTP, url, body=body, family=family, rests=place is not None)
