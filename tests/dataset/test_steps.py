"""Steps: against torchvision's on pictures that hold their coordinates, and against the papers' rules written out."""

import itertools
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms import InterpolationMode, functional
from torchvision.transforms import RandomResizedCrop as TorchvisionCrop

from vidprep.dataset import (
    CenterCrop,
    FiveCrops,
    Flip,
    MultiScaleCrop,
    RandomClip,
    RandomCrop,
    RandomResizedCrop,
    Resize,
    Segments,
    ShortSide,
    TenCrops,
    ThreeCrops,
    UniformClips,
    View,
)
from vidprep.dataset.views import Step, num_views, plan_view
from vidprep.errors import UsageError

RNG = np.random.default_rng
SIDES = st.integers(1, 60)


def coordinates(width: int, height: int) -> torch.Tensor:
    """A picture whose pixels are their own x and y [shape=(2, height, width)]."""
    return torch.stack(torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy"))


def shown(view: View, picture: torch.Tensor) -> torch.Tensor:
    """What a view that resizes nothing shows of a picture."""
    assert not view.is_resized
    x, y, width, height = view.crop
    part = picture[:, y : y + height, x : x + width]
    return part.flip(2) if view.is_flipped else part


@given(SIDES, SIDES, st.booleans(), st.data())
def test_fixed_crops_are_torchvisions(width: int, height: int, is_flipped: bool, data: st.DataObject) -> None:
    crop_width, crop_height = data.draw(st.integers(1, width)), data.draw(st.integers(1, height))
    stored = coordinates(width, height)
    whole = View.whole(width, height).flipped() if is_flipped else View.whole(width, height)
    picture, size = shown(whole, stored), [crop_height, crop_width]
    references = {
        CenterCrop: [functional.center_crop(picture, size)],
        FiveCrops: functional.five_crop(picture, size),
        TenCrops: functional.ten_crop(picture, size),
    }
    for kind, expected in references.items():
        step: Step = kind((crop_width, crop_height))
        assert step.num_views == len(expected)
        for number, reference in enumerate(expected):
            assert torch.equal(shown(step(whole, number, RNG(0)), stored), reference)


@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 400))
def test_short_side_is_torchvisions(width: int, height: int, size: int) -> None:
    if max(width, height) * size // min(width, height) < 500:
        resized = functional.resize(torch.zeros(1, height, width), [size], InterpolationMode.NEAREST)
        view = ShortSide(size)(View.whole(width, height), 0, RNG(0))
        assert (view.width, view.height) == (resized.shape[2], resized.shape[1])
        assert view.crop == (0, 0, width, height)


def test_short_side_jitters_over_whole_numbers() -> None:
    """SGS: a random integer from 256 to 320, both included, equally likely."""
    rng = RNG(5)
    sizes = Counter(ShortSide((256, 320))(View.whole(340, 256), 0, rng).height for _ in range(6500))
    assert set(sizes) == set(range(256, 321))
    assert max(abs(count - 100) for count in sizes.values()) < 50
    assert ShortSide((30, 30))(View.whole(340, 256), 0, rng) == ShortSide(30)(View.whole(340, 256), 0, rng)


@given(SIDES, SIDES, st.data())
def test_three_crops_are_slowfasts(width: int, height: int, data: st.DataObject) -> None:
    side = data.draw(st.integers(1, min(width, height)))
    middle_x, middle_y = math.ceil((width - side) / 2), math.ceil((height - side) / 2)
    if height > width:
        expected = [(middle_x, 0), (middle_x, middle_y), (middle_x, height - side)]
    else:
        expected = [(0, middle_y), (middle_x, middle_y), (width - side, middle_y)]
    views = [ThreeCrops(side)(View.whole(width, height), i, RNG(0)) for i in range(3)]
    assert [view.crop for view in views] == [(x, y, side, side) for x, y in expected]


def test_random_crops_stand_anywhere() -> None:
    rng = RNG(1)
    corners = Counter(RandomCrop((6, 7))(View.whole(9, 8), 0, rng).crop[:2] for _ in range(4000))
    assert set(corners) == set(itertools.product(range(4), range(2)))
    assert max(abs(count - 500) for count in corners.values()) < 110  # five times the deviation
    assert RandomCrop((9, 8))(View.whole(9, 8), 0, rng) == View.whole(9, 8)


def test_flips_come_as_often_as_asked() -> None:
    rng = RNG(2)
    for probability in (0, 0.3, 0.5, 1):
        flips = sum(Flip(probability)(View.whole(9, 8), 0, rng).is_flipped for _ in range(1000))
        assert abs(flips - 1000 * probability) <= 5 * math.sqrt(1000 * probability * (1 - probability))
    assert Flip(1)(Flip(1)(View.whole(9, 8), 0, rng), 0, rng) == View.whole(9, 8)


def tsn_places(room_x: int, room_y: int) -> list[tuple[int, int]]:
    """The places of a crop in the public loader of TSN: whole quarters of the room, not to the very edge."""
    x, y = room_x // 4, room_y // 4
    corners = [(0, 0), (4 * x, 0), (0, 4 * y), (4 * x, 4 * y), (2 * x, 2 * y)]
    edges = [(0, 2 * y), (4 * x, 2 * y), (2 * x, 4 * y), (2 * x, 0)]
    return corners + edges + [(i * x, j * y) for i in (1, 3) for j in (1, 3)]


@pytest.mark.parametrize(("num_places", "size"), [(13, (340, 256)), (5, (256, 340)), (13, (320, 240))])
def test_multi_scale_crops_are_tsns(num_places: Any, size: tuple[int, int]) -> None:
    sides = [224 if abs(int(min(size) * s) - 224) < 3 else int(min(size) * s) for s in (1, 0.875, 0.75, 0.66)]
    assert (224 in sides) == (min(size) == 256)  # there nothing is resized for nothing
    pairs = {(sides[i], sides[j]) for i in range(4) for j in range(4) if abs(i - j) <= 1}
    rng, step = RNG(7), MultiScaleCrop(224, num_places=num_places)
    seen = Counter()
    for _ in range(3000):
        view = step(View.whole(*size), 0, rng)
        assert (view.width, view.height) == (224, 224)
        x, y, width, height = view.crop
        assert (x, y) in tsn_places(size[0] - width, size[1] - height)[:num_places]
        seen[width, height, x, y] += 1
    assert {key[:2] for key in seen} == pairs
    of_all = {(w, h, *place) for w, h in pairs for place in tsn_places(size[0] - w, size[1] - h)[:num_places]}
    assert set(seen) == of_all  # 3000 draws meet each of at most 130


def test_multi_scale_crops_in_other_ways() -> None:
    rng = RNG(8)
    views = [MultiScaleCrop((100, 50), (0.5, 0.2), 0, num_places=0)(View.whole(200, 100), 0, rng) for _ in range(500)]
    assert {view.crop[2:] for view in views} == {(50, 50), (20, 20)}  # squares of the short side, brought to 100x50
    assert {(view.width, view.height) for view in views} == {(100, 50)}
    assert len({view.crop[0] for view in views}) > 100
    near = MultiScaleCrop(224, (1,))(View.whole(300, 223), 0, rng)
    assert near.crop[2:] == (223, 223)  # not 224, which is not there
    assert MultiScaleCrop(224, (1,))(View.whole(300, 226), 0, rng).crop[2:] == (224, 224)
    assert MultiScaleCrop(224, (0.01,))(View.whole(5, 5), 0, rng).crop[2:] == (1, 1)


def test_random_resized_crops_keep_their_bounds() -> None:
    rng, step = RNG(9), RandomResizedCrop(112, (0.25, 0.5), (0.5, 2))
    areas, ratios, lefts = [], [], set()
    for _ in range(1500):
        view = step(View.whole(400, 300), 0, rng)
        x, _, width, height = view.crop
        assert (view.width, view.height) == (112, 112)
        areas.append(width * height / 120000)
        ratios.append(math.log(width / height))
        lefts.add(x)
    assert 0.248 < min(areas) < 0.26
    assert 0.49 < max(areas) < 0.503
    assert np.mean(areas) == pytest.approx(0.375, abs=0.01)
    assert -0.70 < min(ratios) < -0.65
    assert 0.65 < max(ratios) < 0.70
    assert abs(np.mean(ratios)) < 0.05
    assert len(lefts) > 150


@pytest.mark.parametrize("size", [(300, 20), (20, 300), (33, 300), (100, 98), (1, 500)])
def test_random_resized_crops_fall_back_as_torchvisions(size: tuple[int, int]) -> None:
    """The whole area never fits a strip: both take the middle, as large as the aspect allows."""
    scale, ratio = (1.0, 1.0), (0.75, 0.751) if size[0] == 100 else (3 / 4, 4 / 3)
    y, x, height, width = TorchvisionCrop.get_params(torch.zeros(3, size[1], size[0]), scale, ratio)
    view = RandomResizedCrop(112, scale, ratio)(View.whole(*size), 0, RNG(0))
    assert view.crop[2:] == (width, height)
    assert abs(view.crop[0] - x) <= 1  # torchvision cuts half a pixel off here, and rounds it in its centre crop
    assert abs(view.crop[1] - y) <= 1


@pytest.mark.parametrize("kind", [RandomCrop, CenterCrop, ThreeCrops, FiveCrops, TenCrops])
def test_crops_that_do_not_fit(kind: Any) -> None:
    message = (
        rf"{kind.__name__}\(size=224x224\): must fit into the picture, 171x128 at this step; put ShortSide\(224\)"
        " before it, or take a smaller crop"
    )
    with pytest.raises(UsageError, match=message):
        plan_view([Resize(171, 128), kind(224)], 340, 256, 0, RNG(0))
    for size in ((172, 1), (1, 129)):
        with pytest.raises(UsageError, match="must fit into the picture"):
            kind(size)(View.whole(171, 128), 0, RNG(0))
    assert kind((171, 128))(View.whole(171, 128), 0, RNG(0)) == View.whole(171, 128)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomCrop(0), r"RandomCrop\(size=0\): must be a whole number of pixels, or a tuple of two"),
        (lambda: CenterCrop(-3), r"CenterCrop\(size=-3\): must be"),
        (lambda: ThreeCrops(112.5), r"ThreeCrops\(size=112.5\): must be"),
        (lambda: TenCrops((1, 2, 3)), r"TenCrops\(size=\(1, 2, 3\)\): must be"),
        (lambda: FiveCrops((112, 0)), r"FiveCrops\(size=\(112, 0\)\): must be"),
        (lambda: Resize(0, 5), r"Resize\(size=\(0, 5\)\): must be"),
        (lambda: ShortSide("256"), r"ShortSide\(size='256'\): must be"),
        (lambda: ShortSide((320, 256)), r"ShortSide\(size=\(320, 256\)\): the first must not be above the second"),
        (lambda: Flip(1.1), r"Flip\(probability=1.1\): must be from 0 to 1"),
        (lambda: Flip(math.nan), r"Flip\(probability=nan\): must be from 0 to 1"),
        (lambda: MultiScaleCrop(224, ()), r"MultiScaleCrop\(scales=\(\)\): must be numbers above 0 and at most 1"),
        (lambda: MultiScaleCrop(224, (1, 1.2)), r"scales=\(1, 1.2\)\): must be numbers"),
        (lambda: MultiScaleCrop(224, max_distort=-1), r"max_distort=-1, num_places=13\): must be 0 or more"),
        (lambda: MultiScaleCrop(224, num_places=7), r"num_places=7\): must be 0 or more, and 13, 5 or 0"),
        (lambda: RandomResizedCrop(112, (0, 1)), r"RandomResizedCrop\(scale=\(0, 1\).*: must be the lower and"),
        (lambda: RandomResizedCrop(112, (0.5, 0.2)), r"scale=\(0.5, 0.2\)"),
        (lambda: RandomResizedCrop(112, ratio=(2, 1)), r"ratio=\(2, 1\)"),
    ],
)
def test_steps_that_cannot_be_meant(make: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


TSN_TRAIN = (MultiScaleCrop(224), Flip())
TSN_TEST = (ShortSide(256), CenterCrop(224))
SGS_TRAIN = (ShortSide((256, 320)), RandomCrop(224), Flip())
CHARADES_TRAIN = (ShortSide(256), RandomCrop(224), Flip())
PROTOCOLS: dict[str, tuple[Any, tuple[Step, ...], int, tuple[int, int, int]]] = {  # items a video, frames and size
    "3D ResNets, R(2+1)D: training": (RandomClip(16), (Resize(171, 128), RandomCrop(112), Flip()), 1, (16, 112, 112)),
    "3D ResNets, R(2+1)D: test": (UniformClips(10, 16), (Resize(171, 128), CenterCrop(112)), 10, (16, 112, 112)),
    "adaptive zooming, X3D: training": (RandomClip(16), (Resize(342, 256), RandomCrop(224)), 1, (16, 224, 224)),
    "adaptive zooming, its frames": (UniformClips(10, 16), (Resize(342, 256),), 10, (16, 256, 342)),
    "TSN: training": (Segments(3, random=True), TSN_TRAIN, 1, (3, 224, 224)),
    "TSN: test": (Segments(25), (ShortSide(256), TenCrops(224)), 10, (25, 224, 224)),
    "AdaFocus: training": (Segments(16, random=True, short="edge"), TSN_TRAIN, 1, (16, 224, 224)),
    "AdaFocus: test": (Segments(16, short="edge"), TSN_TEST, 1, (16, 224, 224)),
    "adaptive sampling, EPIC": (Segments(10), TSN_TEST, 1, (10, 224, 224)),
    "SGS: training": (RandomClip(32, 2, fps=30), SGS_TRAIN, 1, (32, 224, 224)),
    "SGS: test": (UniformClips(10, 32, 2, fps=30), (ShortSide(256), ThreeCrops(256)), 30, (32, 256, 256)),
    "Charades: training": (RandomClip(64, fps=24, short="edge"), CHARADES_TRAIN, 1, (64, 224, 224)),
    "Charades: test": (UniformClips(10, 64, fps=24, short="edge"), TSN_TEST, 10, (64, 224, 224)),
}


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("stored", [(340, 256), (320, 240), (240, 320)])
def test_the_protocols_of_the_papers(name: str, stored: tuple[int, int]) -> None:
    clips, steps, num_items, expected = PROTOCOLS[name]
    assert clips.num_clips * num_views(steps) == num_items
    for num_frames in (9, 400):
        times = [i / 25 for i in range(num_frames)]
        for item in range(num_items):
            clip, number = divmod(item, num_views(steps))
            view = plan_view(steps, *stored, number, RNG(item))
            assert (len(clips.choose(times, clip, RNG(item))), view.height, view.width) == expected
