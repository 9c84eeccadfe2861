"""The nouns of a video: its facts, and a frame with its picture and its block vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from vidprep.codec.residual import accumulated_residual, accumulated_residual_uint8
from vidprep.errors import UnsupportedError

if TYPE_CHECKING:
    import av

    from vidprep.codec.motion import Track

BLOCK_DTYPE = np.dtype(
    {
        "names": [
            "source",
            "w",
            "h",
            "src_x",
            "src_y",
            "dst_x",
            "dst_y",
            "motion_x",
            "motion_y",
            "motion_scale",
        ],
        "formats": ["<i4", "u1", "u1", "<i2", "<i2", "<i2", "<i2", "<i4", "<i4", "<u2"],
        "offsets": [0, 4, 5, 6, 8, 10, 12, 24, 28, 32],
        "itemsize": 40,
    }
)
"""One block vector as libavcodec exports it (``AVMotionVector``).

``source`` is -1 for the past and +1 for the future reference; ``w`` and ``h`` are the block's size in pixels;
``dst`` is the block's centre in this frame and ``src`` in the reference, in whole pixels (truncated toward
zero); ``motion / motion_scale`` is source minus destination in pixels, exact.
"""

_NO_BLOCKS: NDArray[np.void] = np.empty(0, BLOCK_DTYPE)
_NO_BLOCKS.flags.writeable = False


@dataclass(frozen=True, slots=True)
class VideoMetadata:
    """What a container says of its video, and what vidprep makes of it.

    Attributes
    ----------
    codec, container, pixel_format : str
        Names as FFmpeg gives them.
    width, height : int
        Size of the coded picture in pixels, before any rotation.
    sample_aspect_ratio : float
        Width of a pixel over its height; 1.0 where unknown.
    rotation_degrees : int
        Counter-clockwise rotation that a player applies.
    fps : float
        Average frame rate that the container claims; 0.0 where it claims none.
    start_seconds : float
        Time of the first video packet.
    container_start_seconds : float
        Time of the first packet of any stream.
    duration_seconds : float or None
        The container's claim; it may be wrong.
    has_audio : bool
        Whether there is an audio stream that can be decoded.
    motion_exact : bool
        Whether the headers promise vectors that can only mean one picture; see :attr:`Video.motion_exact`.
    """

    codec: str
    container: str
    pixel_format: str
    width: int
    height: int
    sample_aspect_ratio: float
    rotation_degrees: int
    fps: float
    start_seconds: float
    container_start_seconds: float
    duration_seconds: float | None
    has_audio: bool
    motion_exact: bool


class Frame:
    """A decoded frame: its place in the video, its picture and its block vectors.

    Attributes
    ----------
    index : int
        Position in display order, from 0.
    picture_type : str
        ``"I"``, ``"P"`` or ``"B"`` (an S-picture counts as P).
    pts_seconds : float
        Presentation time; strictly increasing over the frames of a video.
    gop_index, gop_position : int
        Which group of pictures, and where in it, both from 0; a group begins at each I-frame.
    """

    __slots__ = (
        "_converter",
        "_picture",
        "_rgb",
        "gop_index",
        "gop_position",
        "index",
        "picture_type",
        "pts_seconds",
        "track",
    )

    def __init__(
        self,
        picture: av.VideoFrame,
        converter: VideoReformatter,
        *,
        index: int,
        picture_type: str,
        pts_seconds: float,
        gop_index: int,
        gop_position: int,
    ) -> None:
        self._picture = picture
        self._converter = converter
        self._rgb: NDArray[np.uint8] | None = None
        self.index = index
        self.picture_type = picture_type
        self.pts_seconds = pts_seconds
        self.gop_index = gop_index
        self.gop_position = gop_position
        self.track: Track | None = None

    def __repr__(self) -> str:
        place = f"gop {self.gop_index}:{self.gop_position}, {self.pts_seconds:.3f} s"
        return f"<Frame {self.index} {self.picture_type}, {place}, {self.width}x{self.height}>"

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self._picture.width

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self._picture.height

    @property
    def vectors(self) -> NDArray[np.void]:
        """Block vectors [shape=(N,), dtype=BLOCK_DTYPE], empty for an I-frame."""
        # Through picture.side_data, PyAV ties each frame into a cycle that waits for the garbage collector.
        side_data = SideDataContainer(self._picture).get("MOTION_VECTORS")  # type: ignore[call-arg]
        return _NO_BLOCKS if side_data is None else np.frombuffer(memoryview(side_data), BLOCK_DTYPE)

    def rgb_rows(self) -> NDArray[np.uint8]:
        """Return the picture as rows of bytes [shape=(H, >= 3 * W), dtype=uint8]; a row may be padded at its end."""
        if self._rgb is None:
            self._rgb = _rows(self._converter.reformat(self._picture, format="rgb24", threads=1))
        return self._rgb

    def rgb(self) -> NDArray[np.uint8]:
        """Return the picture [shape=(H, W, 3), dtype=uint8, range 0-255], converted by libswscale once."""
        return _as_picture(self.rgb_rows(), self.width)

    def motion(self, *, future: bool = False, out: NDArray[np.int16] | None = None) -> NDArray[np.int16]:
        """Return the dense MotionField [shape=(H, W, 2), dtype=int16]: x, y, destination minus source, pixels.

        Zero where a block has no vector in the wanted direction (intra blocks) and for pixels whose source
        lies outside the frame; equal to the non-accumulated vectors of CoViAR's loader, bit for bit.

        Parameters
        ----------
        future : bool
            Take the vectors of a B-frame that point to the anchor displayed next.
        out : ndarray, optional
            Array to write into [shape=(H, W, 2), dtype=int16].
        """
        return dense_motion(self.vectors, self.height, self.width, future=future, out=out)

    def accumulated_motion(self, *, out: NDArray[np.int16] | None = None) -> NDArray[np.int16]:
        """Return ``p - source[p]`` towards the I-frame of this GOP [shape=(H, W, 2), dtype=int16]: x, y, pixels.

        Raises
        ------
        UnsupportedError
            If the frame was not tracked (``Video.frames(track="motion")``), or is not the current one.
        """
        return self._current_track().motion(out)

    def accumulated_residual(self, *, out: NDArray[np.int16] | None = None) -> NDArray[np.int16]:
        """Return ``rgb[p] - rgb_of_I[source[p]]`` [shape=(H, W, 3), dtype=int16, range -255 to 255].

        Zero for I-frames. Equal to CoViAR's loader, bit for bit, in RGB order.

        Raises
        ------
        UnsupportedError
            If the frame was not tracked (``Video.frames(track="residual")``), or is not the current one.
        """
        return accumulated_residual(self.rgb_rows(), self._current_track().picture, out=out)

    def accumulated_residual_uint8(self, *, out: NDArray[np.uint8] | None = None) -> tuple[NDArray[np.uint8], int]:
        """Return the accumulated residual + 128, clipped [shape=(H, W, 3), dtype=uint8], and how many were."""
        return accumulated_residual_uint8(self.rgb_rows(), self._current_track().picture, out=out)

    def _current_track(self) -> Track:
        if self.track is None:
            raise UnsupportedError(
                f"index={self.index}: accumulated arrays exist for the current frame of a tracked video only; "
                'use Video.frames(track="residual") and read them before asking for the next frame'
            )
        return self.track


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
        return _as_picture(_rows(self._interleaver.reformat(planes, format="rgb24", threads=1)), width)


def dense_motion(
    blocks: NDArray[np.void],
    height: int,
    width: int,
    *,
    future: bool = False,
    out: NDArray[np.int16] | None = None,
) -> NDArray[np.int16]:
    """Spread block vectors over their pixels; see :meth:`Frame.motion`.

    Parameters
    ----------
    blocks : ndarray [shape=(N,), dtype=BLOCK_DTYPE]
    height, width : int
        Size of the field in pixels.
    """
    if out is None:
        out = np.empty((height, width, 2), np.int16)
    pairs = as_pairs(out, height, width)
    pairs[...] = 0
    from vidprep.codec import _kernels

    _kernels.fill_motion(blocks, 1 if future else -1, pairs)
    return out


def as_pairs(field: NDArray[np.int16], height: int, width: int) -> NDArray[np.int32]:
    """View a field [shape=(H, W, 2), dtype=int16] as one int32 a pixel, as kernels write it."""
    shape = (height, width, 2)
    if field.shape != shape or field.dtype != np.int16 or not field.flags.c_contiguous:
        raise UnsupportedError(
            f"out.shape={field.shape}, out.dtype={field.dtype}: must be C-contiguous, int16, of shape {shape}"
        )
    return field.view(np.int32)[..., 0]


def _rows(picture: av.VideoFrame) -> NDArray[np.uint8]:
    plane = picture.planes[0]
    return np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: picture.height]


def _as_picture(rows: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    return np.lib.stride_tricks.as_strided(rows, (rows.shape[0], width, 3), (rows.strides[0], 3, 1))
