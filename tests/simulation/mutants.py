"""Breaks the broker's core on purpose, one small fault at a time, and requires that tests notice: `make mutants`.

The simulation and `tests/unit/test_batches.py` must notice. The simulation cannot notice that a call waits longer than
it has to; the tests of batches do. Each mutant runs in a process of its own, which imports the faulty module instead of
the real one.
"""

import importlib
import importlib.machinery
import importlib.util
import io
import multiprocessing
import signal
import sys
import time
import traceback
from contextlib import redirect_stdout
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.context import ForkProcess
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import pytest

from tests.simulation.mutant_table import MUTANTS
from tests.simulation.mutation import Mutant, MutationError, mutate_all

BROKER = Path(__file__).resolve().parents[2] / "broker"
SEEDS = 6
STEPS = 800
AT_A_TIME = 2

WORLD_CPU_S = 10.0
"""Seconds of processor time that one world may take. It takes about one; a mutant that takes more loops for ever."""

PRELOADED = ("hypothesis", "msgpack", "pytest_timeout", "cluster.wire.protocol", "tests.simulation.links")
"""Modules that every process needs and that import nothing of the broker."""

TIMED_TEST = "test_to_pick_one_of_many_idle_workers_costs_no_more_than_of_few"
"""This unit test measures time. Mutants run beside each other, so it could fail by chance."""


@dataclass(frozen=True)
class Verdict:
    """What became of one mutant.

    Attributes:
        outcome: `caught`, `SURVIVES`, or `ERROR` if it could not be tried.
        reason: what caught it, or what went wrong.
    """

    outcome: str
    reason: str


class FaultyModule(importlib.machinery.SourceFileLoader):
    """Finds and loads one module of the broker, with its fault in it."""

    def __init__(self, mutant: Mutant, source: str) -> None:
        super().__init__(mutant.module, str(BROKER / mutant.file))
        self._faulty = source

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> Any:
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(name, self.path, loader=self)

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._faulty, self.path, "exec", dont_inherit=True)


def attempt(mutant: Mutant | None, source: str, results: connection.Connection) -> None:
    """Run the tests against a mutant, or against the broker as it is, and send the verdict. Runs in its own process."""
    if mutant is not None:
        sys.meta_path.insert(0, FaultyModule(mutant, source))
    try:
        importlib.import_module("broker.core.core")
        importlib.import_module("tests.simulation.run")
    except BaseException as error:
        results.send(Verdict("ERROR", f"it cannot be imported: {error!r}"))
        return
    try:
        with redirect_stdout(io.StringIO()):
            run_tests()
    except UnusableTestsError as error:
        results.send(Verdict("ERROR", str(error)))
    except BaseException as error:
        results.send(Verdict("caught", cause_of(error)))
    else:
        results.send(Verdict("SURVIVES", ""))


class UnusableTestsError(Exception):
    """The unit tests did not run."""


def run_tests() -> None:
    """Run everything that may catch a mutant; the first exception is what caught it."""
    from tests.simulation.run import SECONDS_A_STEP, run, run_network

    limit_cpu()
    run(0, STEPS)
    limit_cpu()
    run_unit_tests()
    for seed in range(SEEDS):
        limit_cpu()
        run_network(seed, STEPS * SECONDS_A_STEP)
        limit_cpu()
        run(seed + 1, STEPS)


def run_unit_tests() -> None:
    """Run the unit tests that may catch a mutant.

    Raises:
        AssertionError: one of them fails.
        UnusableTestsError: they could not run.
    """
    arguments = ["-q", "-x", "--noconftest", "--assert=plain", "-p", "no:cacheprovider", "-k", f"not {TIMED_TEST}"]
    try:
        code = pytest.main([*arguments, str(BROKER.parent / "tests/unit/test_batches.py")])
    except Exception as error:
        raise UnusableTestsError(f"pytest fails: {error!r}") from error
    if code == pytest.ExitCode.TESTS_FAILED:
        raise AssertionError("a test of tests/unit/test_batches.py fails")
    if code != pytest.ExitCode.OK:
        raise UnusableTestsError(f"pytest ends with {code!r}")


def limit_cpu() -> None:
    """Have the kernel end this process if what follows takes far longer than it should."""
    signal.setitimer(signal.ITIMER_PROF, WORLD_CPU_S)


def cause_of(error: BaseException) -> str:
    """One line about what caught a mutant."""
    text = (str(error).splitlines() or [""])[0]
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {where.name}: {text}"[:100]


def try_all(mutants: list[tuple[Mutant | None, str]]) -> list[Verdict]:
    """Run the tests against each mutant, some at a time, and print every verdict."""
    verdicts: dict[int, Verdict] = {}
    waiting = list(enumerate(mutants))
    running: dict[connection.Connection, tuple[int, ForkProcess]] = {}
    forks = multiprocessing.get_context("fork")
    while waiting or running:
        while waiting and len(running) < AT_A_TIME:
            number, (mutant, source) = waiting.pop(0)
            results, sender = forks.Pipe(duplex=False)
            process = forks.Process(target=attempt, args=(mutant, source, sender), daemon=True)
            process.start()
            sender.close()
            running[results] = number, process
        ended = connection.wait(running)
        for results in [one for one in running if one in ended]:
            number, process = running.pop(results)
            verdicts[number] = verdict = receive(results, process)
            mutant, _ = mutants[number]
            name = f"{mutant.file}: {mutant.fault}" if mutant is not None else "the broker without a fault"
            print(f"{verdict.outcome:<8} {name} ({verdict.reason})", flush=True)  # noqa: T201
    return [verdicts[number] for number in range(len(mutants))]


def receive(results: connection.Connection, process: ForkProcess) -> Verdict:
    """The verdict of one process, which may have been ended by `limit_cpu`."""
    try:
        verdict: Verdict = results.recv()
    except EOFError:
        verdict = Verdict("ERROR", "its process ended without a verdict")
    process.join()
    if process.exitcode == -signal.SIGPROF:
        return Verdict("caught", f"one world takes more than {WORLD_CPU_S:g} s")
    return verdict


def main() -> None:
    """Try every mutant; the exit code is 1 if one survives or cannot be tried."""
    begin_s = time.monotonic()
    try:
        sources = mutate_all(MUTANTS, BROKER)
    except MutationError as error:
        sys.exit(f"error: these mutants cannot be made:\n{error}")
    for name in PRELOADED:
        importlib.import_module(name)
    assert not any(name.split(".")[0] == "broker" for name in sys.modules), "a process would not import the mutant"
    unbroken, *verdicts = try_all([(None, ""), *zip(MUTANTS, sources, strict=True)])
    if unbroken.outcome != "SURVIVES":
        sys.exit(f"error: the tests fail without any mutant: {unbroken.reason}")
    for outcome, text in (("ERROR", "cannot be tried"), ("SURVIVES", "survive")):
        count = sum(verdict.outcome == outcome for verdict in verdicts)
        if count:
            sys.exit(f"error: {count} of {len(MUTANTS)} mutants {text}")
    print(f"all {len(MUTANTS)} mutants were caught in {time.monotonic() - begin_s:.0f} s")  # noqa: T201


if __name__ == "__main__":
    main()
