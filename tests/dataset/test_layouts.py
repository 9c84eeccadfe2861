"""The same batches from both layouts: vectors, labels and times are equal, pictures and residuals within a bound.

The bound is measured, and stated in `vidprep.dataset.kinds` and in the README. Here it is held against clips that are
generated, and against real ones where they are there.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import extract_here
from small_shards import Cut, Fixed, difference, read_item

from vidprep.dataset import Flip, RandomCrop, ShardDataset, ShortSide
from vidprep.dataset.arrays import to_tensor
from vidprep.dataset.views import Step, View
from vidprep.modalities.base import Settings
from vidprep.pipelines.demo_data import DemoSettings, make_demo_data
from vidprep.pipelines.extract import Options

KINDS = ("rgb", "residual", "motion", "accumulated_motion", "rgb112")
EXACT = ("label", "motion", "accumulated_motion", "times")
MEAN = {"rgb": 3.0, "residual": 2.5, "rgb112": 5.0}  # of a clip, in levels of 0 to 255
LARGEST = {"rgb": 64, "residual": 40, "rgb112": 96}
OPTIONS = Options(modalities=("rgb", "motion", "residual", "pyramid"), num_workers=1)
VIEWS: dict[str, Sequence[Step]] = {
    "whole": (),
    "crops": (RandomCrop(112),),
    "crops and flips": (RandomCrop(224), Flip()),
    "resized": (ShortSide(128), RandomCrop(112), Flip()),
}
Folders = tuple[Path, Path]


def both(clips: Path, out: Path, **more: Any) -> Folders:
    """Extract clips in the decoded and in the bitstream layout."""
    layouts = ("decoded", "bitstream")
    for layout in layouts:
        assert extract_here(clips, out / layout, replace(OPTIONS, layout=layout, **more)).failed == []
    return out / "decoded", out / "bitstream"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Two generated clips."""
    root = tmp_path_factory.mktemp("layouts")
    make_demo_data(root / "clips", DemoSettings(num_classes=2, num_groups=1, num_frames=20))
    return both(root / "clips", root)


@pytest.fixture(scope="module")
def real(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Three clips of UCF101, some frames of each."""
    return both(shared / "data/UCF101", tmp_path_factory.mktemp("real"), frames="uniform:16")


def compare(folders: Folders, steps: Sequence[Step]) -> dict[str, list[tuple[float, int]]]:
    """Read an epoch of both layouts, assert what must be equal, and return how far the rest is apart, by clip."""
    far: dict[str, list[tuple[float, int]]] = {kind: [] for kind in MEAN}
    loaders = [
        ShardDataset(folder, None, (*KINDS, "times"), transform=steps, shuffle=True, seed=5).loader(2)
        for folder in folders
    ]
    for stored, streamed in zip(*loaders, strict=True):
        assert stored.keys() == streamed.keys()
        assert stored["key"] == streamed["key"]
        for name in EXACT:
            torch.testing.assert_close(stored[name], streamed[name], rtol=0, atol=0)
        streamed["residual"] = streamed["residual"].clamp(-128, 127)
        for kind, found in far.items():
            assert stored[kind].dtype == streamed[kind].dtype
            assert stored[kind].shape == streamed[kind].shape
            found += [difference(a.numpy(), b.numpy()) for a, b in zip(stored[kind], streamed[kind], strict=True)]
    return far


def check(far: dict[str, list[tuple[float, int]]]) -> None:
    for kind, found in far.items():
        assert max(mean for mean, _ in found) <= MEAN[kind], kind
        assert max(largest for _, largest in found) <= LARGEST[kind], kind
        assert min(mean for mean, _ in found) > 0, kind  # JPEG is no identity, so the bound does bound something


@pytest.mark.parametrize("views", ["whole", "crops", "crops and flips"])
def test_generated_clips(made: Folders, views: str) -> None:
    check(compare(made, VIEWS[views]))


@pytest.mark.parametrize("views", ["whole", "crops", "crops and flips"])
def test_real_clips(real: Folders, views: str) -> None:
    check(compare(real, VIEWS[views]))


@pytest.mark.parametrize("source", ["made", "real"])
def test_resized_clips(source: str, request: pytest.FixtureRequest) -> None:
    """Averages are no further apart than what is averaged."""
    far = compare(request.getfixturevalue(source), VIEWS["resized"])
    del far["residual"]
    check(far)


def test_resized_residuals(made: Folders) -> None:
    """Against the stream's residual, clipped before it is resized, as the stored one is."""
    box, size = (41, 23, 224, 200), (96, 112)
    for key in {item["key"] for item in ShardDataset(made[0], None, ("times",))}:
        stored = read_item(made[0], key, "residual", steps=[Cut(box, size=size)])["residual"]
        exact = read_item(made[1], key, "residual", steps=[Cut(box)])["residual"].permute(1, 2, 3, 0).clamp(-128, 127)
        view = View(0, 0, box[2], box[3], *size)
        streamed = to_tensor("residual", exact.numpy(), view, resizes=True)
        mean, largest = difference(stored.numpy(), streamed.numpy())
        assert 0 < mean <= MEAN["residual"]
        assert largest <= LARGEST["residual"]


def test_png_is_exact_within_the_clipping(made: Folders, tmp_path: Path) -> None:
    options = replace(OPTIONS, modalities=("residual",), settings=Settings(residual_format="png"))
    extract_here(made[0].parent / "clips", tmp_path / "png", options)
    num_clipped = 0
    for key in {item["key"] for item in ShardDataset(made[1], None, ("times",))}:
        for box in ((0, 0, 340, 256), (17, 5, 224, 112)):
            stored, exact = (
                read_item(folder, key, "residual", clips=Fixed(range(1, 20, 6)), steps=[Cut(box)])["residual"]
                for folder in (tmp_path / "png", made[1])
            )
            torch.testing.assert_close(stored, exact.clamp(-128, 127), rtol=0, atol=0)
            num_clipped += int(np.count_nonzero(stored != exact))
    assert num_clipped > 0
