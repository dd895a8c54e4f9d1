"""How long commands wait for workers."""

import time

import pytest

from scripts.waiting import START_TIMEOUT_S, Patience


def test_a_command_waits_as_long_as_a_worker_loads_within_one_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    patience = Patience(600.0)
    for _ in range(9):  # 540 s
        now_s += START_TIMEOUT_S
        assert not patience.is_over(is_loading=True)
    assert not patience.is_over(is_loading=False)
    now_s += START_TIMEOUT_S + 1
    assert patience.is_over(is_loading=False), "nobody loads any more"
    assert patience.is_over(is_loading=True), "600 s are over"
    assert patience.waited_s == pytest.approx(601.0)
