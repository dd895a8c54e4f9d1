"""What the example callers share: the address, the client, and errors as sentences."""

import argparse
import sys
from collections.abc import Callable
from typing import Any

import zerorpc

DEFAULT_ADDRESS = "tcp://127.0.0.1:4242"

FLOWER = '{"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}'


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser of what every caller wants to know: the address, and how long to wait."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("address", nargs="?", default=DEFAULT_ADDRESS, help="of the broker (default: %(default)s)")
    made.add_argument("--timeout", type=float, default=10.0, metavar="S", help="seconds to wait (default: %(default)s)")
    return made


def call_and_print(address: str, timeout_s: float, call: Callable[[Any], object]) -> None:
    """Make a call and print its result, as `result_of` does."""
    print(f"Result: {result_of(address, timeout_s, call)}")


def result_of(address: str, timeout_s: float, call: Callable[[Any], object]) -> Any:
    """Make a call; an error is printed as a sentence, and ends the program with code 1."""
    client = zerorpc.Client(timeout=timeout_s)
    try:
        client.connect(address)
        return call(client)
    except zerorpc.RemoteError as error:
        sys.exit(f"error: the service answered {error.name}: {error.msg}")
    except (zerorpc.TimeoutExpired, zerorpc.LostRemote) as error:
        sys.exit(f"error: no answer from {address} ({error}); is the cluster running? Start it with make up")
    except Exception as error:  # pyzmq's own, for an address that is none
        sys.exit(f"error: cannot connect to {address!r}: {error}; an address is tcp://host:port or ipc:///path")
    finally:
        client.close()
