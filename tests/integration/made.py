"""`make`, for the tests of its commands: with ports, a folder and a configuration of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.processes import REPOSITORY, free_port, free_ports, get

MOST_WORKERS = 3
"""More workers than a test starts. Their HTTP addresses have consecutive ports."""

_NOT_INHERITED = ("BROKER_", "WORKER", "APP_SETTINGS", "MAKE", "MFLAGS")


class Made:
    """`make`, with ports, a folder and a configuration of its own."""

    def __init__(self, folder: Path, code: Path = REPOSITORY) -> None:
        self.code = code  # the checkout
        self.run_folder = folder / "run"  # a short path, for the socket in it
        self.frontend = f"tcp://127.0.0.1:{free_port()}"
        self.http = f"127.0.0.1:{free_port()}"
        self.worker_port = free_ports(MOST_WORKERS)
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(_NOT_INHERITED)},
            "VENV": str(Path(sys.executable).parents[1]),
            "CLUSTER_RUN": str(self.run_folder),
            "BROKER_FRONTEND": self.frontend,
            "BROKER_BACKEND": f"tcp://127.0.0.1:{free_port()}",
            "BROKER_HTTP": self.http,
            "WORKER_HTTP": f"127.0.0.1:{self.worker_port}",
            "APP_SETTINGS": "tests.services.configs:LightIris",
        }
        self.environment["WORKER_BROKER"] = self.environment["BROKER_BACKEND"]

    def __call__(self, *arguments: str, code: int = 0, **settings: str) -> str:
        result = subprocess.run(
            ["make", "--no-print-directory", *arguments],
            cwd=self.code,
            env={**self.environment, **settings},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        output = result.stdout + result.stderr
        assert (result.returncode == 0) == (code == 0), output
        return output

    def workers(self) -> list[dict[str, Any]]:
        status, body = get(self.http, "/workers")
        listed: list[dict[str, Any]] = json.loads(body) if status == 200 else []
        return listed
