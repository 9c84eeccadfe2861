"""FeatureDataset: what a model is fed from a store is what it would be fed from the shards."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_exports import LAYOUTS, export, extracted, map_here
from small_shards import extract_rows, write_view

from vidprep.dataset import FeatureDataset, RandomClip, ShardDataset, WholeVideo
from vidprep.engines import ENGINES
from vidprep.errors import FeatureError, UsageError
from vidprep.features import ArrayKind, FeatureStore, FeatureWriter
from vidprep.manifest import Row
from vidprep.shards.index import load_index

NAMES = ("rgb", "motion", "residual")
CLIP = RandomClip(6, 2)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Path, Path]]]:
    """Shards of both layouts, and stores of them."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENGINES, "local", map_here)
        for layout in LAYOUTS:
            shards = extracted(tmp_path_factory.mktemp(layout), layout, NAMES)
            export(shards, shards.parent / "features.h5", "--modalities", ",".join(NAMES))
            found[layout] = shards, shards.parent / "features.h5"
        yield found


@pytest.fixture(params=LAYOUTS)
def both(request: pytest.FixtureRequest, made: dict[str, tuple[Path, Path]]) -> tuple[Path, Path]:
    return made[request.param]


@pytest.fixture
def store(made: dict[str, tuple[Path, Path]]) -> Path:
    return made["bitstream"][1]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store as a backbone fills it: maps and pooled numbers that say their video and frame."""
    path = tmp_path_factory.mktemp("outputs") / "features.h5"
    kinds = {
        "maps": ArrayKind("float16", ("frames", "channels", "height", "width")),
        "pooled": ArrayKind("float32", ("frames", "channels")),
        "spectrogram": ArrayKind("float32", ("bins", "columns")),
    }
    dataset = {"name": "made", "classes": ["a", "b"], "splits": {"one/train": ["x"], "one/test": ["y"]}}
    with FeatureWriter(path, dataset, {}, kinds) as writer:
        for i in range(7):
            frames = 100 * i + np.arange(16.0)
            arrays = {
                "maps": np.broadcast_to(frames[:, None, None, None], (16, 3, 2, 2)).astype(np.float16),
                "pooled": np.stack([frames, -frames], 1).astype(np.float32),
                "spectrogram": np.zeros((4, 9), np.float32),
            }
            facts = {"pts_seconds": (np.arange(16) / 8).tolist(), "labels": [] if i == 6 else [i % 2]}
            writer.add(f"v{i}", "y" if i % 3 == 0 else "x", facts, [arrays])
    return path


def same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, torch.Tensor):
            assert value.dtype == other[name].dtype
            assert value.stride() == other[name].stride()
            assert torch.equal(value, other[name]), name
        else:
            assert value == other[name], name


class TestLikeShards:
    def test_items_are_equal(self, both: tuple[Path, Path]) -> None:
        shards, store = both
        options: dict[str, Any] = {"clips": CLIP, "shuffle": True, "seed": 3, "ranks": (0, 1)}
        for split in (None, "split1/train", "split1/test"):
            names = (*NAMES, "times", "frames")
            one = FeatureDataset(store, split, names, **options)
            other = ShardDataset(shards, split, names, **options)
            assert one.num_samples == other.num_samples > 0
            for epoch in (0, 1):
                one.set_epoch(epoch)
                other.set_epoch(epoch)
                for mine, theirs in zip(one, other, strict=True):
                    same(mine, theirs)

    def test_labels_of_frames_are_equal(self, tmp_path: Path) -> None:
        """Also of frames that were chosen among those of the shards."""
        write_view(tmp_path / "in/a.avi")
        rows = [Row("a.avi", (0, 1), actions=((0, 0.1, 0.5), (1, 0.3, 0.9)))]
        shards = extract_rows(tmp_path / "in", rows, tmp_path / "out", multi_label=True)
        for frames in ("all", "stride:2"):
            store = tmp_path / f"{frames[:3]}.h5"
            export(shards, store, "--modalities", "motion", "--frames", frames)
            names = ("motion", "times", "frame_labels", "clip_label")
            step = 1 if frames == "all" else 2
            (one,) = FeatureDataset(store, None, names, clips=WholeVideo())
            (other,) = ShardDataset(shards, None, names, clips=WholeVideo(stride=step))
            same(one, other)
            assert one["frame_labels"].sum(dim=0).min() > 0
            assert one["label"].tolist() == [1, 1]

    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_batches_are_equal(self, both: tuple[Path, Path], num_workers: int) -> None:
        shards, store = both
        options: dict[str, Any] = {"clips": CLIP, "shuffle": True, "ranks": (0, 1)}
        mine = FeatureDataset(store, "split1/train", NAMES, **options).loader(4, num_workers)
        theirs = ShardDataset(shards, "split1/train", NAMES, **options).loader(4)
        num_batches = 0
        for batch, expected in zip(mine, theirs, strict=True):
            assert batch["motion"].shape[1:] == (2, 6, 48, 64)
            same(batch, expected)
            num_batches += 1
        assert num_batches == len(mine) > 1

    def test_each_sample_comes_once_over_all_ranks(self, store: Path) -> None:
        with FeatureStore(store) as known:
            seen: list[str] = []
            for rank in range(2):
                dataset = FeatureDataset(store, names=["motion"], clips=CLIP, ranks=(rank, 2))
                seen += [key for batch in dataset.loader(2) for key in batch["key"]]
            assert sorted(seen) == sorted(known)

    def test_goes_on_in_mid_epoch(self, store: Path) -> None:
        def loader() -> Any:
            return FeatureDataset(store, names=["motion"], clips=CLIP, shuffle=True, ranks=(0, 1)).loader(2)

        expected = list(loader())
        broken_off = loader()
        iterator = iter(broken_off)
        next(iterator), next(iterator)
        resumed = loader()
        resumed.load_state_dict(broken_off.state_dict())
        for batch, other in zip(resumed, expected[2:], strict=True):
            same(batch, other)


class TestOutputs:
    def test_frames_come_first_as_they_are_stored(self, outputs: Path) -> None:
        dataset = FeatureDataset(outputs, clips=RandomClip(4, 2), ranks=(0, 1))
        starts = set()
        for i, item in enumerate(dataset):
            assert item.keys() == {"__key__", "key", "sample", "label", "maps", "pooled"}
            assert (item["key"], item["label"]) == (f"v{i}", -1 if i == 6 else i % 2)
            assert (item["maps"].shape, item["maps"].dtype) == ((4, 3, 2, 2), torch.float16)
            start = int(item["pooled"][0, 0]) - 100 * i
            expected = torch.tensor([100 * i + start + frame for frame in (0, 2, 4, 6)], dtype=torch.float32)
            assert torch.equal(item["pooled"], torch.stack([expected, -expected], 1))
            assert torch.equal(item["maps"], expected.half()[:, None, None, None].expand(4, 3, 2, 2))
            starts.add(start)
        assert len(starts) > 1

    def test_batches_are_contiguous(self, outputs: Path) -> None:
        (batch,) = FeatureDataset(outputs, "one/train", ranks=(0, 1)).loader(4)
        assert (batch["maps"].shape, batch["pooled"].shape) == ((4, 16, 3, 2, 2), (4, 16, 2))
        assert batch["maps"].is_contiguous()
        assert batch["key"] == ["v1", "v2", "v4", "v5"]
        assert batch["label"].tolist() == [1, 0, 0, 1]

    def test_a_video_that_is_shorter_than_the_clip_is_read_again(self, outputs: Path) -> None:
        item = next(iter(FeatureDataset(outputs, names=["pooled"], clips=RandomClip(20), ranks=(0, 1))))
        assert item["pooled"][:, 0].tolist() == [*range(16), *range(4)]

    def test_in_forked_workers_whose_parent_reads_too(self, outputs: Path) -> None:
        store = FeatureStore(outputs)
        dataset = FeatureDataset(store, clips=RandomClip(4), shuffle=True, ranks=(0, 1))
        assert store["v0"]["pooled"][0, 0] == 0
        expected = list(dataset.loader(2))
        dataset.set_epoch(0)
        for batch, other in zip(dataset.loader(2, num_workers=2), expected, strict=True):
            assert store["v1"]["pooled"][3, 0] == 103
            same(batch, other)


class TestBadInput:
    def test_splits_that_are_not_there(self, store: Path) -> None:
        with pytest.raises(
            FeatureError, match=r"split=split9/train: not in .*; it has: split1/test, split1/train, split2"
        ):
            FeatureDataset(store, "split9/train")

    @pytest.mark.parametrize("names", [(), "motion", ["spectrogram"], ["motion", "depth"]])
    def test_names_that_are_not_there(self, outputs: Path, names: Any) -> None:
        with pytest.raises(UsageError, match=r"names=.*: must be a sequence of maps, pooled, which have frames"):
            FeatureDataset(outputs, names=names)

    def test_shards_that_it_was_not_made_of(self, made: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
        shards, store = made["bitstream"]
        FeatureDataset(store, shards=shards)
        with pytest.raises(
            FeatureError, match=r"stale: wanted is .*layout='decoded': it has 'bitstream'|shards_sha256"
        ):
            FeatureDataset(store, shards=made["decoded"][0])
        mended = Path(shutil.copytree(shards, tmp_path / "mended"))
        index = json.loads((mended / "index.json").read_text())
        index["shards"][-1]["sha256"] = "1" * 64
        (mended / "index.json").write_text(json.dumps(index))
        with pytest.raises(FeatureError, match=r"stale: wanted is shards\.shards_sha256='"):
            FeatureDataset(store, shards=mended)

    def test_the_identity_of_shards(self, made: dict[str, tuple[Path, Path]]) -> None:
        one, other = (load_index(made[layout][0]) for layout in LAYOUTS)
        assert one.identity["rows_sha256"] == other.identity["rows_sha256"]
        assert one.identity["shards_sha256"] != other.identity["shards_sha256"]
        one.shards.pop(next(iter(one.shards)))
        assert one.identity["shards_sha256"] != load_index(made["decoded"][0]).identity["shards_sha256"]

    def test_no_store(self, tmp_path: Path) -> None:
        with pytest.raises(FeatureError, match="make it with vidprep export"):
            FeatureDataset(tmp_path / "none.h5")

    def test_a_store_that_is_exchanged_under_a_running_loader(self, outputs: Path, tmp_path: Path) -> None:
        mine = Path(shutil.copy(outputs, tmp_path / "mine.h5"))
        dataset = FeatureDataset(mine, ranks=(0, 1))
        (tmp_path / "other.h5").write_bytes(outputs.read_bytes())
        (tmp_path / "other.h5").replace(mine)
        with pytest.raises(FeatureError, match="another file has taken its place; open the store anew"):
            list(dataset.loader(2, num_workers=1))
