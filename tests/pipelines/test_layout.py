"""The bitstream layout, from the command line to the arrays: the frames of the decoded layout, from fewer bytes."""

import io
import json
import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from runs import command, contents, extract_here, run_here, vidprep, wait_until, write_clip, write_dataset

from vidprep.codec.transcode import transcode
from vidprep.codec.video import Video
from vidprep.errors import DecodeError, UsageError
from vidprep.modalities import MODALITIES, pyramid, residual, rgb
from vidprep.modalities.base import Settings
from vidprep.modalities.clip import read_clip
from vidprep.pipelines.extract import Options, Summary, extract
from vidprep.shards.reader import Sample, read_samples
from vidprep.shards.stats import shard_stats
from vidprep.shards.verify import verify

OPTIONS = Options(
    layout="bitstream",
    modalities=("rgb", "motion", "residual", "pyramid"),
    size="native",
    gop=5,
    settings=Settings(levels=(16,)),
    shard_bytes=60_000,
)
GROUPS = (1, 7, 8, 22)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "clips", groups=GROUPS)


@pytest.fixture(scope="module")
def packed(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary]:
    out = tmp_path_factory.mktemp("packed") / "shards"
    return out, extract_here(clips, out, OPTIONS)


@pytest.fixture(scope="module")
def unpacked(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("unpacked") / "shards"
    extract_here(clips, out, replace(OPTIONS, layout="decoded"))
    return out


def samples(out: Path) -> dict[str, Sample]:
    return {sample.key: sample for shard in sorted(out.glob("*.tar")) for sample in read_samples(shard)}


def only(out: Path) -> Sample:
    (sample,) = samples(out).values()
    return sample


def arrays(sample: Sample, name: str) -> Any:
    return MODALITIES[name].decode(sample.entries, sample.facts)


class TestSamples:
    def test_hold_the_stream_and_nothing_that_follows_from_it(self, packed: tuple[Path, Summary]) -> None:
        out, summary = packed
        assert (summary.num_done, summary.failed) == (8, [])
        for sample in samples(out).values():
            assert sample.entries.keys() == {"json", "cls", "video.m4v"}
            assert sample.facts["recipe"]["layout"] == "bitstream"

    def test_agree_with_the_decoded_layout_about_the_frames(self, packed: tuple[Path, Summary], unpacked: Path) -> None:
        names = ["key", "num_frames", "frame_indices", "picture_types", "pts_seconds", "width", "height", "sha256"]
        names += ["motion_exact", "num_dropped_frames", "num_repaired_times", "labels", "splits", "has_audio"]
        names += ["video_start_seconds", "stream_codec", "source"]
        ours, theirs = samples(packed[0]), samples(unpacked)
        assert ours.keys() == theirs.keys()
        for key, sample in ours.items():
            assert {name: sample.facts[name] for name in names} == {name: theirs[key].facts[name] for name in names}

    def test_arrays_are_those_of_the_stream(self, clips: Path, packed: tuple[Path, Summary]) -> None:
        for sample in samples(packed[0]).values():
            source = Video(clips / sample.facts["path"])
            assert OPTIONS.recipe is not None
            with source, transcode(source, OPTIONS.recipe) as stream:
                for frame in stream.frames(track="residual"):
                    names = ("rgb", "motion", "accumulated_motion", "residual")
                    clip = read_clip(sample.entries, sample.facts, [frame.index], names)
                    np.testing.assert_array_equal(clip["rgb"][0], frame.rgb())
                    np.testing.assert_array_equal(clip["motion"][0], frame.motion())
                    np.testing.assert_array_equal(clip["accumulated_motion"][0], frame.accumulated_motion())
                    np.testing.assert_array_equal(clip["residual"][0], frame.accumulated_residual())

    def test_arrays_are_what_the_decoded_layout_stored(self, packed: tuple[Path, Summary], unpacked: Path) -> None:
        """Motion is identical; pictures are those from which the other layout's JPEGs were made."""
        theirs = samples(unpacked)
        for key, sample in samples(packed[0]).items():
            stored = theirs[key].entries
            np.testing.assert_array_equal(arrays(sample, "motion"), arrays(theirs[key], "motion"))
            for i, picture in enumerate(arrays(sample, "rgb")):
                assert rgb.encode(picture) == stored[f"rgb.{i:06d}.jpg"]
            for i, picture in enumerate(arrays(sample, "pyramid")):
                assert pyramid.encode(picture) == stored[f"rgb16.{i:06d}.jpg"]
            for i, exact in enumerate(arrays(sample, "residual")):
                offset = np.clip(exact + residual.OFFSET, 0, 255).astype(np.uint8)
                assert residual.encode(offset) == stored[f"residual.{i:06d}.jpg"]

    def test_play_without_vidprep(self, packed: tuple[Path, Summary]) -> None:
        for sample in samples(packed[0]).values():
            with av.open(io.BytesIO(sample.entries["video.m4v"]), format="m4v") as container:
                pictures = [picture.to_ndarray(format="rgb24") for picture in container.decode(video=0)]
            np.testing.assert_array_equal(np.stack(pictures), arrays(sample, "rgb"))

    def test_take_less_room(self, packed: tuple[Path, Summary], unpacked: Path) -> None:
        ours, theirs = shard_stats(packed[0]), shard_stats(unpacked)
        assert ours.bytes_by_kind["video"] < theirs.bytes_by_kind["rgb"]
        assert ours.num_frames == theirs.num_frames


class TestRuns:
    def test_bytes_do_not_depend_on_the_workers(
        self, clips: Path, packed: tuple[Path, Summary], tmp_path: Path
    ) -> None:
        """Three of them, against this process."""
        extract(clips, tmp_path / "out", replace(OPTIONS, num_workers=3))
        assert contents(tmp_path / "out") == contents(packed[0])

    def test_killed_and_resumed(self, clips: Path, packed: tuple[Path, Summary], tmp_path: Path) -> None:
        chosen = ["--layout", "bitstream", "--size", "native", "--gop", 5, "--levels", 16, "--shard-size", "60KB"]
        chosen += ["--modalities", "rgb,motion,residual,pyramid", "--workers", 2]
        run = command("extract", clips, "--out", tmp_path / "out", *chosen)
        process = subprocess.Popen(run, start_new_session=True, stdout=subprocess.DEVNULL)
        wait_until(lambda: list((tmp_path / "out").glob("*.tar")), "the first shard")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        result = vidprep("extract", clips, "--out", tmp_path / "out", *chosen)
        assert result.returncode == 0, result.stderr
        assert contents(tmp_path / "out") == contents(packed[0])

    def test_verify_finds_nothing(self, packed: tuple[Path, Summary]) -> None:
        assert verify(packed[0]).problems == ()

    def test_the_other_layout_is_refused_on_resume(self, clips: Path, packed: tuple[Path, Summary]) -> None:
        more = ("--size", "native", "--gop", 5, "--levels", 16)
        result = run_here("extract", clips, "--out", packed[0], *more, status=1)
        assert "layout=decoded: the shards in" in result.stderr
        assert "were begun with bitstream" in result.stderr

    def test_inspect_draws_the_same_facts(self, packed: tuple[Path, Summary], unpacked: Path, tmp_path: Path) -> None:
        key = min(samples(packed[0]))
        ours = run_here("inspect", packed[0], "--key", key, "--out", tmp_path / "a.png")
        theirs = run_here("inspect", unpacked, "--key", key, "--out", tmp_path / "b.png")
        kinds = ("entries", "shards", "bytes", "clipped", "contact sheet")
        for line, other in zip(facts_of(ours.stdout, kinds), facts_of(theirs.stdout, kinds), strict=True):
            assert line == other
        assert (tmp_path / "a.png").stat().st_size > 1000

    def test_unknown_layouts_are_refused(self) -> None:
        with pytest.raises(UsageError, match="layout=zip: must be one of decoded, bitstream"):
            Options(layout="zip")


def facts_of(text: str, without: tuple[str, ...]) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines() if not line.startswith((*without, str(Path("/"))))]


class TestCopy:
    """`--codec copy`: packed as it is, nothing encoded, nothing decoded."""

    def test_a_stream_with_b_frames_stays_exact(self, tmp_path: Path) -> None:
        write_clip(tmp_path / "in" / "v.avi", num_frames=14, gop=6, num_b_frames=2)
        extract_here(tmp_path / "in", tmp_path / "out", replace(OPTIONS, codec="copy", size=None, gop=None))
        compare_with_video(only(tmp_path / "out"), tmp_path / "in" / "v.avi")

    @pytest.mark.parametrize(
        ("suffix", "codec", "entry"),
        [
            (".mp4", "h264", "video.h264"),
            (".mkv", "mpeg2video", "video.m2v"),
            (".mp4", "mpeg4", "video.m4v"),
            (".mpg", "mpeg1video", "video.m1v"),
        ],
    )
    def test_codecs(self, tmp_path: Path, suffix: str, codec: str, entry: str) -> None:
        quantiser = {"quantiser": 20} if codec == "h264" else {}
        write_clip(tmp_path / "in" / f"v{suffix}", num_frames=14, codec=codec, gop=6, **quantiser)
        extract_here(tmp_path / "in", tmp_path / "out", replace(OPTIONS, codec="copy", size=None, gop=None))
        sample = only(tmp_path / "out")
        assert entry in sample.entries
        compare_with_video(sample, tmp_path / "in" / f"v{suffix}")

    def test_segments(self, tmp_path: Path) -> None:
        write_clip(tmp_path / "in" / "v.avi", num_frames=40, gop=6)
        options = replace(OPTIONS, codec="copy", size=None, gop=None, segment_seconds=0.5)
        extract_here(tmp_path / "in", tmp_path / "packed", options)
        extract_here(tmp_path / "in", tmp_path / "decoded", replace(options, layout="decoded"))
        ours, theirs = samples(tmp_path / "packed"), samples(tmp_path / "decoded")
        assert len(ours) == 3
        for key, sample in ours.items():
            other = theirs[key]
            times = [sample.facts["pts_seconds"][i] for i in sample.facts["frame_indices"]]
            assert times == [other.facts["pts_seconds"][i] for i in other.facts["frame_indices"]]
            np.testing.assert_array_equal(arrays(sample, "motion"), arrays(other, "motion"))

    def test_chosen_frames(self, tmp_path: Path) -> None:
        write_clip(tmp_path / "in" / "v.avi", num_frames=20, gop=6)
        options = replace(OPTIONS, codec="copy", size=None, gop=None, frames="uniform:4")
        extract_here(tmp_path / "in", tmp_path / "packed", options)
        extract_here(tmp_path / "in", tmp_path / "decoded", replace(options, layout="decoded"))
        sample, other = only(tmp_path / "packed"), only(tmp_path / "decoded")
        assert sample.facts["frame_indices"] == other.facts["frame_indices"]
        assert arrays(sample, "rgb").shape == (4, 48, 64, 3)
        np.testing.assert_array_equal(arrays(sample, "motion"), arrays(other, "motion"))

    def test_flv_is_refused_with_a_cure(self, tmp_path: Path) -> None:
        write_clip(tmp_path / "in" / "v.flv", codec="flv1")
        more = ("--codec", "copy", "--layout", "bitstream")
        result = run_here("extract", tmp_path / "in", "--out", tmp_path / "out", *more, status=1)
        assert "flv1" in result.stderr
        assert "--codec mpeg4" in result.stderr

    def test_errors_that_nobody_decodes_cannot_be_counted(self) -> None:
        with pytest.raises(UsageError, match="decode_errors=keep: packing a stream as it is decodes nothing"):
            Options(layout="bitstream", codec="copy", decode_errors="keep")

    def test_damage_shows_when_it_is_read(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "in" / "v.avi", num_frames=14, gop=7)
        data = bytearray(path.read_bytes())
        place = len(data) // 2
        data[place : place + 64] = bytes(64)
        path.write_bytes(data)
        extract_here(tmp_path / "in", tmp_path / "out", replace(OPTIONS, codec="copy", size=None, gop=None))
        sample = only(tmp_path / "out")
        with pytest.raises(DecodeError, match=r"frame=\d+ of v%2Eavi"):
            read_clip(sample.entries, sample.facts, range(14))

    def test_nothing_is_claimed_of_what_was_not_decoded(self, tmp_path: Path) -> None:
        write_clip(tmp_path / "in" / "v.avi", num_frames=14)
        for codec, known in (("copy", None), ("mpeg4", 0)):
            options = replace(OPTIONS, codec=codec, size=None, gop=None)
            extract_here(tmp_path / "in", tmp_path / codec, options)
            assert only(tmp_path / codec).facts["decode_errors"] == known
            assert verify(tmp_path / codec).problems == ()
            assert shard_stats(tmp_path / codec).num_damaged == 0

    def test_fields_are_refused_where_motion_is_wanted(self, tmp_path: Path) -> None:
        options = {"flags": "+ildct+ilme"}
        write_clip(tmp_path / "in" / "v.avi", num_frames=14, codec="mpeg4", options=options)
        chosen = replace(OPTIONS, codec="copy", size=None, gop=None)
        summary = extract_here(tmp_path / "in", tmp_path / "out", chosen)
        assert [str(status.error).partition(":")[0] for status in summary.failed] == ["interlaced=true"]
        extract_here(tmp_path / "in", tmp_path / "rgb", replace(chosen, modalities=("rgb",)))
        assert arrays(only(tmp_path / "rgb"), "rgb").shape == (14, 48, 64, 3)

    def test_the_coded_residual_is_of_mpeg4_alone(self, tmp_path: Path) -> None:
        settings = Settings(residual_form="coded")
        with pytest.raises(UsageError, match=r"residual_form=coded: .* leave out --codec h264"):
            Options(codec="h264", settings=settings)
        write_clip(tmp_path / "in" / "v.mp4", num_frames=14, codec="h264", quantiser=20)
        chosen = replace(OPTIONS, codec="copy", size=None, gop=None, settings=settings)
        summary = extract_here(tmp_path / "in", tmp_path / "out", chosen)
        assert [str(status.error).partition(":")[0] for status in summary.failed] == ["codec=h264"]

    def test_a_cut_file_fails_alone(self, tmp_path: Path) -> None:
        whole = write_clip(tmp_path / "in" / "whole.mp4", num_frames=14)
        (tmp_path / "in" / "cut.mp4").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        summary = extract_here(tmp_path / "in", tmp_path / "out", replace(OPTIONS, codec="copy", size=None, gop=None))
        assert (summary.num_done, [status.path for status in summary.failed]) == (1, ["cut.mp4"])

    def test_real_clips(self, shared: Path, tmp_path: Path) -> None:
        extract_here(shared / "data/UCF101", tmp_path / "out", Options(codec="copy", layout="bitstream"))
        found = samples(tmp_path / "out")
        assert len(found) == 3
        for sample in found.values():
            compare_with_video(sample, shared / "data/UCF101" / sample.facts["path"], step=7)
        assert verify(tmp_path / "out").problems == ()


def compare_with_video(sample: Sample, path: Path, step: int = 1) -> None:
    """Every array of a packed sample is what one pass over the source gives, frames and times too."""
    facts: Mapping[str, Any] = sample.facts
    video = Video(path)
    times, types = [], ""
    for frame in video.frames(track="residual"):
        times.append(round(frame.pts_seconds, 6))
        types += frame.picture_type
        if frame.index % step:
            continue
        names = ("rgb", "motion", "accumulated_motion", "residual")
        clip = read_clip(sample.entries, facts, [frame.index], names)
        np.testing.assert_array_equal(clip["rgb"][0], frame.rgb())
        np.testing.assert_array_equal(clip["motion"][0], frame.motion())
        np.testing.assert_array_equal(clip["accumulated_motion"][0], frame.accumulated_motion())
        np.testing.assert_array_equal(clip["residual"][0], frame.accumulated_residual())
    assert (facts["pts_seconds"], facts["picture_types"]) == (times, types)
    assert facts["motion_exact"] == video.motion_exact
    assert json.loads(sample.entries["json"])["num_frames"] == len(times)
