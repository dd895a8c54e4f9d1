"""Skips a test that needs more than Python where that is missing; with CI=true the test fails instead."""

import os

import pytest


def unless(available: bool, reason: str) -> None:
    """Skip the test, or fail it in CI, unless its need is met.

    Args:
        available: whether it is met.
        reason: what the test needs.
    """
    if available:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"needed in CI: {reason}")
    pytest.skip(reason)
