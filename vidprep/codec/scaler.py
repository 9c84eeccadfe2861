"""Frames at smaller sizes, straight from the decoded picture."""

from __future__ import annotations

import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from vidprep.codec.frame import Frame, as_picture, rows


class Scaler:
    """Scales frames to one size and keeps libswscale's filter between calls.

    Its area filter averages all the pixels under an output pixel, so the result is antialiased. It writes planes
    that are interleaved afterwards: so each pixel keeps a chroma of its own (in one go, libswscale gives pairs of
    pixels one where the width is even), in half the time where the width is odd.
    """

    def __init__(self) -> None:
        self._scaler, self._interleaver = VideoReformatter(), VideoReformatter()

    def rgb(self, frame: Frame, width: int, height: int) -> NDArray[np.uint8]:
        """Return the picture at a smaller size [shape=(height, width, 3), dtype=uint8], from the decoded one."""
        if (width, height) == (frame.width, frame.height):
            return frame.rgb()  # libswscale leaves the last columns of unscaled planes unwritten
        planes = self._scaler.reformat(
            frame._picture, width=width, height=height, format="gbrp", interpolation="AREA", threads=1
        )
        return as_picture(rows(self._interleaver.reformat(planes, format="rgb24", threads=1)), width)
