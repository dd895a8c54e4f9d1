"""Keys and access rules of a broker: which peers each socket accepts, and what they may do."""

import ipaddress
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Protocol

from broker.core.state.access import ANONYMOUS, AccessRules
from broker.io.access_file import read_access
from broker.io.file_watch import FileWatch
from broker.io.keyring import Keyring
from broker.settings import BrokerSettings
from cluster.runtime.curve_files import read_secret
from cluster.runtime.settings import ConfigError
from zmtp.curve import CurveServer
from zmtp.mechanism import Mechanism, Null

log = logging.getLogger(__name__)

CLIENTS, WORKERS, ADMINS = "clients", "workers", "admins"

_SETTINGS = {CLIENTS: "BROKER_CLIENT_KEYS", WORKERS: "BROKER_WORKER_KEYS", ADMINS: "BROKER_ADMIN_KEYS"}


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
        values = {CLIENTS: settings.client_keys, WORKERS: settings.worker_keys, ADMINS: settings.admin_keys}
        self._rings = {socket: Keyring(_SETTINGS[socket], value) for socket, value in values.items() if value}
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
        self._watch = FileWatch()

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
        """Look for changes of the files from now on, and have the loop put them in force."""
        for socket, ring in self._rings.items():
            if ring.folder is not None:
                self._watch.add(ring.folder, partial(self._keys_changed, socket, ring, loop))
        if self._access_path:
            self._watch.add(Path(self._access_path), partial(self._access_changed, loop))
        self._watch.start()

    def stop(self) -> None:
        """Stop looking for changes."""
        self._watch.stop()

    def _keys_changed(self, socket: str, ring: Keyring, loop: Applies) -> None:
        before = ring.names
        ring.read()
        log.info(
            "keys of %s: %d accepted; new: %s; revoked: %s",
            socket,
            len(ring.names),
            ", ".join(sorted(ring.names - before)) or "none",
            ", ".join(sorted(before - ring.names)) or "none",
        )
        loop.apply_keys(socket, ring)

    def _access_changed(self, loop: Applies) -> None:
        try:
            rules = self._read_access()
        except ConfigError as error:
            log.error("%s; the rules before it stay in force", error)
            loop.apply_access(None)
            return
        log.info("the rules of %s are in force", self._access_path)
        loop.apply_access(rules)

    def _read_access(self) -> AccessRules:
        if not self._access_path:
            return AccessRules()
        rules = read_access(self._access_path)
        named = next((name for name in rules.clients if name != ANONYMOUS), None)
        if named is not None and CLIENTS not in self._rings:
            raise ConfigError(
                f"BROKER_ACCESS={self._access_path!r}: clients.{named} needs BROKER_CLIENT_KEYS, because clients "
                f"without keys are all called {ANONYMOUS!r}"
            )
        if rules.workers and WORKERS not in self._rings:
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
    return [setting for setting, endpoint in endpoints.items() if not _is_local(endpoint)]


def _is_local(endpoint: str) -> bool:
    if endpoint.startswith("ipc://"):
        return True
    host = endpoint.removeprefix("tcp://").rpartition(":")[0].strip("[]")
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"
