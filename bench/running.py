"""Runs a system under test: starts and stops its processes, puts load on it, and measures CPU time and memory."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from tqdm import tqdm

from bench import generator
from bench.generator import GeneratorError, Load
from bench.systems import REPOSITORY, System
from cluster.runtime import local_http

START_S = 90.0
"""How long a system may take to start, in seconds."""

STOP_S = 10.0
"""How long the processes of a system may take to stop, in seconds."""

WARM_UP_S = 0.5
"""Load before each measurement, in seconds."""


class BenchError(Exception):
    """A measurement that failed; the text names the system and the cause."""


@dataclass(frozen=True)
class Measurement:
    """The figures of one system under one load.

    Attributes:
        calls_a_second: correct answers per second.
        items_a_second: items of streams per second.
        p50_ms, p99_ms: median and 99th percentile of the latency, in milliseconds.
        cpu_us: CPU time of all processes of the system per call, in microseconds.
        first_cpu_us: the part of the first program: the broker or proxy, if the system has one.
        generator_cpu_us: CPU time of the load generator per call, in microseconds.
        memory_mib: memory of all processes after the load, in MiB; a shared page counts in proportion (PSS).
        failed: number of calls without a correct answer.
    """

    calls_a_second: float
    items_a_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    first_cpu_us: float
    generator_cpu_us: float
    memory_mib: float
    failed: int


class RunningSystem:
    """The processes of a system under test."""

    def __init__(self, system: System, folder: Path) -> None:
        """Start the processes.

        Args:
            system: the system to run.
            folder: where the processes write their logs.
        """
        self.system = system
        self._logs = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        for i, process in enumerate(system.processes):
            with (folder / f"{system.key}-{i}.log").open("wb") as log:
                self._processes.append(
                    subprocess.Popen(
                        process.command,
                        # Some of the other servers write files into their working directory.
                        cwd=REPOSITORY if not system.is_http else folder,
                        env={**_clean_environment(), **process.environment},
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                )

    def wait_until_ready(self) -> None:
        """Wait until the system answers a call.

        Raises:
            BenchError: if one of its processes has ended, or it does not answer within `START_S`.
        """
        deadline_s = time.monotonic() + START_S
        while not self._is_ready():
            self._check_running()
            if time.monotonic() > deadline_s:
                raise BenchError(f"{self.system.title} does not answer:\n{self._log_tail(0)}")
            time.sleep(0.2)
        time.sleep(1.0)  # the other workers of the system may need a little longer
        self._check_running()  # otherwise another program at the same address has answered

    def _check_running(self) -> None:
        for i, process in enumerate(self._processes):
            if process.poll() is not None:
                raise BenchError(f"{self.system.title}: process {i} has ended:\n{self._log_tail(i)}")

    def _log_tail(self, i: int) -> str:
        return (self._logs / f"{self.system.key}-{i}.log").read_text()[-2000:]

    def _is_ready(self) -> bool:
        try:
            if self.system.workers:
                workers = json.loads(local_http.read_page(self.system.broker_http, "/workers"))
                if len(workers) < self.system.workers:
                    return False
            self._load(0.1)
        except (OSError, BenchError, GeneratorError):
            return False
        return True

    def measure(
        self,
        in_flight: int,
        seconds: float,
        *,
        rate: float = 0.0,
        connections: int | None = None,
        request: bytes | None = None,
    ) -> Measurement:
        """Put load on the system, and measure it.

        Args:
            in_flight: number of calls to keep in flight.
            seconds: duration of the load.
            rate: calls to make per second instead of keeping some in flight.
            connections: number of connections; the load generator knows what suits the protocol.
            request: the bytes of a call, if not the system's own.

        Raises:
            BenchError: if the load generator fails.
        """
        how: dict[str, Any] = {"in_flight": in_flight, "rate": rate, "connections": connections, "request": request}
        try:
            self._load(WARM_UP_S, **how)
            before_s = self._cpu_s_per_process()
            load = self._load(seconds, **how)
        except GeneratorError as error:
            raise BenchError(f"{self.system.title}: {error}") from None
        if load.failure:
            tqdm.write(f"{self.system.title}: {load.failed} of {load.calls} calls failed: {load.failure}", sys.stderr)
        calls = max(load.calls, 1)
        each_us = tuple(
            (after_s - before) / calls * 1e6
            for before, after_s in zip(before_s, self._cpu_s_per_process(), strict=True)
        )
        return Measurement(
            load.calls_a_second,
            load.items_a_second,
            load.p50_ms,
            load.p99_ms,
            sum(each_us),
            each_us[0],
            load.cpu_s / calls * 1e6,
            self._memory_mib(),
            load.failed,
        )

    def _load(self, seconds: float, *, request: bytes | None = None, in_flight: int = 1, **how: Any) -> Load:
        system = self.system
        if system.script_options is not None:
            return _run_script(system, system.script_options, in_flight, seconds)
        return generator.run(
            system.address,
            system.request if request is None else request,
            seconds,
            in_flight=in_flight,
            contains=system.contains,
            **how,
        )

    def _process_tree(self) -> Iterator[psutil.Process]:
        for process in self._processes:
            with suppress(psutil.NoSuchProcess):
                parent = psutil.Process(process.pid)
                yield parent
                yield from parent.children(recursive=True)

    def _cpu_s_per_process(self) -> list[float]:
        """Return the CPU time of each program so far, including its children, in seconds."""
        taken = []
        for process in self._processes:
            parent = psutil.Process(process.pid)
            spent_s = 0.0
            for one in (parent, *parent.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    times = one.cpu_times()
                    spent_s += times.user + times.system
            taken.append(spent_s)
        return taken

    def _memory_mib(self) -> float:
        taken = 0
        for process in self._process_tree():
            with suppress(psutil.NoSuchProcess):
                taken += process.memory_full_info().pss
        return taken / 2**20

    def stop(self) -> None:
        """Stop all processes, and their children, which may be in other process groups."""
        children = [one for one in self._process_tree() if one.pid not in {process.pid for process in self._processes}]
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in self._processes:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
            deadline_s = time.monotonic() + STOP_S
            for process in self._processes:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, deadline_s - time.monotonic()))
        _, left = psutil.wait_procs(children, timeout=STOP_S / 2)
        for child in left:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(left, timeout=STOP_S)


def _clean_environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("BROKER_", "WORKER_", "APP_SETTINGS"))}


def _run_script(system: System, options: tuple[str, ...], in_flight: int, seconds: float) -> Load:
    """Run scripts/load.py, which can use keys; the load generator cannot."""
    program = [sys.executable, str(REPOSITORY / "scripts" / "load.py"), system.address]
    how = ["--in-flight", str(in_flight), "--seconds", str(seconds), "--warm-up", "0", "--json"]
    done = subprocess.run([*program, *how, *options], capture_output=True, text=True, check=False)
    if not done.stdout:
        raise BenchError(f"{system.title}: {done.stderr.strip()}")
    result = json.loads(done.stdout)
    failed = result["calls"] - result["outcomes"].get("OK", 0)
    latency = result["latency_ms"]
    return Load(
        calls=result["calls"],
        failed=failed,
        calls_a_second=result["calls_a_second"],
        items_a_second=0.0,
        p50_ms=latency["p50"],
        p99_ms=latency["p99"],
        late_p99_ms=0.0,
        cpu_s=0.0,
        failure="",
    )


@contextmanager
def running(system: System) -> Iterator[RunningSystem]:
    """Run a system: it is ready on entry, and stopped on exit."""
    with tempfile.TemporaryDirectory() as folder:
        under_test = RunningSystem(system, Path(folder))
        try:
            under_test.wait_until_ready()
            yield under_test
        finally:
            under_test.stop()
