"""What documents say of the code is what the code says."""

from scripts import metrics_reference
from tests.processes import REPOSITORY


def test_every_metric_is_in_the_reference() -> None:
    text = (REPOSITORY / "docs" / "operations.md").read_text()
    assert metrics_reference.table() in text, "bring it up to date: python -m scripts.metrics_reference"
