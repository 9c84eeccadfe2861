"""Bad and odd input: a clear message or a correct result, and no harm to any other video.

One run for each codec over a folder that mixes good clips with every kind of bad one, then one check a kind.
"""

import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from bad_videos import BAD, DAMAGED, Pictures, cut, flip, hum, link, make, pictures
from runs import extract_here

from vidprep.codec.transcode import Recipe, ffmpeg_path, transcode
from vidprep.codec.video import Video
from vidprep.errors import DecodeError, ManifestError
from vidprep.modalities import rgb
from vidprep.pipelines.extract import Options, Summary, extract
from vidprep.shards.index import Status, load_statuses
from vidprep.shards.plan import load_plan
from vidprep.shards.reader import Sample, read_samples
from vidprep.shards.verify import verify

CODECS = ("mpeg4", "copy")
GOOD = {
    "a/plain.avi": partial(make, seed=1),
    "a/b_frames.mp4": partial(make, seed=2, codec="h264", num_b_frames=2),
    "b/plain.avi": partial(make, seed=3, gop=5),
    "b/sound.mkv": partial(make, seed=4, audio=hum()),
    "b/within/a.folder/and one more/deep.mp4": partial(make, seed=5),
}
NAMES = (
    "two.dots.mp4", "a blank.mp4", " in front.mp4", "e\u0301 is not \u00e9.mp4", "\u00e9 is not e\u0301.mp4",
    "\u65e5\u672c \U0001f600.mp4", "100%d.mp4", "img%03d.mp4", "%2e.mp4", "-i.mp4", "--out.mp4", "quo'te\".mp4",
    "new\nline.mp4", "return\r.mp4", "tab\t.mp4", "back\\slash.mp4", "*?[x].mp4", "$HOME;ls.mp4", "#.mp4", "~.mp4",
    "=.mp4", "@0-1.mp4", "_.mp4", "UPPER.MP4", "a:b,c.mp4", "http:x.mp4", "data:x.mp4", "pipe:0.mp4", "file:ok.mp4",
    "concat:ok.mp4|ok.mp4", "subfile,,start,0,end,99,,:ok.mp4", "same.avi", "same.mp4", "same.mkv", "x" * 251 + ".mp4",
    "\u65e5" * 83 + ".mp4", os.fsdecode(b"latin\xe9.mp4"),
)  # fmt: skip
FLIPPED = {
    **{f"flipped_{seed}.avi": partial(flip, seed=seed) for seed in range(6)},
    **{f"flipped_b_{seed}.avi": partial(flip, seed=seed, num_b_frames=2) for seed in range(3)},
    **{f"flipped_{seed}.mp4": partial(flip, seed=seed, codec="h264") for seed in range(6)},
    **{f"flipped_{seed}.mpg": partial(flip, seed=seed, codec="mpeg2video") for seed in range(3)},
}
FLIPPED_JPEG = {
    f"flipped_jpeg_{seed}.avi": partial(flip, seed=seed, codec="mjpeg", pixel_format="yuvj420p")
    for seed in (1, 6, 10, 12, 24, 27, 33, 36)
}


def scripts(target: str, port: int) -> dict[str, str]:
    """Texts that name another file or address, in every language that FFmpeg understands."""
    segment = f"#EXTINF:0.56,\n{target}\n#EXT-X-ENDLIST\n"
    base = f'<Representation id="1" bandwidth="1000"><BaseURL>{target}</BaseURL></Representation>'
    schema = 'xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT1S"'
    return {
        "hls.mp4": f"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n{segment}",
        "hls.ts": f"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n{segment}",
        "concat.mp4": f"ffconcat version 1.0\nfile '{target}'\n",
        "concat.mkv": f"ffconcat version 1.0\nfile '{target}'\nduration 1\n",
        "dash.mp4": f'<?xml version="1.0"?>\n<MPD {schema}><Period><AdaptationSet mimeType="video/mp4">{base}'
        "</AdaptationSet></Period></MPD>\n",
        "session.mp4": f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n"
        "a=rtpmap:96 H264/90000\n",
        "reference.asf": f"[Reference]\nRef1={target}\n",
        "reference.mov": f"RTSPtext\r{target}\r",
        "data.mp4": "data:video/mp4;base64,AAAAIGZ0eXBpc29t\n",
    }


@dataclass(frozen=True)
class Run:
    """An extraction of the mixed folder, and one of its good clips alone."""

    codec: str
    out: Path
    summary: Summary
    statuses: dict[str, Status]
    samples: dict[str, Sample]
    alone: dict[str, Sample]


def options(codec: str) -> Options:
    return Options(codec=codec, size="native" if codec == "mpeg4" else None, num_workers=2, shard_bytes=200_000)


def read_all(out: Path) -> dict[str, Sample]:
    samples = [sample for shard in sorted(out.glob("*.tar")) for sample in read_samples(shard)]
    by_path = {str(sample.facts["path"]): sample for sample in samples}
    assert len(by_path) == len(samples), "a sample is there twice"
    return by_path


def write_good(root: Path) -> None:
    for name, maker in GOOD.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        maker(root / name)


def write_bad(root: Path, port: int) -> None:
    for name, bad in BAD.items():
        bad.maker(root / "a" / name)
    for seed, name in enumerate(NAMES):  # by way of another name, for FFmpeg takes some of these for addresses
        make(root / f".named{Path(name).suffix}", num_frames=3, seed=100 + seed)
        (root / f".named{Path(name).suffix}").rename(root / "b" / name)
    for name, maker in (FLIPPED | FLIPPED_JPEG).items():
        maker(root / "a" / name)
    make(root / "b" / "neighbour.ts", codec="h264")
    targets = ("neighbour.ts", str(root / "b" / "neighbour.ts"), f"http://127.0.0.1:{port}/x.ts")
    for number, target in enumerate(targets):
        for name, text in scripts(target, port).items():
            (root / "b" / f"script_{number}_{name}").write_text(text)
    (root / "empty").mkdir()
    (root / "a" / "folder.mp4").mkdir()
    link(root / "a" / "round_and_round", target="..")
    link(root / "b" / "itself", target="itself")


@pytest.fixture(scope="module")
def listener() -> Iterator[socket.socket]:
    """Somebody who would notice if a script were obeyed."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, listener: socket.socket) -> Path:
    root = tmp_path_factory.mktemp("mixed") / "source"
    write_good(root)
    write_bad(root, listener.getsockname()[1])
    return root


@pytest.fixture(scope="module", params=CODECS)
def run(request: pytest.FixtureRequest, source: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder, codec = tmp_path_factory.mktemp(request.param), request.param
    write_good(folder / "good")
    # One of the two with workers: what makes them fail alone is the engine's, whatever the codec.
    extract_mixed = extract if codec == "mpeg4" else extract_here
    summary = extract_mixed(source, folder / "out", options(codec))
    extract_here(folder / "good", folder / "alone", options(codec))
    shards = load_plan(folder / "out").shards
    statuses = [status for shard in shards for status in load_statuses(folder / "out", shard.name)]
    by_path = {status.path: status for status in statuses}
    assert len(by_path) == len(statuses), "a status row is there twice"
    return Run(codec, folder / "out", summary, by_path, read_all(folder / "out"), read_all(folder / "alone"))


def assert_shows(sample: Sample, expected: Pictures) -> None:
    """Every stored picture is like its own picture, and like no other."""
    stored = rgb.Rgb.decode(sample.entries, sample.facts)
    assert stored is not None
    assert stored.shape == expected.shape
    errors = [[np.abs(a.astype(int) - b).mean() for b in expected] for a in stored]
    assert np.argmin(errors, axis=1).tolist() == list(range(len(expected)))
    assert np.diagonal(errors).max() < 9


def turned(name: str, frames: Pictures) -> Pictures:
    quarters = {"rotated_90.mp4": 1, "rotated_180.mov": 2, "rotated_270.mp4": 3}.get(name, 0)
    return np.rot90(frames, quarters, axes=(1, 2))  # counter-clockwise


class TestTheOthers:
    def test_good_samples_are_the_same_byte_for_byte(self, run: Run) -> None:
        assert set(run.alone) == set(GOOD)
        for path, sample in run.alone.items():
            assert run.samples[path].key == sample.key
            assert run.samples[path].entries == sample.entries, path

    def test_good_samples_show_their_own_pictures(self, run: Run) -> None:
        for path, maker in GOOD.items():
            assert_shows(run.samples[path], pictures(seed=maker.keywords["seed"]))
        assert "spectrogram.npy" in run.samples["b/sound.mkv"].entries

    def test_every_video_is_a_sample_or_a_failure(self, run: Run) -> None:
        names = [*BAD, *FLIPPED, *FLIPPED_JPEG]
        expected = {*GOOD, "b/neighbour.ts", *(f"a/{name}" for name in names), *(f"b/{name}" for name in NAMES)}
        found = {path for path in run.statuses if not path.startswith("b/script_")}
        assert found == expected  # nothing through the loops of folders
        assert set(run.samples) == {path for path, status in run.statuses.items() if status.error is None}
        assert {status.path for status in run.summary.failed} == set(run.statuses) - set(run.samples)
        assert run.summary.num_done == len(run.samples)

    def test_nothing_unfinished_is_left(self, run: Run) -> None:
        left = [path for path in run.out.rglob("*") if path.name.endswith(".part") or path.name.startswith(".spool")]
        assert left == []

    def test_the_shards_are_sound(self, run: Run) -> None:
        report = verify(run.out)
        assert report.problems == ()
        assert (report.num_samples, report.num_failed) == (len(run.samples), len(run.summary.failed))

    def test_every_reason_is_one_clear_line(self, run: Run) -> None:
        for status in run.summary.failed:
            assert status.error is not None
            assert len(status.error) > 20
            assert status.error.isprintable()
            for trace in ("Traceback", "Error(", "Error:", ".py", "Exception", "0x", "None"):
                assert trace not in status.error, status.error


@pytest.mark.parametrize("name", BAD)
class TestEachKind:
    def test_has_the_expected_end(self, run: Run, name: str) -> None:
        expected, status = BAD[name].expected(run.codec), run.statuses[f"a/{name}"]
        if isinstance(expected, str):
            assert status.error is not None
            assert expected in status.error
            assert f"a/{name}" not in run.samples
        else:
            assert status.error is None
            assert status.num_frames == len(expected)

    def test_shows_the_right_pictures(self, run: Run, name: str) -> None:
        expected = BAD[name].expected(run.codec)
        if isinstance(expected, str):
            return
        settings = BAD[name].maker.keywords if isinstance(BAD[name].maker, partial) else {}
        all_pictures = pictures(**{key: settings[key] for key in ("num_frames", "size") if key in settings})
        sample = run.samples[f"a/{name}"]
        assert_shows(sample, turned(name, all_pictures[list(expected)]))
        width, height = sample.facts["width"], sample.facts["height"]
        assert turned(name, all_pictures).shape[1:3] == (height, width)

    def test_has_the_right_times(self, run: Run, name: str) -> None:
        expected = BAD[name].expected(run.codec)
        if isinstance(expected, str):
            return
        times = np.array(run.samples[f"a/{name}"].facts["pts_seconds"])
        assert len(times) == len(expected)
        assert (np.diff(times) > 0).all()
        if BAD[name].milliseconds is not None:
            np.testing.assert_allclose(1000 * times, BAD[name].milliseconds, atol=0.01)

    def test_begins_with_an_i_frame(self, run: Run, name: str) -> None:
        if f"a/{name}" in run.samples:
            assert run.samples[f"a/{name}"].facts["picture_types"][0] == "I"


def test_frames_before_the_first_i_frame_are_counted(run: Run) -> None:
    assert run.samples["a/late_i_frame.m4v"].facts["num_dropped_frames"] == 5
    assert run.samples["a/missing.m4v"].facts["num_dropped_frames"] == 0


@pytest.mark.parametrize("name", NAMES)
def test_names(run: Run, name: str) -> None:
    sample = run.samples[f"b/{name}"]
    assert_shows(sample, pictures(3, seed=100 + NAMES.index(name)))
    assert sample.key.isascii()
    assert "." not in sample.key


def test_names_give_different_keys(run: Run) -> None:
    assert len({sample.key for sample in run.samples.values()}) == len(run.samples)


def damage_is_known(path: Path) -> bool:
    """Ask FFmpeg's log, with the concealment of errors off: an account of damage that vidprep doesn't use."""
    reading = ("-threads", "1", "-ec", "0", "-i", str(path))
    command = [ffmpeg_path(), "-loglevel", "error", *reading, "-map", "0:v", "-f", "null", "-"]
    return bool(subprocess.run(command, check=True, capture_output=True).stderr)


class TestFlippedBits:
    @pytest.mark.parametrize("name", FLIPPED)
    def test_known_damage_fails_and_nothing_else_does(self, run: Run, source: Path, name: str) -> None:
        error = run.statuses[f"a/{name}"].error
        assert (error is not None) == damage_is_known(source / "a" / name)
        assert error is None or DAMAGED in error

    def test_both_happen(self, run: Run) -> None:
        failed = [name for name in FLIPPED if run.statuses[f"a/{name}"].error]
        assert len(FLIPPED) / 2 < len(failed) < len(FLIPPED)

    def test_of_pictures_without_motion(self, run: Run, source: Path) -> None:
        errors = {name: run.statuses[f"a/{name}"].error for name in FLIPPED_JPEG}
        if run.codec == "copy":
            assert all("codec=mjpeg" in str(error) for error in errors.values())
        else:
            known = {name: damage_is_known(source / "a" / name) for name in FLIPPED_JPEG}
            assert {name: error is not None for name, error in errors.items()} == known
            assert 1 < sum(known.values()) < len(known)


class TestScripts:
    def test_all_fail(self, run: Run) -> None:
        errors = {path: status.error for path, status in run.statuses.items() if path.startswith("b/script_")}
        assert len(errors) == 3 * len(scripts("", 0))
        assert all(error is not None and "no video of a known kind" in error for error in errors.values())

    def test_what_they_name_can_be_read(self, run: Run) -> None:
        assert_shows(run.samples["b/neighbour.ts"], pictures())

    def test_nobody_called(self, run: Run, listener: socket.socket) -> None:
        with pytest.raises(BlockingIOError):
            listener.accept()

    @pytest.mark.parametrize("name", scripts("", 0))
    @pytest.mark.parametrize("where", ["file", "net"])
    def test_the_command_refuses_them_by_itself(
        self, tmp_path: Path, listener: socket.socket, name: str, where: str
    ) -> None:
        """The library looks first; here it sees a video, which is replaced before the command reads it."""
        make(tmp_path / "neighbour.ts", num_frames=3, codec="h264")
        path = tmp_path / name
        make(path, num_frames=3, container_format="mpegts")
        port = listener.getsockname()[1]
        target = "neighbour.ts" if where == "file" else f"http://127.0.0.1:{port}/x.ts"
        with Video(path) as video:
            path.write_text(scripts(target, port)[name])
            with pytest.raises(DecodeError, match="damaged"):
                transcode(video, Recipe(size="native"))
        with pytest.raises(BlockingIOError):
            listener.accept()


class TestNoVideoAtAll:
    @pytest.mark.parametrize("content", [(), ("notes.txt",), (".hidden.mp4",), (".folder/x.mp4",), ("mp4",)])
    def test_a_folder_without_videos(self, tmp_path: Path, content: Sequence[str]) -> None:
        root, out = tmp_path / "source", tmp_path / "out"
        root.mkdir()
        for name in content:
            (root / name).parent.mkdir(exist_ok=True)
            make(root / name, num_frames=1, container_format="mp4")
        with pytest.raises(ManifestError, match=r"root=.*must hold videos"):
            extract(root, out)
        assert not out.exists()

    def test_a_folder_with_nothing_but_bad_ones(self, tmp_path: Path) -> None:
        root, out = tmp_path / "source", tmp_path / "out"
        root.mkdir()
        cut(root / "cut.mp4")
        (root / "zero.mp4").touch()
        summary = extract_here(root, out, options("mpeg4"))
        assert (summary.num_done, len(summary.failed), summary.num_shards) == (0, 2, 0)
        assert list(out.glob("*.tar")) == []
        assert verify(out).problems == ()
