"""A store gives back what was written, frame by frame, to any number of readers; what is no store is refused."""

import json
import multiprocessing
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from mutants import BYTE_MUTATORS
from numpy.typing import NDArray

from vidprep.errors import FeatureError, ShardError
from vidprep.features import CHANNELS_LAST, COMPRESSIONS, ArrayKind, FeatureStore, FeatureWriter, differences

KINDS = {
    "motion": ArrayKind("int16"),
    "maps": ArrayKind("float16", ("frames", "channels")),
    "sound": ArrayKind("<f4", ("bins",)),
}
DATASET = {"name": "made", "classes": ["a", "b"], "splits": {"one/train": ["train"], "one/test": ["test"]}}
RECIPE: dict[str, Any] = {
    "shards": {"recipe": {"gop": 12, "size": "340x256"}, "rows_sha256": "12"},
    "export": {"backbone": "mobilenet_v2", "weights_sha256": "ab" * 32},
}
NUM_FRAMES = 12
KEYS = {"A/v1": "train", "A/v2": "test", "A/deep/v3@0-1500": "train", "v4": "train"}


def arrays_of(key: str) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(list(key.encode()))
    return {
        "motion": rng.integers(-99, 99, (NUM_FRAMES, 6, 8, 2), dtype=np.int16),
        "maps": rng.normal(size=(NUM_FRAMES, 5)).astype(np.float16),
        **({} if key == "v4" else {"sound": rng.normal(size=7).astype(np.float32)}),
    }


def facts_of(key: str) -> dict[str, Any]:
    return {
        "key": key,
        "labels": [len(key) % 2],
        "pts_seconds": [i / 25 for i in range(NUM_FRAMES)],
        "note": "café \udce9",
    }


def pieces_of(arrays: dict[str, NDArray[Any]], length: int = 5) -> Iterator[dict[str, NDArray[Any]]]:
    """The sound whole, the others some frames at a time."""
    yield {name: array for name, array in arrays.items() if name == "sound"}
    for first in range(0, NUM_FRAMES, length):
        yield {name: array[first : first + length] for name, array in arrays.items() if name != "sound"}


def write(path: Path, keys: dict[str, str] = KEYS, **more: Any) -> Path:
    with FeatureWriter(path, DATASET, RECIPE, KINDS, **more) as writer:
        for key, cell in keys.items():
            writer.add(key, cell, facts_of(key), pieces_of(arrays_of(key)))
        writer.fail("bad", "it is broken")
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("store") / "features.h5")


@pytest.fixture
def store(path: Path) -> Iterator[FeatureStore]:
    with FeatureStore(path) as store:
        yield store


def check(store: FeatureStore, key: str) -> None:
    expected = arrays_of(key)
    assert list(store[key]) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(store[key][name][:], array, strict=True)


class TestMapping:
    def test_gives_back_what_was_written(self, store: FeatureStore) -> None:
        assert list(store) == list(KEYS)
        assert len(store) == len(KEYS)
        assert "A/v1" in store and "A" not in store and "A/deep" not in store
        for key in store:
            check(store, key)
            assert store[key].facts == facts_of(key)
            assert store[key].labels == facts_of(key)["labels"]
            assert store[key].times.tolist() == facts_of(key)["pts_seconds"]

    def test_says_how_it_was_made(self, store: FeatureStore) -> None:
        assert store.recipe == RECIPE
        assert store.dataset == DATASET
        assert store.classes == ["a", "b"]
        assert store.kinds == KINDS
        assert store.kinds["motion"].axes == CHANNELS_LAST
        assert [name for name, kind in store.kinds.items() if kind.is_by_frame] == ["motion", "maps"]
        assert store.failed == {"bad": "it is broken"}
        assert store.num_frames == len(KEYS) * NUM_FRAMES

    def test_knows_its_splits(self, store: FeatureStore) -> None:
        assert store.keys_of() == list(KEYS)
        assert store.keys_of("one/test") == ["A/v2"]
        assert store.keys_of("one/train") == ["A/v1", "A/deep/v3@0-1500", "v4"]
        with pytest.raises(FeatureError, match=r"split=two/test: not in .*features\.h5; it has: one/train, one/test"):
            store.keys_of("two/test")

    def test_has_no_other_keys(self, store: FeatureStore) -> None:
        for key in ("A", "A/v9", "json", ""):
            with pytest.raises(KeyError):
                store[key]
        for name in ("json", "rgb", ""):
            with pytest.raises(KeyError):
                store["A/v1"][name]
        with pytest.raises(KeyError):
            store["v4"]["sound"]

    def test_is_plain_hdf5(self, path: Path) -> None:
        with h5py.File(path) as file:
            dataset = file["videos/A/v1/motion"]
            np.testing.assert_array_equal(dataset[:], arrays_of("A/v1")["motion"])
            assert dataset.fletcher32
            assert file.attrs["format"] == "vidprep-features"
            assert file.attrs["weights_sha256"] == "ab" * 32
            assert json.loads(file.attrs["recipe"]) == RECIPE
            assert json.loads(file.attrs["arrays"])["motion"] == {
                "dtype": "int16",
                "axes": "frames,height,width,channels",
            }

    def test_chunks_are_of_whole_frames(self, tmp_path: Path) -> None:
        kinds = {"big": ArrayKind("uint8"), "small": ArrayKind("float16", ("frames", "channels"))}
        arrays = {"big": np.zeros((9, 200, 300, 3), np.uint8), "small": np.zeros((9, 16384), np.float16)}
        with FeatureWriter(tmp_path / "a.h5", DATASET, {}, kinds) as writer:
            writer.add("a", "train", {"pts_seconds": list(range(9))}, [arrays])
        with h5py.File(tmp_path / "a.h5") as file:
            assert file["videos/a/big"].chunks == (1, 200, 300, 3)
            assert file["videos/a/small"].chunks == (2, 16384)

    def test_a_long_video_and_many_classes_fit(self, tmp_path: Path) -> None:
        """HDF5 limits what stands in a header to 64 KB."""
        dataset = {**DATASET, "classes": [f"class number {i}" for i in range(10_000)]}
        facts = {"pts_seconds": [i / 30 for i in range(9000)]}
        with FeatureWriter(
            tmp_path / "a.h5", dataset, {"long": "x" * 100_000}, {"x": ArrayKind("uint8", ("frames",))}
        ) as writer:
            writer.add("a", "train", facts, [{"x": np.zeros(9000, np.uint8)}])
        with FeatureStore(tmp_path / "a.h5") as store:
            assert len(store.classes) == 10_000
            assert store.recipe == {"long": "x" * 100_000}
            assert store["a"].times.tolist() == facts["pts_seconds"]


INDICES: list[Any] = [
    np.s_[8:24], np.s_[:], np.s_[...], np.s_[-3:], np.s_[::3], np.s_[9:2:-2], np.s_[5:5], 0, -1, np.int64(3),
    [0, 3, 3, 9], [7, 1, 1, 4], [], np.array([11, 0]), np.arange(NUM_FRAMES) % 2 == 0,
    np.s_[2:4, 1:3], np.s_[[5, 2], ..., 1], np.s_[..., 0], np.s_[4, 2, 3, 1],
]  # fmt: skip


class TestIndexing:
    @pytest.mark.parametrize("index", INDICES, ids=repr)
    def test_is_numpys(self, store: FeatureStore, index: Any) -> None:
        index = np.array(index, np.int64) if isinstance(index, list) and not index else index
        found, expected = store["A/v1"]["motion"][index], arrays_of("A/v1")["motion"][index]
        np.testing.assert_array_equal(found, expected)
        assert np.shape(found) == np.shape(expected)

    @given(st.lists(st.integers(-NUM_FRAMES, NUM_FRAMES - 1), min_size=1))
    def test_takes_frames_in_any_order(self, path: Path, frames: list[int]) -> None:
        with FeatureStore(path) as store:
            np.testing.assert_array_equal(store["A/v2"]["maps"][frames], arrays_of("A/v2")["maps"][frames], strict=True)

    @pytest.mark.parametrize("index", [NUM_FRAMES, -NUM_FRAMES - 1, [0, 99], "a"])
    def test_refuses_frames_that_there_are_not(self, store: FeatureStore, index: Any) -> None:
        with pytest.raises(IndexError):
            store["A/v1"]["motion"][index]

    def test_an_array_is_one_for_numpy(self, store: FeatureStore) -> None:
        array = store["A/v1"]["motion"]
        assert (len(array), array.shape, array.dtype) == (NUM_FRAMES, (NUM_FRAMES, 6, 8, 2), np.int16)
        np.testing.assert_array_equal(np.asarray(array, np.float32), arrays_of("A/v1")["motion"].astype(np.float32))
        np.testing.assert_array_equal(np.stack(list(array)), arrays_of("A/v1")["motion"])
        assert repr(array) == "StoredArray(videos/A/v1/motion: (12, 6, 8, 2), int16)"

    def test_only_the_chunks_that_are_wanted_are_read(self, tmp_path: Path) -> None:
        """Frames beside a damaged one can be read, so it wasn't."""
        frames = np.random.default_rng(0).integers(0, 255, (4, 200, 200, 3), dtype=np.uint8)
        with FeatureWriter(tmp_path / "a.h5", DATASET, {}, {"rgb": ArrayKind("uint8")}, compression="none") as writer:
            writer.add("a", "train", {"pts_seconds": [0, 1, 2, 3]}, [{"rgb": frames}])
        data = bytearray((tmp_path / "a.h5").read_bytes())
        data[data.index(frames[2].tobytes()) + 5000] ^= 1
        (tmp_path / "a.h5").write_bytes(data)
        with FeatureStore(tmp_path / "a.h5") as store:
            np.testing.assert_array_equal(store["a"]["rgb"][[0, 1, 3]], frames[[0, 1, 3]])
            with pytest.raises(FeatureError, match=r"a\.h5: videos/a/rgb: .*export anew with --overwrite"):
                store["a"]["rgb"][2]


class TestRoundTrip:
    @settings(max_examples=60)
    @given(
        hnp.arrays(
            hnp.boolean_dtypes() | hnp.integer_dtypes(endianness="?") | hnp.unsigned_integer_dtypes()
            | hnp.floating_dtypes(sizes=(16, 32, 64)) | hnp.complex_number_dtypes(sizes=(64, 128)),
            hnp.array_shapes(min_dims=1, max_dims=5, min_side=0, max_side=4),
        ),
        st.sampled_from(sorted(COMPRESSIONS)),
        st.integers(1, 5),
    )  # fmt: skip
    def test_any_array(self, array: NDArray[Any], compression: str, length: int) -> None:
        kinds = {"x": ArrayKind(array.dtype.str, ("frames", "b", "c", "d", "e")[: array.ndim])}
        pieces = [{"x": array[first : first + length]} for first in range(0, max(len(array), 1), length)]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a.h5"
            with FeatureWriter(path, DATASET, {}, kinds, compression=compression) as writer:
                writer.add("a", "train", {"pts_seconds": list(range(len(array)))}, pieces)
            with FeatureStore(path) as store:
                found = store["a"]["x"][:]
        assert found.dtype == array.dtype
        assert found.shape == array.shape
        assert found.tobytes() == array.tobytes()


class TestWriter:
    def test_the_same_bytes_each_time(self, path: Path, tmp_path: Path) -> None:
        time.sleep(1.1)  # HDF5's clocks count seconds
        assert write(tmp_path / "again.h5").read_bytes() == path.read_bytes()

    def test_stores_put_together_are_one(self, path: Path, tmp_path: Path) -> None:
        """The bytes depend on what is written, not on the cut: see the pieces' sizes."""
        keys = list(KEYS.items())
        merged = []
        for cut in (1, 3):
            parts = [dict(keys[first : first + cut]) for first in range(0, len(keys), cut)]
            stores = [FeatureStore(write(tmp_path / f"{cut}-{i}.h5", part)) for i, part in enumerate(parts)]
            with FeatureWriter(tmp_path / f"{cut}.h5", DATASET, RECIPE, KINDS) as writer:
                for store in stores:
                    writer.copy(store)
            for store in stores:
                store.close()
            merged.append(tmp_path / f"{cut}.h5")
        assert merged[0].read_bytes() == merged[1].read_bytes()
        with FeatureStore(merged[0]) as store, FeatureStore(path) as whole:
            assert store.cells == whole.cells
            assert store.num_frames == whole.num_frames
            assert store.failed == {"bad": "it is broken"}
            for key in store:
                check(store, key)

    def test_compression_is_a_choice(self, tmp_path: Path) -> None:
        sizes = {}
        for compression in COMPRESSIONS:
            with FeatureWriter(tmp_path / "a.h5", DATASET, {}, KINDS, compression=compression) as writer:
                writer.add("a", "train", {"pts_seconds": [0, 1]}, [{"motion": np.zeros((2, 100, 100, 2), np.int16)}])
            sizes[compression] = (tmp_path / "a.h5").stat().st_size
        assert sizes["none"] > 2 * 100 * 100 * 2 * 2 > 10 * sizes["lzf"] > 10 * sizes["gzip"] > 0

    def test_what_was_not_finished_is_no_store(self, tmp_path: Path) -> None:
        with pytest.raises(ZeroDivisionError), FeatureWriter(tmp_path / "a.h5", DATASET, RECIPE, KINDS) as writer:
            writer.add("A/v1", "train", facts_of("A/v1"), pieces_of(arrays_of("A/v1")))
            1 / 0  # noqa: B018
        with pytest.raises(FeatureError, match="not a store of features of version 1"):
            FeatureStore(tmp_path / "a.h5")

    def test_a_video_that_fails_halfway_is_not_there(self, tmp_path: Path) -> None:
        def broken() -> Iterator[dict[str, NDArray[Any]]]:
            yield {"motion": arrays_of("A/v1")["motion"][:4]}
            raise ShardError("damaged")

        with FeatureWriter(tmp_path / "a.h5", DATASET, RECIPE, KINDS) as writer:
            with pytest.raises(ShardError, match="damaged"):
                writer.add("A/v1", "train", facts_of("A/v1"), broken())
            writer.add("A/v2", "test", facts_of("A/v2"), pieces_of(arrays_of("A/v2")))
        with FeatureStore(tmp_path / "a.h5") as store:
            assert list(store) == ["A/v2"]
            check(store, "A/v2")
        with h5py.File(tmp_path / "a.h5") as file:
            assert list(file["videos/A"]) == ["v2"]

    @pytest.mark.parametrize(
        ("piece", "said"),
        [
            ({"motion": np.zeros((11, 6, 8, 2), np.int16)}, "motion: 11 frames, the video has 12"),
            ({"motion": np.zeros((13, 6, 8, 2), np.int16)}, r"motion: \(13, 6, 8, 2\) at 0 doesn't fit into \(12,"),
            ({"motion": np.zeros((12, 6, 8, 2), np.int32)}, "motion: .* of int32: the store has ArrayKind"),
            ({"motion": np.zeros((12, 6, 8), np.int16)}, r"motion: \(12, 6, 8\) of int16"),
            ({"other": np.zeros(12, np.int16)}, "other: .* the store has none of this name"),
        ],
    )
    def test_refuses_what_does_not_fit(self, tmp_path: Path, piece: dict[str, NDArray[Any]], said: str) -> None:
        with (
            FeatureWriter(tmp_path / "a.h5", DATASET, RECIPE, KINDS) as writer,
            pytest.raises(FeatureError, match=said),
        ):
            writer.add("a", "train", facts_of("a"), [piece])

    def test_refuses_a_key_twice(self, tmp_path: Path) -> None:
        with FeatureWriter(tmp_path / "a.h5", DATASET, RECIPE, KINDS) as writer:
            writer.add("a", "train", facts_of("a"), pieces_of(arrays_of("a")))
            with pytest.raises(FeatureError, match="key=a: the store has it already"):
                writer.add("a", "train", facts_of("a"), pieces_of(arrays_of("b")))
        with FeatureStore(tmp_path / "a.h5") as store:
            check(store, "a")


class TestStale:
    def test_what_was_expected_passes(self, path: Path) -> None:
        for recipe in ({}, RECIPE, {"export": {"weights_sha256": "ab" * 32}}, {"shards": {"recipe": {"gop": 12}}}):
            FeatureStore(path, recipe).close()

    @pytest.mark.parametrize(
        ("recipe", "said"),
        [
            ({"export": {"weights_sha256": "cd"}}, "export.weights_sha256='cd': it has 'abab"),
            ({"shards": {"recipe": {"gop": 6}}}, "shards.recipe.gop=6: it has 12"),
            ({"shards": {"rows_sha256": "13", "recipe": {"size": "native"}}}, r"'12' \(and 1 more\)"),
            ({"export": {"dtype": "float16"}}, "export.dtype='float16': it has None"),
            ({"export": None}, "export=None: it has {'backbone'"),
        ],
    )
    def test_others_are_refused_with_what_differs(self, path: Path, recipe: dict[str, Any], said: str) -> None:
        with pytest.raises(FeatureError, match=f"features.h5: stale: wanted is .*{said}.*export anew with --overwrite"):
            FeatureStore(path, recipe)

    def test_tuples_are_lists(self) -> None:
        assert differences({"a": (1, 2), "b": {"c": None}}, {"a": [1, 2], "b": {"c": None, "d": 1}}) == []
        assert differences({"b": {"c": None, "d": 1}}, {"b": {"c": None}}) == ["b.d=1: it has None"]

    def test_a_file_that_took_its_place_is_refused(self, path: Path, tmp_path: Path) -> None:
        mine = Path(shutil.copy(path, tmp_path / "mine.h5"))
        store = FeatureStore(mine)
        store.close()
        check(store, "A/v1")  # opened again
        store.close()
        write(tmp_path / "other.h5", {"v4": "train"})
        (tmp_path / "other.h5").replace(mine)
        with pytest.raises(FeatureError, match="another file has taken its place"):
            store["A/v1"]["motion"][0]


class TestReaders:
    def test_four_forked_processes_at_once(self, path: Path) -> None:
        """Each inherits a handle that is open, and was used, and reads at random."""
        store = FeatureStore(path)
        check(store, "A/v1")
        inherited = store._file

        def read(seed: int) -> None:
            read_at_random(store, seed)
            assert store._file is not inherited
            assert not inherited  # closed here, so that HDF5 doesn't go on with what the parent's file knows

        run_children(read)
        assert inherited
        check(store, "A/v2")  # the parent's handle still works
        store.close()

    def test_forked_while_a_thread_reads(self, path: Path) -> None:
        store, ends = FeatureStore(path), threading.Event()
        read_at_random(store, 0)  # imports what NumPy imports late: Python's own locks are not what is tested

        def read() -> None:
            while not ends.is_set():
                check(store, "A/v1")

        thread = threading.Thread(target=read)
        thread.start()
        try:
            run_children(lambda seed: read_at_random(FeatureStore(path), seed))
        finally:
            ends.set()
            thread.join()
            store.close()

    def test_spawned_processes(self, path: Path) -> None:
        with FeatureStore(path) as store:
            check(store, "A/v1")
            with multiprocessing.get_context("spawn").Pool(2) as pool:
                assert pool.starmap(sum_of, [(store, key) for key in KEYS]) == [sum_of(store, key) for key in KEYS]

    def test_pickles_without_its_file(self, store: FeatureStore) -> None:
        check(store, "A/v1")
        again = pickle.loads(pickle.dumps(store))
        check(again, "A/v2")
        again.close()

    def test_while_another_locks_it(self, path: Path) -> None:
        """Some network file systems keep locks of processes that are gone, or have none at all."""
        code = "import fcntl, sys, time; file = open(sys.argv[1]); fcntl.flock(file, fcntl.LOCK_EX); print(flush=True)"
        code += "; time.sleep(60)"
        locker = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
        try:
            assert locker.stdout is not None
            locker.stdout.readline()
            with pytest.raises(BlockingIOError), h5py.File(path):  # what h5py does by itself
                pass
            with FeatureStore(path) as store:
                check(store, "A/v1")
        finally:
            locker.send_signal(signal.SIGKILL)
            locker.communicate()

    def test_a_read_only_file(self, path: Path, tmp_path: Path) -> None:
        mine = Path(shutil.copy(path, tmp_path / "mine.h5"))
        mine.chmod(0o400)
        with FeatureStore(mine) as store:
            check(store, "A/v1")


def read_at_random(store: FeatureStore, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(20):
        key = list(KEYS)[rng.integers(len(KEYS))]
        frames = np.sort(rng.integers(0, NUM_FRAMES, 5))
        np.testing.assert_array_equal(store[key]["motion"][frames], arrays_of(key)["motion"][frames])


def sum_of(store: FeatureStore, key: str) -> int:
    return int(store[key]["motion"][:].astype(np.int64).sum())


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def run_children(work: Callable[[int], None], num_children: int = 4) -> None:
    """Run in forked processes, all at once; a signal ends those that hang."""
    children = []
    for seed in range(num_children):
        child = os.fork()
        if not child:
            signal.alarm(30)
            status = 1
            with suppress(BaseException):
                work(seed)
                status = 0
            os._exit(status)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * num_children


class TestDamage:
    @pytest.mark.parametrize("name", sorted(BYTE_MUTATORS))
    def test_shows_or_does_no_harm(self, path: Path, tmp_path: Path, name: str) -> None:
        """All that can be read of a damaged store is right; else a FeatureError names the file."""
        data = path.read_bytes()
        num_errors = 0
        for seed in range(8):
            mutant = tmp_path / f"{name}{seed}.h5"
            mutant.write_bytes(BYTE_MUTATORS[name](data, np.random.default_rng(seed)))
            try:
                with FeatureStore(mutant) as store:
                    assert list(store) == list(KEYS)
                    assert (store.dataset, store.recipe, store.kinds) == (DATASET, RECIPE, KINDS)
                    for key in store:
                        check(store, key)
                        assert store[key].facts == facts_of(key)
            except FeatureError as error:
                num_errors += 1
                assert str(mutant) in str(error)
                assert "export" in str(error)
        assert num_errors > 0

    @pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.9, 0.999])
    def test_a_truncated_file(self, path: Path, tmp_path: Path, share: float) -> None:
        data = path.read_bytes()
        (tmp_path / "cut.h5").write_bytes(data[: int(share * len(data))])
        with pytest.raises(FeatureError, match=r"cut\.h5: .*export anew with --overwrite"):
            FeatureStore(tmp_path / "cut.h5")

    @pytest.mark.parametrize(
        "attributes", [{}, {"format": "vidprep-features"}, {"format": "vidprep-features", "version": 2}]
    )
    def test_a_foreign_file(self, tmp_path: Path, attributes: dict[str, Any]) -> None:
        with h5py.File(tmp_path / "mine.h5", "w") as file:
            file["data"] = [1, 2, 3]
            file.attrs.update(attributes)
        with pytest.raises(
            FeatureError, match="not a store of features of version 1; give a file that vidprep export wrote"
        ):
            FeatureStore(tmp_path / "mine.h5")

    @pytest.mark.parametrize("missing", ["keys", "cells", "json", "videos"])
    def test_a_store_that_lacks_a_part(self, path: Path, tmp_path: Path, missing: str) -> None:
        mine = Path(shutil.copy(path, tmp_path / "mine.h5"))
        with h5py.File(mine, "r+") as file:
            del file[missing]
        with pytest.raises(FeatureError, match=re.escape(str(mine))), FeatureStore(mine) as store:
            check(store, "A/v1")

    def test_no_file_and_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(FeatureError, match=r"none\.h5: No such file or directory; make it with vidprep export"):
            FeatureStore(tmp_path / "none.h5")
        with pytest.raises(FeatureError, match=re.escape(str(tmp_path))):
            FeatureStore(tmp_path)
