"""The tests of the core can fail: they notice every fault that is put into it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.mutant_table import CALLS, MUTANTS

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(300)
def test_every_mutant_is_caught() -> None:
    # In a process of its own: mutants are forked from one that has imported nothing of the broker.
    command = [sys.executable, "-m", "tests.simulation.mutants"]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"all {len(MUTANTS)} mutants were caught" in result.stdout
    assert len(MUTANTS) >= 58


def test_each_mutant_has_its_own_name() -> None:
    assert len({mutant.fault for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("source", ["def forget(:", "import no_such_module", "raise SystemExit(0)"])
def test_a_mutant_that_cannot_be_imported_is_an_error(source: str) -> None:
    script = f"""
from tests.simulation import mutants
from tests.simulation.mutation import Mutant
mutant = Mutant("a fault", {CALLS!r}, "", "", "")
(verdict,) = mutants.try_all([(mutant, {source!r})])
assert verdict.outcome == "ERROR", verdict
"""
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "cannot be imported" in result.stdout
