"""Figures that tests measure: printed after them, and added to the file of `--figures`.

A test says with a `fault` mark which rows of the table of faults (docs/reliability.md) it shows.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Figure = Callable[[str, float, str], None]
"""Notes one measured figure: what, value, unit."""

_KEY = "figure"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--figures", type=Path, help="file to which the measured figures are added, a JSON object a line")


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Figure:
    rows = [row for mark in request.node.iter_markers("fault") for row in mark.args]

    def note(what: str, value: float, unit: str) -> None:
        # The properties of a test come with its report, also from another process.
        measured = {"rows": rows, "what": what, "value": value, "unit": unit}
        request.node.user_properties.append((_KEY, measured))

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        return  # one of several processes; the one that started them has all reports
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, [])]
    measured = [
        value for report in reports if report.when == "call" for key, value in report.user_properties if key == _KEY
    ]
    if not measured:
        return
    terminalreporter.section("figures")
    for one in sorted(measured, key=lambda one: (one["rows"], one["what"])):
        rows = ", ".join(map(str, one["rows"]))
        terminalreporter.line(f"{rows:>7}  {one['what']:<70} {one['value']:>10.3f} {one['unit']}")
    file = config.getoption("--figures")
    if file is not None:
        with file.open("a") as output:
            output.writelines(json.dumps(one) + "\n" for one in measured)
