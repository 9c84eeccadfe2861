"""Views: followed by hand, always inside the pictures, and back to them; what each protocol of the papers plans."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset.plans import Plan, plans
from vidprep.dataset import CenterCrop, Flip, RandomCrop, Resize, ShortSide, ThreeCrops, View
from vidprep.dataset.views import Box, may_resize, num_views, plan_view
from vidprep.errors import UsageError

Operation = tuple[str, tuple[int, ...]]


@st.composite
def chains(draw: st.DrawFn) -> tuple[tuple[int, int], list[Operation]]:
    """The size of pictures, and flips, resizes and crops of them."""
    size = width, height = draw(st.integers(1, 300)), draw(st.integers(1, 300))
    operations: list[Operation] = []
    for name in draw(st.lists(st.sampled_from(["flip", "resize", "crop"]), max_size=6)):
        numbers: tuple[int, ...] = ()
        if name == "resize":
            numbers = width, height = draw(st.integers(1, 300)), draw(st.integers(1, 300))
        if name == "crop":
            x, y = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
            numbers = x, y, *(width := draw(st.integers(1, width - x)), height := draw(st.integers(1, height - y)))
        operations.append((name, numbers))
    return size, operations


def followed(size: tuple[int, int], operations: Sequence[Operation]) -> View:
    view = View.whole(*size)
    methods = {"flip": View.flipped, "resize": View.resized, "crop": View.cropped}
    for name, numbers in operations:
        view = methods[name](view, *numbers)
    return view


def undone(size: tuple[int, int], operations: Sequence[Operation], point: tuple[float, float]) -> tuple[float, float]:
    """Follow a point of the result back: undo the last operation first."""
    sizes = [size]
    for name, numbers in operations:
        sizes.append(sizes[-1] if name == "flip" else numbers[-2:])
    x, y = point
    for i in reversed(range(len(operations))):
        name, numbers = operations[i]
        (width, height), (new_width, new_height) = sizes[i], sizes[i + 1]
        if name == "flip":
            x = width - x
        elif name == "resize":
            x, y = x * width / new_width, y * height / new_height
        else:
            x, y = x + numbers[0], y + numbers[1]
    return x, y


@given(chains())
def test_a_view_is_what_its_steps_do_one_by_one(chain: tuple[tuple[int, int], list[Operation]]) -> None:
    size, operations = chain
    view = followed(size, operations)
    left, top = undone(size, operations, (0, 0))
    right, bottom = undone(size, operations, (view.width, view.height))
    if view.is_flipped:
        left, right = right, left
    assert view.is_flipped == (sum(name == "flip" for name, _ in operations) % 2 == 1)
    assert (view.x, view.y) == pytest.approx((left, top), abs=1e-9)
    assert (view.x + view.box_width, view.y + view.box_height) == pytest.approx((right, bottom), abs=1e-9)


@given(plans())
def test_what_is_read_lies_within_the_pictures(plan: Plan) -> None:
    view = plan.view
    x, y, width, height = view.crop
    assert 0 <= x < x + width <= plan.width
    assert 0 <= y < y + height <= plan.height
    assert view.width >= 1
    assert view.height >= 1
    for start, length, first, number in ((view.x, view.box_width, x, width), (view.y, view.box_height, y, height)):
        bound = 0.5 if number > 1 or length >= 1 else 1  # narrower than a pixel: the one that holds the middle
        assert abs(first - start) <= bound + 1e-9
        assert abs(first + number - start - length) <= bound + 1e-9
        assert first <= start + length / 2 <= first + number


@pytest.mark.parametrize(
    ("start", "length", "expected"),
    [
        (0, 4, (0, 4)),
        (0.4, 2, (0, 2)),
        (0.5, 1, (1, 1)),
        (0.5, 2, (1, 2)),
        (1.5, 1, (2, 1)),  # halves go one way, so that the size stays
        (0.6, 2.6, (1, 2)),
        (3.9, 0.05, (3, 1)),
        (3.2, 0.1, (3, 1)),
        (0, 0.01, (0, 1)),
        (2.0, 0.4, (2, 1)),
    ],
)
def test_rounding_by_hand(start: float, length: float, expected: tuple[int, int]) -> None:
    assert View(start, 0, length, 4, 8, 8).crop == (expected[0], 0, expected[1], 4)
    assert View(0, start, 4, length, 8, 8).crop == (0, expected[0], 4, expected[1])


@given(plans(resizes=False))
def test_crops_and_flips_alone_resize_nothing(plan: Plan) -> None:
    view = plan.view
    assert not may_resize(plan.steps)
    assert not view.is_resized
    assert view.crop == (view.x, view.y, view.width, view.height)  # nothing was rounded


@given(plans())
def test_only_steps_that_say_so_resize(plan: Plan) -> None:
    assert may_resize(plan.steps) or not plan.view.is_resized


def test_resizing_to_the_same_size_is_none() -> None:
    view = plan_view([ShortSide(256), CenterCrop(224)], 340, 256, 0, np.random.default_rng(0))
    assert may_resize([ShortSide(256), CenterCrop(224)])  # other videos of the dataset may have another size
    assert not view.is_resized
    assert view.crop == (58, 16, 224, 224)
    assert View.whole(340, 256).resized(170, 128).is_resized


@st.composite
def boxes(draw: st.DrawFn, view: View) -> Box:
    x, y = draw(st.floats(0, view.width * 0.99)), draw(st.floats(0, view.height * 0.99))
    return x, y, draw(st.floats(0.001, view.width - x)), draw(st.floats(0.001, view.height - y))


@given(plans(), st.data())
def test_boxes_go_to_the_pictures_and_back(plan: Plan, data: st.DataObject) -> None:
    view = plan.view
    box = data.draw(boxes(view))
    x, y, width, height = view.to_source(box)
    left, top, crop_width, crop_height = view.crop
    assert view.from_source((x, y, width, height)) == pytest.approx(box, abs=1e-6)
    assert left - 1e-9 <= x <= x + width <= left + crop_width + 1e-9
    assert top - 1e-9 <= y <= y + height <= top + crop_height + 1e-9
    assert view.to_source((0, 0, view.width, view.height)) == pytest.approx(view.crop)


def test_a_box_by_hand() -> None:
    """Undo the flip, add the crop's corner, divide by the ratio of the resize: Charades' map from view to frames."""
    view = View.whole(640, 480).resized(341, 256).cropped(40, 16, 224, 224)
    ratio = (view.crop[2] / 224, view.crop[3] / 224)
    expected = (view.crop[0] + 10 * ratio[0], view.crop[1] + 20 * ratio[1], 128 * ratio[0], 128 * ratio[1])
    assert view.crop == (75, 30, 420, 420)
    assert view.to_source((10, 20, 128, 128)) == pytest.approx(expected)
    assert view.to_source((10, 20, 128, 128)) == pytest.approx((93.75, 67.5, 240, 240))
    flipped = view.flipped()
    assert flipped.to_source((224 - 10 - 128, 20, 128, 128)) == pytest.approx(expected)
    assert flipped.from_source(expected) == pytest.approx((86, 20, 128, 128))


@given(plans(), st.data())
def test_a_focused_view_shows_the_box(plan: Plan, data: st.DataObject) -> None:
    view = plan.view
    box = data.draw(boxes(view))
    focused = view.focused(box, 224, 224)
    assert (focused.width, focused.height, focused.is_flipped) == (224, 224, view.is_flipped)
    assert (focused.x, focused.y, focused.box_width, focused.box_height) == view.to_source(box)
    x, y, width, height = focused.crop
    assert 0 <= x < x + width <= plan.width
    assert 0 <= y < y + height <= plan.height


def test_focus_equals_a_planned_crop() -> None:
    for is_flipped in (False, True):
        steps = [ShortSide(128), CenterCrop(112), Flip(int(is_flipped))]
        view = plan_view(steps, 512, 256, 0, np.random.default_rng(0))
        assert view.focused((8, 16, 32, 32), 64, 64) == view.cropped(8, 16, 32, 32).resized(64, 64)


@pytest.mark.parametrize(
    "box", [(-1, 0, 4, 4), (0, -0.5, 4, 4), (0, 0, 0, 4), (0, 0, 4, -1), (9, 0, 4, 4), (0, 8, 1, 3)]
)
@pytest.mark.parametrize("is_flipped", [False, True])
def test_boxes_beyond_the_view_are_refused(box: tuple[int, int, int, int], is_flipped: bool) -> None:
    view = View(0, 0, 24, 20, 12, 10, is_flipped)
    with pytest.raises(UsageError, match=r"box=.*: x, y, width and height must lie within the view, 12x10 pixels; cut"):
        view.cropped(*box)
    with pytest.raises(UsageError, match="must lie within the view"):
        view.focused(box, 8, 8)


def test_views_of_a_clip_are_counted() -> None:
    assert num_views([]) == 1
    assert num_views([ShortSide(256), ThreeCrops(256)]) == 3
    assert num_views([ThreeCrops(8), RandomCrop(4), ThreeCrops(2), Flip()]) == 9
    seen = [plan_view([ThreeCrops(8), ThreeCrops(2)], 16, 8, i, np.random.default_rng(0)).crop[0] for i in range(9)]
    assert seen == [0, 4, 8, 3, 7, 11, 6, 10, 14]  # the first step's views change fastest


def test_no_steps_give_the_whole_pictures() -> None:
    view = plan_view([], 320, 240, 0, np.random.default_rng(0))
    assert view == View.whole(320, 240)
    assert view.crop == (0, 0, 320, 240)
    assert not view.is_resized


def test_the_same_seed_is_the_same_view() -> None:
    steps = [ShortSide((256, 320)), RandomCrop(224), Flip()]
    plan = [plan_view(steps, 340, 256, 0, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert plan[0] == plan[1] != plan[2]


def test_rectangles_stay_rectangles() -> None:
    view = plan_view([Resize(171, 128), CenterCrop((160, 96))], 320, 240, 0, np.random.default_rng(0))
    assert (view.width, view.height) == (160, 96)
    assert view.crop == (11, 30, 300, 180)
