"""Shards without vidprep: plain webdataset and Hugging Face datasets read both layouts, as far as each of them can."""

import gc
import io
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import numpy as np
import pytest
import torch
import webdataset
from small_shards import CLASSES, LEVEL, NUM_FRAMES, OPTIONS, SIZE, extract_rows, sample_of, write_view

from vidprep.manifest import Row
from vidprep.modalities.clip import read_clip

HEIGHT, WIDTH = SIZE[1], SIZE[0]
EVEN = [f"even{i}" for i in range(4)]  # clips of equal length, with a label: their samples have the same entries
MIXED = ["longer", "unlabelled", "usual"]  # in another cell of the splits, so in another shard


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same seven clips in both layouts, in two shards."""
    root = tmp_path_factory.mktemp("readers")
    rows = []
    for i, name in enumerate([*EVEN, *MIXED]):
        write_view(root / f"in/{name}.avi", seed=i, num_frames=NUM_FRAMES + 3 * (name == "longer"))
        labels = () if name == "unlabelled" else (i % 2,)
        rows.append(Row(f"{name}.avi", labels, splits=("train",) if name in EVEN else ("test",)))
    layouts = {name: replace(OPTIONS, layout=name) for name in ("decoded", "bitstream")}
    return {name: extract_rows(root / "in", rows, root / name, options) for name, options in layouts.items()}


def shard(folder: Path, split: str) -> str:
    """The one shard of a split, by the index."""
    (name,) = json.loads((folder / "index.json").read_bytes())["splits"][split]
    return str(folder / name)


def key(name: str) -> str:
    return f"{name}%2Eavi"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings(
    "ignore:This DataLoader will create:UserWarning"
)  # more workers than this machine has cores
class TestWebdataset:
    """It leaves the last shard to the garbage collector."""

    @pytest.fixture(autouse=True)
    def collected(self) -> Iterator[None]:
        yield
        gc.collect()

    def test_decoded_layout(self, folders: dict[str, Path]) -> None:
        samples = list(webdataset.WebDataset(shard(folders["decoded"], "train"), shardshuffle=False).decode("rgb8"))
        assert sorted(sample["__key__"] for sample in samples) == [key(name) for name in EVEN]
        for sample in samples:
            facts = sample["json"]
            assert sample["cls"] == CLASSES.index(facts["label_names"][0])
            assert sample["rgb.000019.jpg"].shape == (HEIGHT, WIDTH, 3)
            assert sample[f"rgb{LEVEL}.000000.jpg"].shape == (LEVEL, 38, 3)
            ours = read_clip(sample_of(folders["decoded"], sample["__key__"]), facts, [7], ("rgb", "residual"))
            np.testing.assert_array_equal(sample["residual.000007.png"] - np.int16(128), ours["residual"][0])
            assert np.abs(sample["rgb.000007.jpg"] - ours["rgb"][0].astype(int)).mean() < 1  # another JPEG decoder
            assert {"dst_x", "motion_x", "motion_scale"} <= set(sample["motion.npz"])

    def test_bitstream_layout(self, folders: dict[str, Path]) -> None:
        urls = [shard(folders["bitstream"], split) for split in ("train", "test")]
        samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8"))
        assert len(samples) == 7
        for sample in samples:
            assert ("cls" in sample) == ("unlabelled" not in sample["__key__"])
            with av.open(io.BytesIO(sample["video.m4v"]), format="m4v") as container:
                pictures = np.stack([picture.to_ndarray(format="rgb24") for picture in container.decode(video=0)])
            assert len(pictures) == sample["json"]["num_frames"]
            clip = read_clip({"video.m4v": sample["video.m4v"]}, sample["json"], range(len(pictures)))
            np.testing.assert_array_equal(pictures, clip["rgb"])

    @pytest.mark.parametrize("layout", ["decoded", "bitstream"])
    @pytest.mark.parametrize("num_workers", [2, 3])
    def test_workers_share_the_shards(self, folders: dict[str, Path], layout: str, num_workers: int) -> None:
        """Each sample comes once, from more workers than there are shards too."""
        urls = [shard(folders[layout], split) for split in ("train", "test")]
        dataset = webdataset.WebDataset(
            urls, shardshuffle=False, workersplitter=webdataset.split_by_worker, empty_check=False
        )
        loader = torch.utils.data.DataLoader(
            dataset.decode().to_tuple("__key__", "json"), None, num_workers=num_workers
        )
        found = Counter(name for name, facts in loader if facts["key"] == name)
        assert found == Counter([key(name) for name in EVEN + MIXED])


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """Hugging Face's library, kept from the network and from the home folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("home")))
        for name in ("HF_HUB_OFFLINE", "HF_DATASETS_DISABLE_PROGRESS_BARS", "HF_HUB_DISABLE_TELEMETRY"):
            patch.setenv(name, "1")
        reason = "no Hugging Face datasets here: pip install -c constraints.txt '.[hf]'"
        yield pytest.importorskip("datasets", reason=reason)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
class TestHuggingFace:
    @staticmethod
    def load(datasets: ModuleType, folder: Path, split: str, tmp_path: Path, **more: Any) -> list[dict[str, Any]]:
        chosen = {"streaming": True, "split": "train", "cache_dir": str(tmp_path)} | more
        return list(datasets.load_dataset("webdataset", data_files={"train": [shard(folder, split)]}, **chosen))

    @pytest.mark.parametrize("streaming", [True, False])
    def test_bitstream_layout(
        self, datasets: ModuleType, folders: dict[str, Path], tmp_path: Path, streaming: bool
    ) -> None:
        samples = self.load(datasets, folders["bitstream"], "train", tmp_path, streaming=streaming)
        assert sorted(sample["__key__"] for sample in samples) == [key(name) for name in EVEN]
        for sample in samples:
            assert sample["cls"] == sample["json"]["labels"][0]
            entries = sample_of(folders["bitstream"], sample["__key__"])
            assert sample["video.m4v"] == entries["video.m4v"]
            kinds = ("rgb", "motion", "residual")
            ours = read_clip(entries, json.loads(entries["json"]), range(3, 9), kinds)
            theirs = read_clip({"video.m4v": sample["video.m4v"]}, sample["json"], range(3, 9), kinds)
            for kind in kinds:
                np.testing.assert_array_equal(theirs[kind], ours[kind])

    @pytest.mark.parametrize("streaming", [True, False])
    def test_decoded_layout_of_a_fixed_frame_count(
        self, datasets: ModuleType, folders: dict[str, Path], tmp_path: Path, streaming: bool
    ) -> None:
        samples = self.load(datasets, folders["decoded"], "train", tmp_path, streaming=streaming)
        assert sorted(sample["__key__"] for sample in samples) == [key(name) for name in EVEN]
        for sample in samples:
            assert sample["cls"] == sample["json"]["labels"][0]
            assert sample["rgb.000019.jpg"].size == (WIDTH, HEIGHT)
            ours = read_clip(sample_of(folders["decoded"], sample["__key__"]), sample["json"], [7], ("residual",))
            np.testing.assert_array_equal(
                np.asarray(sample["residual.000007.png"]) - np.int16(128), ours["residual"][0]
            )
            assert len(sample["motion.npz"]["dst_x"])

    @pytest.mark.parametrize("layout", ["decoded", "bitstream"])
    def test_other_entries_in_other_samples_are_refused(
        self, datasets: ModuleType, folders: dict[str, Path], tmp_path: Path, layout: str
    ) -> None:
        """Another number of frames, a video without a label (or without sound): the library's own rule."""
        with pytest.raises(ValueError, match="don't share the same prefix or the same types"):
            self.load(datasets, folders[layout], "test", tmp_path)

    @pytest.mark.parametrize("layout", ["decoded", "bitstream"])
    def test_unless_it_is_told_which_entries_there_are(
        self, datasets: ModuleType, folders: dict[str, Path], tmp_path: Path, layout: str
    ) -> None:
        wanted = {
            "__key__": datasets.Value("string"),
            "__url__": datasets.Value("string"),
            "json": datasets.Json(),
            "cls": datasets.Value("int64"),
            **(
                {"rgb.000022.jpg": datasets.Image()} if layout == "decoded" else {"video.m4v": datasets.Value("binary")}
            ),
        }
        features = datasets.Features(wanted)
        found = {
            sample["json"]["key"]: sample
            for sample in self.load(datasets, folders[layout], "test", tmp_path, features=features)
        }
        assert found.keys() == {key(name) for name in MIXED}
        assert all(sample.keys() == wanted.keys() for sample in found.values())
        assert (found[key("unlabelled")]["cls"], found[key("usual")]["cls"]) == (None, 0)
        if layout == "decoded":
            assert [name for name in MIXED if found[key(name)]["rgb.000022.jpg"]] == ["longer"]
        else:
            entries = sample_of(folders["bitstream"], key("longer"))
            assert found[key("longer")]["video.m4v"] == entries["video.m4v"]
