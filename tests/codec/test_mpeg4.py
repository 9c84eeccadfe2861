"""Headers of MPEG-4 Part 2: against streams that were encoded, their decoder, and a writer of headers."""

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mpeg4_streams import STREAMS, Stream, with_height
from reference import decode

from vidprep.codec.macroblocks import MacroblockParser, can_parse
from vidprep.codec.mpeg4 import Vol, has_vol, read_vol
from vidprep.codec.mpeg4_builds import Builds
from vidprep.codec.mpeg4_vop import Clock, Vop, read_vop
from vidprep.codec.transcode import ffmpeg_path
from vidprep.errors import DecodeError, UnsupportedError


def packets_of(path: Path) -> tuple[bytes, list[bytes]]:
    """The decoder's configuration, and one VOP a packet."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        unpack = av.BitStreamFilterContext("mpeg4_unpack_bframes", stream)
        packets = [bytes(out) for packet in container.demux(stream) if packet.size for out in unpack.filter(packet)]
        return stream.codec_context.extradata or b"", packets


@pytest.fixture(scope="module", params=STREAMS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def path(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return STREAMS[name].write(tmp_path_factory.mktemp("streams"), name, num_frames=8)


class TestEncoded:
    def test_layer(self, name: str, path: Path) -> None:
        stream, (extradata, packets) = STREAMS[name], packets_of(path)
        vol = read_vol(extradata)
        assert (vol.width, vol.height) == (stream.width, stream.height)
        assert vol.mb_shape == (-(-stream.height // 16), -(-stream.width // 16))
        assert vol.ticks_per_second == 25
        assert vol.low_delay == (stream.num_b_frames == 0)
        assert vol.quarter_sample == ("qpel" in name)
        assert vol.mpeg_quantisation == (name in {"mpeg-quant", "custom-matrices"})
        assert vol.custom_matrices == (name == "custom-matrices")
        assert not (vol.interlaced or vol.sprite or vol.data_partitioned or vol.reversible_vlc or vol.other_tools)
        for packet in packets:
            if has_vol(packet):
                assert read_vol(packet) == vol

    def test_planes(self, path: Path) -> None:
        extradata, packets = packets_of(path)
        vol = read_vol(extradata)
        vops = [read_vop(packet, vol) for packet in packets]
        letters = sorted(vop.picture_type for vop in vops if vop is not None and vop.coded)
        assert letters == sorted(frame.picture_type for frame in decode(path))
        for vop in vops:
            assert vop is not None
            if vop.picture_type != "P":
                assert vop.rounding_type == 0
            if vop.coded:
                assert vop.position > 0
                assert 1 <= vop.quantiser <= 31

    def test_clock(self, path: Path) -> None:
        """At a constant rate the distances are those of the display order."""
        extradata, packets = packets_of(path)
        vol, clock = read_vol(extradata), Clock()
        letters = [frame.picture_type for frame in decode(path)]
        distances = []
        for packet in packets:
            vop = read_vop(packet, vol)
            assert vop is not None
            ticks = clock.step(vop, vol.ticks_per_second)
            if vop.picture_type == "B":
                distances.append(ticks)
        anchors = [i for i, letter in enumerate(letters) if letter != "B"]
        between = [i for i, letter in enumerate(letters) if letter == "B"]
        past = [max(a for a in anchors if a < i) for i in between]
        future = [min(a for a in anchors if a > i) for i in between]
        assert distances == [(i - p, f - p) for i, p, f in zip(between, past, future, strict=True)]

    def test_with_height(self, path: Path) -> None:
        """The decoder shows the rows that were hidden, and the others as before."""
        extradata, packets = packets_of(path)
        vol = read_vol(extradata)
        height = 16 * vol.mb_shape[0]
        changed = with_height(extradata, height)
        assert read_vol(changed) == replace(vol, height=height)
        assert with_height(changed, vol.height) == extradata
        context = av.VideoCodecContext.create("mpeg4", "r")
        context.extradata, context.thread_count = changed, 1
        pictures = []
        for packet in packets:
            pictures += context.decode(av.Packet(with_height(packet, height) + bytes(64)))
        pictures += context.decode(None)
        plain = decode(path)
        assert len(pictures) == len(plain)
        for picture, expected in zip(pictures, plain, strict=True):
            assert picture.height == height
            luma = np.frombuffer(memoryview(picture.planes[0]), np.uint8).reshape(height, -1)
            assert np.array_equal(luma[: vol.height, : vol.width], expected.luma)


@pytest.mark.parametrize(
    ("arguments", "tool"),
    [
        (("-flags", "+ildct+ilme"), "interlacing"),
        (("-data_partitioning", "1"), "data partitioning"),
        (("-c:v", "libxvid", "-gmc", "1"), "global motion"),
    ],
)
def test_unknown_tools_are_refused(tmp_path: Path, arguments: tuple[str, ...], tool: str) -> None:
    source = ["-f", "lavfi", "-i", "testsrc2=s=96x80:d=0.4:r=25", "-c:v", "mpeg4"]
    command = [ffmpeg_path(), "-loglevel", "error", "-nostdin", *source, *arguments, str(tmp_path / "a.avi")]
    subprocess.run(command, check=True, capture_output=True)
    extradata, _ = packets_of(tmp_path / "a.avi")
    assert not can_parse(extradata)
    with pytest.raises(UnsupportedError, match=rf"coding_tools=\[.*{tool}.*--codec mpeg4"):
        MacroblockParser(extradata)


class TestDamage:
    def test_no_layer(self) -> None:
        for data in (b"", b"\0\0\1", b"\0\0\1\xb6\x10", b"\0\0\1\xb0\xf5"):
            with pytest.raises(DecodeError, match="num_vols=0"):
                read_vol(data)
        with pytest.raises(DecodeError, match="num_vols=0"):
            MacroblockParser(b"").read(b"\0\0\1\xb6\x10")

    def test_short_header(self) -> None:
        for call in (read_vol, MacroblockParser):
            with pytest.raises(UnsupportedError, match=r"short_video_header=1.*--codec mpeg4"):
                call(b"\0\0\x80\x02\x08")

    def test_every_cut(self, tmp_path: Path) -> None:
        extradata, packets = packets_of(Stream({"mpeg_quant": "1"}).write(tmp_path, "a", num_frames=2))
        vol, results = read_vol(extradata), []
        for end in range(len(extradata) + 1):
            try:
                assert read_vol(extradata[:end]) == vol
                results.append(True)
            except DecodeError:
                results.append(False)
        assert not results[0]
        assert results[-1]
        assert results == sorted(results)
        for end in range(12):
            try:
                vop = read_vop(packets[1][:end], vol)
            except DecodeError as error:
                assert "cut" in str(error)
            else:
                assert vop is None or vop.position <= 8 * end

    @settings(max_examples=200)
    @given(st.binary(max_size=40))
    def test_any_bytes(self, data: bytes) -> None:
        vol = Vol(**VOL)
        for call in (lambda: read_vol(b"\0\0\1\x20" + data), lambda: read_vop(b"\0\0\1\xb6" + data, vol)):
            try:
                call()
            except DecodeError as error:
                assert "=" in str(error) or "cut" in str(error)

    @pytest.mark.parametrize("fields", [(0, 1, 1), (4, 0, 1), (4, 1, 0)])
    def test_zero_quantiser_or_range(self, fields: tuple[int, int, int]) -> None:
        quantiser, past, future = fields
        bits = f"10 0 1 00001 1 1 000 {quantiser:05b} {past:03b} {future:03b}".replace(" ", "").ljust(32, "0")
        with pytest.raises(DecodeError, match=f"quantiser={quantiser}"):
            read_vop(b"\0\0\1\xb6" + int(bits, 2).to_bytes(4), Vol(**VOL))


VOL: dict[str, Any] = {
    "width": 96,
    "height": 80,
    "ticks_per_second": 25,
    "low_delay": False,
    "quarter_sample": False,
    "interlaced": False,
    "sprite": False,
    "data_partitioned": False,
    "reversible_vlc": False,
    "resync_marker_disable": False,
    "mpeg_quantisation": False,
    "custom_matrices": False,
    "other_tools": (),
}


@st.composite
def layers(draw: st.DrawFn) -> tuple[bytes, Vol, int]:
    """Write a video object layer with random fields; the last is how many bytes stand in front of it."""

    def flag(name: str = "") -> bool:
        chosen[name] = draw(st.booleans())
        bits.append(str(int(chosen[name])))
        return chosen[name]

    def number(size: int, low: int = 0, high: int | None = None) -> int:
        value = draw(st.integers(low, (1 << size) - 1 if high is None else high))
        bits.append(f"{value:0{size}b}")
        return value

    chosen: dict[str, bool] = {}
    bits: list[str] = []
    flag()
    object_type = number(8)
    version = 1
    if flag():
        version = number(4)
        number(3)
    if number(4) == 15:
        number(16)
    low_delay = object_type in (1, 17)
    if flag():
        number(2)
        low_delay = flag()
        if flag():
            for size in (15, 1, 15, 1, 15, 1, 3, 11, 1, 15, 1):
                number(size)
    bits.append("00" + "1")
    ticks_per_second = number(16, low=1)
    bits.append("1")
    if flag():
        number(max((ticks_per_second - 1).bit_length(), 1))
    bits.append("1")
    width = number(13)
    bits.append("1")
    height = number(13)
    bits.append("1")
    flag("interlaced")
    obmc = not flag()
    sprite = number(1 if version == 1 else 2)
    if sprite == 1:
        number(56)
    if sprite:
        number(9 + (sprite != 2))
    not_8_bit = flag()
    if not_8_bit:
        not_8_bit = number(8) != 0x58
    custom = False
    if flag("mpeg_quantisation"):
        for _ in range(2):
            if flag():
                custom = True
                length = draw(st.integers(0, 64))
                for _ in range(length):
                    number(8, low=1)
                bits.append("" if length == 64 else "0" * 8)
    quarter_sample = version != 1 and flag()
    complexity = not flag()
    flag("resync_marker_disable")
    reversible_vlc = flag("data_partitioned") and flag()
    new_prediction = version != 1 and flag()
    if new_prediction:
        number(3)
    reduced = version != 1 and flag()
    scalable = flag()
    tools = {"overlapped block motion compensation": obmc, "more or fewer than 8 bits": not_8_bit,
             "complexity estimation": complexity, "NEWPRED": new_prediction, "reduced resolution": reduced,
             "scalability": scalable}  # fmt: skip
    text = "".join(bits)
    body = int(text.ljust(-(-len(text) // 8) * 8, "1"), 2).to_bytes(-(-len(text) // 8))
    names = ("interlaced", "mpeg_quantisation", "resync_marker_disable", "data_partitioned")
    vol = Vol(
        width=width, height=height, ticks_per_second=ticks_per_second, low_delay=low_delay,
        quarter_sample=quarter_sample, sprite=sprite > 0, reversible_vlc=reversible_vlc, custom_matrices=custom,
        other_tools=tuple(tool for tool, used in tools.items() if used), **{name: chosen[name] for name in names},
    )  # fmt: skip
    front = draw(st.sampled_from([b"", b"\0\0\1\xb0\xf5\0\0\1\xb5\x09\0\0\1\0"]))
    return front + b"\0\0\1\x20" + body, vol, len(front)


class TestWritten:
    @settings(max_examples=300)
    @given(layers(), st.integers(1, 8191))
    def test_layer(self, layer: tuple[bytes, Vol, int], height: int) -> None:
        data, vol, front = layer
        assume(b"\0\0\1" not in data[front + 3 :])  # random fields may look like a start code
        assert read_vol(data) == vol
        changed = with_height(data, height)
        assert read_vol(changed) == replace(vol, height=height)
        assert with_height(changed, vol.height) == data if vol.height else True
        expected = not (vol.interlaced or vol.sprite or vol.data_partitioned or vol.other_tools)
        assert can_parse(data) == expected

    @given(
        st.sampled_from("IPB"), st.integers(0, 300), st.integers(0, 24), st.booleans(), st.integers(0, 7),
        st.integers(1, 31), st.integers(1, 7), st.integers(1, 7), st.booleans(),
    )  # fmt: skip
    def test_plane(
        self, letter: str, seconds: int, ticks: int, rounding: bool, threshold: int, quantiser: int, past: int,
        future: int, has_group: bool,
    ) -> None:  # fmt: skip
        """Times of over a minute, every threshold and range, with and without a group's header in front."""
        bits = f"{'IPB'.index(letter):02b}" + "1" * seconds + "0" + "1" + f"{ticks:05b}" + "1" + "1"
        bits += str(int(rounding)) if letter == "P" else ""
        bits += f"{threshold:03b}{quantiser:05b}" + ("" if letter == "I" else f"{past:03b}")
        bits += f"{future:03b}" if letter == "B" else ""
        group = b"\0\0\1\xb3" + int("00001000010100001100" + "0111", 2).to_bytes(3) if has_group else b""
        front = group + b"\0\0\1\xb6"
        data = front + int(bits.ljust(400, "1"), 2).to_bytes(50)
        assert read_vop(data, Vol(**VOL)) == Vop(
            picture_type=letter,
            coded=True,
            group_seconds=3600 + 120 + 3 if has_group else None,
            modulo_seconds=seconds,
            increment_ticks=ticks,
            rounding_type=int(rounding and letter == "P"),
            dc_threshold=[99, 13, 15, 17, 19, 21, 23, 0][threshold],
            quantiser=quantiser,
            past_fcode=past if letter != "I" else 1,
            future_fcode=future if letter == "B" else 1,
            position=8 * len(front) + len(bits),
        )


@pytest.mark.parametrize(
    ("texts", "builds", "in_four"),
    [
        ((), Builds(), True),
        ((b"Lavc61.3.100",), Builds(lavc_build=(61 << 16) + (3 << 8) + 100), True),
        ((b"FFmpeg0.4.6b4610",), Builds(lavc_build=4610), False),
        ((b"FFmpeg v0.4.9 / libavcodec build: 4700",), Builds(lavc_build=4700), True),
        ((b"ffmpeg",), Builds(lavc_build=4600), False),
        ((b"DivX503b1393p",), Builds(divx_version=503, divx_build=1393), False),
        ((b"DivX501Build413",), Builds(divx_version=501, divx_build=413), False),
        ((b"DivX503b1393p", b"XviD0041"), Builds(xvid_build=41), True),
        ((b"XviD0050",), Builds(xvid_build=50), True),
        ((b"MTK_ENCODER_V3",), Builds(), True),
    ],
)
def test_builds(texts: tuple[bytes, ...], builds: Builds, in_four: bool) -> None:
    data = b"".join(b"\0\0\1\xb2" + text for text in texts)
    assert Builds().updated(data) == builds
    assert Builds().updated(data + b"\0\0\1\xb6DivX999b9") == builds
    assert builds.has_direct_in_four == in_four
