"""What a test needs beside Python: where that is missing it is skipped with a reason, and fails where CI=true."""

import os

import pytest


def unless(available: bool, reason: str) -> None:
    """Skip the test, or fail it in CI, unless what it needs is there."""
    if available:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"needed in CI: {reason}")
    pytest.skip(reason)
