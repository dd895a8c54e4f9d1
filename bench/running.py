"""Runs a system under test: starts its processes, puts load on it, and measures its CPU time and memory."""

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

START_S = 90.0
"""Time limit for a system's first answer, in seconds."""

END_S = 10.0
"""Time limit for the end of its processes, in seconds."""

_WRK_SCRIPT = REPOSITORY / "bench" / "services" / "post.lua"


class BenchError(Exception):
    """A measurement failed; the text names the system and the reason."""


@dataclass(frozen=True)
class Measured:
    """One system under one load.

    Attributes:
        calls_a_second: that were answered rightly.
        p50_ms, p99_ms: their latency.
        cpu_us: CPU time that all processes of the server took for a call, in microseconds.
        first_cpu_us: what its first program took of that: the broker or proxy, where there is one.
        memory_mib: that they had at the end: their own pages, and their share of those that they share.
        failed: calls that were not answered rightly.
    """

    calls_a_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    first_cpu_us: float
    memory_mib: float
    failed: int


class Running:
    """The processes of a system."""

    def __init__(self, system: System, folder: Path) -> None:
        """Start the processes."""
        self.system = system
        self._logs = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        for i, process in enumerate(system.processes):
            with (folder / f"{system.key}-{i}.log").open("wb") as log:
                self._processes.append(
                    subprocess.Popen(
                        process.command,
                        # Some peers leave files in their working folder.
                        cwd=REPOSITORY if system.protocol != HTTP else folder,
                        env={**_environment(), **process.environment},
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                )

    def wait(self) -> None:
        """Wait until the system answers.

        Raises:
            BenchError: if one of its processes has ended, or it does not answer in time.
        """
        until_s = time.monotonic() + START_S
        while not self._answers():
            ended = [i for i, process in enumerate(self._processes) if process.poll() is not None]
            if ended or time.monotonic() > until_s:
                log = (self._logs / f"{self.system.key}-{ended[0] if ended else 0}.log").read_text()
                raise BenchError(f"{self.system.title} does not answer:\n{log[-2000:]}")
            time.sleep(0.2)
        time.sleep(1.0)  # for its other workers

    def _answers(self) -> bool:
        if self.system.protocol == HTTP:
            request = urllib.request.Request(self.system.address, self.system.body.encode(), _JSON)
            try:
                with urllib.request.urlopen(request, timeout=5) as response:
                    answer = response.read().decode()
            except (OSError, urllib.error.URLError):
                return False
            if SPECIES not in answer:
                raise BenchError(f"{self.system.title} answers {answer}")
            return True
        try:
            if self.system.workers:
                with urllib.request.urlopen(f"http://{self.system.broker_http}/workers", timeout=5) as response:
                    if len(json.loads(response.read())) < self.system.workers:
                        return False
            self._load(1, 0.1)
        except (OSError, BenchError):
            return False
        return True

    def measure(self, in_flight: int, seconds: float, *options: str) -> Measured:
        """Measure a closed loop of `in_flight` calls; the options are those of scripts/load.py."""
        self._load(in_flight, 1.0, *options)
        before_s = self.cpu_s_of_each()
        calls_a_second, p50_ms, p99_ms, calls, failed = self._load(in_flight, seconds, *options)
        each_us = tuple(
            (after_s - before) / max(calls, 1) * 1e6
            for before, after_s in zip(before_s, self.cpu_s_of_each(), strict=True)
        )
        return Measured(calls_a_second, p50_ms, p99_ms, sum(each_us), each_us[0], self._memory_mib(), failed)

    def _load(self, in_flight: int, seconds: float, *options: str) -> tuple[float, float, float, int, int]:
        if self.system.protocol == HTTP:
            return _wrk(self.system, in_flight, seconds)
        return _load(self.system, in_flight, seconds, *options)

    def _all(self) -> Iterator[psutil.Process]:
        for process in self._processes:
            with suppress(psutil.NoSuchProcess):
                parent = psutil.Process(process.pid)
                yield parent
                yield from parent.children(recursive=True)

    def cpu_s_of_each(self) -> list[float]:
        """Return the CPU time of each program so far, with its children, in seconds."""
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
        for process in self._all():
            with suppress(psutil.NoSuchProcess):
                taken += process.memory_full_info().pss
        return taken / 2**20

    def end(self) -> None:
        """Stop all processes and their children, which may have process groups of their own."""
        children = [one for one in self._all() if one.pid not in {process.pid for process in self._processes}]
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in self._processes:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
            until_s = time.monotonic() + END_S
            for process in self._processes:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, until_s - time.monotonic()))
        _, left = psutil.wait_procs(children, timeout=END_S / 2)
        for child in left:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(left, timeout=END_S)


_JSON = {"Content-Type": "application/json"}


def _environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("BROKER_", "WORKER_", "APP_SETTINGS"))}


def _load(system: System, in_flight: int, seconds: float, *options: str) -> tuple[float, float, float, int, int]:
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


def _wrk(system: System, in_flight: int, seconds: float) -> tuple[float, float, float, int, int]:
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
def running(system: System) -> Iterator[Running]:
    """Run a system that answers; it is stopped at the end."""
    with tempfile.TemporaryDirectory() as folder:
        made = Running(system, Path(folder))
        try:
            made.wait()
            yield made
        finally:
            made.end()
