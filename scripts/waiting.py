"""How long a command waits for workers: as long as one says that it is loading a model, within one limit."""

import json
import time
import urllib.error
from typing import Any

from cluster.runtime.local_http import read_page
from scripts.cluster_settings import ClusterSettings

START_TIMEOUT_S = 60.0
"""How long a command waits while nothing says that it is loading, in seconds."""

POLL_S = 0.2


class Patience:
    """The time that a command waits. Ask it between two looks at what it waits for."""

    def __init__(self, longest_s: float) -> None:
        """Begin to wait.

        Args:
            longest_s: how long to wait whatever a process says, in seconds.
        """
        self._longest_s = longest_s
        self._begun_s = self._loaded_s = time.monotonic()

    def is_over(self, *, is_loading: bool) -> bool:
        """Whether to give up.

        Args:
            is_loading: whether a process says that it is loading.
        """
        now_s = time.monotonic()
        if is_loading:
            self._loaded_s = now_s
        return now_s - self._loaded_s > START_TIMEOUT_S or now_s - self._begun_s > self._longest_s

    @property
    def waited_s(self) -> float:
        """How long the command has waited, in seconds."""
        return time.monotonic() - self._begun_s


def is_loading(settings: ClusterSettings, worker: str) -> bool:
    """Whether a worker's `/readyz` says that it is loading its models."""
    try:
        read_page(settings.worker_address(worker), "/readyz")
    except urllib.error.HTTPError as error:
        return "loading" in error.read().decode(errors="replace")
    except OSError:
        pass
    return False


def broker_workers(http: str) -> list[dict[str, Any]]:
    """The broker's list of workers.

    Raises:
        OSError: if the broker does not answer.
    """
    workers: list[dict[str, Any]] = json.loads(read_page(http, "/workers"))
    return workers
