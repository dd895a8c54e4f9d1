"""What the models of the benchmark compute, so that every server computes the same. It imports no server."""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np

_ITERATIONS = 22_000
"""Rounds of a hash that take some 5 ms of one processor. The hash lets go of the interpreter's lock, as NumPy does."""

_DONE = "done"


def compute() -> str:
    """Compute for some 5 ms: a fixed amount of work, whatever else the machine does."""
    hashlib.pbkdf2_hmac("sha256", b"bench", b"salt", _ITERATIONS)
    return _DONE


def mean(tensor: bytes | bytearray) -> float:
    """Return the mean of a tensor of 32-bit floats."""
    return float(np.frombuffer(tensor, dtype=np.float32).mean())


def items(rows: list[Any]) -> Iterator[Any]:
    """Yield the rows one by one."""
    yield from rows
