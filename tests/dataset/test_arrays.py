"""Arrays of a view: against Pillow, all showing the same place after any steps, and vectors that stay true."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from runs import write_clip

from dataset.plans import Plan, plans
from vidprep.codec.packed import pack
from vidprep.codec.video import Video
from vidprep.dataset import CenterCrop, Flip, RandomClip, RandomCrop, Resize, ShortSide, View
from vidprep.dataset.arrays import to_tensor
from vidprep.dataset.items import ItemReader
from vidprep.dataset.labels import LabelReader
from vidprep.modalities.clip import read_clip

RNG = np.random.default_rng
Array = NDArray[Any]
TYPES = {
    "rgb": np.uint8,
    "motion": np.int16,
    "accumulated_motion": np.int16,
    "residual": np.int16,
    "coded_residual": np.int16,
    "residual_magnitude": np.float32,
}
CHANNELS = {"rgb": 3, "residual": 3, "motion": 2, "accumulated_motion": 2}
SIZES = [
    ((340, 256), (170, 128)),
    ((112, 112), (224, 224)),
    ((67, 50), (301, 224)),
    ((97, 61), (40, 61)),
    ((9, 7), (1, 1)),
]


def noise(kind: str, width: int, height: int, num_frames: int = 2) -> Array:
    shape = num_frames, height, width, CHANNELS.get(kind, 1)
    low, high = (0, 256) if kind in ("rgb", "residual_magnitude") else (-255, 256)
    return RNG(width).integers(low, high, shape).astype(TYPES[kind])


def cut(array: Array, view: View) -> Array:
    x, y, width, height = view.crop
    return array[:, y : y + height, x : x + width].copy()


def channels_last(tensor: torch.Tensor) -> Array:
    """Back to [shape=(T, h, w, C)]."""
    return tensor.permute(1, 2, 3, 0).numpy()


def by_pillow(array: Array, width: int, height: int) -> NDArray[np.float32]:
    """Resize each plane as floats, which Pillow does not round."""
    planes = array.transpose(0, 3, 1, 2).astype(np.float32)
    resized = [[Image.fromarray(p).resize((width, height), Image.Resampling.BILINEAR) for p in f] for f in planes]
    return np.array([[np.asarray(plane) for plane in frame] for frame in resized]).transpose(0, 2, 3, 1)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize(("stored", "size"), SIZES)
@pytest.mark.parametrize("is_flipped", [False, True])
def test_sizes_are_pillows(kind: str, stored: tuple[int, int], size: tuple[int, int], is_flipped: bool) -> None:
    array = noise(kind, *stored)
    before = array.copy()
    view = View(0, 0, *stored, *size, is_flipped)
    tensor = to_tensor(kind, array, view, resizes=True)
    expected = by_pillow(array, *size)
    bound = 2 if kind in ("residual", "coded_residual") else 0.01  # two halves, each within a level of Pillow
    if "motion" in kind:
        expected *= np.float32([size[0] / stored[0], size[1] / stored[1]])
        if is_flipped:
            expected[..., 0] *= -1
    if is_flipped:
        expected = expected[:, :, ::-1]
    if kind == "rgb":  # Pillow's own bytes, which are rounded between the two directions
        expected = np.array([np.asarray(Image.fromarray(p).resize(size, Image.Resampling.BILINEAR)) for p in array])
        expected, bound = (expected[:, :, ::-1] if is_flipped else expected).astype(int), 1
    assert tensor.shape == (array.shape[3], 2, size[1], size[0])
    assert tensor.dtype == (torch.float32 if "motion" in kind else torch.from_numpy(array).dtype)
    assert abs(channels_last(tensor) - expected).max() <= bound
    assert np.array_equal(array, before)  # what was read may be shared


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("is_flipped", [False, True])
def test_without_a_resize_values_are_kept(kind: str, is_flipped: bool) -> None:
    array = noise(kind, 21, 13)
    before = array.copy()
    view = View.whole(33, 33).cropped(4, 5, 21, 13)
    expected = array
    if is_flipped:
        view = view.flipped()
        expected = array[:, :, ::-1] * ([-1, 1] if "motion" in kind else [1])
    tensor = to_tensor(kind, array, view, resizes=False)
    assert tensor.dtype == torch.from_numpy(array).dtype  # vectors are whole pixels
    assert np.array_equal(channels_last(tensor), expected)
    fractions = to_tensor(kind, array, view, resizes=True)
    assert torch.equal(fractions, tensor.to(torch.float32) if "motion" in kind else tensor)
    assert np.array_equal(array, before)


@given(plans(st.integers(1, 60)), st.sampled_from(sorted(TYPES)))
@settings(max_examples=60)
def test_a_flip_is_undone_by_a_flip(plan: Plan, kind: str) -> None:
    view = plan.view
    array = cut(noise(kind, plan.width, plan.height), view)
    tensor = to_tensor(kind, array, view, resizes=True)
    flipped = to_tensor(kind, array, view.flipped(), resizes=True)
    assert torch.equal(to_tensor(kind, array, view.flipped().flipped(), resizes=True), tensor)
    mirrored = flipped.flip(3)
    if "motion" in kind:
        mirrored[0] *= -1
    assert torch.equal(mirrored, tensor)


def centres(view: View) -> tuple[Array, Array]:
    """Where the pixels of a view have their centres among the stored ones: columns and rows."""
    x, _, width, _ = view.to_source((np.arange(view.width), 0, 1, 1))  # type: ignore[arg-type]
    _, y, _, height = view.to_source((0, np.arange(view.height), 1, 1))  # type: ignore[arg-type]
    return np.asarray(x + width / 2 - 0.5), np.asarray(y + height / 2 - 0.5)


@given(plans(st.integers(1, 120)))
@settings(max_examples=150)
def test_all_arrays_show_the_same_place(plan: Plan) -> None:
    """Each array holds its coordinates, in units of its own; what a view shows of them is where its pixels are.

    A triangle as wide as two stored pixels, or two of the view's if these are larger, keeps a ramp within a tenth of a
    pixel, exactly where nothing is reduced; at the edges, where it is cut, it may be off by half of its width.
    """
    view = plan.view
    assume(view.width * view.height < 200_000)
    x, y = np.meshgrid(np.arange(plan.width), np.arange(plan.height))
    ramps = np.stack([x, y], -1)[np.newaxis]
    steep = 510 // max(plan.width, plan.height)  # levels of a residual a pixel: from -255 to 255
    rgb, residual = np.uint8(2 * np.pad(ramps, [(0, 0)] * 3 + [(0, 1)])), np.int16(steep * ramps - 255)
    motion = np.int16(ramps)
    part_width, part_height = view.crop[2:]
    growth = np.array([view.width / part_width, view.height / part_height])
    sign = np.array([-1 if view.is_flipped else 1, 1])
    shown = {
        "rgb": channels_last(to_tensor("rgb", cut(rgb, view), view, resizes=True))[0, ..., :2] / 2,
        "residual": channels_last(to_tensor("residual", cut(residual, view), view, resizes=True))[0] / steep
        + 255 / steep,
        "motion": channels_last(to_tensor("motion", cut(motion, view), view, resizes=True))[0] / growth * sign,
    }
    for axis, (at, part, first) in enumerate(zip(centres(view), (part_width, part_height), view.crop[:2], strict=True)):
        reach = max(1 / growth[axis], 1)
        is_inside = (at - reach >= first - 1e-6) & (at + reach <= first + part - 1 + 1e-6)
        exact = 0.01 + 0.1 * (growth[axis] < 1)
        bounds = {"rgb": 0.5 + exact, "residual": 2 / steep + exact, "motion": exact}  # a level, and two
        for kind, array in shown.items():
            off = abs(np.moveaxis(array[..., axis], 1 - axis, -1) - at).max(axis=0)
            assert (off <= np.where(is_inside, bounds[kind], reach + bounds[kind])).all(), kind


def waves(x: Array, y: Array) -> Array:
    """Smooth content: at most WAVES_SLOPE levels from a pixel to the next in each direction."""
    values = 128 + 60 * np.sin(2 * np.pi * x / 64) + 60 * np.cos(2 * np.pi * y / 80 + 1)
    return np.uint8(np.rint(np.stack([values, values, values], -1)))[np.newaxis]


WAVES_SLOPE = 60 * 2 * np.pi / 64


@pytest.mark.parametrize("stored", [(340, 256), (320, 240), (171, 233)])
@pytest.mark.parametrize("short", [100, 128, 256, 300])
@pytest.mark.parametrize("is_flipped", [False, True])
def test_the_crop_of_a_resize_is_the_resize_of_a_crop(stored: tuple[int, int], short: int, is_flipped: bool) -> None:
    """Content is off by half a stored pixel in each direction at most, and bytes are rounded twice."""
    picture = waves(*np.meshgrid(np.arange(stored[0]), np.arange(stored[1])))
    for seed in range(5):
        whole = Flip(int(is_flipped))(ShortSide(short)(View.whole(*stored), 0, RNG(0)), 0, RNG(0))
        view = RandomCrop(96)(whole, 0, RNG(seed))
        first = channels_last(to_tensor("rgb", picture, whole, resizes=True))
        planned = channels_last(to_tensor("rgb", cut(picture, view), view, resizes=True))
        x, y = (round(corner) for corner in corner_in(view, whole))
        off = abs(planned.astype(int) - first[:, y : y + 96, x : x + 96])
        assert off.max() <= 2 * 0.5 * WAVES_SLOPE + 2


def corner_in(view: View, whole: View) -> tuple[float, float]:
    """The left upper corner of a planned crop within the picture that it was taken from."""
    across, down = whole.width / whole.box_width, whole.height / whole.box_height
    left = whole.box_width - view.x - view.box_width if view.is_flipped else view.x
    return left * across, view.y * down


def test_a_crop_of_whole_pixels_is_equal_inside() -> None:
    picture = noise("rgb", 340, 256)
    whole = View.whole(340, 256).resized(170, 128)
    view = whole.cropped(20, 10, 112, 112)
    assert view.crop == (40, 20, 224, 224)
    first = channels_last(to_tensor("rgb", picture, whole, resizes=True))[:, 10:122, 20:132].astype(int)
    planned = channels_last(to_tensor("rgb", cut(picture, view), view, resizes=True))
    assert np.array_equal(planned[:, 1:-1, 1:-1], first[:, 1:-1, 1:-1])


def warped(picture: Array, vectors: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Move content by the vectors, bilinearly; where it came from outside, it is unknown."""
    height, width = picture.shape[:2]
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    x, y = x - vectors[..., 0], y - vectors[..., 1]
    known = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    left, top = (np.clip(np.floor(c).astype(int), 0, n - 2) for c, n in ((x, width), (y, height)))
    right, down = (x - left)[..., None], (y - top)[..., None]
    upper = picture[top, left] * (1 - right) + picture[top, left + 1] * right
    lower = picture[top + 1, left] * (1 - right) + picture[top + 1, left + 1] * right
    return upper * (1 - down) + lower * down, known


TRANSFORMS = [
    (),
    (Flip(1),),
    (RandomCrop(150), Flip(1)),
    (ShortSide(128), RandomCrop(112)),
    (ShortSide(320), RandomCrop(224), Flip(1)),
    (Resize(100, 190), Flip(1)),
    (Resize(300, 90), CenterCrop((80, 60))),
]


@pytest.mark.parametrize("steps", TRANSFORMS)
@pytest.mark.parametrize("field", ["even", "growing"])
def test_vectors_stay_true(steps: Any, field: str) -> None:
    """The frame moved along the vectors is the next frame, in the stored pictures and in each view of them.

    Exactly where nothing is resized; else within three levels of 120, which bilinear interpolation and bytes cost.
    """
    x, y = np.meshgrid(np.arange(240), np.arange(180))
    motion = np.stack([np.full_like(x, 9), np.full_like(y, -6)], -1)
    if field == "growing":
        motion = np.stack([x // 24 - 5, y // 30 - 2], -1)
    motion = np.int16(motion)[np.newaxis]
    before, after = waves(x, y), waves(x - motion[0, ..., 0], y - motion[0, ..., 1])
    plan = Plan(steps, 240, 180, 0, 5)
    view = plan.view
    resizes = any(step.resizes for step in steps)
    seen = [
        channels_last(to_tensor(kind, cut(array, view), view, resizes=resizes))[0].astype(np.float32)
        for kind, array in (("rgb", before), ("rgb", after), ("motion", motion))
    ]
    bound = 3 if resizes else 0.001
    moved, known = warped(seen[0], seen[2])
    assert known.mean() > 0.7
    assert abs(moved - seen[1])[known].max() <= bound
    growth = np.array([view.width / view.crop[2], view.height / view.crop[3]])
    wrong = [seen[2] * [-1, 1], seen[2] * [1, -1], *([seen[2] / growth] if view.is_resized else [])]
    for vectors in wrong:
        moved, known = warped(seen[0], vectors)
        assert abs(moved - seen[1])[known].max() > 2 * bound  # the bound tells right from wrong


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], dict[str, Any]]:
    """A small stream and its json, as the bitstream layout holds them."""
    path = write_clip(tmp_path_factory.mktemp("arrays") / "clip.avi", num_frames=20)
    with Video(path) as video:
        stream = pack(video)
    facts: dict[str, Any] = {
        "key": "key",
        "packets": stream.facts(),
        "picture_types": stream.picture_types,
        "pts_seconds": list(stream.pts_seconds),
        "frame_indices": list(range(20)),
        "width": stream.width,
        "height": stream.height,
        "labels": [1],
    }
    return {stream.entry: stream.data, "json": json.dumps(facts).encode()}, facts


@pytest.mark.parametrize(
    ("steps", "dtype"), [((), torch.int16), ((RandomCrop(32), Flip(1)), torch.int16), ((ShortSide(24),), torch.float32)]
)
def test_vectors_of_items_are_fractions_only_where_a_step_resizes(sample: Any, steps: Any, dtype: torch.dtype) -> None:
    entries, facts = sample
    item = ItemReader(("rgb", "motion", "residual"), RandomClip(8), steps, LabelReader(2)).read(
        "key", entries, 0, RNG(0)
    )
    assert item["motion"].dtype == dtype
    assert (item["rgb"].dtype, item["residual"].dtype) == (torch.uint8, torch.int16)
    if dtype == torch.int16:
        rng = RNG(0)
        first = RandomClip(8).choose(facts["pts_seconds"], 0, rng)[0]
        view = Plan(steps, 64, 48, 0, 0).view if not steps else replayed(steps, rng)
        stored = read_clip(entries, facts, range(first, first + 8), ("motion",), crop=view.crop)["motion"]
        expected = stored[:, :, ::-1] * [-1, 1] if view.is_flipped else stored
        assert np.array_equal(channels_last(item["motion"]), expected)
        assert expected.any()


def replayed(steps: Any, rng: np.random.Generator) -> View:
    view = View.whole(64, 48)
    for step in steps:
        view = step(view, 0, rng)
    return view


def test_a_short_video_comes_again(sample: Any, tmp_path: Path) -> None:
    """Frames that a clip shows twice are read once, and stand in the clip's order."""
    entries, facts = sample
    item = ItemReader(("rgb",), RandomClip(50), (), LabelReader(2)).read("key", entries, 0, RNG(0))
    stored = read_clip(entries, facts, range(20), ("rgb",))["rgb"]
    assert np.array_equal(channels_last(item["rgb"]), stored[[i % 20 for i in range(50)]])
