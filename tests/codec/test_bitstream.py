"""Sequence parameter sets: against streams that were encoded, ffmpeg's own reading of them, and a writer."""

import re
import subprocess
from pathlib import Path
from typing import Any

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import busy_frames

from vidprep.codec.bitstream import BitReader, _read_sps, h264_motion_exact
from vidprep.codec.transcode import ffmpeg_path
from vidprep.codec.video import Video
from vidprep.codec.writer import write_video

HIGH_PROFILES = [100, 110, 122, 244, 44, 83, 86, 118, 128]
OTHER_PROFILES = [66, 77, 88]

ENCODINGS: dict[str, dict[str, Any]] = {
    "refs-1": {"options": {"refs": "1"}},
    "refs-2": {"options": {"refs": "2"}},
    "refs-4": {"options": {"refs": "4"}},
    "b-frames": {"options": {"refs": "1"}, "num_b_frames": 2},
    "baseline": {"options": {"refs": "1", "profile": "baseline"}},
    "main": {"options": {"refs": "1", "profile": "main"}},
    "high-444": {"options": {"refs": "1"}, "pixel_format": "yuv444p"},
    "high-10": {"options": {"refs": "1"}, "pixel_format": "yuv420p10le"},
    "scaling-lists": {"options": {"refs": "1", "x264-params": "cqm=jvt"}},
    "scaling-lists-444": {"options": {"refs": "1", "x264-params": "cqm=jvt"}, "pixel_format": "yuv444p"},
    "interlaced": {"options": {"refs": "1", "x264-params": "tff=1"}},
    "fake-interlaced": {"options": {"refs": "1", "x264-params": "fake-interlaced=1"}},
}


def extradata(path: Path) -> bytes:
    with av.open(str(path)) as container:
        return container.streams.video[0].codec_context.extradata or b""


def ffmpeg_reads(path: Path) -> tuple[int, bool]:
    """The number of reference frames, and whether all frames are progressive."""
    command = [ffmpeg_path(), "-nostdin", "-i", str(path), "-c", "copy", "-bsf:v", "trace_headers", "-f", "null", "-"]
    log = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    refs, progressive = (
        re.search(rf"{name} .*= (\d+)$", log, re.MULTILINE) for name in ("max_num_ref_frames", "frame_mbs_only_flag")
    )
    assert refs
    assert progressive
    return int(refs[1]), progressive[1] == "1"


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".h264", ".avi"])  # avcC in two of them, Annex B in two
@pytest.mark.parametrize("name", ENCODINGS)
def test_encoded_streams(tmp_path: Path, name: str, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write_video(path, busy_frames(6, 64, 64), codec="h264", **ENCODINGS[name])
    num_references, progressive = ffmpeg_reads(path)
    assert progressive == ("interlaced" not in name)
    if name in ("refs-2", "refs-4"):
        assert num_references == int(name[-1])
    exact = num_references == 1 and progressive
    assert exact == (name not in ("refs-2", "refs-4", "b-frames", "interlaced", "fake-interlaced"))
    assert h264_motion_exact(extradata(path)) == exact
    assert Video(path).metadata.motion_exact == exact


@pytest.mark.parametrize("name", ["refs-1", "scaling-lists"])
@pytest.mark.parametrize("suffix", [".mp4", ".h264"])
def test_truncated(tmp_path: Path, name: str, suffix: str) -> None:
    """Every shorter form is an answer, not an exception; what misses the last field is never exact."""
    path = tmp_path / f"a{suffix}"
    write_video(path, busy_frames(3, 64, 64), codec="h264", **ENCODINGS[name])
    data = extradata(path)
    assert h264_motion_exact(data)
    answers = [h264_motion_exact(data[:end]) for end in range(len(data))]
    assert not any(answers[:8])
    assert answers == sorted(answers)


@given(st.binary(max_size=80))
def test_any_bytes(data: bytes) -> None:
    for head in (b"", b"\x01\x64\x00\x0a\xff\xe1\x00\x20", b"\x00\x00\x00\x01\x67"):
        assert h264_motion_exact(head + data) in (True, False)


class BitWriter:
    """Writes what BitReader reads."""

    def __init__(self) -> None:
        self.digits = ""

    def bits(self, value: int, count: int) -> None:
        self.digits += f"{value:0{count}b}" if count else ""

    def unsigned(self, value: int) -> None:
        code = f"{value + 1:b}"
        self.digits += "0" * (len(code) - 1) + code

    def signed(self, value: int) -> None:
        self.unsigned(2 * value - 1 if value > 0 else -2 * value)

    def data(self) -> bytes:
        digits = self.digits + "1"  # rbsp_trailing_bits
        digits += "0" * (-len(digits) % 8)
        return int(digits, 2).to_bytes(len(digits) // 8, "big")


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


@st.composite
def parameter_sets(draw: st.DrawFn) -> tuple[bytes, int, bool]:
    """A sequence parameter set with every branch of the syntax; its reference frames, and if it is progressive."""
    number = st.one_of(st.integers(0, 70), st.sampled_from([2**16 - 1, 2**18, 2**22]))  # with runs of zeros
    writer = BitWriter()
    profile = draw(st.sampled_from(HIGH_PROFILES + OTHER_PROFILES))
    writer.bits(profile, 8)
    writer.bits(draw(st.integers(0, 0xFFFF)), 16)
    writer.unsigned(draw(st.integers(0, 31)))
    if profile in HIGH_PROFILES:
        _write_high_fields(draw, writer)
    writer.unsigned(draw(number))
    _write_order_count(draw, writer)
    num_references, progressive = draw(st.integers(0, 16)), draw(st.booleans())
    writer.unsigned(num_references)
    writer.bits(draw(st.integers(0, 1)), 1)
    writer.unsigned(draw(number))
    writer.unsigned(draw(number))
    writer.bits(progressive, 1)
    writer.bits(draw(st.integers(0, 2**20 - 1)), 20)
    return writer.data(), num_references, progressive


def _write_high_fields(draw: st.DrawFn, writer: BitWriter) -> None:
    chroma_format = draw(st.sampled_from([0, 1, 2, 3, 3, 3]))
    writer.unsigned(chroma_format)
    if chroma_format == 3:
        writer.bits(draw(st.integers(0, 1)), 1)
    writer.unsigned(draw(st.integers(0, 6)))
    writer.unsigned(draw(st.integers(0, 6)))
    writer.bits(draw(st.integers(0, 1)), 1)
    with_lists = draw(st.booleans())
    writer.bits(with_lists, 1)
    for i in range((12 if chroma_format == 3 else 8) if with_lists else 0):
        present = draw(st.booleans())
        writer.bits(present, 1)
        if present:
            _write_scaling_list(draw, writer, 16 if i < 6 else 64)


def _write_scaling_list(draw: st.DrawFn, writer: BitWriter, size: int) -> None:
    """7.3.2.1.1.1: after a next scale of zero nothing more is coded."""
    last = 8
    for _ in range(size):
        following = draw(st.integers(0, 255)) if draw(st.integers(0, 7)) else 0
        writer.signed((following - last + 128) % 256 - 128)
        if following == 0:
            return
        last = following


def _write_order_count(draw: st.DrawFn, writer: BitWriter) -> None:
    kind = draw(st.integers(0, 2))
    writer.unsigned(kind)
    if kind == 0:
        writer.unsigned(draw(st.integers(0, 12)))
    elif kind == 1:
        writer.bits(draw(st.integers(0, 1)), 1)
        offsets = draw(st.lists(st.integers(-500, 500), max_size=5))
        writer.signed(draw(st.integers(-500, 500)))
        writer.signed(draw(st.integers(-500, 500)))
        writer.unsigned(len(offsets))
        for offset in offsets:
            writer.signed(offset)


def escaped(payload: bytes) -> bytes:
    """Emulation prevention, 7.4.1.1: no three bytes may look like a start code."""
    out = bytearray()
    for byte in payload:
        if out[-2:] == b"\x00\x00" and byte <= 3:
            out.append(3)
        out.append(byte)
    return bytes(out)


@settings(max_examples=200)
@given(parameter_sets())
def test_every_branch(parameter_set: tuple[bytes, int, bool]) -> None:
    payload, num_references, progressive = parameter_set
    assert _read_sps(b"\x67" + escaped(payload)) == (num_references, progressive)


@given(parameter_sets(), st.sampled_from(["annex b", "avcc", "second unit"]))
def test_every_form(parameter_set: tuple[bytes, int, bool], form: str) -> None:
    payload, num_references, progressive = parameter_set
    exact = num_references <= 1 and progressive
    unit = b"\x67" + escaped(payload)
    assert b"\x00\x00\x01" not in unit
    picture_unit = b"\x68\xce\x38\x80"
    data = {
        "annex b": b"\x00\x00\x00\x01" + unit + b"\x00\x00\x00\x01" + picture_unit,
        "second unit": b"\x00\x00\x01\x09\x10\x00\x00\x01" + unit,
        "avcc": b"\x01\x64\x00\x0a\xff\xe1" + len(unit).to_bytes(2, "big") + unit + b"\x01\x00\x04" + picture_unit,
    }[form]
    assert h264_motion_exact(data) == exact


def test_no_parameter_set() -> None:
    assert not h264_motion_exact(b"")
    assert not h264_motion_exact(b"\x00\x00\x00\x01\x68\xce\x38\x80")
    assert not h264_motion_exact(b"\x01\x64\x00\x0a\xff\xe1\x00\x04\x68\xce\x38\x80")
