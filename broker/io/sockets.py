"""Opens the broker's sockets at the addresses of its settings, and refuses addresses that cannot be used."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from selectors import BaseSelector

from cluster.runtime.settings import ConfigError, bind_error
from zmtp.limits import PeerLimits
from zmtp.mechanism import Mechanism
from zmtp.router import Router

_MAX_PATH_BYTES = 107  # of a Unix socket on Linux; other systems allow a few less

OpenRouter = Callable[[str, str, BaseSelector, PeerLimits, Callable[[], Mechanism]], Router]
"""Opens a router: (name of the setting, endpoint, selector, limits, what makes the security of each connection)."""


def open_router(
    setting: str, endpoint: str, selector: BaseSelector, limits: PeerLimits, mechanism: Callable[[], Mechanism]
) -> Router:
    """Bind a ROUTER.

    Args:
        setting: name of the setting that the endpoint comes from, for the error.
        endpoint: `tcp://host:port` or `ipc://path`.
        selector: the selector of the message loop.
        limits: limits for its peers.
        mechanism: makes the security of each connection.

    Raises:
        ConfigError: if the address cannot be bound.
    """
    try:
        if endpoint.startswith("ipc://"):
            _check_path(setting, endpoint, endpoint.removeprefix("ipc://"))
        with _for_this_user_only() if setting == "BROKER_ADMIN" else nullcontext():
            return Router(endpoint, selector, limits, mechanism)
    except OSError as error:
        raise bind_error(setting, endpoint, error) from error


@contextmanager
def _for_this_user_only() -> Iterator[None]:
    """Create files with mode 0600: a user who can open the administrators' socket can run code on the workers."""
    before = os.umask(0o177)
    try:
        yield
    finally:
        os.umask(before)


def _check_path(setting: str, endpoint: str, path: str) -> None:
    """Refuse a path that another process or a file uses; binding would replace it without a message."""
    if len(path.encode()) > _MAX_PATH_BYTES:
        raise ConfigError(
            f"{setting}={endpoint!r} is too long: the path of a socket may have {_MAX_PATH_BYTES} bytes; "
            "choose a shorter path, such as ipc:///tmp/broker-admin.sock"
        )
    if Path(path).exists() and not Path(path).is_socket():
        raise ConfigError(f"{setting}={endpoint!r} is a file: choose an unused path, or remove the file")
    with socket.socket(socket.AF_UNIX) as probe, suppress(ConnectionError, FileNotFoundError):
        probe.connect(path)
        raise ConfigError(
            f"{setting}={endpoint!r} is taken: another process listens there; stop it or choose another path"
        )
    Path(path).parent.mkdir(parents=True, exist_ok=True)
