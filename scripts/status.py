"""`make status`: supervisor's view of the processes."""

import sys

from scripts import leftovers, supervision
from scripts.cluster_settings import fail


def main() -> None:
    """Print a line for each process; the exit code is 1 if one has ended or keeps ending."""
    processes = supervision.processes()
    if not processes:
        if left := leftovers.find():
            fail(
                f"supervisord has died, and {leftovers.describe(left)} still serve: nothing restarts them; make down "
                "stops them, after their calls have ended, and make up starts anew"
            )
        fail("the cluster is not running; start it with make up")
    for process in processes:
        print(f"{process['name']:<16} {process['statename']:<9} {process['description']}")
    sys.exit(any(process["statename"] not in ("RUNNING", "STARTING") for process in processes))


if __name__ == "__main__":
    main()
