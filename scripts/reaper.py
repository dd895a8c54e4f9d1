"""Ends what a worker leaves behind: processes that its models have started. supervisord runs it as a listener.

supervisord starts each process in a process group of its own, and the children of a process stay in its group. When a
process has ended, however it has ended, the rest of its group is killed: otherwise a pool of a model would go on
computing, and keep its memory, beside the pool of the next worker.
"""

import contextlib
import os
import signal
import sys

import psutil
from supervisor.childutils import get_headers


def main() -> None:
    """Handle supervisor's events until it ends (supervisor's documentation, "Event Listener Notification Protocol")."""
    while True:
        _say("READY\n")
        header = sys.stdin.readline()
        if not header:  # supervisord has died
            return
        payload = sys.stdin.read(int(get_headers(header)["len"]))
        ended = get_headers(payload.partition("\n")[0])
        if "pid" in ended:
            kill_group(int(ended["pid"]))
        else:  # it has died before `startsecs`, and supervisor does not say which pid it had
            _kill_orphans(ended["processname"])
        _say("RESULT 2\nOK")


def kill_group(leader: int) -> None:
    """Kill what is left of the process group of a process that has ended."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # nothing is left
        os.killpg(leader, signal.SIGKILL)


def _kill_orphans(name: str) -> None:
    """Kill the groups that have the environment of a process of that name, and whose leader has ended."""
    ours = {"SUPERVISOR_PROCESS_NAME": name, "SUPERVISOR_SERVER_URL": os.environ["SUPERVISOR_SERVER_URL"]}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            group = os.getpgid(process.pid)
            if not psutil.pid_exists(group) and ours.items() <= process.environ().items():
                kill_group(group)


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
