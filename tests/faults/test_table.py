"""docs/reliability.md says which tests show which fault, and says it truly."""

from tests.faults import table


def test_every_fault_is_shown_by_a_test_and_the_document_names_it() -> None:
    assert sorted(table.tests_by_row()) == sorted(table.ROWS)
    assert table.faults_table() in table.DOCUMENT.read_text(), "bring it up to date: python -m tests.faults.table"
