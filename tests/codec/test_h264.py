"""H.264's headers against encoded streams, ffmpeg's own reading and a writer; each rule of exactness against a stream
that breaks it alone."""

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import BitWriter, busy_frames

from vidprep.codec.bitstream import BitReader
from vidprep.codec.h264 import References, _units
from vidprep.codec.h264_headers import ParameterSets, _read_sequence
from vidprep.codec.packets import PacketLog
from vidprep.codec.transcode import ffmpeg_path
from vidprep.codec.video import Video
from vidprep.codec.writer import write_video
from vidprep.errors import UnsupportedError

HIGH_PROFILES = [100, 110, 122, 244, 44, 83, 86, 118, 128]
OTHER_PROFILES = [66, 77, 88]
NO_PYRAMID = {"refs": "1", "x264-params": "b-pyramid=none"}

ENCODINGS: dict[str, dict[str, Any]] = {
    "refs-1": {"options": {"refs": "1"}},
    "baseline": {"options": {"refs": "1", "profile": "baseline"}},
    "main": {"options": {"refs": "1", "profile": "main"}},
    "high-444": {"options": {"refs": "1"}, "pixel_format": "yuv444p"},
    "high-10": {"options": {"refs": "1"}, "pixel_format": "yuv420p10le"},
    "scaling-lists": {"options": {"refs": "1", "x264-params": "cqm=jvt"}},
    "scaling-lists-444": {"options": {"refs": "1", "x264-params": "cqm=jvt"}, "pixel_format": "yuv444p"},
    "larger-buffer": {"options": {"refs": "1", "x264-params": "dpb-size=4"}},
    "slices": {"options": {"refs": "1", "x264-params": "slices=3"}},
    "units-between": {"options": {"refs": "1", "x264-params": "aud=1:nal-hrd=vbr:vbv-maxrate=900:vbv-bufsize=900"}},
    "intra-refresh": {"options": {"refs": "1", "x264-params": "intra-refresh=1"}},
    "fake-interlaced": {"options": {"refs": "1", "x264-params": "fake-interlaced=1"}},
    "b-frames": {"options": NO_PYRAMID, "num_b_frames": 2},
    "b-frames-16": {"options": NO_PYRAMID, "num_b_frames": 16, "gop": 40},
    "b-frames-weighted": {"options": {"refs": "1", "x264-params": "b-pyramid=none:weightb=1"}, "num_b_frames": 1},
    "b-frames-temporal": {"options": {"refs": "1", "x264-params": "b-pyramid=none:direct=temporal"}, "num_b_frames": 2},
    "b-frames-slices": {"options": {"refs": "1", "x264-params": "b-pyramid=none:slices=2"}, "num_b_frames": 2},
    "open-gop": {"options": {"refs": "1", "x264-params": "b-pyramid=none:open-gop=1"}, "num_b_frames": 2},
    "refs-2": {"options": {"refs": "2"}},
    "refs-4": {"options": {"refs": "4"}},
    "refs-2-b-frames": {"options": {"refs": "2", "x264-params": "b-pyramid=none"}, "num_b_frames": 2},
    "pyramid": {"options": {"refs": "1", "x264-params": "b-pyramid=normal"}, "num_b_frames": 3},
    "strict-pyramid": {"options": {"refs": "1", "x264-params": "b-pyramid=strict"}, "num_b_frames": 3},
    "interlaced": {"options": {"refs": "1", "x264-params": "tff=1"}},
}
INEXACT = {"refs-2", "refs-4", "refs-2-b-frames", "pyramid", "strict-pyramid", "interlaced"}


def packets(path: Path) -> tuple[bytes, list[bytes]]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        extradata = stream.codec_context.extradata or b""
        return extradata, [bytes(packet) for packet in container.demux(stream) if packet.size]


def ffmpeg_reads(path: Path) -> list[dict[str, int]]:
    """All fields of each unit, in order, as ffmpeg's own parser reads them."""
    command = [ffmpeg_path(), "-nostdin", "-i", str(path), "-c", "copy", "-bsf:v", "trace_headers", "-f", "null", "-"]
    log = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    units: list[dict[str, int]] = []
    for name, value in re.findall(r"\] \d+ +(\w+)(?:\[\d+\])* +[01]* = (-?\d+)$", log, re.MULTILINE):
        if name == "forbidden_zero_bit":
            units.append({})
        elif units:
            units[-1].setdefault(name, int(value))
    return units


class TestEncodedStreams:
    @pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".h264", ".avi", ".ts"])  # avcC in two of them, else Annex B
    @pytest.mark.parametrize("name", ENCODINGS)
    def test_exactness(self, tmp_path: Path, name: str, suffix: str) -> None:
        path = tmp_path / f"a{suffix}"
        write_video(path, busy_frames(20, 64, 64), codec="h264", **{"gop": 9, **ENCODINGS[name]})
        extradata, data = packets(path)
        references = References(extradata)
        for packet in data:
            references.read(packet)
        assert references.are_exact == (name not in INEXACT)
        assert references.are_of_fields == (name == "interlaced")
        video = Video(path)
        if name == "interlaced":
            with pytest.raises(UnsupportedError, match=r"interlaced=true at pts_seconds=.*--codec mpeg4"):
                list(video.frames())
        assert len(list(video.frames(vectors=False))) == 20
        assert video.motion_exact == references.are_exact

    @pytest.mark.parametrize("name", ENCODINGS)
    def test_fields(self, tmp_path: Path, name: str) -> None:
        """Every slice's header, as ffmpeg reads it."""
        path = tmp_path / "a.h264"
        write_video(path, busy_frames(20, 64, 64), codec="h264", **{"gop": 9, **ENCODINGS[name]})
        sets, ours = ParameterSets(), []
        for unit in _units(path.read_bytes(), 0):
            if unit[0] & 31 in (7, 8):
                sets.add(unit)
            elif unit[0] & 31 in (1, 5):
                ours.append(sets.slice_of(unit))
        units = ffmpeg_reads(path)
        theirs = [unit for unit in units if "slice_type" in unit]
        sequence = next(unit for unit in units if "max_num_ref_frames" in unit)
        assert len(ours) == len(theirs) >= 20
        for piece, unit in zip(ours, theirs, strict=True):
            assert piece.kind == "PBI"[unit["slice_type"] % 5]
            assert piece.begins_picture == (unit["first_mb_in_slice"] == 0)
            assert piece.is_idr == (unit["nal_unit_type"] == 5)
            assert piece.is_reference == (unit["nal_ref_idc"] > 0)
            assert piece.num_references_kept == sequence["max_num_ref_frames"]
            assert piece.has_fields == bool(sequence.get("mb_adaptive_frame_field_flag", 0))
            if sequence["pic_order_cnt_type"] == 0:
                assert piece.order == unit["pic_order_cnt_lsb"]
            else:
                assert piece.order == unit["frame_num"]
            if unit.get("num_ref_idx_l0_active_minus1", 0) > 0:
                assert not piece.has_default_references


def flv_tags(path: Path, delay_ms: int) -> bytes:
    """An FLV file without its header, later."""
    data = bytearray(path.read_bytes()[13:])
    place = 0
    while place < len(data):
        time = int.from_bytes(data[place + 4 : place + 7], "big") + delay_ms
        data[place + 4 : place + 7] = time.to_bytes(3, "big")
        place += 15 + int.from_bytes(data[place + 1 : place + 4], "big")
    return bytes(data)


class TestConfigurationChanges:
    @pytest.mark.parametrize("second", ["b-frames", "refs-4"])
    def test_in_the_middle_of_a_file(self, tmp_path: Path, second: str) -> None:
        """FLV: two streams, one behind the other; the second's slices would be misread by the first's parameters."""
        parts = [tmp_path / f"{i}.flv" for i in range(2)]
        for path, name in zip(parts, ("refs-1", second), strict=True):
            write_video(path, busy_frames(12, 64, 64), codec="h264", **ENCODINGS[name])
        (tmp_path / "a.flv").write_bytes(parts[0].read_bytes() + flv_tags(parts[1], 1000))
        with av.open(str(tmp_path / "a.flv")) as container:
            assert any(packet.has_sidedata("new_extradata") for packet in container.demux(video=0))
        video, exact = Video(tmp_path / "a.flv"), []
        for _ in video.frames():
            exact.append(video.motion_exact)
        assert len(exact) == 24
        assert exact[0]
        assert exact[-1] == (second not in INEXACT)

    def test_pictures_of_which_no_header_was_found(self, tmp_path: Path) -> None:
        """The decoder finds start codes where lengths are announced; then nothing is certain."""
        write_video(tmp_path / "a.mp4", busy_frames(4, 64, 64), codec="h264", options={"refs": "1"})
        write_video(tmp_path / "a.h264", busy_frames(4, 64, 64), codec="h264", options={"refs": "1"})
        context = av.CodecContext.create("h264", "r")
        context.extradata = packets(tmp_path / "a.mp4")[0]
        for suffix in (".mp4", ".h264"):
            log = PacketLog(context)  # type: ignore[arg-type]
            list(log.watch([av.Packet(data) for data in packets(tmp_path / f"a{suffix}")[1]]))  # type: ignore[misc]
            assert log.motion_exact == (suffix == ".mp4")


class TestDamage:
    @pytest.mark.parametrize("suffix", [".mp4", ".h264"])
    def test_truncated_configuration(self, tmp_path: Path, suffix: str) -> None:
        """Every shorter form is an answer; what misses a parameter set is never exact."""
        path = tmp_path / f"a{suffix}"
        write_video(path, busy_frames(3, 64, 64), codec="h264", options={"refs": "1"})
        extradata, data = packets(path)
        if suffix == ".h264":  # the parameter sets stand in the packets too
            data = [b"\0\0\1" + unit for unit in _units(b"".join(data), 0) if unit[0] & 31 in (1, 5)]
        answers = []
        for end in range(1, len(extradata) + 1):
            references = References(extradata[:end])
            for packet in data:
                references.read(packet)
            answers.append(references.are_exact)
        assert answers[-1]
        assert not any(answers[:8])
        assert answers == sorted(answers)

    @given(st.lists(st.binary(max_size=80), max_size=5))
    def test_any_bytes(self, data: list[bytes]) -> None:
        for head in (b"", b"\x01\x64\x00\x0a\xff\xe1\x00\x20"):
            references = References(head + b"".join(data[:1]))
            for unit in data:
                for kind in b"\x65\x41\x01\x67\x68\x02":
                    references.read(b"\0\0\1" + bytes([kind]) + unit)
            assert references.are_exact in (True, False)


@st.composite
def sequences(draw: st.DrawFn) -> tuple[bytes, int, bool, bool]:
    """A sequence parameter set with every branch of the syntax; its references, is it progressive, is it adaptive."""
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
    num_references, progressive, adaptive = draw(st.integers(0, 16)), draw(st.booleans()), draw(st.booleans())
    writer.unsigned(num_references)
    writer.bits(draw(st.integers(0, 1)), 1)
    writer.unsigned(draw(number))
    writer.unsigned(draw(number))
    writer.bits(progressive, 1)
    if not progressive:
        writer.bits(adaptive, 1)
    writer.bits(draw(st.integers(0, 2**20 - 1)), 20)
    return writer.data(), num_references, progressive, adaptive and not progressive


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
@given(sequences())
def test_every_branch_of_a_sequence(sequence: tuple[bytes, int, bool, bool]) -> None:
    payload, num_references, progressive, adaptive = sequence
    _, read = _read_sequence(BitReader(payload))
    assert (read.num_references, read.is_progressive, read.is_adaptive) == (num_references, progressive, adaptive)


# Streams made by hand: one slice a picture, whose headers are all that is read.


@dataclass(frozen=True)
class Coded:
    """A slice header, by the standard's names; the stream's parameter sets follow from its numbers below."""

    kind: str
    order: int = 0
    number: int = 0
    reference: bool = True
    idr: bool = False
    first: int = 0
    active: Sequence[int] | None = None
    modification: Sequence[int] = ()
    marking: Sequence[int] = ()
    long_term: bool = False
    field: bool | None = None
    redundant: int | None = None
    weights: int | None = None  # lists
    parameters: int = 0
    unit_type: int | None = None

    def unit(self, order_kind: int = 0) -> bytes:
        writer = BitWriter()
        writer.unsigned(self.first)
        writer.unsigned("PBI".index(self.kind) + 5)
        writer.unsigned(self.parameters)
        writer.bits(self.number % 16, 4)
        if self.field is not None:
            writer.bits(self.field, 1)
            if self.field:
                writer.bits(0, 1)
        if self.idr:
            writer.unsigned(0)
        if order_kind == 0:
            writer.bits(self.order % 64, 6)
        elif order_kind == 1:
            writer.signed(0)
        if self.redundant is not None:
            writer.unsigned(self.redundant)
        self._write_lists(writer)
        if self.reference and self.idr:
            writer.bits(self.long_term, 2)
        elif self.reference:
            writer.bits(bool(self.marking), 1)
            for value in self.marking:
                writer.unsigned(value)
        unit_type = self.unit_type or (5 if self.idr else 1)
        return bytes([0x60 * self.reference | unit_type]) + escaped(writer.data() + bytes(range(1, 200)))

    def _write_lists(self, writer: BitWriter) -> None:
        if self.kind == "I":
            return
        if self.kind == "B":
            writer.bits(1, 1)
        writer.bits(self.active is not None, 1)
        for count in self.active or ():
            writer.unsigned(count - 1)
        for i in range(2 if self.kind == "B" else 1):
            writer.bits(bool(self.modification) and i == 0, 1)
            for value in self.modification if i == 0 else ():
                writer.unsigned(value)
        if self.weights is not None:  # a weight and an offset for luma, none for chroma
            writer.unsigned(5)
            writer.unsigned(5)
            for _ in range(self.weights):
                writer.bits(1, 1)
                writer.signed(-30)
                writer.signed(7)
                writer.bits(0, 1)


def sequence_unit(
    *, num_references: int = 2, order_kind: int = 0, progressive: bool = True, adaptive: bool = False, number: int = 0
) -> bytes:
    writer = BitWriter()
    for value, size in ((66, 8), (0, 16)):
        writer.bits(value, size)
    for value in (number, 0, order_kind):
        writer.unsigned(value)
    if order_kind == 0:
        writer.unsigned(2)  # 6 bits
    elif order_kind == 1:
        writer.bits(0, 1)
        for value in (0, 0):
            writer.signed(value)
        writer.unsigned(0)
    writer.unsigned(num_references)
    writer.bits(0, 1)
    for value in (4, 4):
        writer.unsigned(value)
    writer.bits(progressive, 1)
    if not progressive:
        writer.bits(adaptive, 1)
    return b"\x67" + escaped(writer.data())


def pictures_unit(
    *, number: int = 0, sequence: int = 0, active: tuple[int, int] = (1, 1), weighted: bool = False, bipred: int = 0,
    redundant: bool = False, groups: int = 0,
) -> bytes:  # fmt: skip
    writer = BitWriter()
    writer.unsigned(number)
    writer.unsigned(sequence)
    writer.bits(0, 2)
    writer.unsigned(groups)
    for count in active:
        writer.unsigned(count - 1)
    writer.bits(weighted, 1)
    writer.bits(bipred, 2)
    for _ in range(3):
        writer.signed(0)
    writer.bits(0, 2)
    writer.bits(redundant, 1)
    return b"\x68" + escaped(writer.data())


def annex_b(units: Sequence[bytes]) -> bytes:
    return b"".join(b"\0\0\0\1" + unit for unit in units)


def follow(
    pictures: Sequence[Coded | bytes],
    sequence: bytes | None = None,
    parameters: bytes | None = None,
    order_kind: int = 0,
) -> References:
    sets = [sequence_unit() if sequence is None else sequence, pictures_unit() if parameters is None else parameters]
    references = References(annex_b(sets))
    for picture in pictures:
        references.read(annex_b([picture if isinstance(picture, bytes) else picture.unit(order_kind)]))
    return references


I0 = Coded("I", idr=True)
P1, P2, P3 = (Coded("P", order=4 * i, number=i) for i in (1, 2, 3))
B = Coded("B", number=2, reference=False)  # between P1 and P2
BETWEEN = [I0, P1, P2, replace(B, order=6), P3, replace(B, order=10, number=3)]

EXACT_PICTURES: dict[str, list[Coded | bytes]] = {
    "P": [I0, P1, P2, P3],
    "B": [*BETWEEN],
    "order counts wrap": [I0, *(Coded("P", order=20 * i, number=i) for i in range(1, 9))],
    "a later I": [I0, P1, Coded("I", order=8, number=2), Coded("B", order=6, number=3, reference=False), P3],
    "a later IDR": [I0, P1, I0, P1, P2, replace(B, order=6)],
    "the last P is no reference": [I0, P1, replace(P2, reference=False)],
    "P and B before the first I": [
        P1,
        replace(P2, active=(2,)),
        replace(B, active=(2, 2)),
        Coded("I", order=20),
        replace(P1, order=24),
    ],
    "B displayed before the first I": [Coded("I", order=20), replace(B, order=18, number=1), replace(P1, order=24)],
    "count given": [I0, replace(P1, active=(1,)), P2, replace(B, order=6, active=(1, 1))],
    "last reference put first": [I0, P1, replace(P2, modification=(0, 0, 3)), P3],
    "older references forgotten": [I0, P1, replace(P2, marking=(1, 1, 1, 2, 0)), P3],
    "several slices": [I0, replace(I0, first=9), P1, replace(P1, first=9)],
    "a redundant unit type": [I0, b"\x09\x10", P1, b"\x06\x05\x01\x80", P2],
}
INEXACT_PICTURES: dict[str, list[Coded | bytes]] = {
    "P after a P that is no reference": [I0, replace(P1, reference=False), replace(P2, number=1)],
    "P after an I that is no reference": [I0, Coded("I", order=4, number=1, reference=False), replace(P2, number=1)],
    "two references": [I0, P1, replace(P2, active=(2,))],
    "two references of a B": [I0, P1, P2, replace(B, order=6, active=(2, 1))],
    "two references ahead of a B": [I0, P1, P2, replace(B, order=6, active=(1, 2))],
    "an older reference first": [I0, P1, replace(P2, modification=(0, 1, 3))],
    "a reference of another distance": [I0, P1, replace(P2, modification=(1, 0, 3))],
    "a long-term reference": [I0, P1, replace(P2, modification=(2, 0, 3))],
    "other references of a B": [I0, P1, P2, replace(B, order=6, modification=(0, 0, 3))],
    "B as reference": [I0, P1, P2, replace(B, order=6, reference=True)],
    "B displayed before both anchors": [I0, P1, P2, replace(B, order=2)],
    "B displayed after both anchors": [I0, P1, P2, replace(B, order=10)],
    "B after one anchor": [I0, replace(B, order=2, number=1)],
    "B at once after an IDR": [I0, P1, I0, replace(B, order=-2, number=1)],
    "P displayed before its reference": [I0, P2, replace(P1, number=2)],
    "I displayed before an anchor": [I0, P2, Coded("I", order=4, number=2)],
    "last reference forgotten": [I0, P1, replace(P2, marking=(1, 0, 0))],
    "all forgotten": [I0, P1, replace(P2, marking=(5, 0))],
    "kept for long": [replace(I0, long_term=True), P1],
    "slices of different kinds": [I0, P1, Coded("I", order=4, number=1, first=9)],
    "P slices in an I": [I0, replace(P1, order=0, number=0, first=9)],
    "one slice with two references": [I0, P1, replace(P1, first=9, active=(2,))],
    "unknown parameters": [I0, replace(P1, parameters=3)],
    "partitions": [I0, replace(P1, unit_type=2)],
    "a cut slice": [I0, P1.unit()[:2]],
    "other parameters later": [I0, pictures_unit(active=(2, 1)), P1],
    "more parameters": [I0, pictures_unit(number=1, active=(2, 1)), P1, replace(P2, parameters=1)],
    "slice groups": [I0, pictures_unit(groups=1), P1],
}  # fmt: skip


class TestRules:
    @pytest.mark.parametrize("name", EXACT_PICTURES)
    def test_exact(self, name: str) -> None:
        references = follow(EXACT_PICTURES[name])
        assert references.are_exact
        assert not references.are_of_fields

    @pytest.mark.parametrize("name", INEXACT_PICTURES)
    def test_inexact(self, name: str) -> None:
        pictures = INEXACT_PICTURES[name]
        assert not follow(pictures).are_exact
        assert follow(pictures[:1]).are_exact or name == "kept for long"  # it is what follows that breaks the rule

    def test_b_frames_need_two_kept_references(self) -> None:
        assert follow(BETWEEN, sequence_unit(num_references=2)).are_exact
        assert not follow(BETWEEN, sequence_unit(num_references=1)).are_exact
        assert follow([I0, P1, P2], sequence_unit(num_references=1)).are_exact

    def test_default_counts_of_the_parameters(self) -> None:
        many = pictures_unit(active=(2, 2))
        assert not follow([I0, P1], parameters=many).are_exact
        assert follow([I0, replace(P1, active=(1,))], parameters=many).are_exact

    @pytest.mark.parametrize("marking", [(), (1, 0, 0)])
    def test_weights_are_passed_over(self, marking: tuple[int, ...]) -> None:
        weighted = pictures_unit(weighted=True, bipred=1)
        pictures = [I0, replace(P1, weights=1), replace(P2, weights=1), replace(B, order=6, weights=2)]
        assert follow(pictures, parameters=weighted).are_exact
        assert follow([*pictures, replace(P3, weights=1, marking=marking)], parameters=weighted).are_exact == (
            not marking
        )

    def test_fields(self) -> None:
        fields, frames = sequence_unit(progressive=False), [replace(picture, field=False) for picture in (I0, P1, P2)]
        assert follow(frames, fields).are_exact
        assert not follow(frames, fields).are_of_fields
        paired = follow([replace(I0, field=True), replace(P1, field=True)], fields)
        assert (paired.are_exact, paired.are_of_fields) == (False, True)
        adaptive = follow(frames, sequence_unit(progressive=False, adaptive=True))
        assert (adaptive.are_exact, adaptive.are_of_fields) == (False, True)

    def test_display_order_is_decoding_order(self) -> None:
        """pic_order_cnt_type 2: no count is coded, and a B-picture could only look back."""
        sequence = sequence_unit(order_kind=2)
        many = [I0, *(Coded("P", number=i) for i in range(1, 40))]
        assert follow(many, sequence, order_kind=2).are_exact
        backward = [I0, P1, P2, Coded("B", number=3, reference=False)]
        assert not follow(backward, sequence, order_kind=2).are_exact

    def test_display_order_that_is_not_read(self) -> None:
        assert not follow([I0, P1], sequence_unit(order_kind=1), order_kind=1).are_exact

    def test_redundant_slices_are_passed_over(self) -> None:
        parameters = pictures_unit(redundant=True)
        pictures = [replace(picture, redundant=0) for picture in (I0, P1, P2)]
        assert follow(pictures, parameters=parameters).are_exact
        copy = replace(P1, redundant=1, active=(2,))
        assert follow([*pictures[:2], copy, pictures[2]], parameters=parameters).are_exact

    def test_parameters_in_the_stream_alone(self) -> None:
        references = References(b"")
        for unit in (sequence_unit(), pictures_unit(), I0.unit(), P1.unit()):
            references.read(annex_b([unit]))
        assert references.are_exact
        references.read(annex_b([pictures_unit(active=(2, 1)), P2.unit()]))
        assert not references.are_exact

    def test_several_parameter_sets_of_a_configuration(self) -> None:
        """avcC with two sequences: the second is another stream's part, and the pictures say which is theirs."""
        sequences = [sequence_unit(num_references=1), sequence_unit(num_references=2, number=1)]
        sets = [pictures_unit(), pictures_unit(number=1, sequence=1)]
        head = b"\x01\x42\x00\x0a\xff"
        lists = [bytes([0xE0 | 2]), *map(_sized, sequences), bytes([2]), *map(_sized, sets)]
        for number, exact in ((0, False), (1, True)):
            references = References(head + b"".join(lists))
            for picture in BETWEEN:
                unit = replace(picture, parameters=number).unit()
                references.read(len(unit).to_bytes(4, "big") + unit)
            assert references.are_exact == exact

    def test_nothing_is_read_before_the_first_packet(self) -> None:
        references = References(b"")
        assert (references.has_begun, references.are_exact, references.are_of_fields) == (False, True, False)
        references.read(annex_b([sequence_unit(), pictures_unit(), P1.unit()]))
        assert not references.has_begun
        references.read(annex_b([I0.unit()]))
        assert references.has_begun


def _sized(unit: bytes) -> bytes:
    return len(unit).to_bytes(2, "big") + unit
