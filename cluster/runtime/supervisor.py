"""Connects to the supervisord that runs this process, or that a command controls."""

import xmlrpc.client

from supervisor.xmlrpc import SupervisorTransport

NAME = PASSWORD = "cluster"
"""What supervisord's configurations name, too: without them it logs that anybody may use its socket, which is wrong."""


def supervisor_at(url: str) -> xmlrpc.client.ServerProxy:
    """Return the XML-RPC interface of supervisord.

    Args:
        url: such as `unix:///path/to/supervisor.sock`.
    """
    return xmlrpc.client.ServerProxy("http://127.0.0.1", transport=SupervisorTransport(NAME, PASSWORD, url))
