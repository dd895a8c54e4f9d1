"""Keys of a client, for a server that requires CURVE. Needs PyNaCl: `pip install "./clients/python[curve]"`."""

from pathlib import Path
from typing import Self

from zmtp.certificates import CertificateError, decode_key, read_certificate
from zmtp.mechanism import Mechanism


class Keys:
    """The client's own keys and the server's public key. It shows none of them."""

    __slots__ = ("_curve",)

    def __init__(self, secret_key: str, server_key: str) -> None:
        """Take the keys in Z85, 40 characters each.

        Args:
            secret_key: the client's own secret key.
            server_key: the server's public key.

        Raises:
            ValueError: if one is no key.
            ImportError: if PyNaCl is not installed.
        """
        try:
            self._set(decode_key(secret_key), decode_key(server_key))
        except CertificateError as error:
            raise ValueError(str(error)) from error

    @classmethod
    def read(cls, secret_file: str, server_file: str) -> Self:
        """Read the keys from files of pyzmq, `name.key_secret` and `broker.key`.

        Raises:
            ValueError: if a file cannot be read or has no such key; the text names it.
            ImportError: if PyNaCl is not installed.
        """
        parts = []
        for file in (secret_file, server_file):
            try:
                parts.append(read_certificate(Path(file)))
            except CertificateError as error:
                raise ValueError(f"{file}: {error}") from error
        own, server = parts
        if own.secret is None:
            raise ValueError(f"{secret_file} has a public key only: name the file that ends in .key_secret")
        made = cls.__new__(cls)
        made._set(own.secret, server.public)
        return made

    def _set(self, secret: bytes, server: bytes) -> None:
        try:
            from zmtp.curve import CurveKeys  # noqa: PLC0415 - a client without keys needs no PyNaCl
        except ImportError as error:
            raise ImportError('keys need PyNaCl: pip install "zerorpc-cluster-client[curve]"') from error
        self._curve = CurveKeys.of(secret), server

    def mechanism(self) -> Mechanism:
        """Return the security of a new connection."""
        from zmtp.curve import CurveClient  # noqa: PLC0415

        return CurveClient(*self._curve)
