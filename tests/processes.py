"""Starts real brokers and workers for tests, on reserved ports, and always ends them."""

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import gevent
import zerorpc
from prometheus_client.parser import text_string_to_metric_families

REPOSITORY = Path(__file__).resolve().parents[1]

START_S = 60.0
"""Seconds that a process may take to start on a slow machine."""

Value = TypeVar("Value")


_reserved = ExitStack()
"""Bound sockets that never listen. They keep their ports for this process until it ends."""
atexit.register(_reserved.close)


def free_port(host: str = "127.0.0.1") -> int:
    """Reserve a port: the tests and their children can listen on it, and the kernel gives it to no other process.

    Args:
        host: the address of this machine on which a child will listen.
    """
    return free_ports(1, host)


def free_ports(count: int, host: str = "127.0.0.1") -> int:
    """Reserve consecutive ports.

    Args:
        count: how many.
        host: the address of this machine on which children will listen.

    Returns:
        The first of them.
    """
    for _ in range(100):
        with ExitStack() as bound:
            try:
                first = bound.enter_context(_bound(host, 0)).getsockname()[1]
                for port in range(first + 1, first + count):
                    bound.enter_context(_bound(host, port))
            except (OSError, OverflowError):  # the next port is taken, or does not exist
                continue
            # macOS lets no second socket bind the port, so there the port is only likely to stay free.
            if sys.platform == "linux":
                _reserved.push(bound.pop_all())
            return int(first)
    raise AssertionError(f"no {count} consecutive ports are free")


def _bound(host: str, port: int) -> socket.socket:
    """A socket that is bound to the port (0: any), and lets others bind it too."""
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        # The option comes after `bind`: with it, `bind` would accept a port that another process has reserved.
        made.bind((host, port))
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    except BaseException:
        made.close()
        raise
    return made


def wait_until(condition: Callable[[], Value], timeout_s: float, what: str) -> Value:
    """Poll until the condition is true, and return what it returned."""
    deadline_s = time.monotonic() + timeout_s
    interval_s = 0.02
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline_s:
            raise AssertionError(f"not within {timeout_s:g} s: {what}")
        gevent.sleep(interval_s)  # not time.sleep: the clients in this process must run meanwhile
        interval_s = min(1.2 * interval_s, 0.1)  # a condition often costs the broker a page


def get(address: str, path: str) -> tuple[int, str]:
    """Return the status and body of an HTTP page; (0, reason) if there is no answer."""
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


def samples(address: str, name: str) -> dict[tuple[tuple[str, str], ...], float]:
    """Return the samples of a metric, by their labels."""
    status, body = get(address, "/metrics")
    assert status == 200, body
    wanted = "".join(f"{line}\n" for line in body.splitlines() if line.startswith(name))  # parsing them all is slow
    return {
        tuple(sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(wanted)
        for sample in family.samples
        if sample.name == name
    }


def total(address: str, name: str, **labels: str) -> float:
    """Return the sum of a metric's samples that have these labels."""
    wanted = set(labels.items())
    return sum(value for having, value in samples(address, name).items() if wanted <= set(having))


def own_environment() -> dict[str, str]:
    """Return this process's environment without settings of the cluster, and with the administrators' socket off."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("BROKER_", "WORKER_", "APP_SETTINGS"))}
    return {**kept, "BROKER_ADMIN": ""}


_silent_input, _never_written_to = os.pipe()
"""Standard input of all child processes: open, and nothing ever comes, as from supervisor."""


class Process:
    """A child process. Its output goes to a file, or to the file descriptor `output` if that is given.

    `code` is the checkout of the project that it runs.
    """

    @classmethod
    def of(cls, command: Sequence[str | Path], environment: dict[str, str], log: Path, **options: Any) -> "Process":
        """Run any command instead of a module."""
        return cls("", environment, log, command=command, **options)

    def __init__(
        self,
        module: str,
        environment: dict[str, str],
        log: Path,
        *,
        prefix: Sequence[str] = (),
        output: int | None = None,
        code: str | Path = REPOSITORY,
        command: Sequence[str | Path] = (),
    ) -> None:
        self.log = log
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [*prefix, *(command or [sys.executable, "-m", module])],
                cwd=code,
                env={**own_environment(), **environment},
                stdin=_silent_input,
                stdout=file if output is None else output,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.poll()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, timeout_s: float) -> int:
        return self._process.wait(timeout_s)

    def output(self) -> str:
        return self.log.read_text()

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
        self._process.wait(10)


def talking_process(module: str, *arguments: str, prefix: Sequence[str] = ()) -> subprocess.Popen[str]:
    """Start a child process that reads standard input and answers on standard output; `end_talking` ends it."""
    return subprocess.Popen(
        [*prefix, sys.executable, "-m", module, *arguments],
        cwd=REPOSITORY,
        env=own_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def end_talking(process: subprocess.Popen[str]) -> None:
    """Kill the process, even if it is frozen, and close the pipes."""
    process.send_signal(signal.SIGCONT)
    process.kill()
    process.wait(10)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


class Load:
    """A process of `tests.services.load`. It ends after its calls or its seconds, or after `stop`."""

    def __init__(self, address: str, procedure: str, options: dict[str, Any], prefix: Sequence[str] = ()) -> None:
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        self._process = talking_process("tests.services.load", address, procedure, *flags, prefix=prefix)

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        """Make it send no more calls."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def result(self, timeout_s: float = 100) -> dict[str, Any]:
        """Wait until all calls have ended, and return their outcomes."""
        assert self._process.stdout is not None
        output = self._process.stdout
        wait_until(lambda: self._process.poll() is not None, timeout_s, "the load has ended")
        answer: dict[str, Any] = json.loads(output.read())
        return answer

    def end(self) -> None:
        """Kill it, even if it is frozen."""
        end_talking(self._process)


class Cluster:
    """A broker and its workers. Each is a process of its own."""

    def __init__(self, folder: Path, host: str = "127.0.0.1", code: str | Path = REPOSITORY) -> None:
        self.folder = folder
        self.code = code
        self.frontend = f"tcp://{host}:{free_port(host)}"
        self.backend = f"tcp://{host}:{free_port(host)}"
        self.http = f"127.0.0.1:{free_port()}"
        self.admin = f"tcp://127.0.0.1:{free_port()}"
        self.processes: list[Process] = []
        self.worker_http: dict[int, str] = {}
        self._clients: list[zerorpc.Client] = []
        self._loads: list[Load] = []
        self.broker: Process

    def start_broker(self, output: int | None = None, prefix: Sequence[str] = (), **settings: str) -> Process:
        environment = {
            "BROKER_FRONTEND": self.frontend,
            "BROKER_BACKEND": self.backend,
            "BROKER_HTTP": self.http,
            "BROKER_ADMIN": self.admin,
            **settings,
        }
        self.broker = self._start("broker", environment, prefix, output)
        wait_until(lambda: get(self.http, "/healthz")[0] == 200, START_S, "the broker answers /healthz")
        return self.broker

    def start_worker(
        self, config: str | None = None, prefix: Sequence[str] = (), output: int | None = None, **settings: str
    ) -> Process:
        http = f"127.0.0.1:{free_port()}"
        environment = {"WORKER_BROKER": self.backend, "WORKER_HTTP": http, **settings}
        if config is not None:
            environment["APP_SETTINGS"] = f"tests.services.configs:{config}"
        worker = self._start("worker", environment, prefix, output)
        self.worker_http[worker.pid] = http
        return worker

    def start_raw_worker(self, name: str) -> Process:
        return self._start("tests.services.raw_worker", {"RAW_BACKEND": self.backend, "RAW_ID": name})

    def start_server(self, *command: str | Path) -> Process:
        """Start a stock ZeroRPC server that connects: that of `tests.services.tools`, or another command."""
        own = (sys.executable, "-m", "tests.services.tools")
        log = self.folder / f"server-{len(self.processes)}.log"
        process = Process.of([*(command or own), self.backend], {}, log, code=self.code)
        self.processes.append(process)
        return process

    def _start(
        self, module: str, environment: dict[str, str], prefix: Sequence[str] = (), output: int | None = None
    ) -> Process:
        log = self.folder / f"{module}-{len(self.processes)}.log"
        process = Process(module, environment, log, prefix=prefix, output=output, code=self.code)
        self.processes.append(process)
        return process

    def load(self, procedure: str, prefix: Sequence[str] = (), **options: Any) -> Load:
        made = Load(self.frontend, procedure, options, prefix)
        self._loads.append(made)
        return made

    def client(self, **options: Any) -> Any:
        made = zerorpc.Client(**{"timeout": 60, **options})
        made.connect(self.frontend)
        self._clients.append(made)
        return made

    def workers(self) -> list[dict[str, Any]]:
        status, body = get(self.http, "/workers")
        workers: list[dict[str, Any]] = json.loads(body) if status == 200 else []
        return workers

    def wait_for_workers(self, count: int, timeout_s: float = START_S) -> list[dict[str, Any]]:
        def ready() -> list[dict[str, Any]]:
            return [worker for worker in self.workers() if worker["state"] == "ready"]

        wait_until(lambda: len(ready()) == count, timeout_s, f"{count} worker(s) are ready")
        return ready()

    def in_flight(self) -> int:
        return sum(worker["in_flight"] for worker in self.workers())

    def open_calls(self) -> float:
        return total(self.http, "zerorpc_broker_open_channels")

    def arrived(self, method: str) -> float:
        """Count the calls that have arrived, open or ended; only calls of this procedure may be open."""
        return sum(self.outcomes(method).values()) + self.open_calls()

    def outcomes(self, method: str) -> Counter[str]:
        """Count the calls of a procedure by outcome."""
        counts = samples(self.http, "zerorpc_broker_requests_total")
        found = {dict(labels)["outcome"]: int(n) for labels, n in counts.items() if dict(labels)["method"] == method}
        return Counter({outcome: count for outcome, count in found.items() if count})

    def memory_bytes(self) -> float:
        return total(self.http, "process_resident_memory_bytes")

    def close(self) -> None:
        for load in self._loads:
            load.end()
        for client in self._clients:
            client.close()
        for process in self.processes:
            process.end()


@contextmanager
def cluster(
    folder: Path,
    *configs: str | None,
    host: str = "127.0.0.1",
    code: str | Path = REPOSITORY,
    broker_prefix: Sequence[str] = (),
    **broker_settings: str,
) -> Iterator[Cluster]:
    """Start a cluster with one worker for each configuration, and wait until all are ready."""
    made = Cluster(folder, host, code)
    try:
        made.start_broker(None, broker_prefix, **broker_settings)
        for config in configs:
            made.start_worker(config)
        made.wait_for_workers(len(configs))
        yield made
    except BaseException:
        for process in made.processes:
            print(f"==> {process.log.name} <==\n{process.output()}")  # noqa: T201 - pytest shows it with the failure
        raise
    finally:
        made.close()
