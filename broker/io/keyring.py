"""The keys that one socket accepts: the public key files of a folder, each with the name of its owner."""

import logging
from pathlib import Path

from broker.core.state.access import ANONYMOUS
from cluster.runtime.settings import ConfigError
from zmtp.certificates import PUBLIC_SUFFIX, CertificateError, read_certificate

log = logging.getLogger(__name__)

ANY_KEY = "*"
"""In place of a folder: every key is accepted, and its owner has no name."""


class Keyring:
    """Accepted keys by owner. `read` replaces them at once, so that another thread may call it.

    Attributes:
        folder: where the key files are; None if every key is accepted.
    """

    def __init__(self, setting: str, value: str) -> None:
        """Read the keys.

        Args:
            setting: the name of the setting, for the error.
            value: a folder, or `ANY_KEY`.

        Raises:
            ConfigError: if it is no folder, or one of its key files cannot be read.
        """
        self.folder = None if value == ANY_KEY else Path(value)
        self._names: dict[bytes, str] = {}
        if self.folder is None:
            return
        if not self.folder.is_dir():
            raise ConfigError(
                f"{setting}={value!r} is no folder: it should be one with the public keys, NAME{PUBLIC_SUFFIX}, of "
                f"those who may connect, or {ANY_KEY} for any key; scripts/keys.py makes them"
            )
        self._names, broken = _read(self.folder)
        if broken:
            raise ConfigError(f"{setting}={value!r}: {broken[0]}: remove it, or make it anew with scripts/keys.py")

    def read(self) -> None:
        """Read the folder again. A file that cannot be read is left out, and the log names it."""
        assert self.folder is not None
        if not self.folder.is_dir():
            log.error("the folder of keys %s is gone; the keys that were in it stay accepted", self.folder)
            return
        self._names, broken = _read(self.folder)
        for text in broken:
            log.warning("%s; its key is not accepted", text)

    @property
    def names(self) -> frozenset[str]:
        """The names of the owners."""
        return frozenset(self._names.values())

    def name_of(self, key: bytes) -> str | None:
        """Return the owner of a public key; None if the key is not accepted."""
        return ANONYMOUS if self.folder is None else self._names.get(key)


def _read(folder: Path) -> tuple[dict[bytes, str], list[str]]:
    """Return the owners by key, and what is wrong with files."""
    names: dict[bytes, str] = {}
    broken: list[str] = []
    for file in sorted(folder.glob(f"*{PUBLIC_SUFFIX}")):
        try:
            key = read_certificate(file).public
        except CertificateError as error:
            broken.append(f"{file} is no key file: {error}")
            continue
        if key in names:
            broken.append(f"{file} has the same key as {names[key]}{PUBLIC_SUFFIX}")
            continue
        names[key] = file.name.removesuffix(PUBLIC_SUFFIX)
    return names, broken
