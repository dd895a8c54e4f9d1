"""The programs of docs/clients.md run, and print what the page says."""

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.processes import REPOSITORY, Cluster, cluster

PAGE = (REPOSITORY / "docs" / "clients.md").read_text()
PROGRAMS = re.findall(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
ADDRESS = "tcp://127.0.0.1:4242"


@pytest.fixture(scope="module")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("clients"), None) as made:
        yield made


def test_every_program_of_the_page_is_found() -> None:
    assert len(PROGRAMS) == PAGE.count("```python") >= 6


@pytest.mark.parametrize(("program", "printed"), PROGRAMS)
def test_the_program_prints_what_the_page_says(iris: Cluster, program: str, printed: str) -> None:
    assert ADDRESS in program
    result = subprocess.run(
        [sys.executable, "-c", program.replace(ADDRESS, iris.frontend)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.stdout == printed, result.stderr
