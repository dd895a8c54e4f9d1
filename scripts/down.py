"""`make down`: stops the cluster, after the calls under way have ended."""

import time

from scripts import supervision

STOP_TIMEOUT_S = 60.0
_POLL_S = 0.1


def main() -> None:
    """Have supervisord stop everything, and wait until it has gone."""
    if not supervision.is_running():
        print("the cluster is not running")
        return
    print("stopping: the broker first, then the workers", flush=True)
    supervision.control("shutdown")
    deadline_s = time.monotonic() + STOP_TIMEOUT_S
    while supervision.SOCKET.exists():
        if time.monotonic() > deadline_s:
            supervision.fail(f"supervisord still runs after {STOP_TIMEOUT_S:g} s; see {supervision.LOGS}")
        time.sleep(_POLL_S)
    print("stopped")


if __name__ == "__main__":
    main()
