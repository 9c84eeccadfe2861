"""The drawing of contact sheets: colours, arrows, cells, the axis of the sound, the layout."""

import colorsys
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from vidprep.pipelines import inspect_cells, inspect_draw
from vidprep.pipelines.inspect_cells import (
    cell_size,
    heat_colours,
    motion_colours,
    motion_picture,
    motion_scale,
    shrink,
    shrink_field,
    wheel,
)
from vidprep.pipelines.inspect_draw import GAP, GUTTER, MARGIN, MIN_WIDTH, SOUND_HEIGHT, Panel, Shot, Sound, draw_sheet

RIGHT, DOWN, LEFT, UP = (1, 0), (0, 1), (-1, 0), (0, -1)
BLACK = (0, 0, 0)
CELL = (120, 90)


def field(vector: tuple[int, int], height: int = 90, width: int = 120) -> NDArray[np.int16]:
    return np.full((height, width, 2), vector, np.int16)


def colour(vector: tuple[int, int], scale: float) -> tuple[int, ...]:
    return tuple(motion_colours(field(vector, 1, 1), scale)[0, 0].tolist())


def grey(level: int) -> NDArray[np.uint8]:
    return np.full((CELL[1], CELL[0], 3), level, np.uint8)


def panel(**changes: Any) -> Panel:
    shots = [Shot(f"{i}   P   {i / 10:.2f} s", i / 10, grey(50), field(RIGHT), grey(128)) for i in range(6)]
    return replace(Panel("a title", "notes", CELL, shots, 0.0, 0.6), **changes)


def sheet_of(*panels: Panel) -> NDArray[np.uint8]:
    return np.asarray(draw_sheet(panels))


def cell_of(sheet: NDArray[np.uint8], row: int, column: int) -> NDArray[np.uint8]:
    """Cut a cell of the first panel out of a sheet."""
    head = inspect_draw._TITLE_HEIGHT + inspect_draw._CAPTION_HEIGHT
    top, left = MARGIN + head + row * (CELL[1] + GAP), MARGIN + GUTTER + column * (CELL[0] + GAP)
    return sheet[top : top + CELL[1], left : left + CELL[0]]


# Motion as colour


def test_no_motion_is_neutral_and_black() -> None:
    assert colour((0, 0), 5.0) == BLACK


def test_each_direction_has_its_own_hue() -> None:
    assert colour(RIGHT, 1.0) == (255, 0, 0)
    assert colour(LEFT, 1.0) == (0, 255, 255)
    down, up = colour(DOWN, 1.0), colour(UP, 1.0)
    assert down == (128, 255, 0)
    assert up == (128, 0, 255) or up == (127, 0, 255)
    hues = [colorsys.rgb_to_hsv(*colour(vector, 1.0))[0] for vector in (RIGHT, DOWN, LEFT, UP)]
    assert np.diff(hues) == pytest.approx(0.25, abs=0.01)


def test_opposite_directions_have_opposite_colours() -> None:
    for vector in (RIGHT, DOWN, (3, 4), (-5, 2)):
        both = np.add(colour(vector, 1.0), colour((-vector[0], -vector[1]), 1.0))
        assert np.abs(both - 255).max() <= 1


@given(st.integers(-200, 200), st.integers(-200, 200), st.floats(0.5, 300))
def test_colours_are_those_of_the_hsv_wheel(x: int, y: int, scale: float) -> None:
    hue = math.atan2(y, x) / (2 * math.pi) % 1
    expected = colorsys.hsv_to_rgb(hue, 1.0, min(math.hypot(x, y) / scale, 1.0))
    assert np.abs(np.subtract(colour((x, y), scale), 255 * np.array(expected))).max() <= 0.51


def test_longer_vectors_are_brighter_up_to_the_scale() -> None:
    brightness = [max(colour((x, 0), 4.0)) for x in (0, 1, 2, 3, 4, 8)]
    assert brightness[:5] == sorted(set(brightness[:5]))
    assert brightness[4] == brightness[5] == 255


def test_scale_is_the_long_vectors_length_without_outliers() -> None:
    motion = np.zeros((10, 100, 2), np.int16)
    motion[:, :50] = (3, 4)
    motion[0, 0] = (300, 400)
    assert motion_scale([motion]) == pytest.approx(5.0)
    assert motion_scale([np.zeros((4, 4, 2), np.int16), motion]) == pytest.approx(5.0)


def test_scale_never_blows_up_noise() -> None:
    for fields in ([], [field((0, 0))], [field((1, 0))]):
        assert motion_scale(fields) == inspect_cells._MIN_SCALE


def test_scale_of_the_longest_vectors_does_not_overflow() -> None:
    assert motion_scale([field((32767, 0)), field((-32768, 0))]) >= 32767


def test_wheel_shows_the_colours_of_its_own_directions() -> None:
    disc, mask = (np.asarray(image) for image in wheel(44))
    assert disc.shape == (44, 44, 3)
    assert mask.shape == (44, 44)
    assert mask[0, 0] == mask[0, -1] == mask[-1, 0] == mask[-1, -1] == 0
    assert mask[22, 22] == mask[22, 1] == mask[1, 22] == 255
    assert disc[22, 22].max() < 20
    for (x, y), vector in zip(((42, 22), (22, 42), (1, 22), (22, 1)), (RIGHT, DOWN, LEFT, UP), strict=True):
        assert np.abs(disc[y, x].astype(int) - colour(vector, 1.0)).max() < 25


# Arrows


def arrow_offset(vector: tuple[int, int]) -> NDArray[np.float64]:
    """Where the ink of a field's arrows lies, against the middle of the grid's cell [shape=(2,)], x, y."""
    side = inspect_cells.ARROW_STEP
    ink = np.asarray(inspect_cells._arrows(field(vector, side, side), float(np.hypot(*vector)))).astype(float)
    assert ink.sum() > 0
    y, x = np.indices(ink.shape)
    return np.array([(ink * x).sum(), (ink * y).sum()]) / ink.sum() - (side // 2 - 0.5)


@pytest.mark.parametrize("vector", [RIGHT, DOWN, LEFT, UP, (1, 1), (-1, 1)])
def test_an_arrow_carries_its_head_in_front(vector: tuple[int, int]) -> None:
    offset = arrow_offset((20 * vector[0], 20 * vector[1]))
    assert np.dot(offset, vector) / np.hypot(*vector) > 1.0
    assert abs(np.cross([*offset, 0], [*vector, 0])[2]) < 1.0


def test_short_motion_gets_no_arrow() -> None:
    assert not np.asarray(inspect_cells._arrows(field((0, 0)), 2.0)).any()
    assert not np.asarray(inspect_cells._arrows(field((1, 0)), 20.0)).any()


def test_arrows_stay_within_their_place_in_the_grid() -> None:
    motion = field((0, 0))
    motion[:36, :36] = (4000, -4000)
    ink = np.asarray(inspect_cells._arrows(motion, 3.0))
    assert ink[:38, :38].any()
    assert not ink[40:].any()
    assert not ink[:, 40:].any()


def test_arrows_are_painted_over_the_colours() -> None:
    picture, colours = np.asarray(motion_picture(field((9, 0)), 9.0)), motion_colours(field((9, 0)), 9.0)
    changed = (picture != colours).any(axis=-1)
    assert 0.01 < changed.mean() < 0.4
    assert picture[changed].astype(int).sum() > colours[changed].astype(int).sum()


# The colours of sound


def test_heat_goes_from_black_to_light_and_gets_steadily_lighter() -> None:
    values = np.linspace(0, 1, 101)
    light = heat_colours(values) @ np.array([0.2126, 0.7152, 0.0722])
    assert light[0] < 2
    assert light[-1] > 230
    assert (np.diff(light) > 0).all()


def test_heat_has_its_anchors_at_even_places_and_keeps_the_shape() -> None:
    anchors = np.array(inspect_cells._HEAT)
    assert np.array_equal(heat_colours(np.linspace(0, 1, len(anchors))), anchors)
    assert heat_colours(np.zeros((3, 5))).shape == (3, 5, 3)


# Cells


@given(st.integers(1, 8000), st.integers(1, 8000), st.integers(16, 400))
def test_a_cell_fits_its_box_and_keeps_the_aspect(width: int, height: int, box: int) -> None:
    cell = cell_size(width, height, box)
    assert max(cell) == box
    assert min(cell) >= 1
    assert abs(cell[0] * height - cell[1] * width) <= max(width, height)  # within a pixel


def test_shrinking_to_the_same_size_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    motion = rng.integers(-9, 9, (30, 40, 2), dtype=np.int16)
    assert np.array_equal(shrink(picture, (40, 30)), picture)
    assert np.array_equal(shrink_field(motion, (40, 30)), motion)


def test_a_smaller_picture_is_averaged_and_a_larger_one_repeated() -> None:
    checker = np.indices((64, 64)).sum(axis=0) % 2
    picture = np.repeat(255 * checker.astype(np.uint8)[..., np.newaxis], 3, axis=-1)
    inside = shrink(picture, (16, 16))[2:-2, 2:-2].astype(int)
    assert np.abs(inside - 127).max() < 12
    assert np.array_equal(shrink(picture, (192, 192)), picture.repeat(3, axis=0).repeat(3, axis=1))


def test_shrinking_takes_a_picture_with_padded_rows() -> None:
    rng = np.random.default_rng(1)
    rows = rng.integers(0, 256, (10, 3 * 12 + 7), dtype=np.uint8)
    padded = np.lib.stride_tricks.as_strided(rows, (10, 12, 3), (rows.strides[0], 3, 1))
    assert np.array_equal(shrink(padded, (12, 10)), rows[:, :36].reshape(10, 12, 3))


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60), st.integers(1, 60))
def test_a_field_of_another_size_holds_only_true_vectors_in_order(w: int, h: int, new_w: int, new_h: int) -> None:
    y, x = np.indices((h, w))
    small = shrink_field(np.stack([x, y], axis=-1).astype(np.int16), (new_w, new_h))
    assert small.shape == (new_h, new_w, 2)
    expected = (np.arange(new_w) + 0.5) * w / new_w
    assert np.array_equal(small[0, :, 0], np.floor(np.round(expected, 9)))
    assert (small[:, :, 0] == small[0, :, 0]).all()
    assert (small[:, :, 1] == small[:, :1, 1]).all()
    assert (np.diff(small[:, 0, 1]) >= 0).all()


# The axis of the sound


def strip(sounds: list[Sound], width: int = 600, **changes: Any) -> NDArray[np.int64]:
    """Brightness of a drawn spectrogram [shape=(SOUND_HEIGHT, width)]."""
    picture = inspect_draw._spectrogram(panel(sounds=sounds, start_seconds=0.0, end_seconds=6.0, **changes), width)
    assert picture.shape == (SOUND_HEIGHT, width, 3)
    return picture.astype(int).sum(axis=-1)


def quiet(bins: int = 16, columns: int = 60) -> NDArray[np.float32]:
    return np.full((bins, columns), -80, np.float32)


def test_a_sound_stands_at_its_time_and_pitch() -> None:
    levels = quiet()
    levels[0, 20] = 0  # the lowest band, 2.0 s to 2.1 s
    light = strip([Sound(0.0, 6.0, levels)])
    y, x = np.nonzero(light > 300)
    assert (x.min(), x.max()) == (200, 209)
    assert y.max() == SOUND_HEIGHT - 1
    assert y.min() >= SOUND_HEIGHT - 1 - SOUND_HEIGHT / 16


def test_a_sound_that_begins_late_leaves_the_start_black() -> None:
    light = strip([Sound(1.5, 4.5, np.linspace(-30, 0, 480, dtype=np.float32).reshape(16, 30))])
    heard = np.flatnonzero(light.max(axis=0) > 100)
    assert (heard[0], heard[-1]) == (150, 449)
    assert (light[:, :150] == light[0, 0]).all()


@pytest.mark.parametrize(("start", "end"), [(-3.0, 6.0), (0.0, 9.0), (-6.0, 12.0)])
def test_a_sound_is_cut_where_the_picture_ends(start: float, end: float) -> None:
    times = start + (np.arange(900) + 0.5) * (end - start) / 900
    levels = quiet(columns=900)
    levels[:, (times > 2) & (times < 4)] = 0
    x = np.flatnonzero(strip([Sound(start, end, levels)]).max(axis=0) > 400)
    assert abs(x[0] - 200) <= 1
    assert abs(x[-1] - 399) <= 1


def test_a_sound_that_is_much_longer_than_the_picture_takes_no_memory() -> None:
    light = strip([Sound(-1e6, 1e6, quiet())])
    assert light.shape == (SOUND_HEIGHT, 600)


def test_a_sound_outside_the_picture_draws_nothing() -> None:
    silent = strip([])
    assert np.array_equal(strip([Sound(7.0, 9.0, quiet() + 80)]), silent)
    assert np.array_equal(strip([Sound(-3.0, -1.0, quiet() + 80)]), silent)
    assert len(np.unique(silent)) == 1


def test_pieces_are_drawn_as_one() -> None:
    levels = np.random.default_rng(2).uniform(-70, 0, (16, 60)).astype(np.float32)
    whole = strip([Sound(0.0, 6.0, levels)])
    pieces = [Sound(0.0, 2.0, levels[:, :20]), Sound(2.0, 6.0, levels[:, 20:])]
    assert np.array_equal(strip(pieces), whole)


def test_silence_is_black() -> None:
    assert strip([Sound(0.0, 6.0, quiet())]).max() < 10


def test_what_is_far_below_the_peak_is_black() -> None:
    levels = quiet() - 100
    levels[3, 10] = -20
    levels[5, 10] = -60
    levels[8, 40] = -101
    light = strip([Sound(0.0, 6.0, levels)])
    assert light[:, 300:].max() < 10
    assert light[:, 100:110].max() > 600


# The layout


def test_a_sheet_has_the_size_that_its_panel_says() -> None:
    one = panel()
    width, height = one.size
    assert width == GUTTER + 6 * CELL[0] + 5 * GAP
    assert draw_sheet([one]).size == (width + 2 * MARGIN, height + 2 * MARGIN)


def test_panels_stand_below_each_other() -> None:
    one, two = panel(), panel(title="another", sounds=[Sound(0.0, 0.6, quiet())])
    sheet = draw_sheet([one, two])
    assert sheet.height == one.size[1] + two.size[1] + 3 * MARGIN
    alone = sheet_of(two)
    below = np.asarray(sheet)[one.size[1] + MARGIN :]
    assert np.array_equal(below, alone)


def test_a_narrow_sheet_is_wide_enough_for_a_title() -> None:
    one = panel(shots=panel().shots[:1])
    assert one.size[0] < MIN_WIDTH
    assert draw_sheet([one]).width == MIN_WIDTH + 2 * MARGIN


def test_cells_hold_the_pictures() -> None:
    shots = [replace(shot, rgb=grey(40 + 20 * i), residual=grey(100 + 10 * i)) for i, shot in enumerate(panel().shots)]
    sheet = sheet_of(panel(shots=shots))
    for i, shot in enumerate(shots):
        assert shot.motion is not None
        assert np.array_equal(cell_of(sheet, 0, i), shot.rgb)
        assert np.array_equal(cell_of(sheet, 1, i), motion_picture(shot.motion, inspect_cells._MIN_SCALE))
        assert np.array_equal(cell_of(sheet, 2, i), shot.residual)


@pytest.mark.parametrize("missing", ["rgb", "motion", "residual"])
def test_a_row_without_anything_is_left_out(missing: str) -> None:
    without = panel(shots=[replace(shot, **{missing: None}) for shot in panel().shots])
    assert without.rows == [row for row in ("rgb", "motion", "residual") if row != missing]
    assert without.size[1] == panel().size[1] - CELL[1] - GAP
    assert draw_sheet([without]).height == without.size[1] + 2 * MARGIN


def test_a_row_with_one_thing_missing_keeps_the_place_empty() -> None:
    shots = list(panel().shots)
    shots[2] = replace(shots[2], residual=None)
    cell = cell_of(sheet_of(panel(shots=shots)), 2, 2)
    assert (cell == inspect_draw._EMPTY).all()


def test_a_panel_of_sound_alone_is_drawn() -> None:
    shots = [Shot(shot.caption, shot.seconds) for shot in panel().shots]
    one = panel(shots=shots, sounds=[Sound(0.0, 0.6, quiet() + np.arange(60, dtype=np.float32))])
    assert one.rows == []
    assert sheet_of(one).max(axis=(1, 2))[-MARGIN - SOUND_HEIGHT :].max() > 200


def test_sound_adds_a_strip_as_wide_as_the_cells() -> None:
    levels = np.zeros((16, 60), np.float32)
    levels[0] = -80
    one = panel(sounds=[Sound(0.0, 0.6, levels)])
    assert one.size[1] > panel().size[1] + SOUND_HEIGHT
    top = MARGIN + panel().size[1]
    row = sheet_of(one)[top + 2]
    loud = np.flatnonzero((row == heat_colours(np.ones(1))[0]).all(axis=-1))
    assert (loud[0], loud[-1]) == (MARGIN + GUTTER, MARGIN + one.size[0] - 1)


def test_the_axis_begins_with_the_picture() -> None:
    """A segment's sound is that of the same minutes from zero on, and so are its markers."""
    levels = np.random.default_rng(3).uniform(-70, 0, (16, 60)).astype(np.float32)
    late = [replace(shot, seconds=shot.seconds + 90) for shot in panel().shots]
    from_zero = panel(sounds=[Sound(-0.1, 0.5, levels)])
    from_90 = panel(sounds=[Sound(89.9, 90.5, levels)], shots=late, start_seconds=90.0, end_seconds=90.6)
    strips = [inspect_draw._spectrogram(one, 600) for one in (from_zero, from_90)]
    assert np.array_equal(*strips)
    top = MARGIN + panel().size[1] + SOUND_HEIGHT
    rows = [(sheet_of(one)[top + 4] == inspect_draw._TEXT).all(axis=-1) for one in (from_zero, from_90)]
    assert rows[0].sum() > 30
    assert np.array_equal(*rows)


def test_markers_show_where_the_frames_stand() -> None:
    one = panel(sounds=[Sound(0.0, 0.6, quiet())])
    row = sheet_of(one)[MARGIN + panel().size[1] + SOUND_HEIGHT + 4]
    width = one.size[0] - GUTTER
    for shot in one.shots:
        x = MARGIN + GUTTER + shot.seconds / 0.6 * width
        assert (row[round(x)] == inspect_draw._TEXT).all()


def test_titles_captions_and_names_are_written() -> None:
    written = sheet_of(panel())
    blank = sheet_of(panel(title="", notes="", shots=[replace(shot, caption="") for shot in panel().shots]))
    changed = np.flatnonzero((written != blank).any(axis=(1, 2)))
    assert changed.min() >= MARGIN
    head = inspect_draw._TITLE_HEIGHT
    assert changed.max() < MARGIN + head + inspect_draw._CAPTION_HEIGHT
    assert (changed < MARGIN + head).any()
    assert (changed >= MARGIN + head).any()
    gutter = blank[MARGIN + head + inspect_draw._CAPTION_HEIGHT :, :GUTTER]
    assert (gutter != inspect_draw._BACKGROUND).any()


def test_notes_give_way_to_a_long_title() -> None:
    long = "folder/" * 60 + "clip.avi"
    assert np.array_equal(sheet_of(panel(title=long, notes="notes")), sheet_of(panel(title=long, notes="others")))
    assert not np.array_equal(sheet_of(panel(notes="notes")), sheet_of(panel(notes="others")))


@given(st.text(max_size=80), st.integers(20, 400))
def test_a_fitted_text_fits_and_keeps_its_end(text: str, width: int) -> None:
    text = text.replace("\n", " ")
    fitted = inspect_draw._fit(text, 12, width)
    length = inspect_draw._font(12).getlength
    assert length(fitted) <= width or fitted == "..."
    assert fitted == text or (fitted.startswith("...") and text.endswith(fitted[3:]))
    if length(text) <= width:
        assert fitted == text


def test_a_cell_too_low_for_the_wheel_gets_none() -> None:
    flat = (120, 40)
    small = np.zeros((40, 120, 3), np.uint8)
    with_key = panel(cell=flat, shots=[Shot("0", 0.0, small, field(RIGHT, 40, 120))] * 6)
    gutter = sheet_of(with_key)[:, MARGIN : MARGIN + 44]
    colourful = gutter.max(axis=-1).astype(int) - gutter.min(axis=-1) > 60
    assert not colourful.any()
    tall = sheet_of(panel())[:, MARGIN : MARGIN + 44]
    assert (tall.max(axis=-1).astype(int) - tall.min(axis=-1) > 60).any()


def test_names_in_any_script_are_no_error() -> None:
    assert sheet_of(panel(title="Übung/视频 🎬.mp4", notes="\u0645\u0631\u062d\u0628\u0627")).any()


def test_equal_panels_give_equal_sheets() -> None:
    assert np.array_equal(sheet_of(panel()), sheet_of(panel()))
    assert isinstance(draw_sheet([panel()]), Image.Image)
