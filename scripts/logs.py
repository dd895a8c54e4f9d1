"""`make logs`: the ends of the processes' logs."""

import argparse
import subprocess

from scripts.cluster_settings import LOGS, fail

LINES = 30


def main() -> None:
    """Print the last lines of every log; with --follow, also further lines."""
    parser = argparse.ArgumentParser(prog="make logs", description=__doc__)
    parser.add_argument("--follow", action="store_true", help="print further lines until interrupted")
    follow = parser.parse_args().follow
    paths = sorted(str(path) for path in LOGS.glob("*.log"))
    if not paths:
        fail(f"there are no logs in {LOGS}; start the cluster with make up")
    subprocess.run(["tail", "-n", str(LINES), *(["-F"] if follow else []), *paths], check=False)


if __name__ == "__main__":
    main()
