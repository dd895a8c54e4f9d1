"""Runs `docker compose` as a project of its own on reserved ports, and queries its Prometheus."""

import json
import os
import subprocess
import time
import urllib.parse
import urllib.request
from typing import Any

from tests import needs
from tests.processes import REPOSITORY, free_port, get, wait_until

IMAGE = "zerorpc-cluster-test"
FLOWER = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
SCRAPES_S = 15.0
"""Longer than discovery, scrape and evaluation take together."""


def docker(*arguments: str, **environment: str) -> str:
    """Run a docker command and return its output."""
    result = subprocess.run(
        ["docker", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, f"docker {' '.join(arguments)}: {result.stderr}{result.stdout}"
    return result.stdout + (result.stderr if arguments[0] == "logs" else "")


def has_docker() -> bool:
    try:
        return subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0 and (
            subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0
        )
    except FileNotFoundError:
        return False


class Compose:
    """One project of docker compose."""

    def __init__(self) -> None:
        needs.unless(has_docker(), "a Docker engine with compose")
        ports = {name: str(free_port()) for name in ("FRONTEND_PORT", "HTTP_PORT", "PROMETHEUS_PORT")}
        self.frontend = f"tcp://127.0.0.1:{ports['FRONTEND_PORT']}"
        self.http = f"127.0.0.1:{ports['HTTP_PORT']}"
        self.prometheus = f"127.0.0.1:{ports['PROMETHEUS_PORT']}"
        self.project = f"cluster-test-{os.getpid()}"
        self.environment = {
            "COMPOSE_PROJECT_NAME": self.project,
            "BROKER_IMAGE": IMAGE,
            "WORKER_IMAGE": IMAGE,
            "COMPOSE_FILE": "docker-compose.yml:tests/containers/fast.compose.yml",
            # The machine may have two cores only: no container gets less.
            "WORKER_CPUS": "2.0",
            "BROKER_CPUS": "2.0",
            "LOG_FORMAT": "json",
            **ports,
        }

    def __call__(self, *arguments: str, **environment: str) -> str:
        return docker("compose", *arguments, **{**self.environment, **environment})

    def containers(self, service: str) -> list[str]:
        """The ids of a service's running containers."""
        return self("ps", "--quiet", service).split()

    def workers(self) -> list[dict[str, Any]]:
        status, body = get(self.http, "/workers")
        found: list[dict[str, Any]] = json.loads(body) if status == 200 else []
        return [worker for worker in found if worker["state"] == "ready"]

    def wait_for_workers(self, count: int, timeout_s: float = 60) -> float:
        """Wait until `count` workers are ready; returns how long that took, in seconds."""
        begin_s = time.monotonic()
        wait_until(lambda: len(self.workers()) == count, timeout_s, f"{count} workers are ready")
        return time.monotonic() - begin_s

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Ask Prometheus: a list of `{"metric": labels, "value": [time, text]}`."""
        query = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"http://{self.prometheus}/api/v1/query?{query}", timeout=10) as response:
            answer = json.load(response)
        assert answer["status"] == "success", answer
        result = answer["data"]["result"]
        assert isinstance(result, list)
        return result

    def value(self, expression: str) -> float:
        """Return the one value of an expression; NaN if there is none."""
        result = self.query(expression)
        return float(result[0]["value"][1]) if result else float("nan")

    def targets_up(self) -> int:
        return len(self.query("up == 1"))
