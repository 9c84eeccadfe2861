"""Which frames are picked: against definitions written out, on constant and variable frame rates, and by the papers."""

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidprep.errors import ShardError, UsageError
from vidprep.sampling import (
    Clips,
    RandomClip,
    Segments,
    Selection,
    UniformClips,
    WholeVideo,
    at_rate,
    on_screen,
    uniform,
)

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


def seen_at(times: list[float], tick: Fraction) -> int:
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
    expected = [seen_at(times, first + i * tick_seconds) for i in range(num_ticks)]
    near_edge = any(
        abs(Fraction(time) - first - i * tick_seconds - Fraction(1, 10**6)) < Fraction(1, 10**9)
        for time in times
        for i in [round((Fraction(time) - first) / tick_seconds)]
    ) or abs((end - first) / tick_seconds - round((end - first) / tick_seconds)) < Fraction(1, 10**9)
    if not near_edge:  # there the last bit of a float decides
        assert on_screen(times, fps) == expected
        assert at_rate(times, fps) == sorted(set(expected))


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


TIMES = {fps: [round(i / fps, 6) for i in range(2000)] for fps in (15, 25)}


def chosen(clips: Clips, num_frames: int, clip: int = 0, seed: int = 0, fps: int = 25) -> list[int]:
    """A clip of a video of a constant rate."""
    return clips.choose(TIMES[fps][:num_frames], clip, np.random.default_rng(seed))


RATES = st.sampled_from([None, 1.0, 8.0, 24.0, 30.0, 60.0])
SHORT = st.sampled_from(["loop", "edge", "repeat"])
LENGTHS = st.integers(1, 40)
RULES = st.one_of(
    st.builds(RandomClip, LENGTHS, st.integers(1, 5), RATES, SHORT),
    st.builds(UniformClips, st.integers(1, 12), LENGTHS, st.integers(1, 5), RATES, SHORT),
    st.builds(Segments, LENGTHS, st.booleans(), SHORT),
)


@given(RULES, STEPS, st.floats(-100, 100), st.integers(0, 99))
def test_each_video_gives_as_many_frames(rule: Any, steps: list[float], start: float, seed: int) -> None:
    times = times_of(steps, start)
    length = rule.count if isinstance(rule, Segments) else rule.length
    for clip in range(rule.num_clips):
        frames = rule.choose(times, clip, np.random.default_rng(seed))
        assert len(frames) == length
        assert all(type(i) is int and 0 <= i < len(times) for i in frames)
        assert frames == rule.choose(times, clip, np.random.default_rng(seed))  # chance comes from the generator alone
        if rule.short != "loop":
            assert frames == sorted(frames)


@pytest.mark.parametrize("rule", [RandomClip(), UniformClips(), Segments(), Segments(random=True), WholeVideo()])
@pytest.mark.parametrize("fps", [None, 8.0])
def test_a_video_without_frames_is_refused(rule: Any, fps: float | None) -> None:
    if fps and not isinstance(rule, Segments):
        rule = type(rule)(fps=fps)
    with pytest.raises(ShardError, match=r"num_frames=0: a clip needs a frame; run vidprep verify"):
        rule.choose([], 0, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomClip(0), r"length=0: must be a whole number from 1 on"),
        (lambda: RandomClip(16, 0), r"stride=0: must be"),
        (lambda: RandomClip(16, 1.5), r"stride=1.5: must be"),
        (lambda: RandomClip(fps=0), r"fps=0: must be above 0"),
        (lambda: RandomClip(fps=math.nan), r"fps=nan: must be"),
        (lambda: RandomClip(fps="8"), r"fps='8': must be"),
        (lambda: RandomClip(short="mirror"), r"short='mirror': must be one of loop, edge, repeat"),
        (lambda: UniformClips(0), r"count=0: must be"),
        (lambda: UniformClips(10, -1), r"length=-1: must be"),
        (lambda: UniformClips(fps=1001), r"fps=1001: must be"),
        (lambda: UniformClips(10).choose([0.0], 10, np.random.default_rng()), r"clip=10: must be one of count=10"),
        (lambda: UniformClips(10).choose([0.0], -1, np.random.default_rng()), r"clip=-1: must be one of count=10"),
        (lambda: Segments(0), r"count=0: must be"),
        (lambda: Segments(short="last"), r"short='last': must be"),
        (lambda: WholeVideo(stride=0), r"stride=0: must be"),
        (lambda: WholeVideo(fps=-1), r"fps=-1: must be"),
    ],
)
def test_clips_that_cannot_be_meant(make: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


@given(st.integers(1, 60), LENGTHS, st.integers(1, 4))
def test_a_random_clip_begins_anywhere(num_frames: int, length: int, stride: int) -> None:
    rule = RandomClip(length, stride)
    last = num_frames - (length - 1) * stride - 1
    starts = set()
    for seed in range(40):
        frames = chosen(rule, num_frames, seed=seed)
        starts.add(frames[0])
        if last >= 0:
            assert frames == list(range(frames[0], frames[0] + (length - 1) * stride + 1, stride))
    assert starts <= set(range(max(last, 0) + 1))
    assert len(starts) > min(max(last, 0), 3)  # 40 draws of 4 or more starts give at least 4 of them: derandomized


def test_all_starts_are_equally_likely() -> None:
    rng = np.random.default_rng(3)
    times = [i / 25 for i in range(20)]
    starts = [RandomClip(16).choose(times, 0, rng)[0] for _ in range(5000)]
    counts = np.bincount(starts, minlength=5)
    assert len(counts) == 5  # 0 to 4: the last possible one included
    assert (abs(counts - 1000) < 5 * math.sqrt(800)).all()


def test_short_videos_by_hand() -> None:
    assert chosen(RandomClip(7, short="loop"), 3) == [0, 1, 2, 0, 1, 2, 0]  # Hara et al.
    assert chosen(RandomClip(7, short="edge"), 3) == [0, 1, 2, 2, 2, 2, 2]  # Charades
    assert chosen(RandomClip(7, short="repeat"), 3) == [0, 0, 1, 1, 1, 2, 2]
    assert chosen(RandomClip(4, 2, short="loop"), 5) == [0, 2, 4, 1]
    assert chosen(RandomClip(4, 2, short="edge"), 5) == [0, 2, 4, 4]
    assert chosen(UniformClips(2, 3), 2, clip=1) == [0, 1, 0]
    assert chosen(Segments(5), 2) == [0, 0, 1, 1, 1]
    assert chosen(Segments(5, random=True), 2) == [0, 0, 1, 1, 1]
    assert chosen(Segments(5, short="edge"), 2) == [0, 1, 1, 1, 1]  # AdaFocus
    assert chosen(Segments(5, short="loop"), 2) == [0, 1, 0, 1, 0]


@given(st.integers(1, 15), st.integers(1, 40))
def test_repeat_shows_each_frame_as_often_as_it_can(num_frames: int, length: int) -> None:
    if num_frames < length:
        counts = np.bincount(chosen(RandomClip(length, short="repeat"), num_frames), minlength=num_frames)
        assert counts.max() - counts.min() <= 1


@given(st.integers(1, 400), st.integers(2, 12), st.integers(1, 32), st.integers(1, 3))
def test_uniform_clips_reach_from_end_to_end(num_frames: int, count: int, length: int, stride: int) -> None:
    clips = [chosen(UniformClips(count, length, stride), num_frames, clip=i) for i in range(count)]
    starts = [clip[0] for clip in clips]
    last = max(num_frames - (length - 1) * stride - 1, 0)
    assert (starts[0], starts[-1]) == (0, last)
    gaps = {after - before for before, after in itertools.pairwise(starts)}
    assert gaps <= {last // (count - 1), last // (count - 1) + 1}
    if num_frames > (length - 1) * stride:
        assert clips[-1][-1] == num_frames - 1 or stride > 1
        assert all(clip == list(range(clip[0], clip[0] + length * stride, stride)) for clip in clips)


def test_one_uniform_clip_is_the_middle_one() -> None:
    assert chosen(UniformClips(1, 4), 10) == [3, 4, 5, 6]
    assert UniformClips(7).num_clips == 7


def test_uniform_clips_stand_where_charades_and_tsm_have_them() -> None:
    """Shifts of ``linspace(0, 1, 10)`` times the last start, cut; floats may lose one where the number is whole."""
    for num_frames in range(64, 400):
        last = num_frames - 64
        starts = [chosen(UniformClips(10, 64, short="edge"), num_frames, clip=i)[0] for i in range(10)]
        tsm, charades = np.linspace(0, last, 10, dtype=int), (np.linspace(0, 1, 10) * last).astype(int)
        for i in range(10):
            for other in (tsm[i], charades[i]):
                assert other == starts[i] or (other == starts[i] - 1 and i * last % 9 == 0)


@given(st.integers(1, 2000), st.sampled_from([3, 8, 10, 12, 16]), st.integers(0, 9))
def test_random_segments_are_those_of_tsn(num_frames: int, count: int, seed: int) -> None:
    frames = chosen(Segments(count, random=True), num_frames, seed=seed)
    duration = num_frames // count
    if duration:
        assert [i // duration for i in frames] == list(range(count))  # one of each part, the rest at the end left out
    else:
        assert frames == chosen(Segments(count), num_frames)


def test_random_segments_take_every_frame_of_a_part() -> None:
    frames = np.array([chosen(Segments(3, random=True), 17, seed=seed) for seed in range(300)])
    for i in range(3):
        assert set(frames[:, i]) == set(range(5 * i, 5 * i + 5))
    assert len(set(frames[:, 0] - frames[:, 1])) > 3  # parts don't share their chance


@pytest.mark.parametrize("count", [3, 8, 10, 12, 16])
def test_middle_segments_are_those_of_tsn(count: int) -> None:
    """``int(tick / 2 + tick * i)`` in floats, short videos included; it may lose one where the number is whole."""
    for num_frames in range(1, 600):
        tick = num_frames / count
        floats = [int(tick / 2 + tick * i) for i in range(count)]
        frames = chosen(Segments(count), num_frames)
        wrong = [i for i in range(count) if frames[i] != floats[i]]
        assert all((2 * i + 1) * num_frames % (2 * count) == 0 and floats[i] == frames[i] - 1 for i in wrong)
        assert count in (3, 10, 12) or not wrong  # powers of two divide exactly


@given(st.integers(1, 300), st.integers(1, 4), st.integers(0, 99))
def test_a_rate_is_what_extraction_at_that_rate_gives(num_frames: int, length: int, seed: int) -> None:
    times = [round(i / 24, 6) for i in range(num_frames)]
    stored = at_rate(times, 8)
    thinned = [times[i] for i in stored]
    for clip in range(3):
        for rule in (RandomClip, lambda *options, **more: UniformClips(3, *options, **more)):
            one = rule(length, 2, fps=8).choose(times, clip, np.random.default_rng(seed))
            other = rule(length, 2).choose(thinned, clip, np.random.default_rng(seed))
            assert one == [stored[i] for i in other]
    assert WholeVideo(fps=8).choose(times, 0, np.random.default_rng(0)) == stored


def test_a_rate_above_the_videos_shows_frames_again() -> None:
    frames = chosen(RandomClip(32, 2, fps=30), 60, fps=15)  # 64 ticks of 1/30 s are 32 frames of 1/15 s
    assert frames == list(range(frames[0], frames[0] + 32))
    frames = chosen(RandomClip(32, 1, fps=30), 60, fps=15)
    assert {b - a for a, b in itertools.pairwise(frames)} == {0, 1}
    assert frames[-1] - frames[0] in (15, 16)


def test_a_rate_follows_a_variable_clock() -> None:
    times = [0.0, 0.5, 0.6, 0.7, 1.0, 2.1, 2.6]
    rng = np.random.default_rng(0)
    assert UniformClips(1, 7, fps=2).choose(times, 0, rng) == [0, 1, 4, 4, 4, 5, 6]  # at 0, 0.5, ..., 3 s
    assert UniformClips(1, 3, 3, fps=2).choose(times, 0, rng) == [0, 4, 6]  # at 0, 1.5 and 3 s
    assert UniformClips(2, 3, fps=2).choose(times, 1, rng) == [4, 5, 6]


@given(st.integers(1, 100), st.integers(1, 9))
def test_a_whole_video(num_frames: int, stride: int) -> None:
    assert chosen(WholeVideo(), num_frames) == list(range(num_frames))
    assert chosen(WholeVideo(stride), num_frames) == list(range(0, num_frames, stride))
    assert WholeVideo().num_clips == 1
