"""The limit of all commands for models that are being loaded."""

import pytest

from scripts.loading_timeout import DEFAULT_S, loading_timeout_s


def test_the_limit_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLUSTER_LOADING_TIMEOUT_S", raising=False)
    assert loading_timeout_s() == DEFAULT_S
    monkeypatch.setenv("CLUSTER_LOADING_TIMEOUT_S", "1800")
    assert loading_timeout_s() == 1800
    for wrong in ("soon", "0", "-1", "inf", "nan"):
        monkeypatch.setenv("CLUSTER_LOADING_TIMEOUT_S", wrong)
        with pytest.raises(SystemExit, match=f"CLUSTER_LOADING_TIMEOUT_S='{wrong}' is wrong"):
            loading_timeout_s()
