"""Ends a process whose configuration is wrong: one sentence, exit code 2, and supervisor does not restart it."""

import os
import signal
import sys
import xmlrpc.client
from typing import NoReturn

from supervisor.xmlrpc import SupervisorTransport

EXIT_CODE = 2


def exit_config_error(error: Exception) -> NoReturn:
    """Print the error and end the process. If supervisor runs the process, it does not restart it."""
    print(f"error: {error}", file=sys.stderr, flush=True)  # noqa: T201
    _stop_in_supervisor()
    sys.exit(EXIT_CODE)


def _stop_in_supervisor() -> None:
    # Supervisor restarts a process that ends before `startsecs`, whatever its exit code. So the process asks supervisor
    # to stop it. Supervisord passes its address and the process's name to its children by environment variables.
    url = os.environ.get("SUPERVISOR_SERVER_URL")
    if url is None:
        return
    name = f"{os.environ.get('SUPERVISOR_GROUP_NAME')}:{os.environ.get('SUPERVISOR_PROCESS_NAME')}"
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the stop sends it, and it would hide the exit code
    server = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=SupervisorTransport(serverurl=url))
    try:
        server.supervisor.stopProcess(name, False)
    except (OSError, xmlrpc.client.Error) as failure:
        print(f"cannot reach supervisor at {url}: {failure}; it will restart this process", file=sys.stderr, flush=True)  # noqa: T201
