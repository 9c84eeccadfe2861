"""Real shards into batches: what is read, resumed after a kill, skipped, refused."""

import gc
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from dataset import resumed
from dataset.tiny import flat, same
from vidprep.dataset import Flip, RandomClip, RandomCrop, Segments, ShardDataset, ShortSide, ThreeCrops, View
from vidprep.errors import ShardError, UsageError
from vidprep.modalities.clip import read_clip
from vidprep.shards.index import load_index, load_statuses
from vidprep.shards.reader import read_samples

CLIPS = RandomClip(4)


def keys_of(root: Path, split: str | None = None) -> list[str]:
    shards = [root / shard.name for shard in load_index(root).shards_of(split)]
    return [sample.key for shard in shards for sample in read_samples(shard)]


class TestReadView:
    """A box that was found in an item, in the stored pictures of the same frames."""

    STEPS = (ShortSide(32), RandomCrop(24), Flip(0.5))
    BOX = (4, 8, 12, 10)

    def test_a_box_of_an_item_with_all_its_detail(self, made: Path) -> None:
        names = ("rgb", "motion", "frames", "seen")
        dataset = ShardDataset(made, None, names, clips=RandomClip(4, 2), transform=self.STEPS, shuffle=True)
        flips = set()
        for batch in dataset.loader(3):
            for sample, frames, seen, key in zip(*(batch[n] for n in ("sample", "frames", "seen", "key")), strict=True):
                crop = seen.focused(self.BOX, 1, 1).crop
                assert all(abs(a - b) <= 1 for a, b in zip(crop, seen.to_source(self.BOX), strict=True))
                view = seen.focused(self.BOX, *crop[2:])
                found = dataset.read_view(int(sample), frames.tolist(), view, ("rgb", "motion"))
                found_key, entries = dataset.folder.read(*dataset.place_of(int(sample)))
                assert found_key == key
                facts = json.loads(entries["json"])
                expected = read_clip(entries, facts, frames.tolist(), ("rgb",), crop=crop)["rgb"]
                if seen.is_flipped:
                    expected = expected[:, :, ::-1]
                assert torch.equal(found["rgb"].permute(1, 2, 3, 0), torch.from_numpy(expected.copy()))
                flips.add(seen.is_flipped)
        assert flips == {True, False}

    def test_the_item_s_own_view_gives_the_item(self, made: Path) -> None:
        names = ("rgb", "motion", "frames", "seen")
        dataset = ShardDataset(made, None, names, clips=Segments(6, random=True), transform=self.STEPS, shuffle=True)
        for item in dataset:
            again = dataset.read_view(item["sample"], item["frames"], item["seen"], ("rgb", "motion"))
            assert all(torch.equal(again[name], item[name]) for name in ("rgb", "motion"))

    def test_usage(self, made: Path) -> None:
        dataset = ShardDataset(made, clips=CLIPS)
        for sample in (-1, 17):
            with pytest.raises(UsageError, match=f"sample={sample}: must be one of num_samples=17"):
                dataset.read_view(sample, [0], View.whole(64, 48))
        with pytest.raises(UsageError, match=r"positions=.*must increase from 0"):
            dataset.read_view(0, [9999], View.whole(64, 48))
        with pytest.raises(UsageError, match="must lie within the picture"):
            dataset.read_view(0, [0], View.whole(65, 48))
        with pytest.raises(ShardError, match="modality=residual: the shards hold none"):
            dataset.read_view(0, [0], View.whole(64, 48), ("residual",))


class TestReading:
    def test_a_split_is_read_in_its_order(self, made: Path) -> None:
        for split, count in ((None, 17), ("split1/train", 12), ("split1/test", 5)):
            dataset = ShardDataset(made, split, clips=CLIPS)
            assert [item["key"] for item in dataset] == keys_of(made, split)
            assert dataset.num_samples == count

    def test_views_of_a_clip_are_of_one_clip(self, made: Path) -> None:
        steps = (ShortSide((48, 64)), ThreeCrops(40))
        dataset = ShardDataset(made, None, ("frames", "seen"), clips=RandomClip(4), transform=steps, shuffle=True)
        items = list(dataset)
        starts = set()
        for views in (items[i : i + 3] for i in range(0, len(items), 3)):
            assert [item["view"] for item in views] == [0, 1, 2]
            assert len({(item["sample"], tuple(item["frames"].tolist())) for item in views}) == 1
            assert len({(item["seen"].box_width, item["seen"].box_height) for item in views}) == 1
            assert len({(item["seen"].x, item["seen"].y) for item in views}) == 3
            starts.add(int(views[0]["frames"][0]))
        assert len(starts) > 3

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"modalities": "rgb"}, r"modalities='rgb': must be a sequence of names"),
            ({"modalities": ()}, r"modalities=\(\): must be a sequence of names"),
            ({"clips": 16}, r"clips=16: must be a rule that chooses frames"),
            ({"clips": RandomClip}, r"clips=<class .*RandomClip'>: must be a rule"),
            ({"transform": Flip()}, r"transform=Flip.*: must be a sequence of steps"),
            ({"transform": (Flip,)}, r"transform=.*: must be a sequence of steps"),
            ({"transform": (abs,)}, r"must be a sequence of steps.* other functions go into dataset.map"),
            ({"windows": 2}, r"windows=2: must be Windows"),
            ({"timeout_seconds": -1}, r"timeout_seconds=-1: must be positive"),
            ({"seed": 1 << 32}, r"seed=4294967296: must be an integer from 0 on, below"),
        ],
    )
    def test_arguments_that_cannot_be_meant(self, made: Path, options: dict[str, Any], message: str) -> None:
        with pytest.raises(UsageError, match=message):
            ShardDataset(made, **options)

    def test_train_and_test_share_nothing(self, made: Path) -> None:
        train, test = (flat(ShardDataset(made, f"split1/{part}", clips=CLIPS).loader(4)) for part in ("train", "test"))
        assert not set(train) & set(test)
        assert sorted(train + test) == sorted(keys_of(made))

    def test_batches(self, made: Path) -> None:
        dataset = ShardDataset(str(made), "split1/train", ("rgb", "motion"), clips=CLIPS)
        batch = next(iter(dataset.loader(5)))
        assert (batch["rgb"].shape, batch["rgb"].dtype) == ((5, 3, 4, 48, 64), torch.uint8)
        assert (batch["motion"].shape, batch["motion"].dtype) == ((5, 2, 4, 48, 64), torch.int16)
        classes = load_index(made).dataset["classes"]
        assert [classes[label] for label in batch["label"]] == [key.partition("/")[0] for key in batch["key"]]

    def test_training_shuffles_and_pads_and_testing_keeps(self, made: Path) -> None:
        train = ShardDataset(made, clips=CLIPS, shuffle=True, ranks=(1, 2))
        assert (train.uneven, train.num_items) == ("pad", 9)
        test = ShardDataset(made, clips=CLIPS, ranks=(1, 2))
        assert (test.uneven, test.num_items) == ("keep", 8)

    def test_torch_s_default_collation_takes_the_items(self, made: Path) -> None:
        dataset = ShardDataset(made, "split1/test", ("rgb", "motion"), clips=CLIPS)
        wanted = {item["key"]: item for item in dataset}
        found = list(DataLoader(dataset, batch_size=2, num_workers=2))
        assert sorted(flat(found)) == sorted(wanted)
        for batch in found:
            for i, key in enumerate(batch["key"]):
                assert all(torch.equal(batch[name][i], wanted[key][name]) for name in ("rgb", "motion"))
                assert batch["label"][i] == wanted[key]["label"]

    def test_it_is_pickled_whole_with_files_open(self, made: Path) -> None:
        dataset = ShardDataset(made, clips=CLIPS)
        wanted = list(dataset)
        again = list(pickle.loads(pickle.dumps(dataset)))
        assert len(again) == 17
        assert all(map(same, again, wanted))


class TestResuming:
    def test_a_run_that_is_killed_goes_on_bit_for_bit(self, made: Path, tmp_path: Path) -> None:
        """Killed in mid-epoch with workers that read ahead, it goes on in another process without any."""
        killed, whole = tmp_path / "killed", tmp_path / "whole"
        for folder in (killed, whole):
            folder.mkdir()
        command = [sys.executable, resumed.__file__, made, killed, 2, 2]
        assert subprocess.run([*map(str, command)], check=False, timeout=120).returncode == -signal.SIGKILL
        assert len((killed / "log.jsonl").read_text().splitlines()) == 2
        for folder in (killed, whole):
            resumed.main(str(made), folder, 0, 99)
        log = (whole / "log.jsonl").read_text()
        assert (killed / "log.jsonl").read_text() == log
        assert len(set(log.splitlines())) == 6
        first_epoch = [json.loads(line)[0] for line in log.splitlines()[:3]]
        assert sorted(chain(*first_epoch)) == sorted(keys_of(made, "split1/train"))

    def test_the_state_of_other_shards_is_refused(self, made: Path, own: Path) -> None:
        state = ShardDataset(made, "split1/train", clips=CLIPS).loader(4).state_dict()
        ShardDataset(own, "split1/train", clips=CLIPS).loader(4).load_state_dict(state)  # the same, elsewhere
        with pytest.raises(UsageError, match=r"shards_sha256=.*: the state was taken with"):
            ShardDataset(made, "split2/train", clips=CLIPS).loader(4).load_state_dict(state)
        change_index(own, lambda index: index["shards"][-1].update(sha256="0" * 64))
        with pytest.raises(UsageError, match="shards_sha256="):
            ShardDataset(own, "split1/train", clips=CLIPS).loader(4).load_state_dict(state)


def change_index(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    index = json.loads((root / "index.json").read_text())
    change(index)
    (root / "index.json").write_text(json.dumps(index))


def damage(root: Path, number: int) -> str:
    """Overwrite the pictures of the second shard's sample ``number``, the json excepted; return its key."""
    shard = list(load_index(root).shards.values())[1]
    status = load_statuses(root, shard.name)[number]
    with (root / shard.name).open("r+b") as tar:
        tar.seek(status.offset_bytes)
        data = bytearray(tar.read(status.num_bytes))
        while (start := data.find(b"\xff\xd8\xff")) >= 0:
            data[start : start + 3] = bytes(3)
        tar.seek(status.offset_bytes)
        tar.write(data)
    return status.key


class TestBroken:
    def test_a_sample_raises_or_is_skipped_by_name(self, own: Path) -> None:
        key = damage(own, 1)
        with pytest.raises(ShardError, match=f"tar: key={key}: picture: UnidentifiedImageError"):
            list(ShardDataset(own, clips=CLIPS))
        dataset = ShardDataset(own, clips=CLIPS, on_error="skip")
        with pytest.warns(UserWarning, match=f"skipped: .*tar: key={key}: picture"):
            found = flat(dataset.loader(4))
        assert found == [each for each in keys_of(own) if each != key]
        assert dataset.num_skipped == 1

    def test_a_tar_that_is_gone_is_named_once_and_replaced_in_training(self, own: Path) -> None:
        wanted = flat(ShardDataset(own, clips=CLIPS, shuffle=True).loader(4))
        gone = list(load_index(own).shards.values())[1]
        lost = [sample.key for sample in read_samples(own / gone.name)]
        (own / gone.name).unlink()
        dataset = ShardDataset(own, clips=CLIPS, shuffle=True, on_error="skip")
        with pytest.warns(UserWarning, match=f"skipped: .*{gone.name}: can't be read".replace("+", r"\+")) as caught:
            found = flat(dataset.loader(4))
        assert len(caught) == 1
        assert dataset.num_skipped == len(lost) == 2
        assert len(found) == 17
        for was, now in zip(wanted, found, strict=True):
            assert now == was if was not in lost else now not in lost

    def test_workers_count_and_say_it_on_stderr(self, own: Path) -> None:
        key = damage(own, 0)
        code = (
            "from vidprep.dataset import RandomClip, ShardDataset\n"
            f"dataset = ShardDataset({str(own)!r}, clips=RandomClip(4), on_error='skip')\n"
            "print(sum(len(batch['key']) for batch in dataset.loader(4, 2)), dataset.num_skipped)"
        )
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
        assert result.stdout.split() == ["16", "1"]
        assert "UserWarning: skipped: " in result.stderr
        assert f"key={key}: picture" in result.stderr

    def test_all_tars_gone_is_an_error(self, own: Path) -> None:
        for tar in own.glob("*.tar"):
            tar.unlink()
        with pytest.warns(UserWarning, match="skipped"), pytest.raises(ShardError, match="none of 16 other samples"):
            list(ShardDataset(own, clips=CLIPS, on_error="skip").loader(4))

    @pytest.mark.parametrize("num_workers", [0, 1])
    def test_a_shard_cut_while_it_is_read_is_an_error_and_no_signal(self, own: Path, num_workers: int) -> None:
        dataset = ShardDataset(own, clips=CLIPS)
        batches = iter(dataset.loader(1, num_workers, **({"prefetch_factor": 1} if num_workers else {})))
        next(batches)
        for shard in dataset.shards:  # a worker is ahead, and may have read more than one sample
            os.truncate(own / shard.name, 1024)
        with pytest.raises(ShardError, match=r"cut to 1024 bytes while it was read|num_bytes=1024 is not the"):
            list(batches)

    def test_a_shard_deleted_while_others_are_read_is_one(self, own: Path) -> None:
        dataset = ShardDataset(own, clips=CLIPS)
        batches = iter(dataset.loader(1))
        next(batches)
        for shard in dataset.shards[1:]:
            (own / shard.name).unlink()
        next(batches)  # the first is open
        with pytest.raises(ShardError, match=r"can't be read \(No such file or directory\); copy it anew"):
            next(batches)


class TestRefused:
    def test_a_split_that_is_not_there(self, made: Path) -> None:
        with pytest.raises(
            ShardError, match="split=split4/train: not in these shards; they have: split1/test, split1/"
        ):
            ShardDataset(made, "split4/train")

    def test_a_split_that_holds_nothing(self, own: Path) -> None:
        change_index(own, lambda index: index["dataset"]["splits"].update({"split9/val": ["nowhere"]}))
        with pytest.raises(ShardError, match="split=split9/val: holds no sample; splits that do: split1/test, "):
            ShardDataset(own, "split9/val")

    def test_a_modality_that_was_not_extracted(self, made: Path) -> None:
        with pytest.raises(ShardError, match=r"modality=residual: .*extract again with --modalities residual"):
            ShardDataset(made, modalities=("rgb", "residual"))

    def test_a_folder_of_something_else(self, tmp_path: Path) -> None:
        for root in (tmp_path, tmp_path / "nowhere"):
            with pytest.raises(
                ShardError, match=r"index.json: no such file; is .* a folder that vidprep extract wrote"
            ):
                ShardDataset(root)
        (tmp_path / "index.json").write_text("{}")
        with pytest.raises(ShardError, match="not an index of version"):
            ShardDataset(tmp_path)

    def test_an_extraction_that_is_not_at_its_end(self, own: Path) -> None:
        change_index(own, lambda index: index.update(complete=False))
        with pytest.raises(ShardError, match=r"not at its end.*run the same vidprep extract command again"):
            ShardDataset(own)
        assert ShardDataset(own, allow_incomplete=True).num_samples == 17

    def test_an_index_that_disagrees_with_a_tar_s_size(self, own: Path) -> None:
        change_index(own, lambda index: index["shards"][0].update(num_bytes=4096))
        with pytest.raises(ShardError, match="samples stand outside of"):
            list(ShardDataset(own, clips=CLIPS))

    def test_an_index_that_counts_otherwise(self, own: Path) -> None:
        change_index(own, lambda index: index["shards"][0].update(num_samples=3))
        with pytest.raises(ShardError, match="its rows name 2 samples, the index 3; run vidprep verify"):
            list(ShardDataset(own, clips=CLIPS))

    def test_tars_that_were_exchanged(self, own: Path) -> None:
        """Rows are found by place: another sample there must be seen, whatever its size."""
        shard = next(iter(load_index(own).shards.values()))
        first, second = load_statuses(own, shard.name)
        data = (own / shard.name).read_bytes()
        one, two = (data[row.offset_bytes : row.offset_bytes + row.num_bytes] for row in (first, second))
        (own / shard.name).write_bytes(two + one + data[len(one) + len(two) :])
        with pytest.raises(ShardError, match=f"key={first.key}: another sample stands in its place"):
            list(ShardDataset(own, clips=CLIPS))


def test_memory_stays_flat(made: Path) -> None:
    """Over many epochs with all that is read, also while the garbage collector sleeps."""

    def resident_bytes() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    if not Path("/proc/self/statm").exists():
        pytest.skip("no /proc/self/statm: the resident memory can't be read")
    loader = ShardDataset(made, modalities=("rgb", "motion"), clips=CLIPS, shuffle=True).loader(4)
    early = num_items = 0
    gc.collect()
    gc.disable()
    try:
        for epoch in range(20):
            num_items += sum(len(batch["key"]) for batch in loader)
            if epoch == 6:
                early = resident_bytes()
    finally:
        gc.enable()
    assert num_items == 340
    assert resident_bytes() - early < 4_000_000  # 221 items are 19 MB
