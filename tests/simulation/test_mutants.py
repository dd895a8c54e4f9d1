"""The simulation can fail: every fault that is put into the core is noticed."""

import pytest

from tests.simulation import mutants


@pytest.mark.timeout(300)
def test_every_mutant_is_caught(capsys: pytest.CaptureFixture[str]) -> None:
    mutants.main()
    assert f"all {len(mutants.MUTANTS)} mutants were caught" in capsys.readouterr().out
    assert len(mutants.MUTANTS) >= 20
