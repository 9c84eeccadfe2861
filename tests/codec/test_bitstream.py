"""Reading bits: what was written comes back, and the end is an error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import BitWriter

from vidprep.codec.bitstream import BitReader


@given(st.lists(st.tuples(st.sampled_from(["bits", "unsigned", "signed"]), st.integers(0, 2**32 - 2)), max_size=30))
def test_reading_gives_what_was_written(fields: list[tuple[str, int]]) -> None:
    writer = BitWriter()
    for kind, value in fields:
        if kind == "bits":
            writer.bits(value, 32)
        elif kind == "unsigned":
            writer.unsigned(value)
        else:
            writer.signed(value - 2**31)
    reader = BitReader(writer.data())
    for kind, value in fields:
        if kind == "bits":
            assert reader.bits(32) == value
        elif kind == "unsigned":
            assert reader.unsigned() == value
        else:
            assert reader.signed() == value - 2**31


def test_reading_past_the_end() -> None:
    with pytest.raises(EOFError, match=r"count=9: only 8 bits are left"):
        BitReader(b"\xff").bits(9)
    with pytest.raises(EOFError):
        BitReader(b"\x00\x00").unsigned()
