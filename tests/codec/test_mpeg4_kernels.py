"""The loops over macroblocks: code tables, single functions as plain Python, and damaged streams."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpeg4_streams import STREAMS
from test_mpeg4 import packets_of

from vidprep.codec import _mpeg4_codes as codes
from vidprep.codec import _mpeg4_kernels as kernels
from vidprep.codec import _mpeg4_tables as tables
from vidprep.codec.macroblocks import MACROBLOCK_DTYPE, CodedVop, MacroblockParser
from vidprep.errors import DecodeError

# How much of all possible codes a table uses: what is left keeps long runs of zeros free for markers.
USED = {"MCBPC_INTER": 1 - 2**-9 + 2**-11 + 3 * 2**-13, "CBPY": 1 - 2**-5, "MB_TYPE_B": 1 - 2**-4, "MOTION": 1 - 2**-11}


def padded(data: bytes) -> np.ndarray:
    return np.frombuffer(data + bytes(codes.PADDING_BYTES), np.uint8)


def coded_vops(path: Path) -> list[CodedVop]:
    extradata, packets = packets_of(path)
    parser = MacroblockParser(extradata)
    return [vop for packet in packets if (vop := parser.read(packet)) is not None]


class TestTables:
    @pytest.mark.parametrize("name", USED)
    def test_use(self, name: str) -> None:
        assert np.count_nonzero(getattr(tables, name)) / (1 << tables.CODE_BITS) == USED[name]

    def test_coefficients(self) -> None:
        """102 events and an escape; all but 1/512 of all codes are used, in both tables."""
        for table, longest, most in zip(tables.COEFFICIENTS, tables.LONGEST_RUNS, (12, 27), strict=True):
            used = table[table > 0]
            assert len(np.unique(used >> 4)) == 103
            assert len(used) / len(table) == 1 - 2**-9
            assert (used >> 4 & 63).max() == most
            assert (longest[:, 0] == 0).all()
            assert (np.diff(longest[:, 1:]) <= 0).all()

    def test_dc(self) -> None:
        for table in tables.DC_SIZES:
            assert set(table[table > 0] >> 4) == set(range(10))

    def test_zeros_are_no_code(self) -> None:
        """A reader past the end of the data stops at once."""
        everything = (tables.MCBPC_INTER, tables.CBPY, tables.MB_TYPE_B, tables.MOTION, *tables.DC_SIZES)
        assert not any(table[0] for table in (*everything, *tables.COEFFICIENTS))


class TestCodes:
    @given(st.binary(min_size=1, max_size=12), st.data())
    def test_peek(self, data: bytes, draw: st.DataObject) -> None:
        position = draw.draw(st.integers(0, 8 * len(data)))
        count = draw.draw(st.integers(1, 25))
        bits = "".join(f"{byte:08b}" for byte in data) + "0" * 64
        expected = int(bits[position : position + count], 2)
        assert codes.peek(padded(data), position, count) == expected
        assert codes.peek.py_func(padded(data), position, count) == expected

    @given(st.integers(-500, 500), st.integers(1, 7), st.data())
    def test_vectors(self, predictor: int, fcode: int, draw: st.DataObject) -> None:
        """Written as in section 7.6.3, read as it was, whatever the prediction."""
        half = 16 << fcode
        predictor = (predictor + half) % (2 * half) - half
        value = draw.draw(st.integers(-half, half - 1))
        difference = (value - predictor + half) % (2 * half) - half
        magnitude, rest = divmod(max(abs(difference) - 1, 0), 1 << (fcode - 1))
        code = magnitude + 1 if difference else 0
        first = int(np.flatnonzero((tables.MOTION > 0) & (code == tables.MOTION >> 4))[0])
        text = f"{first:013b}"[: tables.MOTION[first] & 15]
        if difference:
            text += str(int(difference < 0)) + (f"{rest:0{fcode - 1}b}" if fcode > 1 else "")
        data = padded(int(text.ljust(64, "0"), 2).to_bytes(8))
        assert codes.read_vector(data, 0, predictor, fcode) == (value, len(text))
        assert codes.read_vector.py_func(data, 0, predictor, fcode) == (value, len(text))

    @given(st.integers(-128, 127), st.integers(-128, 127), st.integers(-128, 127))
    def test_median(self, a: int, b: int, c: int) -> None:
        assert kernels.median.py_func(a, b, c) == sorted([a, b, c])[1]

    @given(st.integers(-1024, 1023), st.integers(-32, 31), st.integers(1, 100), st.integers(1, 100))
    def test_direct(self, motion: int, change: int, past: int, rest: int) -> None:
        """TRB and TRD of section 7.6.9.5.2, truncated toward zero."""
        header = codes.Header(*[0] * 11, past_ticks=past, span_ticks=past + rest, direct_in_four=0)
        forward = int(motion * past / (past + rest)) + change
        backward = forward - motion if change else int(-motion * rest / (past + rest))
        assert kernels.scale.py_func(motion, change, header) == (forward, backward)
        assert kernels.scale(motion, change, header) == (forward, backward)

    @pytest.mark.parametrize("name", ["b2-packets", "qpel-4mv-b2"])
    def test_as_plain_python(self, tmp_path: Path, name: str) -> None:
        """The loops, run without the compiler, fill in the same."""
        functions = vars(codes) | vars(kernels)
        plain = {key: value.py_func for key, value in functions.items() if hasattr(value, "py_func")}
        vops = [vop for vop in coded_vops(STREAMS[name].write(tmp_path, "a", 5)) if vop.macroblocks is not None]
        assert {vop.vop.picture_type for vop in vops} == {"P", "B"}
        vectors = [vop.vectors for vop in vops]
        with pytest.MonkeyPatch.context() as patch:
            for module in (codes, kernels):
                for function in plain.keys() & vars(module).keys():
                    patch.setattr(module, function, plain[function])
            anchors = None
            for vop, expected in zip(vops, vectors, strict=True):
                again = np.zeros(vop.vol.mb_shape, np.dtype((np.record, MACROBLOCK_DTYPE)))
                arguments = (padded(vop._packet), vop._header(), again.reshape(-1))
                if vop.vop.picture_type == "P":
                    count, end = kernels.parse_p(*arguments)
                    anchors = again
                else:
                    assert anchors is not None
                    count, end = kernels.parse_b(*arguments, anchors.reshape(-1))
                assert (count, end > 0) == (again.size, True)
                assert np.array_equal(again, vop.macroblocks)
                blocks = np.zeros_like(expected).view(np.recarray)
                kernels.fill_blocks(again, 4 if vop.vol.quarter_sample else 2, blocks)
                assert np.array_equal(blocks, expected)


class TestDamage:
    @pytest.mark.parametrize("name", ["4mv-packets-b2", "noisy-b1", "qpel-4mv-b2", "ac-prediction"])
    def test_flipped_bits(self, tmp_path: Path, name: str) -> None:
        """Every answer is macroblocks or a DecodeError that says where; most flips are found."""
        extradata, packets = packets_of(STREAMS[name].write(tmp_path, name, num_frames=8))
        rng, results = np.random.default_rng(0), []
        for _ in range(60):
            parser = MacroblockParser(extradata)
            for packet in packets:
                mutated = bytearray(packet)
                for place in rng.integers(5, len(packet), 3):
                    mutated[place] ^= 1 << int(rng.integers(8))
                results.append(outcome(parser, bytes(mutated)))
        assert all(re.search(r"=-?\d", text) or "cut" in text for text in results if text is not None)
        assert np.mean([text is not None for text in results]) > 0.3

    def test_cut_and_lengthened(self, tmp_path: Path) -> None:
        extradata, packets = packets_of(STREAMS["b1"].write(tmp_path, "a", num_frames=6))
        for i in (1, 2):
            for end in range(8, len(packets[i]) - 1):
                parser = MacroblockParser(extradata)
                for packet in packets[:i]:
                    parser.read(packet)
                assert outcome(parser, packets[i][:end]) is not None
            for tail, is_fine in ((b"\0\0\0", True), (b"\0\0\1\xb2xyz", True), (b"\x17", False), (b"\0\1", False)):
                parser = MacroblockParser(extradata)
                for packet in packets[:i]:
                    parser.read(packet)
                assert (outcome(parser, packets[i] + tail) is None) == is_fine

    @given(st.binary(max_size=60))
    def test_any_bytes(self, data: bytes) -> None:
        header = b"\0\0\1\xb6" + int("01010000111000000100001" + "1", 2).to_bytes(3)
        parser = MacroblockParser(LAYER)
        assert outcome(parser, header + data) is None or len(data) < 60


LAYER = bytes.fromhex("000001200086c40067 0c281078518f")


def outcome(parser: MacroblockParser, packet: bytes) -> str | None:
    try:
        coded = parser.read(packet)
        if coded is not None and coded.macroblocks is not None:
            assert coded.macroblocks.shape == coded.vol.mb_shape
    except DecodeError as error:
        return str(error)
    return None
