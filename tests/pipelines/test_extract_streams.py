"""Extraction of streams other than the recipe's: what the json says, what is refused and why, what is warned of."""

import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from bad_videos import make
from runs import extract_here, run_here, vidprep

from vidprep.codec.transcode import ffmpeg_path
from vidprep.codec.video import Video
from vidprep.modalities import motion
from vidprep.pipelines.extract import Options
from vidprep.pipelines.extract_options import Summary
from vidprep.shards.reader import Sample, read_samples

NUM_FRAMES = 14
FIELDS = {"flags": "+ildct+ilme"}


def x264(parameters: str, **settings: Any) -> dict[str, Any]:
    return {"codec": "h264", "options": {"x264-params": parameters}, **settings}


def cut(path: Path, *, first: int, **settings: Any) -> None:
    """A stream whose first packets are missing."""
    whole = path.with_name(f"whole{path.suffix}")
    make(whole, **settings)
    with av.open(str(whole)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in [packet for packet in old.demux(video=0) if packet.size][first:]:
            packet.stream = stream
            new.mux(packet)
    whole.unlink()


def global_motion(path: Path) -> None:
    command = [ffmpeg_path(), "-loglevel", "error", "-f", "lavfi", "-i", "testsrc2=s=80x64:d=0.56:r=25"]
    subprocess.run([*command, "-c:v", "libxvid", "-gmc", "1", str(path)], check=True)


# name: how it is made, whether its vectors are exact, and how many frames are dropped
READABLE: dict[str, tuple[Callable[[Path], None], bool, int]] = {
    "mpeg1.mpg": (partial(make, codec="mpeg1video"), True, 0),
    "mpeg2_b.ts": (partial(make, codec="mpeg2video", num_b_frames=2), True, 0),
    "mpeg2_open.mkv": (partial(cut, first=4, codec="mpeg2video", num_b_frames=2, gop=6, num_frames=20), True, 2),
    "mpeg4_cut.mkv": (partial(cut, first=2, gop=5), True, 3),
    "h263.avi": (partial(make, codec="h263", size=(176, 144)), True, 0),
    "flv1.flv": (partial(make, codec="flv"), True, 0),
    "msmpeg4.avi": (partial(make, codec="msmpeg4"), True, 0),
    "h264.mp4": (partial(make, **x264("ref=1")), True, 0),
    "h264_b.mp4": (partial(make, **x264("ref=1:b-pyramid=none", num_b_frames=2)), True, 0),
    "h264_cut.mp4": (partial(cut, first=3, **x264("ref=1", gop=5)), True, 2),
    "h264_open.ts": (
        partial(cut, first=4, num_frames=20, **x264("ref=1:b-pyramid=none:open-gop=1", num_b_frames=2, gop=6)),
        True,
        2,
    ),
    "h264_refs.mp4": (partial(make, **x264("ref=3")), False, 0),
    "h264_pyramid.mp4": (partial(make, **x264("ref=1:b-pyramid=normal", num_b_frames=3)), False, 0),
}
REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "fields_mpeg4.avi": (partial(make, options=FIELDS), "interlaced=true"),
    "fields_mpeg2.mkv": (partial(make, codec="mpeg2video", options=FIELDS), "interlaced=true"),
    "fields_h264.mp4": (partial(make, **x264("ref=1:tff=1")), "interlaced=true"),
    "hevc.mp4": (partial(make, codec="hevc"), "codec=hevc: its decoder exports no motion vectors"),
    "vp9.webm": (partial(make, codec="libvpx-vp9"), "codec=vp9: its decoder exports no motion vectors"),
    "av1.mkv": (partial(make, codec="libsvtav1", quantiser=None), "codec=av1: its decoder exports no motion vectors"),
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "clips"
    root.mkdir()
    for name, (maker, *_) in (READABLE | REFUSED).items():
        if name == "av1.mkv" and "libsvtav1" not in av.codecs_available:
            continue
        maker(root / name)
    return root


def extracted(clips: Path, out: Path, codec: str, modalities: tuple[str, ...]) -> tuple[Summary, dict[str, Sample]]:
    options = Options(codec=codec, size=None if codec == "copy" else "native", modalities=modalities, num_workers=1)
    summary = extract_here(clips, out, options)
    samples = [sample for shard in sorted(out.glob("*.tar")) for sample in read_samples(shard)]
    return summary, {sample.facts["path"]: sample for sample in samples}


@pytest.fixture(scope="module")
def copied(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Summary, dict[str, Sample]]:
    return extracted(clips, tmp_path_factory.mktemp("copy") / "out", "copy", ("motion",))


@pytest.fixture(scope="module", params=["mpeg4", "h264"])
def encoded(
    request: pytest.FixtureRequest, clips: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Summary, dict[str, Sample]]:
    return extracted(clips, tmp_path_factory.mktemp(request.param) / "out", request.param, ("motion",))


class TestCopy:
    @pytest.mark.parametrize("name", READABLE)
    def test_what_the_json_says(self, clips: Path, copied: tuple[Summary, dict[str, Sample]], name: str) -> None:
        _, is_exact, num_dropped = READABLE[name]
        facts = copied[1][name].facts
        assert (facts["motion_exact"], facts["num_dropped_frames"]) == (is_exact, num_dropped)
        assert facts["picture_types"][0] == "I"
        assert facts["stream_codec"] == facts["source"]["codec"]
        frames = list(Video(clips / name).frames(track="motion"))
        assert facts["picture_types"] == "".join(frame.picture_type for frame in frames)
        assert facts["pts_seconds"] == [round(frame.pts_seconds, 6) for frame in frames]

    @pytest.mark.parametrize("name", READABLE)
    def test_stored_vectors_lead_to_the_same_motion(
        self, clips: Path, copied: tuple[Summary, dict[str, Sample]], name: str
    ) -> None:
        sample = copied[1][name]
        facts, blocks = sample.facts, motion.decode(sample.entries["motion.npz"])
        fields = motion.accumulated(blocks, facts["picture_types"], facts["height"], facts["width"])
        assert fields.any()
        for frame, field in zip(Video(clips / name).frames(track="motion"), fields, strict=True):
            assert np.array_equal(frame.accumulated_motion(), field), frame

    def test_what_is_refused_and_why(self, clips: Path, copied: tuple[Summary, dict[str, Sample]]) -> None:
        why = {status.path: status.error or "" for status in copied[0].failed}
        assert why.keys() == {name for name in REFUSED if (clips / name).exists()}
        for name, reason in why.items():
            assert reason.startswith(REFUSED[name][1]), reason
            assert "transcode it (--codec mpeg4)" in reason
        assert copied[0].num_inexact == sum(not exact for _, exact, _ in READABLE.values())

    def test_pictures_alone_are_never_refused(self, clips: Path, tmp_path: Path) -> None:
        """And nothing is warned of, since no vectors are stored."""
        summary, samples = extracted(clips, tmp_path / "out", "copy", ("rgb",))
        assert summary.failed == []
        assert samples.keys() == {path.name for path in clips.iterdir()}
        assert summary.num_inexact == 0

    def test_global_motion(self, tmp_path: Path) -> None:
        encoders = subprocess.run([ffmpeg_path(), "-encoders"], capture_output=True, text=True, check=True).stdout
        if "libxvid" not in encoders:
            pytest.skip("this ffmpeg has no libxvid, which encodes global motion")
        (tmp_path / "clips").mkdir()
        global_motion(tmp_path / "clips/a.avi")
        summary, samples = extracted(tmp_path / "clips", tmp_path / "out", "copy", ("motion",))
        assert summary.num_inexact == 1
        assert samples["a.avi"].facts["motion_exact"] is False


class TestEncode:
    def test_everything_becomes_exact(
        self, clips: Path, copied: tuple[Summary, dict[str, Sample]], encoded: tuple[Summary, dict[str, Sample]]
    ) -> None:
        """The same frames at the same times, and as many dropped, as without encoding."""
        summary, samples = encoded
        assert summary.failed == []
        assert summary.num_inexact == 0
        assert samples.keys() == {path.name for path in clips.iterdir()}
        for name, sample in samples.items():
            assert sample.facts["motion_exact"], name
            assert "B" not in sample.facts["picture_types"]
            if name in READABLE:
                plain = copied[1][name].facts
                assert sample.facts["num_dropped_frames"] == plain["num_dropped_frames"]
                assert sample.facts["pts_seconds"] == pytest.approx(plain["pts_seconds"], abs=2e-6), name


class TestCommand:
    """What a person reads."""

    @pytest.fixture
    def folder(self, clips: Path, tmp_path: Path) -> Path:
        for name in ("h264_refs.mp4", "fields_mpeg4.avi", "vp9.webm", "mpeg1.mpg"):
            (tmp_path / "clips").mkdir(exist_ok=True)
            (tmp_path / "clips" / name).write_bytes((clips / name).read_bytes())
        return tmp_path / "clips"

    def test_copy(self, folder: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        result = run_here("extract", "--codec", "copy", "--modalities", "motion", "--out", out, folder, status=1)
        assert "warning: motion_exact=false for 1 videos: their vectors may refer to several pictures" in result.stderr
        assert "  fields_mpeg4.avi: interlaced=true at pts_seconds=0.0 in " in result.stderr
        assert "  vp9.webm: codec=vp9: its decoder exports no motion vectors" in result.stderr

    def test_the_default_reads_all_of_them(self, folder: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        result = vidprep("extract", "--modalities", "motion", "--workers", 1, "--out", out, folder)
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout.startswith("4 videos, ")

    def test_inspect_encodes_what_is_interlaced(self, folder: Path, tmp_path: Path) -> None:
        result = run_here("inspect", "--out", tmp_path / "sheet.png", folder / "fields_mpeg4.avi")
        assert "because it is interlaced, or its size changes" in " ".join(result.stdout.split())
