"""A frame: its place in the video, its picture and its block vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from vidprep.codec.blocks import BLOCK_DTYPE, NO_BLOCKS, dense_motion
from vidprep.codec.coded import Anchors, coded_residual, predict_plane
from vidprep.codec.macroblocks import CodedVop
from vidprep.codec.residual import (
    accumulated_residual,
    accumulated_residual_magnitude,
    accumulated_residual_uint8,
    output,
)
from vidprep.errors import UnsupportedError

if TYPE_CHECKING:
    import av

    from vidprep.codec.motion import Track
    from vidprep.codec.mpeg4_vop import Vop


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
        "_anchors",
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
        self._anchors: Anchors | None = None
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
        exported = exported_vectors(self._picture)
        # libavcodec exports nothing for the last anchor of a stream with B-frames.
        if self.coded is not None and (exported is None or not self.coded.is_export_exact):
            return self.coded.vectors
        return NO_BLOCKS if exported is None else exported

    @property
    def coded(self) -> CodedVop | None:
        """What the bitstream says of this picture, where ``Video.frames(macroblocks=True)`` parses it."""
        coded = self._picture.opaque
        return coded if isinstance(coded, CodedVop) else None

    @property
    def vop(self) -> Vop | None:
        """The picture's MPEG-4 Part 2 header."""
        return None if self.coded is None else self.coded.vop

    @property
    def macroblocks(self) -> NDArray[np.void] | None:
        """Macroblocks [shape=(mb_rows, mb_cols), dtype=MACROBLOCK_DTYPE]; None for an I-frame."""
        return None if self.coded is None else self.coded.macroblocks

    def rgb_rows(self) -> NDArray[np.uint8]:
        """Return the picture as rows of bytes [shape=(H, >= 3 * W), dtype=uint8]; a row may be padded at its end."""
        if self._rgb is None:
            self._rgb = rows(self._converter.reformat(self._picture, format="rgb24", threads=1))
        return self._rgb

    def rgb(self) -> NDArray[np.uint8]:
        """Return the picture [shape=(H, W, 3), dtype=uint8, range 0-255], converted by libswscale once."""
        return as_picture(self.rgb_rows(), self.width)

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

    def accumulated_motion(self, *, copy: bool = True, out: NDArray[np.int16] | None = None) -> NDArray[np.int16]:
        """Return ``p - source[p]`` towards the I-frame of this GOP [shape=(H, W, 2), dtype=int16]: x, y, pixels.

        Parameters
        ----------
        copy : bool
            False gives a read-only view, at no cost, that the next frame overwrites. ``out`` is always a copy.
        out : ndarray, optional
            Array to write into [shape=(H, W, 2), dtype=int16].

        Raises
        ------
        UnsupportedError
            If the frame was not tracked (``Video.frames(track="motion")``), or is not the current one.
        """
        return self._current_track().motion(out, copy=copy)

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

    def accumulated_residual_magnitude(
        self, scale: int = 4, *, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Return how strong the accumulated residual is, at a fraction of the size, without building the residual.

        ``sqrt(R**2 + G**2 + B**2)`` of each pixel's residual, averaged over squares of ``scale`` pixels; those that
        the right or lower edge cuts are averaged over their own pixels. Zero for I-frames. float32 arithmetic in a
        fixed order: the same bits on every machine.

        Parameters
        ----------
        scale : {1, 2, 4, 8}
            Side of a square in pixels.
        out : ndarray, optional
            C-contiguous array to write into.

        Returns
        -------
        ndarray [shape=(ceil(H / scale), ceil(W / scale)), dtype=float32, range 0 to 441.7]

        Raises
        ------
        UnsupportedError
            As :meth:`accumulated_residual`, and for another scale.
        """
        return accumulated_residual_magnitude(self.rgb_rows(), self._current_track().picture, scale, out=out)

    def link(self, past: Frame | None, future: Frame | None) -> None:
        """Remember the pictures of the anchors displayed before and after this frame."""
        self._anchors = Anchors(past._picture if past else None, future._picture if future else None)

    def coded_residual(self, *, out: NDArray[np.int16] | None = None) -> NDArray[np.int16]:
        """Return decoded luma minus the codec's own prediction [shape=(H, W), dtype=int16, range -255 to 255].

        What the encoder coded, after quantisation: zero in each block that the bitstream leaves uncoded. Intra
        macroblocks, and so I-frames, have no prediction; theirs is 128, the grey that MPEG-4's prediction of
        DC coefficients starts from (ISO/IEC 14496-2, section 7.4.3.3), so that residual + 128 is the picture there.

        Parameters
        ----------
        out : ndarray, optional
            C-contiguous array to write into [shape=(H, W), dtype=int16].

        Raises
        ------
        DecodeError
            If the macroblocks are damaged.
        UnsupportedError
            If the frame is not of ``Video.frames(coded=True)``, or an uncoded block differs from its prediction.
        """
        out = output(out, (self.height, self.width), np.int16)
        coded_residual(self._picture, *self._references(), 0, out)
        return out

    def coded_residual_chroma(self, *, out: NDArray[np.int16] | None = None) -> NDArray[np.int16]:
        """Return the coded residual of Cb and Cr [shape=(2, ceil(H / 2), ceil(W / 2)), dtype=int16, -255 to 255].

        Parameters and errors as in :meth:`coded_residual`.
        """
        out = output(out, (2, (self.height + 1) // 2, (self.width + 1) // 2), np.int16)
        for i in range(2):
            coded_residual(self._picture, *self._references(), 1 + i, out[i])
        return out

    def prediction(self) -> NDArray[np.uint8]:
        """Return the codec's prediction of luma [shape=(H, W), dtype=uint8]: with the residual, the decoded luma.

        128 in intra macroblocks; errors as in :meth:`coded_residual`.
        """
        prediction = predict_plane(self._picture, *self._references(), 0)
        return np.ascontiguousarray(prediction[: self.height, : self.width])

    def _references(self) -> tuple[CodedVop, Anchors]:
        if self._anchors is None or self.coded is None:
            raise UnsupportedError(
                f"index={self.index}: the coded residual needs a frame's references; use Video.frames(coded=True)"
            )
        return self.coded, self._anchors

    def _current_track(self) -> Track:
        if self.track is None:
            raise UnsupportedError(
                f"index={self.index}: accumulated arrays exist for the current frame of a tracked video only; "
                'use Video.frames(track="residual") and read them before asking for the next frame'
            )
        return self.track


def exported_vectors(picture: av.VideoFrame) -> NDArray[np.void] | None:
    """Return the block vectors that the decoder exported; None if it didn't, as for I-frames."""
    # Through picture.side_data, PyAV ties each frame into a cycle that waits for the garbage collector.
    side_data = SideDataContainer(picture).get("MOTION_VECTORS")  # type: ignore[call-arg]
    return None if side_data is None else np.frombuffer(memoryview(side_data), BLOCK_DTYPE)


def rows(picture: av.VideoFrame) -> NDArray[np.uint8]:
    """View the first plane as rows of bytes [shape=(H, line size), dtype=uint8], padding included."""
    plane = picture.planes[0]
    return np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: picture.height]


def as_picture(lines: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """View rows of RGB bytes as a picture [shape=(H, W, 3), dtype=uint8] without their padding."""
    return lines[:, : 3 * width].reshape(len(lines), width, 3)
