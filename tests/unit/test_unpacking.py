"""Large values are decoded once if they are one scalar, and otherwise only after they have been skipped."""

import msgpack
import pytest

from cluster.wire.unpacking import SMALL_BYTES, UNPACK_ERRORS, unpack

LARGE = SMALL_BYTES + 1
NESTED = b"\xdc\xff\xff" * 1000
"""Headers of arrays that declare 65,535 elements each."""


@pytest.mark.parametrize("value", [bytes(LARGE), "x" * LARGE, bytes(100_000)])
def test_one_large_scalar_is_decoded(value: object) -> None:
    assert unpack(msgpack.packb([value])) == [value]
    assert unpack(msgpack.packb([value, 1])) == [value, 1]


@pytest.mark.parametrize(
    "data",
    [
        msgpack.packb([bytes(LARGE)]) + NESTED,
        msgpack.packb([1]) + NESTED,
        b"\x91" + NESTED,
        b"\x91\xc6\x7f\xff\xff\xff" + bytes(LARGE),
        b"\x91\xc1" + bytes(LARGE),
        b"\x91\xdb\xff\xff\xff\xff" + bytes(LARGE),
    ],
)
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(UNPACK_ERRORS):
        unpack(data)
