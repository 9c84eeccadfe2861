"""Parts of pictures: only what is wanted is converted."""

from __future__ import annotations

from collections.abc import Callable

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from vidprep.codec.frame import Frame, rows
from vidprep.codec.residual import cropped_residual
from vidprep.errors import UsageError

Crop = tuple[int, int, int, int]
"""Left, top, width and height in pixels."""

_Lines = tuple[NDArray[np.uint8], int, int]  # bytes, where a picture begins in them, and from one line to the next


class Cropper:
    """Cuts one crop out of frames, and keeps libswscale's tables between calls; for one thread at a time.

    Parameters
    ----------
    crop : tuple of int, optional
        x, y, width and height in pixels; None stands for the whole picture.
    width, height : int
        The picture's.

    Raises
    ------
    UsageError
        If the crop reaches beyond the picture.
    """

    def __init__(self, crop: Crop | None, width: int, height: int) -> None:
        self.crop = _inside(crop, width, height)
        self.is_whole = self.crop == (0, 0, width, height)
        self.shape = self.crop[3], self.crop[2], 3
        self._is_small = 2 * self.crop[2] * self.crop[3] <= width * height  # else cutting costs what it saves
        self._converter = VideoReformatter()
        self._last: tuple[Frame, _Lines] | None = None

    def rgb(self, frame: Frame) -> NDArray[np.uint8]:
        """Return the crop of a picture [shape=(h, w, 3), dtype=uint8], bit for bit that of the whole picture."""
        data, start, step = self._lines(frame)
        return np.ndarray(self.shape, np.uint8, data, start, (step, 3, 1))

    def cut(self, read: Callable[..., NDArray[np.int16]], out: NDArray[np.int16]) -> None:
        """Write the crop of a field that ``read(out=...)`` gives [shape=(H, W, 2), dtype=int16] into ``out``."""
        x, y, width, height = self.crop
        if self.is_whole:
            read(out=out)
        else:
            out[...] = read()[y : y + height, x : x + width]

    def accumulated_residual(self, frame: Frame, *, out: NDArray[np.int16] | None = None) -> NDArray[np.int16]:
        """Return the crop of :meth:`Frame.accumulated_residual` [shape=(h, w, 3), dtype=int16]."""
        return cropped_residual(*self._lines(frame), frame._current_track().picture, self.crop, out=out)

    def _lines(self, frame: Frame) -> _Lines:
        if self._last is None or self._last[0] is not frame:
            self._last = frame, self._convert(frame)
        return self._last[1]

    def _convert(self, frame: Frame) -> _Lines:
        x, y, _, _ = self.crop
        part = self._part(frame._picture) if self._is_small else None
        if part is None:
            lines = frame.rgb_rows()
        else:
            lines = rows(self._converter.reformat(part, format="rgb24", threads=1))
            x, y = x % 2, y % 2
        step = lines.shape[1]
        return lines.ravel(), y * step + 3 * x, step

    def _part(self, picture: av.VideoFrame) -> av.VideoFrame | None:
        """Return a view of the chroma pixels that the crop touches; None where libswscale looks beyond them.

        For 8-bit 4:2:0 of even height it converts each two by two pixels alone. Otherwise it interpolates.
        """
        x, y, width, height = self.crop
        if picture.format.name != "yuv420p" or picture.height % 2:
            return None
        x0, y0, x1, y1 = x // 2, y // 2, -(-(x + width) // 2), -(-(y + height) // 2)
        luma, *chroma = (_plane(plane) for plane in picture.planes)
        x_end = min(2 * x1, picture.width)
        if x_end % 2:  # PyAV makes no such view
            return None
        planes = [luma[2 * y0 : 2 * y1, 2 * x0 : x_end], *(plane[y0:y1, x0:x1] for plane in chroma)]
        part = av.VideoFrame.from_dlpack(planes, format="yuv420p", width=x_end - 2 * x0, height=2 * (y1 - y0))
        part.colorspace, part.color_range = picture.colorspace, picture.color_range
        return part


def _plane(plane: av.video.plane.VideoPlane) -> NDArray[np.uint8]:
    return np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)


def _inside(crop: Crop | None, width: int, height: int) -> Crop:
    if crop is None:
        return 0, 0, width, height
    if not (isinstance(crop, tuple | list) and len(crop) == 4 and all(isinstance(side, int) for side in crop)):
        raise UsageError(f"crop={crop}: must be x, y, width and height, whole numbers of pixels")
    x, y, w, h = crop
    if x < 0 or y < 0 or w < 1 or h < 1 or x + w > width or y + h > height:
        raise UsageError(f"crop={crop}: x, y, width and height must lie within the picture, {width}x{height}")
    return x, y, w, h
