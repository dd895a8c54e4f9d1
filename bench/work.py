"""What the models of the benchmark compute, so that every server computes the same. It imports no server."""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np

_ITERATIONS_A_MS = 4_400
"""Rounds of a hash that take some 1 ms of one processor. The hash lets go of the interpreter's lock, as NumPy does."""

_DONE = "done"


def compute(milliseconds: float = 5.0) -> str:
    """Compute for about that long: a fixed amount of work, whatever else the machine does."""
    hashlib.pbkdf2_hmac("sha256", b"bench", b"salt", round(_ITERATIONS_A_MS * milliseconds))
    return _DONE


def mean(tensor: bytes | bytearray) -> float:
    """Return the mean of a tensor of 32-bit floats."""
    return float(np.frombuffer(tensor, dtype=np.float32).mean())


def items(rows: list[Any]) -> Iterator[Any]:
    """Yield the rows one by one."""
    yield from rows
