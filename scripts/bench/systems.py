"""What is compared: how each system is started, where it is reached, and by what it is put under load."""

import os
import sys
from collections.abc import Callable
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
        workers: how many the broker must know before it begins.
        family: systems of one family are settings of one product, of which the best counts at each load.
    """

    key: str
    title: str
    processes: tuple[Process, ...]
    protocol: str = ZERORPC
    address: str = f"tcp://127.0.0.1:{FRONTEND}"
    procedure: str = "iris_model_predict"
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
    for batch in (1, 16, 64):
        made.append(
            _peer(
                "mosec",
                f"mosec-{batch}",
                f"batch {batch}",
                lambda python: (python, str(PEERS / "mosec_server.py"), "--port", str(PEER_PORT)),
                "/inference",
                {"BENCH_BATCH": str(batch)},
            )
        )
    for batch in (1, 64):
        made.append(
            _peer(
                "litserve",
                f"litserve-{batch}",
                f"batch {batch}",
                lambda python: (python, str(PEERS / "litserve_server.py")),
                "/predict",
                {"BENCH_BATCH": str(batch), "BENCH_PORT": str(PEER_PORT)},
            )
        )
    uvicorn = ("-m", "uvicorn", "fastapi_server:app", "--workers", "2", "--port", str(PEER_PORT), "--no-access-log")
    made.append(_peer("fastapi", "fastapi", "uvicorn", lambda python: (python, *uvicorn), "/predict", {}))
    return made


def _peer(
    family: str,
    key: str,
    settings: str,
    command: Callable[[str], tuple[str, ...]],
    path: str,
    environment: dict[str, str],
) -> System:
    python = str(PEER_VENVS / family / "bin" / "python")
    scripts = f"{PEER_VENVS / family / 'bin'}{os.pathsep}{os.environ['PATH']}"
    process = Process(command(python), {**environment, "PYTHONPATH": str(PEERS), "PATH": scripts})
    url = f"http://127.0.0.1:{PEER_PORT}{path}"
    return System(key, f"{family}, {settings}", (process,), HTTP, url, family=family)
