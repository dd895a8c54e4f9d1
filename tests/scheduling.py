"""Distributes tests over the processes of pytest-xdist: the unit of work is a file of unit tests, or else one function.

A file whose tests share a cluster says so with the mark `one_process`, and is one unit. `--dist loadgroup` would do the
same with a mark for each group, but xdist 3.8 does not pass the groups on with pytest 9.2.
"""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).resolve().parents[1]


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Loads by scope; the scope is a file or a function."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if _is_one_unit(file) else nodeid.partition("[")[0]


@cache
def _is_one_unit(file: str) -> bool:
    return file.startswith("tests/unit/") or "pytest.mark.one_process" in (ROOT / file).read_text()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    return Scheduling(config, log) if config.getoption("dist") == "loadscope" else None
