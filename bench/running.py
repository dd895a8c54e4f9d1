"""Runs a system under test: starts and stops its processes, puts load on it, and measures CPU time and memory."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.systems import HTTP, REPOSITORY, SPECIES, System
from cluster.runtime import local_http

START_S = 90.0
"""How long a system may take to start, in seconds."""

STOP_S = 10.0
"""How long the processes of a system may take to stop, in seconds."""

_WRK_SCRIPT = REPOSITORY / "bench" / "services" / "post.lua"


class BenchError(Exception):
    """A measurement that failed; the text names the system and the cause."""


@dataclass(frozen=True)
class Measurement:
    """The figures of one system under one load.

    Attributes:
        calls_a_second: correct answers per second.
        p50_ms, p99_ms: median and 99th percentile of the latency, in milliseconds.
        cpu_us: CPU time of all processes of the system per call, in microseconds.
        first_cpu_us: the part of the first program: the broker or proxy, if the system has one.
        memory_mib: memory of all processes after the load, in MiB; a shared page counts in proportion (PSS).
        failed: number of calls without a correct answer.
    """

    calls_a_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    first_cpu_us: float
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
                        cwd=REPOSITORY if system.protocol != HTTP else folder,
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
        if self.system.protocol == HTTP:
            request = urllib.request.Request(self.system.address, self.system.body.encode(), _JSON)
            try:
                with local_http.opener.open(request, timeout=5) as response:
                    answer = response.read().decode()
            except (OSError, urllib.error.URLError):
                return False
            if SPECIES not in answer:
                raise BenchError(f"{self.system.title} answers {answer}")
            return True
        try:
            if self.system.workers:
                workers = json.loads(local_http.read_page(self.system.broker_http, "/workers"))
                if len(workers) < self.system.workers:
                    return False
            self._load(1, 0.1)
        except (OSError, BenchError):
            return False
        return True

    def measure(self, in_flight: int, seconds: float, *options: str) -> Measurement:
        """Put load on the system, and measure it.

        Args:
            in_flight: number of calls to keep in flight.
            seconds: duration of the load.
            options: further options of scripts/load.py.

        Raises:
            BenchError: if the load generator fails.
        """
        self._load(in_flight, 1.0, *options)
        before_s = self._cpu_s_per_process()
        calls_a_second, p50_ms, p99_ms, calls, failed = self._load(in_flight, seconds, *options)
        each_us = tuple(
            (after_s - before) / max(calls, 1) * 1e6
            for before, after_s in zip(before_s, self._cpu_s_per_process(), strict=True)
        )
        return Measurement(calls_a_second, p50_ms, p99_ms, sum(each_us), each_us[0], self._memory_mib(), failed)

    def _load(self, in_flight: int, seconds: float, *options: str) -> tuple[float, float, float, int, int]:
        if self.system.protocol == HTTP:
            return _run_wrk(self.system, in_flight, seconds)
        return _run_load_generator(self.system, in_flight, seconds, *options)

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


_JSON = {"Content-Type": "application/json"}


def _clean_environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("BROKER_", "WORKER_", "APP_SETTINGS"))}


def _run_load_generator(
    system: System, in_flight: int, seconds: float, *options: str
) -> tuple[float, float, float, int, int]:
    program = [sys.executable, str(REPOSITORY / "scripts" / "load.py"), system.address, "--procedure", system.procedure]
    how = ["--in-flight", str(in_flight), "--seconds", str(seconds), "--warm-up", "0", "--json"]
    command = [*program, *how, *system.options, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.stdout:
        raise BenchError(f"{system.title}: {done.stderr.strip()}")
    result = json.loads(done.stdout)
    failed = result["calls"] - result["outcomes"].get("OK", 0)
    latency = result["latency_ms"]
    return result["calls_a_second"], latency["p50"], latency["p99"], result["calls"], failed


def _run_wrk(system: System, in_flight: int, seconds: float) -> tuple[float, float, float, int, int]:
    threads = str(min(2, in_flight))
    command = ["wrk", "-t", threads, "-c", str(in_flight), "-d", f"{max(1, round(seconds))}s", "--latency"]
    environment = {**os.environ, "BENCH_BODY": system.body}
    done = subprocess.run(
        [*command, "-s", str(_WRK_SCRIPT), system.address], env=environment, capture_output=True, text=True, check=False
    )
    found = re.search(r"RESULT (\{.*\})", done.stdout)
    if found is None:
        raise BenchError(f"wrk: {done.stdout}{done.stderr}")
    result = json.loads(found.group(1))
    calls, failed, took_s = result["calls"], result["failed"], result["us"] / 1e6
    return (calls - failed) / took_s, result["p50_us"] / 1000, result["p99_us"] / 1000, calls, failed


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
