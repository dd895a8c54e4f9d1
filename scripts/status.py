"""`make status`: supervisor's view of the processes."""

import sys

from scripts import supervision


def main() -> None:
    """Print a line for each process; the exit code is 1 if one has ended or keeps ending."""
    processes = supervision.processes()
    if not processes:
        supervision.fail("the cluster is not running; start it with make up")
    for process in processes:
        print(f"{process['name']:<16} {process['statename']:<9} {process['description']}")
    sys.exit(any(process["statename"] not in ("RUNNING", "STARTING") for process in processes))


if __name__ == "__main__":
    main()
