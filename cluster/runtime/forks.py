"""What a process keeps from children that code of others forks, such as a model with a pool of processes.

A forked child inherits every descriptor. Were it to keep the process's sockets, they would stay open after the process
has died: its port would stay taken, and the broker would not see its connection end.
"""

import contextlib
import os
import socket
import weakref
from typing import Protocol


class Owner(Protocol):
    """Owns something that belongs to this process only."""

    def leave_to_parent(self) -> None:
        """Give up what is owned. Called in a forked child, which has no other thread; it must not raise."""


_owners: weakref.WeakSet[Owner] = weakref.WeakSet()


def register(owner: Owner) -> None:
    """From now on, every forked child calls the owner's `leave_to_parent`."""
    _owners.add(owner)


def hide(descriptor: int) -> None:
    """Replace a descriptor by one of /dev/null. The number stays taken, because an object still has it."""
    with contextlib.suppress(OSError):
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, descriptor, inheritable=False)
        os.close(null)


def hide_connections_to(endpoint: str) -> None:
    """Hide this process's sockets that are connected to a ZeroMQ endpoint, `tcp://host:port` or `ipc://path`."""
    transport, _, address = endpoint.partition("://")
    peer: object = address if transport == "ipc" else int(address.rpartition(":")[2])
    for descriptor in _open_descriptors():
        if _peer(descriptor) == peer:
            hide(descriptor)


def _open_descriptors() -> list[int]:
    with contextlib.suppress(OSError):
        return [int(name) for name in os.listdir("/dev/fd")]
    return []


def _peer(descriptor: int) -> object:
    """The port or the path that a socket is connected to; None for anything else."""
    try:
        duplicate = socket.socket(fileno=os.dup(descriptor))
    except OSError:
        return None
    with duplicate:
        try:
            name = duplicate.getpeername()
        except OSError:
            return None
    return name[1] if isinstance(name, tuple) else name


def _leave_to_parent() -> None:
    for owner in list(_owners):
        owner.leave_to_parent()


os.register_at_fork(after_in_child=_leave_to_parent)
