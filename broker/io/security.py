"""Keys and access rules of a broker: which peers each socket accepts, and what they may do."""

import logging
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

from broker.core.state.access import ANONYMOUS, AccessRules
from broker.core.state.counters import ADMIN_SOCKET, CLIENT_SOCKET, WORKER_SOCKET
from broker.io.access_file import read_access
from broker.io.file_watch import FileWatch
from broker.io.keyring import ANY_KEY, Keyring
from broker.settings import BrokerSettings
from cluster.runtime.curve_files import read_secret
from cluster.runtime.settings import ConfigError, is_local
from zmtp.curve import CurveServer
from zmtp.mechanism import Mechanism, Null

log = logging.getLogger(__name__)

_SETTINGS = {
    CLIENT_SOCKET: "BROKER_CLIENT_KEYS",
    WORKER_SOCKET: "BROKER_WORKER_KEYS",
    ADMIN_SOCKET: "BROKER_ADMIN_KEYS",
}


class Applies(Protocol):
    """What puts changes in force: the message loop. Any thread may call it."""

    def apply_keys(self, socket: str, ring: Keyring) -> None:
        """Drop the peers of a socket whose keys are not accepted any more."""

    def apply_access(self, rules: AccessRules | None) -> None:
        """Put access rules in force; None if the file is broken and the rules before stay in force."""


class Security:
    """What the settings say of keys and access, and what has become of the files since."""

    def __init__(self, settings: BrokerSettings) -> None:
        """Read the files.

        Raises:
            ConfigError: if one is missing or wrong, or the settings do not fit together.
        """
        values = (settings.client_keys, settings.worker_keys, settings.admin_keys)
        folders = {socket: value for socket, value in zip(_SETTINGS, values, strict=True) if value}
        # The watch looks at the files before they are read, so that it notices a change that comes in between.
        self._watch = FileWatch()
        for socket, value in folders.items():
            if value != ANY_KEY:
                self._watch.add(Path(value), partial(self._keys_changed, socket))
        if settings.access:
            self._watch.add(Path(settings.access), self._access_changed)
        self._rings = {socket: Keyring(_SETTINGS[socket], value) for socket, value in folders.items()}
        if self._rings and not settings.curve_secret:
            setting = _SETTINGS[next(iter(self._rings))]
            raise ConfigError(f"{setting} needs BROKER_CURVE_SECRET, the secret key file of this broker")
        if settings.admin_keys and not settings.admin:
            raise ConfigError("BROKER_ADMIN_KEYS is set, and BROKER_ADMIN is empty: there is no port that would use it")
        if settings.curve_secret and not self._rings:
            raise ConfigError(
                f"BROKER_CURVE_SECRET={settings.curve_secret!r} is set, and no port uses it: set BROKER_CLIENT_KEYS, "
                "BROKER_WORKER_KEYS or BROKER_ADMIN_KEYS as well"
            )
        self._keys = read_secret("BROKER_CURVE_SECRET", settings.curve_secret) if settings.curve_secret else None
        self._access_path = settings.access
        self.rules = self._read_access()
        self._loop: Applies | None = None

    def mechanism(self, socket: str) -> Callable[[], Mechanism]:
        """Return what makes the security of each connection of a socket."""
        ring = self._rings.get(socket)
        if ring is None:
            return Null
        assert self._keys is not None
        return partial(CurveServer, self._keys, ring.name_of)

    def is_keyed(self, socket: str) -> bool:
        """Whether a socket accepts only peers with keys."""
        return socket in self._rings

    def watch(self, loop: Applies) -> None:
        """Have the loop put the changes of the files in force, from those that came after they were read."""
        self._loop = loop
        self._watch.start()

    def stop(self) -> None:
        """Stop looking for changes."""
        self._watch.stop()

    def _keys_changed(self, socket: str) -> None:
        assert self._loop is not None
        ring = self._rings[socket]
        before = ring.names
        ring.read()
        log.info(
            "keys of %s: %d accepted; new: %s; revoked: %s",
            socket,
            len(ring.names),
            ", ".join(sorted(ring.names - before)) or "none",
            ", ".join(sorted(before - ring.names)) or "none",
        )
        self._loop.apply_keys(socket, ring)

    def _access_changed(self) -> None:
        assert self._loop is not None
        try:
            rules = self._read_access()
        except ConfigError as error:
            log.error("%s; the rules before it stay in force", error)
            self._loop.apply_access(None)
            return
        log.info("the rules of %s are in force", self._access_path)
        self._loop.apply_access(rules)

    def _read_access(self) -> AccessRules:
        if not self._access_path:
            return AccessRules()
        rules = read_access(self._access_path)
        named = next((name for name in rules.clients if name != ANONYMOUS), None)
        if named is not None and CLIENT_SOCKET not in self._rings:
            raise ConfigError(
                f"BROKER_ACCESS={self._access_path!r}: clients.{named} needs BROKER_CLIENT_KEYS, because clients "
                f"without keys are all called {ANONYMOUS!r}"
            )
        if rules.workers and WORKER_SOCKET not in self._rings:
            raise ConfigError(f"BROKER_ACCESS={self._access_path!r}: workers needs BROKER_WORKER_KEYS")
        return rules


def exposed(endpoints: dict[str, str]) -> list[str]:
    """Return which settings of ports without keys name an address that other machines may reach.

    In a container of the cluster's image, the network decides who may: it is made for the cluster, or published.

    Args:
        endpoints: by setting.
    """
    if "CLUSTER_CONTAINER" in os.environ:
        return []
    return [setting for setting, endpoint in endpoints.items() if not is_local(endpoint)]
