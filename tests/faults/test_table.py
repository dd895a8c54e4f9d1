"""The generated tables of docs/reliability.md are up to date, and figures are noted whatever a test finds."""

import json

import pytest

from tests.faults import table

pytest_plugins = ["pytester"]


def test_every_fault_is_shown_by_a_test_and_the_document_names_it() -> None:
    assert sorted(table.tests_by_row()) == sorted(table.ROWS)
    document = table.DOCUMENT.read_text()
    assert table.put(document, "faults", table.faults_table()) == document, "run: python -m tests.faults.table"


def test_the_document_has_the_numbers_of_the_simulation() -> None:
    document = table.DOCUMENT.read_text()
    assert table.put(document, "simulation", table.counts_table()) == document, "run: python -m tests.faults.table"


def test_a_document_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="has no marks for the table 'faults'"):
        table.put("# A page\n", "faults", table.faults_table())


def test_a_test_that_fails_contributes_its_figures(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nmarkers = fault(*rows): rows\n")
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.fault(3)
        def test_too_slow(figure):
            figure("until it ends", 7.5, "s")
            assert 7.5 < 5
        """
    )
    result = pytester.runpytest("-p", "tests.figures", "--figures=figures.jsonl", "-p", "no:cacheprovider")
    result.assert_outcomes(failed=1)
    noted = json.loads((pytester.path / "figures.jsonl").read_text())
    assert noted == {"rows": [3], "what": "until it ends", "value": 7.5, "unit": "s"}
