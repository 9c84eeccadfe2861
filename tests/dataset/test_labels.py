"""Labels of videos and of frames: by hand, and from rows with times through extraction to batches."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_shards import FPS, OPTIONS, STEP_SECONDS, Fixed, extract_rows, read_item, write_view

from vidprep.dataset.labels import LabelReader
from vidprep.dataset.loader import collate
from vidprep.errors import ShardError
from vidprep.manifest import Row


def facts_of(labels: Sequence[int], **more: Any) -> dict[str, Any]:
    return {"key": "clip%2Eavi", "labels": list(labels), **more}


class TestLabels:
    def test_one_several_none(self) -> None:
        assert LabelReader(3).read(facts_of([2])) == {"label": 2}
        assert LabelReader(0).read(facts_of([])) == {"label": -1}
        assert LabelReader(3, {"verb": 2, "noun": 9}).read(facts_of([1], targets={"noun": 8})) == {
            "label": 1,
            "verb": -1,
            "noun": 8,
        }
        for labels, expected in (([], [0, 0, 0, 0]), ([2], [0, 0, 1, 0]), ([0, 3], [1, 0, 0, 1])):
            hot = LabelReader(4, is_multi_label=True).read(facts_of(labels))["label"]
            assert isinstance(hot, torch.Tensor)
            assert (hot.dtype, hot.tolist()) == (torch.uint8, expected)

    def test_the_index_says_what_labels_count_in(self) -> None:
        dataset = {"classes": ["a", "b"], "targets": {"verb": ["c"]}, "multi_label": True}
        assert LabelReader.of(dataset) == LabelReader(2, {"verb": 1}, is_multi_label=True)
        assert LabelReader.of({"classes": []}) == LabelReader(0)  # an index of before there were targets

    @pytest.mark.parametrize(
        ("facts", "message"),
        [
            (facts_of([3]), r"key=clip%2Eavi: label=3: must be 0 to num_classes=3, exclusive; mend the manifest"),
            (facts_of([-1]), r"label=-1: must be"),
            (facts_of([1.0]), r"label=1\.0: must be"),
            (facts_of([True]), r"label=True: must be"),
            (facts_of(["Run"]), r"label=Run: must be"),
            (facts_of([0, 1]), r"labels=\[0, 1\]: this dataset has one label a sample"),
            (facts_of([0], targets={"verb": 2}), r"key=clip%2Eavi: verb=2: must be 0 to num_classes=2, exclusive"),
        ],
    )
    def test_labels_that_cannot_be(self, facts: dict[str, Any], message: str) -> None:
        with pytest.raises(ShardError, match=message):
            LabelReader(3, {"verb": 2}).read(facts)

    def test_of_frames_by_hand(self) -> None:
        actions = [[0, 0.2, 0.6], [2, 0.4, 9.0], [0, 0.7, 0.7000015]]
        times = [0.0, 0.2, 0.200001, 0.4, 0.5, 0.6, 0.7, 0.700001, 8.0, 9.0]
        shown = LabelReader(3).at(facts_of([0, 2], actions=actions), times)
        assert shown.dtype == np.uint8
        assert [i for i in range(10) if shown[i, 0]] == [2, 3, 4, 7]  # start < t < end
        assert [i for i in range(10) if shown[i, 2]] == [4, 5, 6, 7, 8]
        assert not shown[:, 1].any()
        assert not LabelReader(3).at(facts_of([]), times).any()

    def test_of_frames_that_cannot_be(self) -> None:
        with pytest.raises(ShardError, match=r"labels=\[1\] without times: .*extract with a manifest that has them"):
            LabelReader(3).at(facts_of([1]), [0.0])
        with pytest.raises(ShardError, match=r"label=7: must be 0 to num_classes=3"):
            LabelReader(3).at(facts_of([1], actions=[[7, 0.0, 1.0]]), [0.0])


ACTIONS = ((0, 0.31, 0.83), (1, 0.6, 1.24), (0, 1.5, 1.9))
"""Run, sit, and run again, in seconds of the whole video."""


@pytest.fixture(scope="module")
def untrimmed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two videos of 2 s, one of which begins at 1.4 s on its own clock; each of them whole, and cut at 0.5 and 1.7 s.

    Encoded and decoded again, and packed as they are. The end of one of them has a label, but no time for it.
    """
    root = tmp_path_factory.mktemp("untrimmed")
    write_view(root / "in/late.mkv", num_frames=50, pts=[1400 + 40 * i for i in range(50)])
    write_view(root / "in/v.avi", num_frames=50)
    whole = [Row(name, (0, 1), actions=ACTIONS) for name in ("late.mkv", "v.avi")]
    rows = [*whole, *(replace(row, start_seconds=0.5, end_seconds=1.7) for row in whole)]
    rows.append(Row("v.avi", (1,), start_seconds=1.7))
    encoded = replace(OPTIONS, modalities=("rgb",))
    copied = replace(encoded, layout="bitstream", codec="copy", size=None, gop=None)
    options = {"encoded": encoded, "copied": copied}
    return {name: extract_rows(root / "in", rows, root / name, options[name], multi_label=True) for name in options}


class TestUntrimmed:
    """From rows with times to labels of frames, through extraction, the whole video and segments of it."""

    @pytest.mark.parametrize("made", ["encoded", "copied"])
    @pytest.mark.parametrize("name", ["late%2Emkv", "v%2Eavi"])
    @pytest.mark.parametrize("segment", ["", "@500-1700"])
    def test_labels_of_frames(self, untrimmed: dict[str, Path], made: str, name: str, segment: str) -> None:
        first = 13 if segment else 0  # 0.52 s, the first frame from 0.5 s on
        num_frames = 30 if segment else 50
        item = read_item(
            untrimmed[made], name + segment, "frame_labels", "clip_label", "times", clips=Fixed(range(num_frames))
        )
        assert item["label"].tolist() == [1, 1]
        assert item["times"].tolist() == pytest.approx([(first + i) * STEP_SECONDS for i in range(num_frames)])
        expected = [
            [
                any(
                    label == c and Fraction(str(start)) < Fraction(t, FPS) < Fraction(str(end))
                    for c, start, end in ACTIONS
                )
                for label in (0, 1)
            ]
            for t in range(first, first + num_frames)
        ]
        assert item["frame_labels"].dtype == torch.uint8
        assert item["frame_labels"].tolist() == expected
        assert item["clip_label"].tolist() == [1, 1]

    def test_the_clips_label_is_the_union_inside_it(self, untrimmed: dict[str, Path]) -> None:
        for frames, expected in (((0, 7), [0, 0]), ((8, 14), [1, 0]), ((21, 30), [0, 1]), ((10, 25), [1, 1])):
            item = read_item(untrimmed["copied"], "v%2Eavi", "clip_label", clips=Fixed(frames))
            assert item["clip_label"].tolist() == expected
            assert item["label"].tolist() == [1, 1]  # of the whole video

    def test_a_batch(self, untrimmed: dict[str, Path]) -> None:
        names, clips = ("rgb", "frame_labels", "clip_label"), Fixed(range(16))
        keys = ("v%2Eavi", "late%2Emkv", "v%2Eavi@500-1700")
        batch = collate([read_item(untrimmed["encoded"], key, *names, clips=clips) for key in keys])
        assert batch["label"].shape == batch["clip_label"].shape == (3, 2)
        assert batch["frame_labels"].shape == (3, 16, 2)
        assert {batch[name].dtype for name in ("label", "frame_labels", "clip_label")} == {torch.uint8}

    @pytest.mark.parametrize("made", ["encoded", "copied"])
    def test_a_label_without_times_has_no_frames(self, untrimmed: dict[str, Path], made: str) -> None:
        key = "v%2Eavi@1700-"
        assert read_item(untrimmed[made], key, "rgb", clips=Fixed((0,)))["label"].tolist() == [0, 1]
        with pytest.raises(ShardError, match=rf"key={key}: labels=\[1\] without times"):
            read_item(untrimmed[made], key, "frame_labels", clips=Fixed((0,)))
