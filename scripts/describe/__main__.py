"""Writes the OpenRPC document of the running service, a page to read, and a typed Python client."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from scripts.calling import parser, result_of
from scripts.cluster_settings import RUN
from scripts.describe import client, page
from scripts.describe.untrusted import DocumentError


def _client(document: dict[str, Any]) -> str:
    try:
        return client.render(document)
    except DocumentError as error:
        sys.exit(f"error: {error}; no client can be made")


def main() -> None:
    """Get the document from the service, and write three files."""
    made: argparse.ArgumentParser = parser(__doc__)
    made.add_argument("--folder", type=Path, default=RUN / "service", help="for the files (default: %(default)s)")
    options = made.parse_args()
    document = result_of(options.address, options.timeout, lambda service: service.get_service_schema())
    files = {
        "openrpc.json": json.dumps(document, indent=2, ensure_ascii=False) + "\n",
        "index.html": page.render(document),
        "service_client.py": _client(document),
    }
    options.folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        path = options.folder / name
        path.write_text(text)
        print(path)


if __name__ == "__main__":
    main()
