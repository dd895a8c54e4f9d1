"""Key files, as pyzmq and CZMQ write them (`zmq.auth.create_certificates`): `name.key` and `name.key_secret`.

A file has two lines of interest, `public-key = "..."` and, if it is secret, `secret-key = "..."`. The keys are in Z85
(https://rfc.zeromq.org/spec/32): 40 characters for 32 bytes.
"""

import re
from pathlib import Path
from typing import NamedTuple

PUBLIC_SUFFIX, SECRET_SUFFIX = ".key", ".key_secret"

_KEY_CHARACTERS = 40
_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_DIGITS = {character: digit for digit, character in enumerate(_ALPHABET)}
_LINE = re.compile(r'^\s*(public|secret)-key\s*=\s*"([^"]*)"\s*$', re.MULTILINE)
_MOST_BYTES = 64 * 1024


class CertificateError(Exception):
    """A file is no key file, or a text is no key. The text names the fault and never shows a key."""


class Certificate(NamedTuple):
    """The keys in a file, 32 bytes each; `secret` is None in a public file."""

    public: bytes
    secret: bytes | None


def decode_key(text: str) -> bytes:
    """Decode a key.

    Args:
        text: 40 characters of Z85.

    Raises:
        CertificateError: if it is no key.
    """
    if len(text) != _KEY_CHARACTERS or not all(character in _DIGITS for character in text):
        raise CertificateError(f"a key has {_KEY_CHARACTERS} characters of Z85; this text has {len(text)}")
    parts = []
    for at in range(0, _KEY_CHARACTERS, 5):
        value = 0
        for character in text[at : at + 5]:
            value = value * 85 + _DIGITS[character]
        if value >= 1 << 32:
            raise CertificateError("five characters of the key stand for more than 32 bits")
        parts.append(value.to_bytes(4, "big"))
    return b"".join(parts)


def read_certificate(path: Path) -> Certificate:
    """Read a key file.

    Raises:
        CertificateError: if it cannot be read, or has no key.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_MOST_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise CertificateError(f"it cannot be read: {reason}") from error
    keys = {kind: decode_key(value) for kind, value in _LINE.findall(text)}
    if "public" not in keys:
        raise CertificateError('it has no line public-key = "..."')
    return Certificate(keys["public"], keys.get("secret"))
