"""Drawing a contact sheet: pictures, motion as colour and arrows, residuals and sound, with Pillow alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from vidprep.pipelines.inspect_cells import Picture, heat_colours, motion_picture, motion_scale, wheel

GUTTER, MARGIN, GAP = 76, 14, 4  # pixels: room for the rows' names, around the sheet, between cells
MIN_WIDTH = 640  # pixels: a title must fit
SOUND_HEIGHT = 88  # pixels
_TITLE_HEIGHT, _CAPTION_HEIGHT, _AXIS_HEIGHT = 28, 18, 18
_WHEEL = 44  # pixels
_RANGE_DB = 80.0
_BACKGROUND, _EMPTY, _TEXT, _QUIET = (21, 23, 28), (33, 36, 43), (232, 234, 238), (148, 154, 166)


@dataclass(frozen=True, slots=True)
class Shot:
    """One column of a sheet: what there is of one frame, at the size of a cell.

    Attributes
    ----------
    caption : str
    seconds : float
        Time on the axis of the sound.
    rgb : ndarray or None [shape=(h, w, 3), dtype=uint8]
    motion : ndarray or None [shape=(h, w, 2), dtype=int16]
        x, y in pixels of the video.
    residual : ndarray or None [shape=(h, w, 3), dtype=uint8]
        Residual + 128.
    """

    caption: str
    seconds: float
    rgb: Picture | None = None
    motion: NDArray[np.int16] | None = None
    residual: Picture | None = None


@dataclass(frozen=True, slots=True)
class Sound:
    """A piece of a spectrogram [shape=(bins, columns), dtype=float32, unit dB] and the time that it covers."""

    start_seconds: float
    end_seconds: float
    decibels: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Panel:
    """One video on a sheet.

    Attributes
    ----------
    title, notes : str
        Its name, and what is said after it in a quieter colour.
    cell : tuple of int
        Width and height of a cell in pixels.
    start_seconds, end_seconds : float
        What the axis of the sound spans.
    """

    title: str
    notes: str
    cell: tuple[int, int]
    shots: Sequence[Shot]
    start_seconds: float
    end_seconds: float
    sounds: Sequence[Sound] = field(default=())

    @property
    def rows(self) -> list[str]:
        """Names of the rows for which at least one frame has something."""
        return [
            row for row in ("rgb", "motion", "residual") if any(getattr(shot, row) is not None for shot in self.shots)
        ]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        width = GUTTER + len(self.shots) * (self.cell[0] + GAP) - GAP
        height = _TITLE_HEIGHT + _CAPTION_HEIGHT + len(self.rows) * (self.cell[1] + GAP)
        return width, height + (SOUND_HEIGHT + _AXIS_HEIGHT if self.sounds else 0)


def draw_sheet(panels: Sequence[Panel]) -> Image.Image:
    """Draw videos below each other on one sheet."""
    width = max(MIN_WIDTH, *(panel.size[0] for panel in panels)) + 2 * MARGIN
    height = sum(panel.size[1] + MARGIN for panel in panels) + MARGIN
    sheet = Image.new("RGB", (width, height), _BACKGROUND)
    top = MARGIN
    for panel in panels:
        _draw_panel(sheet, panel, top)
        top += panel.size[1] + MARGIN
    return sheet


def _draw_panel(sheet: Image.Image, panel: Panel, top: int) -> None:
    draw = ImageDraw.Draw(sheet)
    room = sheet.width - 2 * MARGIN
    title = _fit(panel.title, 15, room)
    draw.text((MARGIN, top), title, _TEXT, _font(15))
    left = MARGIN + _font(15).getlength(title) + 14
    if left + 40 < MARGIN + room:
        draw.text((left, top + 3), _fit(panel.notes, 12, MARGIN + room - left), _QUIET, _font(12))
    top += _TITLE_HEIGHT
    for i, shot in enumerate(panel.shots):
        draw.text((_left(panel, i), top), _fit(shot.caption, 11, panel.cell[0]), _QUIET, _font(11))
    top += _CAPTION_HEIGHT
    scale = motion_scale([shot.motion for shot in panel.shots if shot.motion is not None])
    for row in panel.rows:
        draw.text((MARGIN, top + 1), "RGB" if row == "rgb" else row, _TEXT, _font(13))
        if row == "motion":
            _draw_key(sheet, (MARGIN, top + 22), scale, panel.cell[1] - 22)
        for i, shot in enumerate(panel.shots):
            picture = _cell_picture(shot, row, scale, panel.cell)
            sheet.paste(picture, (_left(panel, i), top))
        top += panel.cell[1] + GAP
    if panel.sounds:
        draw.text((MARGIN, top + 1), "sound", _TEXT, _font(13))
        _draw_sound(sheet, panel, top)


def _left(panel: Panel, column: int) -> int:
    return MARGIN + GUTTER + column * (panel.cell[0] + GAP)


def _cell_picture(shot: Shot, row: str, scale: float, cell: tuple[int, int]) -> Image.Image:
    array = getattr(shot, row)
    if array is None:
        return Image.new("RGB", cell, _EMPTY)
    return motion_picture(array, scale) if row == "motion" else Image.fromarray(array)


def _draw_key(sheet: Image.Image, corner: tuple[int, int], scale: float, room: int) -> None:
    """Draw what the colours mean: the wheel, and the length at its rim."""
    if room < _WHEEL:
        return
    disc, mask = wheel(_WHEEL)
    sheet.paste(disc, corner, mask)
    if room >= _WHEEL + 18:
        text = f"rim {scale:.0f} px"
        ImageDraw.Draw(sheet).text((corner[0], corner[1] + _WHEEL + 3), text, _QUIET, _font(11))


def _draw_sound(sheet: Image.Image, panel: Panel, top: int) -> None:
    """Draw the spectrogram over the whole width, low tones at the bottom, and the time below it."""
    left, width = MARGIN + GUTTER, panel.size[0] - GUTTER
    sheet.paste(Image.fromarray(_spectrogram(panel, width)), (left, top))
    draw = ImageDraw.Draw(sheet)
    pixels_per_second = width / max(panel.end_seconds - panel.start_seconds, 1e-6)
    for shot in panel.shots:  # where the frames above stand
        x = left + (shot.seconds - panel.start_seconds) * pixels_per_second
        bottom = top + SOUND_HEIGHT
        draw.polygon([x - 4, bottom + 5, x + 4, bottom + 5, x, bottom - 1], fill=_TEXT)
        draw.text((x + 7, bottom + 2), f"{shot.seconds:.2f} s", _QUIET, _font(11))


def _spectrogram(panel: Panel, width: int) -> Picture:
    levels = np.full((SOUND_HEIGHT, width), -np.inf, np.float32)
    seconds_per_pixel = max(panel.end_seconds - panel.start_seconds, 1e-6) / width
    for sound in panel.sounds:
        left, right = (
            min(max(round((time - panel.start_seconds) / seconds_per_pixel), 0), width)
            for time in (sound.start_seconds, sound.end_seconds)
        )
        if left == right:
            continue
        num_bins, num_columns = sound.decibels.shape
        columns_per_second = num_columns / (sound.end_seconds - sound.start_seconds)
        first, last = (
            min(
                max((panel.start_seconds + x * seconds_per_pixel - sound.start_seconds) * columns_per_second, 0),
                num_columns,
            )
            for x in (left, right)
        )
        picture = Image.fromarray(sound.decibels[::-1])
        box = (first, 0, last, num_bins)
        levels[:, left:right] = np.asarray(picture.resize((right - left, SOUND_HEIGHT), Image.Resampling.BOX, box))
    heard = levels[np.isfinite(levels)]
    if not heard.size:
        return heat_colours(np.zeros_like(levels))
    top = float(heard.max())
    bottom = max(float(heard.min()), top - _RANGE_DB)
    return heat_colours(np.clip((levels - bottom) / max(top - bottom, 1.0), 0, 1))


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _fit(text: str, size: int, width: float) -> str:
    """Cut a text to a width in pixels; its end says more than its start."""
    font = _font(size)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"...{text}") > width:
        text = text[1:]
    return f"...{text}"
