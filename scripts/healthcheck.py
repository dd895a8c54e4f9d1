"""A container's health check: the broker's message loop turns, or every worker of this container is ready.

Prints the reason and exits with 1 if it is not so.
"""

import os
import sys
import urllib.error
from pathlib import Path

from cluster.runtime.local_http import read_page

ROLE = Path("/tmp/role")
"""Written by the container's entry point."""


def pages(role: str) -> list[tuple[str, str]]:
    """Return the pages that must answer 200, each as an address and a path."""
    if role == "broker":
        _, _, port = os.environ["BROKER_HTTP"].rpartition(":")
        return [(f"127.0.0.1:{port}", "/healthz")]
    first, count = int(os.environ["WORKER_HTTP_PORT"]), int(os.environ["WORKERS_PER_CONTAINER"])
    return [(f"127.0.0.1:{port}", "/readyz") for port in range(first, first + count)]


def main() -> None:
    """Check every page."""
    for address, path in pages(ROLE.read_text().strip()):
        try:
            read_page(address, path, timeout_s=3)
        except urllib.error.HTTPError as error:
            sys.exit(f"http://{address}{path}: {error.read().decode().strip()}")
        except OSError as error:
            sys.exit(f"http://{address}{path}: {error}")


if __name__ == "__main__":
    main()
