"""Which row of the table of faults a test shows (`fault` marks), and the figures that it measured.

The figures are printed after the tests, and added to the file of `--figures`, which `tests.faults.table` reads.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Figure = Callable[[str, float, str], None]
"""Notes one measured figure: what, value, unit."""

_measured = pytest.StashKey[list[dict[str, Any]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--figures", type=Path, help="file to which the measured figures are added, a JSON object a line")


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Figure:
    rows = [row for mark in request.node.iter_markers("fault") for row in mark.args]
    measured = request.config.stash.setdefault(_measured, [])

    def note(what: str, value: float, unit: str) -> None:
        measured.append({"rows": rows, "what": what, "value": value, "unit": unit})

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    measured = config.stash.get(_measured, [])
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
