"""Crops: where they lie and what is sampled, against a slow loop, torch's resizes and the dataset's crops."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn import functional

from vidprep.dataset import CenterCrop, RandomCrop
from vidprep.dataset.views import View
from vidprep.models.cropping import Crop, sample

IDENTITY = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]])
SIDES = st.integers(3, 40)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def crop(scale: float, x: float = 0, y: float = 0, shear: tuple[float, float] = (0, 0)) -> Crop:
    return Crop(torch.tensor([scale]), torch.tensor([[x, y]]), torch.tensor([shear]))


def bilinear_loop(frame: NDArray[np.float64], corners: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Sample the crop with some corners pixel by pixel; beyond the edges a frame goes on as its outermost pixels."""
    height, width = frame.shape
    upper_left, upper_right, _, lower_left = corners
    result = np.zeros((size, size))
    for row in range(size):
        for column in range(size):
            right, down = (column + 0.5) / size, (row + 0.5) / size
            x, y = upper_left + right * (upper_right - upper_left) + down * (lower_left - upper_left) - 0.5
            x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
            left, top = min(int(x), width - 2), min(int(y), height - 2)
            for i, weight_y in ((top, top + 1 - y), (top + 1, y - top)):
                for j, weight_x in ((left, left + 1 - x), (left + 1, x - left)):
                    result[row, column] += weight_y * weight_x * frame[i, j]
    return result


@given(height=SIDES, width=SIDES, size=SIDES)
def test_identity_is_the_resized_frame(height: int, width: int, size: int) -> None:
    frames = torch.rand(1, 3, 2, height, width)
    resized = functional.interpolate(frames.flatten(1, 2), (size, size), mode="bilinear", align_corners=False)
    torch.testing.assert_close(sample(frames, IDENTITY, size).flatten(1, 2), resized, rtol=0, atol=1e-4)


@settings(max_examples=30)
@given(height=SIDES, width=SIDES, scale=st.floats(0.1, 1.7), data=st.data())
def test_coordinates_are_those_of_a_loop(height: int, width: int, scale: float, data: st.DataObject) -> None:
    x, y, across, down = (data.draw(st.floats(-limit, limit)) for limit in (1, 1, 0.5, 0.5))
    frame = torch.rand(height, width)
    # Where the crop stands, once more and in pixels: the square in the middle, sheared, then moved within the frame.
    side = scale * min(height, width)
    edges = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * side / 2
    edges = edges + edges[:, ::-1] * (across, down)
    room = np.maximum((width, height) - np.ptp(edges, axis=0), 0)
    corners = edges + np.array([width, height]) / 2 + np.array([x, y]) * room / 2
    this = crop(scale, x, y, (across, down))
    torch.testing.assert_close(this.corners(height, width)[0], torch.from_numpy(corners).float(), rtol=0, atol=1e-4)
    found = sample(frame[None, None, None], this.theta(height, width), 7)[0, 0, 0]
    expected = bilinear_loop(frame.double().numpy(), corners, 7)
    torch.testing.assert_close(found.double(), torch.from_numpy(expected), rtol=0, atol=2e-4)


@given(
    height=SIDES,
    width=SIDES,
    scale=st.floats(0.1, 0.5),
    position=st.tuples(st.floats(-1, 1), st.floats(-1, 1)),
    shear=st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5)),
)
def test_crops_that_fit_are_inside(
    height: int, width: int, scale: float, position: tuple[float, float], shear: tuple[float, float]
) -> None:
    corners = crop(scale, *position, shear).corners(height, width)[0]
    assert corners.min() > -1e-3
    assert corners[:, 0].max() < width + 1e-3 and corners[:, 1].max() < height + 1e-3


def test_a_crop_as_large_as_the_frame_or_larger_stays_in_the_middle() -> None:
    corners = crop(1.25, -1, 1).corners(40, 80)[0]  # 50 pixels: more than the height, less than the width
    assert corners.tolist() == [[0, -5], [50, -5], [50, 45], [0, 45]]


@pytest.mark.parametrize(("width", "place"), [(170, 0), (170, -1), (170, 1), (171, -1)])
def test_crops_are_the_datasets_where_pixels_fall_together(width: int, place: int) -> None:
    view = View.whole(width, 128)
    x, y, side, _ = (
        CenterCrop(112)(view, 0, np.random.default_rng()).crop if place == 0 else corner_crop(view, 112, place)
    )
    frames = torch.randint(0, 256, (1, 3, 2, 128, width), dtype=torch.uint8)
    found = sample(frames, crop(0.875, place, place).theta(128, width), 112)
    expected = frames[..., y : y + side, x : x + side].float()
    torch.testing.assert_close(found, expected, rtol=0, atol=0.01)
    assert torch.equal(found.round(), expected)


def corner_crop(view: View, size: int, place: int) -> tuple[int, int, int, int]:
    crops = {RandomCrop(size)(view, 0, np.random.default_rng(seed)).crop for seed in range(3000)}
    return min(crops) if place < 0 else max(crops)


def test_half_a_pixel_off_is_the_mean_of_two_crops() -> None:
    frames = torch.rand(1, 1, 1, 128, 171)
    x, y, side, _ = CenterCrop(112)(View.whole(171, 128), 0, np.random.default_rng()).crop
    both = [frames[..., y : y + side, left : left + side] for left in (29, 30)]
    assert x in (29, 30)
    torch.testing.assert_close(
        sample(frames, crop(0.875).theta(128, 171), 112), (both[0] + both[1]) / 2, rtol=0, atol=1e-4
    )


def test_flipped_frames_give_the_flipped_crop_of_the_mirrored_place() -> None:
    frames = torch.rand(1, 2, 3, 20, 30)
    this, mirrored = crop(0.6, 0.4, -0.3, (0.2, 0.1)), crop(0.6, -0.4, -0.3, (-0.2, -0.1))
    there = sample(frames, this.theta(20, 30), 9)
    torch.testing.assert_close(sample(frames.flip(4), mirrored.theta(20, 30), 9), there.flip(4))


def test_each_clip_has_its_own_crop_and_all_its_frames_the_same() -> None:
    frames = torch.rand(3, 2, 4, 20, 30)
    crops = Crop(torch.tensor([0.3, 0.8, 1.2]), torch.rand(3, 2), torch.rand(3, 2) / 4)
    together = sample(frames, crops.theta(20, 30), 8, max_shrink=3)
    for number in range(3):
        one = Crop(*(value[number : number + 1] for value in crops)).theta(20, 30)
        for t in range(4):
            alone = sample(frames[number : number + 1, :, t : t + 1], one, 8, max_shrink=3)
            torch.testing.assert_close(together[number : number + 1, :, t : t + 1], alone)


@pytest.mark.parametrize("max_shrink", [1.0, 2.5])
def test_gradients_are_those_of_finite_differences(max_shrink: float) -> None:
    frames = torch.rand(2, 1, 2, 9, 12, dtype=torch.float64, requires_grad=True)
    scale = torch.tensor([0.61, 1.13], dtype=torch.float64, requires_grad=True)  # shrunk by 1.1 and 2.03
    position = torch.tensor([[0.33, -0.41], [0.2, -0.7]], dtype=torch.float64, requires_grad=True)
    shear = torch.tensor([[0.13, -0.07], [-0.11, 0.05]], dtype=torch.float64, requires_grad=True)

    def run(frames: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        return sample(frames, Crop(*parameters).theta(9, 12), 5, max_shrink=max_shrink)

    assert torch.autograd.gradcheck(run, (frames, scale, position, shear), eps=1e-7, atol=1e-5)


@settings(max_examples=30)
@given(height=SIDES, width=SIDES, scale=st.floats(0.1, 0.999))
def test_smoothing_leaves_alone_what_is_not_shrunk(height: int, width: int, scale: float) -> None:
    frames = torch.rand(1, 1, 2, height, width)
    theta = crop(scale, 0.3, -0.2, (0.1, 0.1)).theta(height, width)  # whose area is a hundredth less
    size = min(height, width)
    assert torch.equal(sample(frames, theta, size, max_shrink=5), sample(frames, theta, size))


@settings(max_examples=30)
@given(height=st.integers(2, 20), width=st.integers(2, 20))
def test_shrinking_to_half_is_torchs_smoothed_resize(height: int, width: int) -> None:
    frames = torch.rand(1, 1, 1, 2 * height, 2 * width)
    size = round(math.sqrt(height * width))
    expected = functional.interpolate(frames[0], (height, width), mode="bilinear", antialias=True)
    theta = IDENTITY * size / math.sqrt(height * width)  # so that the area is shrunk by 4 exactly
    found = sample(frames, theta, size, max_shrink=2)
    torch.testing.assert_close(found, sample(expected[None], theta, size))


def test_fine_texture_that_is_shrunk_becomes_grey_and_no_false_pattern() -> None:
    checker = (torch.arange(96)[:, None] + torch.arange(96)).remainder(2).float()[None, None, None]
    theta = crop(0.96).theta(96, 96)  # 92.2 pixels to 32
    smooth, plain = (sample(checker, theta, 32, max_shrink=shrink) for shrink in (3.0, 1.0))
    assert plain.std() > 0.15
    assert smooth.std() < 0.01 and abs(float(smooth.mean()) - 0.5) < 0.01


def test_autocast_does_not_move_a_crop() -> None:
    frames, theta = torch.rand(1, 3, 2, 128, 171), crop(0.61, 0.31, 0.2, (0.03, 0.04)).theta(128, 171)
    expected = sample(frames, theta, 64, max_shrink=2)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(sample(frames, theta, 64, max_shrink=2), expected)
