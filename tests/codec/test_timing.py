"""Presentation times: strictly increasing whatever the container says, and untouched where it says it well."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidprep.codec.timing import REORDER_WINDOW, microseconds, repair_times, zip_exactly
from vidprep.errors import DecodeError

STEP = 0.04
seconds = st.floats(-1e4, 1e5).map(lambda x: round(x, 3))
any_times = st.lists(st.one_of(st.none(), seconds), max_size=60)
increasing = st.lists(seconds, max_size=60, unique=True).map(sorted)


@given(any_times, st.sampled_from([0, 1, REORDER_WINDOW]))
def test_one_for_each_and_strictly_increasing(times: list[float | None], window: int) -> None:
    repaired = [time for time, _ in repair_times(times, STEP, window)]
    assert len(repaired) == len(times)
    assert all(math.isfinite(time) for time in repaired)
    assert all(a < b for a, b in itertools.pairwise(repaired))


@given(increasing, st.sampled_from([0, 1, REORDER_WINDOW]))
def test_good_times_stay(times: list[float], window: int) -> None:
    assert list(repair_times(times, STEP, window)) == [(time, False) for time in times]


@given(increasing, st.randoms(use_true_random=False))
def test_a_shuffle_within_the_window_is_sorted(times: list[float], random: object) -> None:
    """Each time moves by fewer places than the window holds."""
    keys = [i + random.uniform(0, REORDER_WINDOW) for i in range(len(times))]  # type: ignore[attr-defined]
    shuffled = [time for _, time in sorted(zip(keys, times, strict=True))]
    repaired = list(repair_times(shuffled, STEP))
    assert [time for time, _ in repaired] == times
    assert [changed for _, changed in repaired] == [a != b for a, b in zip(times, shuffled, strict=True)]


@given(any_times)
def test_changes_are_flagged(times: list[float | None]) -> None:
    for window in (0, REORDER_WINDOW):
        for (time, changed), given_time in zip(repair_times(times, STEP, window), times, strict=True):
            assert changed == (time != given_time)


def test_missing_times_follow_their_predecessor() -> None:
    times = [1.0, None, None, 2.0, None]
    expected = [1.0, 1.04, 1.08, 2.0, 2.04]
    for window in (0, REORDER_WINDOW):
        assert [time for time, _ in repair_times(times, STEP, window)] == pytest.approx(expected)


def test_without_any_time_they_start_at_zero() -> None:
    repaired = list(repair_times([None] * 4, 0.5))
    assert repaired == [(0.0, True), (0.5, True), (1.0, True), (1.5, True)]


def test_equal_times_are_spread() -> None:
    assert [time for time, _ in repair_times([3.0, 3.0, 3.0], 0.5)] == [3.0, 3.5, 4.0]


@pytest.mark.parametrize("window", [1, 2, REORDER_WINDOW])
def test_one_equal_time_changes_alone(window: int) -> None:
    times = [0, 0.01, 0.01, 0.03, 0.04, 0.05, 0.06]
    repaired = list(repair_times(times, STEP, window))
    assert [time for time, _ in repaired] == pytest.approx([0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06])
    assert [changed for _, changed in repaired] == [False, False, True, False, False, False, False]


@given(st.lists(st.one_of(st.none(), st.sampled_from([0.0, 1e-6, 5e-6, 0.04])), max_size=40), st.integers(0, 16))
def test_they_differ_to_the_microsecond(times: list[float | None], window: int) -> None:
    """However many must lie between two known times."""
    repaired = [microseconds(time) for time, _ in repair_times(times, STEP, window)]
    assert all(a < b for a, b in itertools.pairwise(repaired))


def test_without_a_window_order_is_not_trusted() -> None:
    assert [time for time, _ in repair_times([0.0, 2.0, 1.0, 3.0], 0.5, window=0)] == [0.0, 2.0, 2.5, 3.0]


def test_packed_b_frames_as_xvid_numbers_them() -> None:
    """Decoding order I P B B P B B: the anchors come with the times of the B-frames before them."""
    times = [0.0, 0.08, 0.12, 0.04, 0.2, 0.24, 0.16]
    assert [time for time, _ in repair_times(times, STEP)] == sorted(times)


def test_it_is_lazy_and_looks_ahead_no_further_than_the_window() -> None:
    taken = itertools.count()
    source = (i * STEP for i in taken)
    repaired = repair_times(source, STEP)
    for _ in range(100):
        next(repaired)
    assert next(taken) <= 100 + REORDER_WINDOW + 1


class TestZipExactly:
    def test_pairs(self) -> None:
        assert list(zip_exactly(iter("abc"), [1, 2, 3], "x")) == [("a", 1), ("b", 2), ("c", 3)]

    @pytest.mark.parametrize(("pictures", "times"), [("ab", [1.0]), ("a", [1.0, 2.0]), ("", [1.0]), ("a", [])])
    def test_numbers_must_agree(self, pictures: str, times: list[float]) -> None:
        with pytest.raises(DecodeError, match=rf"in clip and num_timestamps={len(times)}: they must agree"):
            list(zip_exactly(iter(pictures), times, "clip"))

    def test_nothing_at_all(self) -> None:
        assert list(zip_exactly(iter(""), [], "x")) == []
