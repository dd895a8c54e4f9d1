"""Ends a process whose configuration is wrong: one sentence, exit code 2, and supervisor does not restart it.

A process that finds its port taken is restarted by supervisor. `make up` has seen that the port is free, so somebody
has taken it while the process was down, and may release it.
"""

import os
import signal
import sys
import xmlrpc.client
from typing import NoReturn

from cluster.runtime.settings import AddressTakenError
from cluster.runtime.supervisor import supervisor_at

EXIT_CODE = 2

TAKEN_EXIT_CODE = 75
"""EX_TEMPFAIL of sysexits.h: the user is invited to retry."""


def exit_config_error(error: Exception) -> NoReturn:
    """Print the error and end the process. If supervisor runs the process, it does not restart it."""
    print(f"error: {error}", file=sys.stderr, flush=True)  # noqa: T201
    url = os.environ.get("SUPERVISOR_SERVER_URL")
    if url is not None:
        if isinstance(error, AddressTakenError):
            sys.exit(TAKEN_EXIT_CODE)
        _stop_in_supervisor(url)
    sys.exit(EXIT_CODE)


def _stop_in_supervisor(url: str) -> None:
    # Supervisor restarts a process that ends before `startsecs`, whatever its exit code. So the process asks supervisor
    # to stop it. Supervisord passes its address and the process's name to its children by environment variables.
    name = f"{os.environ.get('SUPERVISOR_GROUP_NAME')}:{os.environ.get('SUPERVISOR_PROCESS_NAME')}"
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the stop sends it, and it would hide the exit code
    try:
        supervisor_at(url).supervisor.stopProcess(name, False)
    except (OSError, xmlrpc.client.Error) as failure:
        print(f"cannot reach supervisor at {url}: {failure}; it will restart this process", file=sys.stderr, flush=True)  # noqa: T201
