"""Pairs of call number and event survive encoding, and wrong frames are rejected."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.wire import pairs, protocol
from cluster.wire.pairs import LARGE_BYTES, read_pairs, write_pairs

NUMBER = b"\0\0\0\0\0\0\0\1"
TABLE = NUMBER + (3).to_bytes(4, "big")
SIZES = st.integers(1, 40) | st.just(LARGE_BYTES - 1) | st.just(LARGE_BYTES)


@given(st.lists(st.tuples(st.binary(min_size=8, max_size=8), SIZES.map(bytes)), min_size=1))
def test_pairs_are_read_as_they_were_written(written: list[tuple[bytes, bytes]]) -> None:
    kind, *parts = write_pairs(protocol.WORK, written)
    assert kind == protocol.WORK
    assert read_pairs(parts) == written


def test_small_events_share_a_frame_and_a_large_one_is_not_copied() -> None:
    large = bytes(LARGE_BYTES)
    frames = write_pairs(protocol.WORK, [(NUMBER, b"a"), (NUMBER, b"b"), (NUMBER, large), (NUMBER, b"c")], b"echo")
    assert frames[:2] == [protocol.WORK, b"echo"]
    assert frames[3:] == [b"ab", large, b"c"]
    assert frames[4] is large
    assert read_pairs(frames[2:])[2][1] is large


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [b""],
        [TABLE],
        [b"", b"abc"],
        [TABLE[:-1], b"abc"],
        [TABLE, b""],
        [TABLE, b"ab"],
        [TABLE, b"abcd"],
        [TABLE, b"abc", b""],
        [TABLE + TABLE, b"abc"],
        [TABLE + TABLE, b"abc", b"ab"],
        [TABLE + TABLE, b"abcab", b"c"],
        [NUMBER + b"\xff\xff\xff\xff", b"abc"],
    ],
)
def test_frames_that_do_not_match_the_table_are_refused(parts: list[bytes]) -> None:
    with pytest.raises(protocol.ProtocolError):
        pairs.read_pairs(parts)
