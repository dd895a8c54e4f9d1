"""Shared by the example callers: the arguments, the client, and errors as sentences."""

import argparse
import sys
from collections.abc import Callable
from typing import Any

import zerorpc
import zmq

from cluster.wire.texts import to_line, to_text
from scripts import zerorpc_curve

DEFAULT_ADDRESS = "tcp://127.0.0.1:4242"

FLOWER = '{"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}'


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of the arguments of every caller: the address and the timeout."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("address", nargs="?", default=DEFAULT_ADDRESS, help="the broker's address (default: %(default)s)")
    made.add_argument("--timeout", type=float, default=10.0, metavar="S", help="seconds to wait (default: %(default)s)")
    return made


def call_and_print(address: str, timeout_s: float, call: Callable[[Any], object]) -> None:
    """Make a call and print its result; see `result_of`."""
    print(f"Result: {result_of(address, timeout_s, call)}")


def result_of(
    address: str,
    timeout_s: float,
    call: Callable[[Any], object],
    late: str = "",
    context: zerorpc.Context | None = None,
) -> Any:
    """Make a call and return its result; an error ends the program with a sentence and exit code 1.

    Args:
        address: the service's.
        timeout_s: how long to wait for the answer, in seconds.
        call: makes the call with the client that it gets.
        late: what to say if there is no answer in that time, although the service is there.
        context: see `new_client`.
    """
    client = None
    try:
        client = new_client(address, timeout_s, context)
        return call(client)
    except zerorpc.RemoteError as error:
        sys.exit(f"error: the service answered {to_line(str(error.name))}: {to_text(str(error.msg))}")
    except (zerorpc.TimeoutExpired, zerorpc.LostRemote) as error:
        if late and isinstance(error, zerorpc.TimeoutExpired):
            sys.exit(f"error: {late}")
        sys.exit(
            f"error: no answer from {address} ({error}); is the cluster running? Start it with make up. "
            "If it requires keys, ZERORPC_CURVE_SECRET and ZERORPC_CURVE_SERVER name them (docs/security.md)"
        )
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    except Exception as error:  # of pyzmq, for an address that is not valid
        sys.exit(f"error: cannot connect to {address!r}: {error}; an address is tcp://host:port or ipc:///path")
    finally:
        if client is not None:
            client.close()


def new_client(address: str, timeout_s: float = 30.0, context: zerorpc.Context | None = None) -> zerorpc.Client:
    """Return a client that also reaches IPv6 addresses, which a stock one does not by itself (docs/clients.md).

    Args:
        address: the service's.
        timeout_s: how long it waits for an answer, in seconds.
        context: makes its sockets; by default with the keys that ZERORPC_CURVE_SECRET and ZERORPC_CURVE_SERVER name.

    Raises:
        Exception: of pyzmq, if the address is not valid; OSError or ValueError, if a key file is wrong.
    """
    client = zerorpc.Client(timeout=timeout_s, context=context or zerorpc_curve.from_environment())
    try:
        client._events.setsockopt(zmq.IPV6, 1)
        client.connect(address)
    except BaseException:
        client.close()
        raise
    return client
