"""Keys for the stock zerorpc client: copy this file beside your program. It needs nothing but zerorpc.

In a program:

    from zerorpc_curve import CurveContext

    context = CurveContext("client.key_secret", "broker.key")
    client = zerorpc.Client("tcp://broker:4242", context=context)

On the command line, with all options of the `zerorpc` command:

    python zerorpc_curve.py client.key_secret broker.key tcp://broker:4242 get_models

It is a subclass, because attributes and options of a plain `zerorpc.Context` never reach its sockets: the client would
call in plain text, and a broker that requires keys would not answer.
"""

import os
import sys
from typing import Any

import zerorpc
import zmq.auth

SECRET_VARIABLE, SERVER_VARIABLE = "ZERORPC_CURVE_SECRET", "ZERORPC_CURVE_SERVER"
"""Environment variables with the two files, for `from_environment`."""


class CurveContext(zerorpc.Context):  # type: ignore[misc]
    """A context whose sockets connect with keys, for `zerorpc.Client` and for a `zerorpc.Server` that connects."""

    def __init__(self, secret_file: str, server_file: str) -> None:
        """Read the keys.

        Args:
            secret_file: this client's secret key file, `name.key_secret`.
            server_file: the public key file of the broker, `broker.key`.

        Raises:
            OSError: if a file cannot be read.
            ValueError: if a file has no key.
        """
        super().__init__()
        public, secret = zmq.auth.load_certificate(secret_file)
        server, _ = zmq.auth.load_certificate(server_file)
        if secret is None:
            raise ValueError(f"{secret_file} has no secret key: name the file that ends in .key_secret")
        self.__dict__["_curve"] = (public, secret, server)  # pyzmq would take other names for options of sockets

    def socket(self, *args: Any, **kwargs: Any) -> Any:
        """Return a new socket with the keys."""
        made = super().socket(*args, **kwargs)
        made.curve_publickey, made.curve_secretkey, made.curve_serverkey = self.__dict__["_curve"]
        return made


def from_environment() -> CurveContext | None:
    """Return a context with the files that the environment names; None if it names none.

    Raises:
        ValueError: if it names only one, or a file has no key.
        OSError: if a file cannot be read.
    """
    secret, server = os.environ.get(SECRET_VARIABLE), os.environ.get(SERVER_VARIABLE)
    if not secret and not server:
        return None
    if not secret or not server:
        raise ValueError(f"{SECRET_VARIABLE} and {SERVER_VARIABLE} belong together, and only one is set")
    return CurveContext(secret, server)


def main() -> None:
    """Run the `zerorpc` command with keys."""
    from zerorpc import cli

    if len(sys.argv) < 4:
        sys.exit("usage: zerorpc_curve.py CLIENT.key_secret BROKER.key [options of zerorpc] address [method] [params]")
    try:
        zerorpc.Context._instance = CurveContext(sys.argv[1], sys.argv[2])
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    sys.argv[1:3] = []
    sys.exit(cli.main())


if __name__ == "__main__":
    main()
