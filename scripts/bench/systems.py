"""What is compared: how each system is started, where it is reached, and by what it is put under load."""

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SERVICES = REPOSITORY / "scripts" / "bench" / "services"
PEERS = REPOSITORY / "scripts" / "bench" / "peers"
PEER_VENVS = REPOSITORY / ".venv-peers"

FRONTEND, BACKEND, BROKER_HTTP, FIRST_WORKER_HTTP = 14242, 14243, 14420, 14421
PEER_PORT = 14500

ZERORPC = "zerorpc"
HTTP = "http"

FLOWER = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
SPECIES = "setosa"
"""What every system is asked, and what its answer must hold."""


@dataclass(frozen=True, eq=False)
class Process:
    """A program of a system: its command, and what its environment has beside the usual."""

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
        procedure: what is called, where that has a name.
        body: of a request to an HTTP server.
        options: further ones for scripts/load.py.
        workers: how many the broker must know before it begins.
        family: systems of one family are settings of one product, of which the best counts at each load.
    """

    key: str
    title: str
    processes: tuple[Process, ...]
    protocol: str = ZERORPC
    address: str = f"tcp://127.0.0.1:{FRONTEND}"
    procedure: str = "iris_model_predict"
    body: str = json.dumps(FLOWER)
    options: tuple[str, ...] = ()
    workers: int = 0
    family: str = ""


def cluster(key: str, title: str, workers: int, config: str = "", procedure: str = "iris_model_predict") -> System:
    """This cluster, with so many workers and otherwise as it comes."""
    broker = Process(
        (sys.executable, "-m", "broker"),
        {
            "BROKER_FRONTEND": f"tcp://127.0.0.1:{FRONTEND}",
            "BROKER_BACKEND": f"tcp://127.0.0.1:{BACKEND}",
            "BROKER_HTTP": f"127.0.0.1:{BROKER_HTTP}",
            "BROKER_ADMIN": "",
        },
    )
    settings = {"APP_SETTINGS": config} if config else {}
    hosts = [
        Process(
            (sys.executable, "-m", "worker"),
            {
                "WORKER_BROKER": f"tcp://127.0.0.1:{BACKEND}",
                "WORKER_HTTP": f"127.0.0.1:{FIRST_WORKER_HTTP + i}",
                **settings,
            },
        )
        for i in range(workers)
    ]
    return System(key, title, (broker, *hosts), procedure=procedure, workers=workers)


def service(name: str, *arguments: str) -> Process:
    """One of the programs in `services`."""
    return Process((sys.executable, str(SERVICES / f"{name}.py"), *arguments), {"PYTHONPATH": str(REPOSITORY)})


def of_zerorpc() -> list[System]:
    """What speaks ZeroRPC."""
    frontend, backend = f"tcp://127.0.0.1:{FRONTEND}", f"tcp://127.0.0.1:{BACKEND}"
    proxy = service("proxy", frontend, backend)
    stock = service("stock_server", "connect", backend)
    cluster_2 = cluster("cluster-2", "this cluster, 2 workers", 2)
    return [
        System("stock", "one stock zerorpc.Server", (service("stock_server", "bind", frontend),)),
        System("proxy", "zmq.proxy, 2 stock servers", (proxy, stock, stock)),
        cluster("cluster-1", "this cluster, 1 worker", 1),
        cluster_2,
    ]


def of_echo() -> list[System]:
    """Brokers with workers that answer at once."""
    frontend, backend = f"tcp://127.0.0.1:{FRONTEND}", f"tcp://127.0.0.1:{BACKEND}"
    by_proxy = service("echo_worker", "proxy", backend)
    by_broker = service("echo_worker", "broker", backend)
    broker = cluster("", "", 0).processes[0]
    return [
        System("echo-proxy", "zmq.proxy, 2 echo workers", (service("proxy", frontend, backend), by_proxy, by_proxy)),
        System(
            "echo-broker",
            "this broker, 2 echo workers",
            (broker, by_broker, by_broker),
            procedure="echo_predict",
            workers=2,
        ),
    ]


def of_peers() -> list[System]:
    """Other model servers, each with two workers and the settings that were tried."""
    made: list[System] = []
    command: tuple[str, ...]
    for batch in (1, 16, 64):
        command = ("python", str(PEERS / "mosec_server.py"), "--port", str(PEER_PORT))
        made.append(_peer("mosec", batch, command, "/inference"))
    for batch in (1, 64):
        made.append(_peer("litserve", batch, ("python", str(PEERS / "litserve_server.py")), "/predict"))
    for batch in (1, 64):
        command = ("bentoml", "serve", "bentoml_server:IrisService", "--working-dir", str(PEERS))
        command += ("--host", "127.0.0.1", "--port", str(PEER_PORT))
        made.append(_peer("bentoml", batch, command, "/predict", json.dumps({"rows": [FLOWER]})))
    for batch in (1, 64):
        made.append(_peer("ray", batch, ("python", str(PEERS / "ray_server.py")), "/predict"))
    tensor = {"name": "measurements", "shape": [1, 4], "datatype": "FP64", "data": list(FLOWER.values())}
    for batch in (1, 64):
        command = ("mlserver", "start", str(PEERS / "mlserver"))
        made.append(_peer("mlserver", batch, command, "/v2/models/iris/infer", json.dumps({"inputs": [tensor]})))
    uvicorn = ("python", "-m", "uvicorn", "fastapi_server:app", "--workers", "2", "--port", str(PEER_PORT))
    made.append(_peer("fastapi", 1, (*uvicorn, "--no-access-log"), "/predict"))
    return made


def _peer(family: str, batch: int, command: tuple[str, ...], path: str, body: str = json.dumps(FLOWER)) -> System:
    """One setting of a server, with its program from its own virtual environment."""
    scripts = PEER_VENVS / family / "bin"
    environment = {
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(PEERS),
        "BENCH_BATCH": str(batch),
        "BENCH_PORT": str(PEER_PORT),
        "MLSERVER_HTTP_PORT": str(PEER_PORT),
        "MLSERVER_GRPC_PORT": str(PEER_PORT + 1),
        "MLSERVER_METRICS_PORT": str(PEER_PORT + 2),
        "MLSERVER_MODEL_MAX_BATCH_SIZE": str(batch if batch > 1 else 0),
        "MLSERVER_MODEL_MAX_BATCH_TIME": "0.001" if batch > 1 else "0",
    }
    process = Process((str(scripts / command[0]), *command[1:]), environment)
    url = f"http://127.0.0.1:{PEER_PORT}{path}"
    title = f"{family}, batch {batch}" if family != "fastapi" else "fastapi, uvicorn"
    return System(f"{family}-{batch}", title, (process,), HTTP, url, body=body, family=family)
