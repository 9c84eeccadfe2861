"""Which frames are picked: against definitions written out, on constant and variable frame rates."""

import itertools
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidprep.errors import UsageError
from vidprep.sampling import Selection, at_rate, uniform

STEPS = st.lists(st.floats(0.001, 3.0, allow_nan=False), min_size=0, max_size=60)
SELECTIONS = st.sampled_from(["all", "uniform:1", "uniform:16", "stride:1", "stride:7", "fps:1", "fps:8", "fps:0.5"])


def times_of(steps: list[float], start: float = 0.0) -> list[float]:
    """Rising times, rounded to the microsecond as they are known."""
    times = [round(start, 6)]
    for step in steps:
        times.append(round(times[-1] + step, 6))
    return times


@pytest.mark.parametrize(
    ("text", "kind", "number"),
    [
        ("all", "all", 0),
        ("uniform:16", "uniform", 16),
        ("stride:2", "stride", 2),
        ("fps:8", "fps", 8),
        ("fps:0.5", "fps", 0.5),
        ("fps:29.97", "fps", 29.97),
        ("fps:1000", "fps", 1000),
    ],
)
def test_parse(text: str, kind: str, number: float) -> None:
    assert Selection.parse(text) == Selection(kind, number)


@pytest.mark.parametrize(
    "text",
    [
        *("", "al", "all:1", "ALL", "every:2", "uniform", "uniform:", "uniform:0", "uniform:-1", "uniform:1.5"),
        *("uniform:1e3", "uniform: 4", "uniform:4:4", "uniform:\u00b2", "stride:0", "stride:x", "stride:\u00bd"),
        *("fps:0", "fps:0.0", "fps:-8", "fps:nan", "fps:inf", "fps:1001", "fps:.", "fps:1.2.3", "fps:\u2460"),
    ],
)
def test_parse_refuses(text: str) -> None:
    with pytest.raises(UsageError, match=r"must be all, uniform:COUNT, stride:STEP or fps:RATE"):
        Selection.parse(text)


@given(SELECTIONS, STEPS, st.floats(-100, 100))
def test_any_selection_is_rising_and_inside(text: str, steps: list[float], start: float) -> None:
    times = times_of(steps, start)
    indices = Selection.parse(text).indices(times)
    assert indices == sorted(set(indices))
    assert set(indices) <= set(range(len(times)))
    assert indices  # a video that has a frame gives a frame
    assert indices[0] == 0 or text.startswith("uniform")


@given(SELECTIONS)
def test_no_frames_no_indices(text: str) -> None:
    assert Selection.parse(text).indices([]) == []


@given(st.integers(0, 500))
def test_all_and_stride(num_frames: int) -> None:
    times = [float(i) for i in range(num_frames)]
    assert Selection.parse("all").indices(times) == list(range(num_frames))
    assert Selection.parse("stride:1").indices(times) == list(range(num_frames))
    assert Selection.parse("stride:3").indices(times) == [i for i in range(num_frames) if i % 3 == 0]


@given(st.integers(1, 3000), st.integers(1, 300))
def test_uniform_takes_the_middle_of_equal_parts(num_frames: int, count: int) -> None:
    indices = uniform(num_frames, count)
    if num_frames <= count:
        assert indices == list(range(num_frames))
        return
    assert len(indices) == count
    part = Fraction(num_frames, count)
    for i, index in enumerate(indices):
        assert index <= (i + Fraction(1, 2)) * part < index + 1  # the frame that holds the part's middle
    gaps = [after - before for before, after in itertools.pairwise(indices)]
    assert all(gap in (math.floor(part), math.ceil(part)) for gap in gaps)
    assert indices[0] - 0 <= part
    assert num_frames - indices[-1] <= part + 1


@pytest.mark.parametrize(
    ("num_frames", "count", "expected"),
    [(10, 1, [5]), (10, 2, [2, 7]), (10, 5, [1, 3, 5, 7, 9]), (11, 2, [2, 8]), (3, 3, [0, 1, 2]), (0, 4, [])],
)
def test_uniform_by_hand(num_frames: int, count: int, expected: list[int]) -> None:
    assert uniform(num_frames, count) == expected


def on_screen(times: list[float], tick: Fraction) -> int:
    """The last frame shown at or before a time that is known to the microsecond."""
    return max(i for i, time in enumerate(times) if Fraction(time) <= tick + Fraction(1, 10**6))


@given(
    st.lists(st.floats(0.001, 0.5), max_size=20),
    st.sampled_from([0.5, 1, 7, 8, 12.5, 25, 29.97, 30, 60]),
    st.floats(0, 50),
)
def test_at_rate_takes_what_is_on_screen(steps: list[float], fps: float, start: float) -> None:
    times = times_of(steps, start)
    first, last, tick_seconds = Fraction(times[0]), Fraction(times[-1]), 1 / Fraction(fps)
    end = last + (last - first) / max(len(times) - 1, 1) - Fraction(1, 10**6)  # the last one's share of the time
    num_ticks = max(math.ceil((end - first) / tick_seconds), 1)
    expected = {on_screen(times, first + i * tick_seconds) for i in range(num_ticks)}
    near_edge = any(
        abs(Fraction(time) - first - i * tick_seconds - Fraction(1, 10**6)) < Fraction(1, 10**9)
        for time in times
        for i in [round((Fraction(time) - first) / tick_seconds)]
    ) or abs((end - first) / tick_seconds - round((end - first) / tick_seconds)) < Fraction(1, 10**9)
    if not near_edge:  # there the last bit of a float decides
        assert at_rate(times, fps) == sorted(expected)


@pytest.mark.parametrize("source_fps", [Fraction(25), Fraction(30), Fraction(30000, 1001), Fraction(24000, 1001)])
def test_a_constant_rate_at_its_own_rate_is_kept_whole(source_fps: Fraction) -> None:
    times = [round(float(i / source_fps), 6) for i in range(3000)]
    assert at_rate(times, float(source_fps)) == list(range(3000))
    assert at_rate(times, 1000) == list(range(3000))  # nothing is there twice, and nothing is lost


@pytest.mark.parametrize("start", [0.0, 0.04, 1.234567, 3600.0])
def test_a_whole_fraction_of_the_rate_is_a_stride(start: float) -> None:
    times = [round(start + i / 24, 6) for i in range(1000)]
    assert at_rate(times, 8) == list(range(0, 1000, 3))
    assert at_rate(times, 12) == list(range(0, 1000, 2))


def test_a_variable_rate_by_hand() -> None:
    #        0    1    2    3    4    5    6: frames 1 to 3 hurry past, frame 4 stands still for a second
    times = [0.0, 0.5, 0.6, 0.7, 1.0, 2.1, 2.6]
    assert at_rate(times, 1) == [0, 4, 6]  # at 0, 1, 2 and 3 s; at 2 s frame 4 is still on screen
    assert at_rate(times, 2) == [0, 1, 4, 5, 6]  # at 0, 0.5, 1, 1.5, 2, 2.5, 3 s
    assert at_rate(times, 10) == [0, 1, 2, 3, 4, 5, 6]
    assert Selection.parse("fps:2").indices(times) == [0, 1, 4, 5, 6]
    assert Selection.parse("uniform:3").indices(times) == [1, 3, 5]  # by number, not by time


def test_one_frame() -> None:
    assert [Selection.parse(text).indices([7.5]) for text in ("all", "uniform:4", "stride:9", "fps:30")] == [[0]] * 4
