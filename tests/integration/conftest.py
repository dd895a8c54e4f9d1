"""Fixtures that several files of this folder use."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.made import Made


@pytest.fixture
def make() -> Iterator[Made]:
    with tempfile.TemporaryDirectory() as folder:
        made = Made(Path(folder))
        yield made
        made("down")
