"""``--decode-errors``: a damaged video fails, or is kept and says so in its sample, its status row and the summary."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mutants import flip_body, write_sources
from runs import extract_here, run_here

from vidprep.errors import ShardError, UsageError
from vidprep.pipelines.extract import Options
from vidprep.shards.index import load_statuses
from vidprep.shards.reader import read_samples
from vidprep.shards.stats import shard_stats
from vidprep.shards.verify import verify

NAMES = ("mpeg4.avi", "h264.avi")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sound videos and two damaged ones."""
    folder = tmp_path_factory.mktemp("source")
    for path in write_sources(folder):
        if path.name in NAMES:
            (folder / f"bad_{path.name}").write_bytes(flip_body(path.read_bytes(), np.random.default_rng(3)))
        else:
            path.unlink()
    return folder


def options(codec: str, decode_errors: str) -> Options:
    size = None if codec == "copy" else "native"
    return Options(codec, ("rgb", "motion"), size, num_workers=1, decode_errors=decode_errors)


@pytest.mark.parametrize("codec", ["copy", "mpeg4"])
def test_fail_is_the_default(source: Path, tmp_path: Path, codec: str) -> None:
    assert Options().decode_errors == "fail"
    summary = extract_here(source, tmp_path / "out", options(codec, "fail"))
    assert (summary.num_done, summary.num_damaged) == (2, 0)
    assert {status.path for status in summary.failed} == {f"bad_{name}" for name in NAMES}
    assert shard_stats(tmp_path / "out").num_damaged == 0


@pytest.mark.parametrize("codec", ["copy", "mpeg4"])
def test_keep_keeps_and_marks(source: Path, tmp_path: Path, codec: str) -> None:
    out = tmp_path / "out"
    summary = extract_here(source, out, options(codec, "keep"))
    assert (summary.num_done, summary.num_damaged, summary.failed) == (4, 2, [])
    assert verify(out).problems == ()
    assert shard_stats(out).num_damaged == 2
    [tar] = out.glob("*.tar")
    in_rows = {status.path: status.facts["decode_errors"] for status in load_statuses(out, tar.name)}
    for sample in read_samples(tar):
        facts = sample.facts
        assert (facts["decode_errors"] > 0) == facts["path"].startswith("bad_")
        assert facts["decode_errors"] == in_rows[facts["path"]]
        assert (
            facts["num_frames"] == len(facts["pts_seconds"]) == sum(name.startswith("rgb.") for name in sample.entries)
        )
        assert facts["recipe"]["decode_errors"] == "keep"


def test_sound_samples_do_not_depend_on_it(source: Path, tmp_path: Path) -> None:
    found = []
    for decode_errors in ("fail", "keep"):
        extract_here(source, tmp_path / decode_errors, options("copy", decode_errors))
        [tar] = (tmp_path / decode_errors).glob("*.tar")
        samples = {sample.key: sample for sample in read_samples(tar) if not sample.key.startswith("bad_")}
        found.append(
            {
                key: ({**sample.entries, "json": b""}, {**sample.facts, "recipe": None})
                for key, sample in samples.items()
            }
        )
    assert found[0] == found[1]
    assert len(found[0]) == 2


def test_a_run_goes_on_with_the_same_value_only(source: Path, tmp_path: Path) -> None:
    extract_here(source, tmp_path / "out", options("copy", "fail"))
    with pytest.raises(ShardError, match=r"decode_errors=keep: the shards in .* were begun with fail"):
        extract_here(source, tmp_path / "out", options("copy", "keep"))


def test_other_values_are_refused() -> None:
    with pytest.raises(UsageError, match="decode_errors=maybe: must be fail or keep"):
        Options(decode_errors="maybe")


def test_the_command_warns(source: Path, tmp_path: Path) -> None:
    more = ("--codec", "copy", "--modalities", "rgb", "--decode-errors", "keep", "--out", tmp_path / "out")
    result = run_here("extract", *more, source)
    assert "warning: decode_errors>0 for 2 videos: their decoders reported damage" in result.stderr
    assert "decode errors" in run_here("stats", tmp_path / "out").stdout
    result = run_here("extract", *more[:-1], tmp_path / "failed", "--decode-errors", "fail", source, status=1)
    assert "decode_errors>0" not in result.stderr


def test_errors_behind_the_last_chosen_frame_count(tmp_path: Path) -> None:
    """Whatever frames are stored, the sample says what the decoder reported of the whole video."""
    path = next(path for path in write_sources(tmp_path / "in") if path.name == "mpeg4.avi")
    for other in (tmp_path / "in").iterdir():
        if other != path:
            other.unlink()
    data = bytearray(path.read_bytes())
    place = data.rindex(b"\0\0\1\xb6") + 40  # in the last frame
    data[place : place + 60] = bytes(60)
    path.write_bytes(data)
    counts = {}
    for frames in ("all", "uniform:1"):
        extract_here(tmp_path / "in", tmp_path / frames, replace(options("copy", "keep"), frames=frames))
        [tar] = (tmp_path / frames).glob("*.tar")
        [sample] = read_samples(tar)
        counts[frames] = sample.facts["decode_errors"]
    assert counts["all"] == counts["uniform:1"] > 0
