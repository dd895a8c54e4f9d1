"""Reads the key files that settings name, and refuses those that cannot be right."""

import stat
from pathlib import Path

from cluster.runtime.settings import ConfigError
from zmtp.certificates import CertificateError, decode_key, read_certificate
from zmtp.curve import CurveKeys

_MAKE = "scripts/keys.py makes one"


def read_secret(setting: str, path: str) -> CurveKeys:
    """Read the long-term keys of this process.

    Args:
        setting: the name of the setting, for the error.
        path: a secret key file, `name.key_secret`.

    Raises:
        ConfigError: if there is none, other users may read it, or its keys do not belong together.
    """
    file = Path(path)
    try:
        mode = file.stat().st_mode
    except OSError as error:
        raise ConfigError(f"{setting}={path!r} cannot be read ({error.strerror}): {_MAKE}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"{setting}={path!r} can be read by other users (mode {mode & 0o777:04o}): chmod 600 {path}")
    try:
        public, secret = read_certificate(file)
    except CertificateError as error:
        raise ConfigError(f"{setting}={path!r} is no key file: {error}; {_MAKE}") from error
    if secret is None:
        raise ConfigError(f"{setting}={path!r} has a public key only: name the file that ends in .key_secret")
    keys = CurveKeys.of(secret)
    if keys.public != public:
        raise ConfigError(f"{setting}={path!r} has a public key that does not belong to its secret key; {_MAKE}")
    return keys


def read_public(setting: str, value: str) -> bytes:
    """Read the long-term public key of a peer.

    Args:
        setting: the name of the setting, for the error.
        value: a public key file, `name.key`, or the key itself in Z85.

    Raises:
        ConfigError: if it is neither.
    """
    try:
        return decode_key(value)
    except CertificateError:
        pass
    try:
        return read_certificate(Path(value)).public
    except CertificateError as error:
        raise ConfigError(
            f"{setting}={value!r} is neither a public key of 40 characters nor a file with one: {error}"
        ) from error
