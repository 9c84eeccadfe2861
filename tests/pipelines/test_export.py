"""``vidprep export`` of modalities: what a store holds is what the samples hold, however it was made."""

import fcntl
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from runs import DEADLINE_SECONDS, command, contents, identities, marked, running, vidprep, wait_until
from small_exports import LAYOUTS, NUM_CLIPS, die, entries_of, export, extracted, map_here, run

from vidprep.cli.export import BACKBONE_NAMES
from vidprep.engines import ENGINES, map_local
from vidprep.errors import UsageError
from vidprep.features import COMPRESSIONS, FeatureStore
from vidprep.modalities import MODALITIES
from vidprep.modalities.clip import read_clip
from vidprep.modalities.packed import CLIP_KINDS
from vidprep.modalities.pyramid import decode_level
from vidprep.pipelines import export as pipeline
from vidprep.pipelines import export_part
from vidprep.pipelines.export import Options
from vidprep.pipelines.export_backbone import NETWORKS
from vidprep.shards.index import load_index

ALL = "rgb,motion,accumulated_motion,residual,rgb16,spectrogram"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {layout: extracted(tmp_path_factory.mktemp("extracted"), layout) for layout in LAYOUTS}


@pytest.fixture(scope="module", autouse=True)
def _without_workers() -> Iterator[None]:
    """Runs in a process of its own, by the command line, have workers all the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENGINES, "local", map_here)
        yield


@pytest.fixture(params=LAYOUTS)
def shards(request: pytest.FixtureRequest, made: dict[str, Path]) -> Path:
    return made[request.param]


@pytest.fixture(scope="module")
def bitstream(made: dict[str, Path]) -> Path:
    return made["bitstream"]


@pytest.fixture(scope="module")
def reference(bitstream: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store by an uninterrupted run."""
    to = tmp_path_factory.mktemp("reference") / "features.h5"
    export(bitstream, to, "--modalities", "motion,rgb16")
    return to


class TestContent:
    def test_arrays_are_those_of_the_samples(self, shards: Path, tmp_path: Path) -> None:
        result = export(shards, tmp_path / "features.h5", "--modalities", ALL)
        samples = entries_of(shards)
        with FeatureStore(tmp_path / "features.h5") as store:
            assert list(store) == list(samples)
            num_frames = sum(len(facts["frame_indices"]) for _, facts in samples.values())
            size = (tmp_path / "features.h5").stat().st_size / 1e6
            assert result.stdout == f"{NUM_CLIPS} videos, {num_frames} frames, {size:.1f} MB: {store.path}\n"
            for key, (entries, facts) in samples.items():
                for name in ("rgb", "residual", "spectrogram"):
                    expected = MODALITIES[name].decode(entries, facts)
                    assert (name in store[key]) == (expected is not None)
                    if expected is not None:
                        np.testing.assert_array_equal(store[key][name][:], expected, strict=True)
                np.testing.assert_array_equal(store[key]["rgb16"][:], decode_level(entries, 16, facts), strict=True)
                everything = range(len(facts["frame_indices"]))
                fields = read_clip(entries, facts, everything, ("motion", "accumulated_motion"))
                for name, field in fields.items():
                    np.testing.assert_array_equal(store[key][name][:], field, strict=True)
                assert {name: store[key][name].dtype for name in store[key]} == {
                    name: np.dtype(store.kinds[name].dtype) for name in store[key]
                }
            assert sum("spectrogram" in store[key] for key in store) == 1

    def test_a_store_is_all_that_training_needs(self, shards: Path, tmp_path: Path) -> None:
        export(shards, tmp_path / "features.h5", "--modalities", "motion")
        index = load_index(shards)
        with FeatureStore(tmp_path / "features.h5") as store:
            assert store.dataset == index.dataset
            assert store.classes == ["Run", "Sit"]
            for key, (_, facts) in entries_of(shards).items():
                known = store[key].facts
                for name in (
                    "labels",
                    "label_names",
                    "splits",
                    "width",
                    "height",
                    "pts_seconds",
                    "picture_types",
                    "sha256",
                ):
                    assert known[name] == facts[name]
                assert not {"recipe", "packets"} & known.keys()
            for split in index.dataset["splits"]:
                expected = [key for key, (_, facts) in entries_of(shards).items() if split in facts["splits"]]
                assert store.keys_of(split) == expected

    def test_says_how_it_was_made(self, shards: Path, tmp_path: Path) -> None:
        export(shards, tmp_path / "features.h5", "--modalities", "motion,rgb16", "--frames", "stride:2")
        index = load_index(shards)
        with FeatureStore(tmp_path / "features.h5") as store:
            assert store.recipe["shards"] == index.identity
            assert store.recipe["shards"]["recipe"] == index.recipe
            assert store.recipe["export"] == {
                "modalities": ["motion", "rgb16"],
                "frames": "stride:2",
                "compression": "lzf",
            }
            assert store.recipe["tools"]["h5py"] == h5py.__version__
            assert "torch" not in store.recipe["tools"]

    @pytest.mark.parametrize("frames", ["uniform:3", "stride:3", "fps:12"])
    def test_some_frames_keep_their_times(self, bitstream: Path, tmp_path: Path, frames: str) -> None:
        from vidprep.sampling import Selection

        export(bitstream, tmp_path / "features.h5", "--modalities", "motion,rgb16", "--frames", frames)
        with FeatureStore(tmp_path / "features.h5") as store:
            for key, (entries, facts) in entries_of(bitstream).items():
                chosen = Selection.parse(frames).indices(facts["pts_seconds"])
                assert 0 < len(chosen) < facts["num_frames"]
                assert store[key].facts["frame_indices"] == chosen
                assert store[key].times.tolist() == [facts["pts_seconds"][i] for i in chosen]
                assert store[key].facts["picture_types"] == "".join(facts["picture_types"][i] for i in chosen)
                motion = read_clip(entries, facts, chosen, ("motion",))["motion"]
                np.testing.assert_array_equal(store[key]["motion"][:], motion)
                level = decode_level(entries, 16, facts)
                assert level is not None
                np.testing.assert_array_equal(store[key]["rgb16"][:], level[chosen])

    def test_of_shards_that_hold_some_frames(self) -> None:
        """Frames of the store count among the stored frames, and its lists are theirs."""
        facts = {"frame_indices": [1, 3, 5, 7], "pts_seconds": [i / 10 for i in range(9)], "picture_types": "IPBPIPBPI"}
        kept = export_part.stored_facts({**facts, "labels": [1], "recipe": {}, "packets": {}}, [0, 3])
        assert kept == {"frame_indices": [1, 7], "pts_seconds": [0.1, 0.7], "picture_types": "PP", "labels": [1]}

    def test_long_videos_are_read_in_pieces(
        self, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In this process, so that the pieces may be small; all frames at once gave the expected arrays."""
        export(shards, tmp_path / "whole.h5", "--modalities", ALL)
        with FeatureStore(tmp_path / "whole.h5") as whole:
            job = export_part.Job(shards, Options(modalities=tuple(ALL.split(","))), "{}", json.dumps(whole.dataset))
            monkeypatch.setattr(export_part, "PIECE_FRAMES", 5)
            shard = load_index(shards).shards_of()[0]
            part = export_part.Part(tmp_path / "part.h5", shard.name, 0, shard.num_samples)
            assert export_part.export_part(job, part) == export_part.Written({})
            with FeatureStore(tmp_path / "part.h5") as store:
                assert list(store) == list(whole)[: shard.num_samples]
                for key in store:
                    for name in store[key]:
                        np.testing.assert_array_equal(store[key][name][:], whole[key][name][:], strict=True)


class TestSameBytes:
    def test_with_any_number_of_workers(self, bitstream: Path, reference: Path, tmp_path: Path) -> None:
        """The reference was made without any, its parts from the last to the first."""
        result = vidprep("export", bitstream, "--to", tmp_path / "a.h5", "--workers", 2, "--modalities", "motion,rgb16")
        assert (result.returncode, result.stderr) == (0, "")  # and nothing is drawn without a terminal
        assert (tmp_path / "a.h5").read_bytes() == reference.read_bytes()

    def test_compression_changes_the_file_and_no_array(self, bitstream: Path, reference: Path, tmp_path: Path) -> None:
        for compression in set(COMPRESSIONS) - {"lzf"}:
            to = tmp_path / f"{compression}.h5"
            export(bitstream, to, "--modalities", "motion,rgb16", "--compression", compression)
            assert to.stat().st_size != reference.stat().st_size
            with FeatureStore(to) as store, FeatureStore(reference) as other:
                for key in other:
                    np.testing.assert_array_equal(store[key]["motion"][:], other[key]["motion"][:])


class TestKills:
    # Each run takes seconds to start its worker.
    NUM_KILLS = 4

    def test_killed_at_random_moments(self, bitstream: Path, reference: Path, tmp_path: Path) -> None:
        moments = random.Random(1)
        to, parts = tmp_path / "features.h5", tmp_path / "features.h5.parts"
        num_parts = len(load_index(bitstream).shards_of())
        assert num_parts > 3
        num_kills = num_finished = 0
        for number in range(20):
            wanted, seconds = moments.choice(range(num_parts)), moments.choice((0, 0, 0.02))
            num_kills += self.kill(bitstream, to, wanted, seconds, f"{tmp_path}{number}")
            for path in parts.glob("*.h5"):
                FeatureStore(path).close()  # what has its name is whole
            if to.exists():
                assert to.read_bytes() == reference.read_bytes()
                num_finished += 1
                to.unlink()
            if num_kills >= self.NUM_KILLS:
                break
        assert num_kills >= self.NUM_KILLS
        num_left = len(list(parts.glob("*.h5")))
        result = export(bitstream, to, "--modalities", "motion,rgb16")
        assert ("earlier run" in result.stdout) == (num_left > 0)
        assert to.read_bytes() == reference.read_bytes()
        assert contents(tmp_path).keys() == {"features.h5"}

    def kill(self, shards: Path, to: Path, num_parts: int, seconds: float, mark: str) -> bool:
        """Kill a run after so many parts and seconds; say whether it was not too late."""
        line = command("export", shards, "--to", to, "--modalities", "motion,rgb16", "--workers", 1)
        process = subprocess.Popen(line, env=marked(mark), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        parts = to.with_name(f"{to.name}.parts")
        begun = lambda: (parts / "recipe.json").exists() and len(list(parts.glob("*.h5"))) >= num_parts  # noqa: E731
        wait_until(lambda: process.poll() is not None or begun(), "the run gets so far")
        time.sleep(seconds)
        process.kill()
        _, errors = process.communicate()
        assert process.returncode in (0, -9), errors
        wait_until(lambda: not running(mark), "workers end with the run")
        return process.returncode != 0

    @pytest.mark.parametrize("count", [1, 2])
    def test_around_the_last_rename(self, bitstream: Path, reference: Path, tmp_path: Path, count: int) -> None:
        """The parent renames the recipe and the store, its workers the parts."""
        code = """
import os, signal, sys
from pathlib import Path
from vidprep.cli import main
if __name__ == "__main__":
    original, calls = Path.replace, []
    def replace(self, target):
        calls.append(target)
        if len(calls) == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, target)
    Path.replace = replace
    main(sys.argv[2:])
"""
        to = tmp_path / "features.h5"
        line = ("export", bitstream, "--to", to, "--modalities", "motion,rgb16", "--workers", 1)
        died = subprocess.run(
            [sys.executable, "-c", code, str(count), *map(str, line)], check=False, timeout=60, capture_output=True
        )
        assert died.returncode == -9, died.stderr
        assert not to.exists()
        assert len(list(tmp_path.rglob("*.h5.part"))) == count - 1
        result = export(bitstream, to, "--modalities", "motion,rgb16")
        assert (f"{NUM_CLIPS} of them were there from an earlier run" in result.stdout) == (count == 2)
        assert to.read_bytes() == reference.read_bytes()
        assert contents(tmp_path).keys() == {"features.h5"}


class TestAgain:
    @pytest.fixture
    def to(self, reference: Path, tmp_path: Path) -> Path:
        return Path(shutil.copy(reference, tmp_path / "features.h5"))

    def test_a_finished_store_is_left_alone(self, bitstream: Path, to: Path) -> None:
        before = identities(to.parent)
        result = export(bitstream, to, "--modalities", "motion,rgb16")
        assert f"{NUM_CLIPS} of them were there from an earlier run" in result.stdout
        assert identities(to.parent) == before
        assert contents(to.parent).keys() == {"features.h5"}

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (("--modalities", "motion"), "export.modalities=['motion']: it has ['motion', 'rgb16']"),
            (("--modalities", "motion,rgb16", "--frames", "stride:2"), "export.frames='stride:2': it has 'all'"),
            (("--modalities", "motion,rgb16", "--compression", "gzip"), "export.compression='gzip': it has 'lzf'"),
        ],
    )
    def test_another_recipe_is_refused(self, bitstream: Path, to: Path, options: tuple[str, ...], said: str) -> None:
        before = identities(to.parent)
        errors = export(bitstream, to, *options, status=1).stderr
        assert f"{to}: the store was made in another way: wanted is {said}" in errors
        assert "use the same options, another file (--to), or --overwrite to begin anew" in errors
        assert identities(to.parent) == before

    def test_other_shards_are_refused(self, to: Path, bitstream: Path, tmp_path: Path) -> None:
        """The same videos and options, but one shard has other bytes: it was mended and extracted again."""
        other = Path(shutil.copytree(bitstream, tmp_path / "other"))
        index = json.loads((other / "index.json").read_text())
        index["shards"][0]["sha256"] = "0" * 64
        (other / "index.json").write_text(json.dumps(index))
        assert "shards.shards_sha256='" in export(other, to, "--modalities", "motion,rgb16", status=1).stderr

    def test_overwrite_begins_anew(self, bitstream: Path, to: Path) -> None:
        export(bitstream, to, "--modalities", "motion", "--overwrite")
        with FeatureStore(to) as store:
            assert list(store.kinds) == ["motion"]
        assert contents(to.parent).keys() == {"features.h5"}

    def test_parts_of_another_recipe_are_refused(self, bitstream: Path, reference: Path, tmp_path: Path) -> None:
        to, parts = tmp_path / "features.h5", tmp_path / "features.h5.parts"
        parts.mkdir()
        with FeatureStore(reference) as store:
            recipe = {**store.recipe, "export": {**store.recipe["export"], "frames": "stride:2"}}
        (parts / "recipe.json").write_text(json.dumps(recipe))
        (parts / "old.h5").write_text("part of another store")
        (parts / "notes.txt").write_text("mine")
        errors = export(bitstream, to, "--modalities", "motion,rgb16", status=1).stderr
        assert f"{to}: an unfinished store was made in another way: wanted is export.frames='all'" in errors
        (parts / "notes.txt").unlink()
        export(bitstream, to, "--modalities", "motion,rgb16", "--overwrite")
        assert to.read_bytes() == reference.read_bytes()
        assert contents(tmp_path).keys() == {"features.h5"}

    def test_parts_that_a_killed_run_had_not_begun_go_with_a_refusal(self, bitstream: Path, to: Path) -> None:
        """Their folder is the command's own, whoever made it."""
        to.with_name("features.h5.parts").mkdir()
        assert "wanted is export.modalities" in export(bitstream, to, "--modalities", "motion", status=1).stderr
        assert contents(to.parent).keys() == {"features.h5"}

    @pytest.mark.parametrize("data", [b"", b"not HDF5"])
    def test_a_foreign_file_is_left_alone(self, bitstream: Path, tmp_path: Path, data: bytes) -> None:
        to = tmp_path / "features.h5"
        to.write_bytes(data)
        for options in ((), ("--overwrite",)):
            errors = export(bitstream, to, "--modalities", "motion", *options, status=2).stderr
            assert f"to={to}: is no HDF5 file, so vidprep did not write it; choose another name (--to)" in errors
            assert (contents(tmp_path).keys(), to.read_bytes()) == ({to.name}, data)

    def test_overwrite_mends_a_damaged_store(self, bitstream: Path, reference: Path, to: Path) -> None:
        to.write_bytes(to.read_bytes()[:5000])
        assert "export anew with --overwrite" in export(bitstream, to, "--modalities", "motion,rgb16", status=1).stderr
        export(bitstream, to, "--modalities", "motion,rgb16", "--overwrite")
        assert to.read_bytes() == reference.read_bytes()

    def test_a_second_run_on_the_same_store_is_refused(self, bitstream: Path, tmp_path: Path) -> None:
        parts = tmp_path / "features.h5.parts"
        parts.mkdir()
        descriptor = os.open(parts, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            errors = export(bitstream, tmp_path / "features.h5", "--modalities", "motion", status=1).stderr
        finally:
            os.close(descriptor)
        assert "features.h5: another vidprep export is writing to it; wait for it, or end it" in errors


class TestBadVideos:
    @pytest.fixture
    def damaged(self, bitstream: Path, tmp_path: Path) -> tuple[Path, str]:
        """Shards in which one video's stream is zeros."""
        shards = Path(shutil.copytree(bitstream, tmp_path / "shards"))
        key, (entries, _) = list(entries_of(bitstream).items())[3]
        (tar,) = [path for path in shards.glob("*.tar") if entries["video.m4v"] in path.read_bytes()]
        data = tar.read_bytes()
        tar.write_bytes(data.replace(entries["video.m4v"], bytes(len(entries["video.m4v"]))))
        return shards, key

    def test_without_leave_there_is_no_store(self, damaged: tuple[Path, str], tmp_path: Path) -> None:
        shards, key = damaged
        to = tmp_path / "features.h5"
        result = export(shards, to, "--modalities", "motion", status=1)
        assert result.stdout == ""
        cure = f"1 failed (no {to} yet: after mending, the same command; or --on-error skip):"
        assert cure in result.stderr
        assert f"\n  {key}: " in result.stderr
        assert not to.exists()
        num_parts = len(list((tmp_path / "features.h5.parts").glob("*.h5")))
        assert num_parts == len(load_index(shards).shards_of()) - 1

    def test_with_leave_the_store_says_who_is_missing(self, damaged: tuple[Path, str], tmp_path: Path) -> None:
        shards, key = damaged
        to = tmp_path / "features.h5"
        export(shards, to, "--modalities", "motion", status=1)
        result = export(shards, to, "--modalities", "motion", "--on-error", "skip", status=1)
        assert result.stdout.startswith(f"{NUM_CLIPS - 1} videos, ")
        assert "1 failed (the store is without them: to try again, --overwrite):" in result.stderr
        with FeatureStore(to) as store:
            assert list(store) == [other for other in entries_of(shards) if other != key]
            assert list(store.failed) == [key]
        again = export(shards, to, "--modalities", "motion", status=1)
        assert again.stderr.splitlines()[-2:] == result.stderr.splitlines()[-2:]  # no silence about it

    def test_a_worker_that_dies_fails_its_part(
        self, bitstream: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(ENGINES, "local", map_local)
        monkeypatch.setattr(pipeline, "export_part", die)
        result = export(bitstream, tmp_path / "a.h5", "--modalities", "motion", status=1)
        assert f"{NUM_CLIPS} failed" in result.stderr
        for key in entries_of(bitstream):
            assert f"  {key}: exit=SIGKILL: the task ended its worker process; the system was probably" in result.stderr

    def test_a_full_disk(self, bitstream: Path, reference: Path, tmp_path: Path) -> None:
        """HDF5 writes when it closes: no traceback of it, no crash, and the run goes on where it ended."""
        code = """
import resource, sys
from vidprep.cli import main
if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    main(sys.argv[1:])
"""
        to = tmp_path / "a.h5"
        line = ("export", bitstream, "--to", to, "--workers", 1, "--modalities", "motion,rgb16")
        ended = subprocess.run(
            [sys.executable, "-c", code, *map(str, line)],
            check=False,
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
        )
        assert ended.returncode == 1
        reason = "File too large; free some space and run the same command, it goes on where it ended"
        assert ended.stderr == f"vidprep: error: to={to}: {reason}\n"
        assert not to.exists()
        assert not list(tmp_path.rglob("*.part"))
        export(bitstream, to, "--modalities", "motion,rgb16")
        assert to.read_bytes() == reference.read_bytes()

    def test_what_shards_lack(self, tmp_path: Path, made: dict[str, Path]) -> None:
        decoded = made["decoded"]
        result = export(decoded, tmp_path / "a.h5", "--modalities", "rgb24", status=1)
        assert "modality=rgb24: the shards hold none" in result.stderr
        assert "extract again with --levels 24" in result.stderr
        result = export(decoded, tmp_path / "b.h5", "--modalities", "coded_residual", status=1)
        assert "extract again with --residual-form coded" in result.stderr
        assert not list(tmp_path.iterdir())


class TestUsage:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ((), "modalities, backbone: one of them says what to export; give --modalities or --backbone"),
            (("--modalities", "rgb", "--backbone", "resnet50", "--weights", "random:0"), "one of them says what"),
            (("--modalities", "rgb,depth"), "modality=depth: must be one of rgb, motion, accumulated_motion, residual"),
            (("--modalities", "rgb0"), "modality=rgb0: must be one of"),
            (("--modalities", "pyramid"), "or a level such as rgb112"),
            (("--backbone", "resnet50"), "backbone=resnet50: needs weights; give --weights FILE or random:SEED"),
            (("--modalities", "rgb", "--weights", "a.pth"), "weights=a.pth: only a backbone has weights"),
            (("--modalities", "rgb", "--frames", "16"), "frames=16: must be all, uniform:COUNT"),
            (
                ("--backbone", "resnet50", "--weights", "random:0", "--outputs", "logits"),
                "outputs=logits: must be some",
            ),
            (("--backbone", "vgg"), "'vgg' is not one of"),
            (("--modalities", "rgb", "--workers", "0"), "0 is not in the range"),
        ],
    )
    def test_bad_options(self, bitstream: Path, tmp_path: Path, options: tuple[str, ...], said: str) -> None:
        assert said in run("export", bitstream, "--to", tmp_path / "a.h5", *options, status=2).stderr
        assert contents(tmp_path) == {}

    def test_bad_places(self, bitstream: Path, tmp_path: Path) -> None:
        assert (
            "is a folder; give the name of a file"
            in export(bitstream, tmp_path, "--modalities", "rgb", status=2).stderr
        )
        (tmp_path / "file").touch()
        below = tmp_path / "file" / "a.h5"
        assert "choose a folder that can be written" in export(bitstream, below, "--modalities", "rgb", status=2).stderr
        assert "no such file" in export(tmp_path, tmp_path / "a.h5", "--modalities", "rgb", status=1).stderr

    def test_unfinished_shards(self, bitstream: Path, tmp_path: Path) -> None:
        shards = Path(shutil.copytree(bitstream, tmp_path / "shards"))
        index = json.loads((shards / "index.json").read_text())
        (shards / "index.json").write_text(json.dumps({**index, "complete": False}))
        errors = export(shards, tmp_path / "a.h5", "--modalities", "rgb", status=1).stderr
        assert "its extraction is not finished; run the same vidprep extract command again first" in errors

    def test_the_command_line_knows_the_tables(self) -> None:
        assert NETWORKS == BACKBONE_NAMES
        text = run("export", "--help").stdout
        assert all(name in text for name in (*CLIP_KINDS, *BACKBONE_NAMES, *COMPRESSIONS))

    def test_options_are_checked_without_the_command_line_too(self) -> None:
        for wrong in (
            {"dtype": "int8"},
            {"device": "tpu"},
            {"compression": "zip"},
            {"on_error": "x"},
            {"num_workers": -1},
        ):
            with pytest.raises(UsageError, match="must be"):
                Options(modalities=("rgb",), **wrong)  # type: ignore[arg-type]

    def test_modalities_need_no_torch(self, bitstream: Path, tmp_path: Path) -> None:
        """In a process that does the workers' work itself."""
        code = "import sys; from small_exports import map_here; from vidprep.engines import ENGINES"
        code += "; from vidprep.cli import main; ENGINES['local'] = map_here"
        code += "; main(sys.argv[1:], standalone_mode=False); assert 'torch' not in sys.modules"
        line = ("export", bitstream, "--to", tmp_path / "a.h5", "--modalities", "motion")
        subprocess.run([sys.executable, "-c", code, *map(str, line)], check=True, timeout=60, env=with_tests())


def with_tests() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}


def test_parts_follow_the_shards(bitstream: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vidprep.shards.access import ShardFolder

    for part_videos in (1, 2, 32):
        monkeypatch.setattr(pipeline, "PART_VIDEOS", part_videos)
        folder = ShardFolder(bitstream)
        parts = list(pipeline._cut(folder, Path("parts")))
        assert len({part.path for part in parts}) == len(parts)
        keys = [
            folder.key(folder.index.shards[part.shard], number)
            for part in parts
            for number in range(part.first, part.end)
        ]
        assert keys == list(entries_of(bitstream))
        assert max(part.end - part.first for part in parts) <= part_videos
