"""Documents agree with the code that they describe."""

import json
import re

from bench import clients, compiled, keys, report
from broker.core.state.counters import BAD_FRAMES
from scripts import metrics_reference
from tests.processes import REPOSITORY
from tests.stock_suite import cases
from zmtp import curve
from zmtp.errors import MECHANISM, ZMTP


def test_every_case_of_zerorpc_s_tests_has_its_result_in_the_document() -> None:
    text = (REPOSITORY / "docs" / "servers.md").read_text()
    assert cases.table() in text, "replace the table: python -m tests.stock_suite.cases prints it"


def test_every_metric_is_in_the_reference() -> None:
    text = (REPOSITORY / "docs" / "operations.md").read_text()
    assert metrics_reference.table() in text, "replace the table: python -m scripts.metrics_reference prints it"


def test_every_reason_for_a_bad_frame_is_counted_from_the_start() -> None:
    files = [*(REPOSITORY / "broker").rglob("*.py"), *(REPOSITORY / "cluster").rglob("*.py")]
    named = [re.findall(r'(?:BadFrameError\(|bad_frames\[)"(\w+)"', path.read_text()) for path in files]
    arguments = "arguments"  # of an error from a worker; the broker counts it as "worker_event"
    of_peers = {ZMTP, MECHANISM, curve.HANDSHAKE, curve.SERVER_KEY, curve.CLIENT_KEY, curve.MESSAGE}
    assert {name for names in named for name in names} - {arguments} | of_peers == set(BAD_FRAMES)


def test_the_tables_of_performance_are_those_of_the_results() -> None:
    text, results = report.DOCUMENT.read_text(), report.Results()
    peers = (report.workload_tables(results), report.half_rate_table(results))
    for table in (
        report.target_table(results),
        report.comparison_table(results),
        report.growth_tables(results),
        *peers,
    ):
        assert table in text, "update it: python -m bench.report"


def test_the_table_of_keys_is_that_of_its_results() -> None:
    results = json.loads(keys.RESULTS.read_text())
    assert keys.table(results) in report.DOCUMENT.read_text(), "measure again: make bench-keys"


def test_the_tables_of_the_compiled_core_are_those_of_its_results() -> None:
    results = json.loads(compiled.RESULTS.read_text())
    assert compiled.table(results) in report.DOCUMENT.read_text(), "measure again: make bench-compiled"


def test_the_table_of_clients_is_that_of_its_results() -> None:
    results = json.loads(clients.RESULTS.read_text())
    text = clients.DOCUMENT.read_text()
    assert clients.table(results) in text, "measure again: make bench-clients"
    assert report.origin(results) in text
