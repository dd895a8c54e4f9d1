"""How a process ends that would not fare better if it were started again: one sentence, exit code 2."""

import os
import signal
import sys
import xmlrpc.client
from typing import NoReturn

from supervisor.xmlrpc import SupervisorTransport

EXIT_CODE = 2


def exit_config_error(error: Exception) -> NoReturn:
    """Say why, and end the process; supervisor, if it runs under one, will not start it again."""
    print(f"error: {error}", file=sys.stderr, flush=True)  # noqa: T201
    _tell_supervisor()
    sys.exit(EXIT_CODE)


def _tell_supervisor() -> None:
    # An end before `startsecs` is a failed start to supervisor whatever the exit code, and is tried again and again.
    # So the process has itself stopped; supervisord tells its children where it listens and what it calls them.
    url = os.environ.get("SUPERVISOR_SERVER_URL")
    if url is None:
        return
    name = f"{os.environ.get('SUPERVISOR_GROUP_NAME')}:{os.environ.get('SUPERVISOR_PROCESS_NAME')}"
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # comes from the stop, and would hide the exit code
    server = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=SupervisorTransport(serverurl=url))
    try:
        server.supervisor.stopProcess(name, False)
    except (OSError, xmlrpc.client.Error) as failure:
        print(f"supervisor could not be told: {failure}", file=sys.stderr, flush=True)  # noqa: T201
