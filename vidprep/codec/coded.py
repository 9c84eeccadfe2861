"""The coded residual of MPEG-4 Part 2: decoded samples minus the codec's own prediction, bit for bit.

A decoder adds what the bitstream codes to a prediction from pictures decoded before, and hands out the sum alone. Here
the prediction is computed again, from the vectors in the bitstream and these pictures, and taken off. Each block that
the bitstream leaves uncoded must come out as zero, or the frame is refused. ISO/IEC 14496-2, section 7.6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vidprep.codec.macroblocks import MACROBLOCK_DTYPE, CodedVop
from vidprep.errors import UnsupportedError

if TYPE_CHECKING:
    import av


class Anchors(NamedTuple):
    """The decoded pictures that a frame may refer to: of the I- or P-frames displayed before and after it."""

    past: av.VideoFrame | None
    future: av.VideoFrame | None


def check_codec(codec: str) -> None:
    """Raise UnsupportedError if the coded residual of a codec can't be had exactly."""
    if codec == "mpeg4":
        return
    has_filter = codec in ("h264", "hevc")
    reason = "its loop filter changes their sum" if has_filter else "its prediction is not computed here"
    raise UnsupportedError(
        f"codec={codec}: prediction and coded residual can be had of MPEG-4 Part 2 alone, {reason}; transcode it "
        "(--codec mpeg4)"
    )


def predict_plane(picture: av.VideoFrame, coded: CodedVop, anchors: Anchors, plane: int) -> NDArray[np.uint8]:
    """Return the codec's prediction of one plane, whole macroblocks [shape=(>= H, >= W), dtype=uint8].

    Parameters
    ----------
    picture : VideoFrame
    coded : CodedVop
        Its header and macroblocks.
    anchors : Anchors
        What it refers to.
    plane : int
        0 for luma, 1 for Cb, 2 for Cr; chroma has half the size, rounded up.

    Raises
    ------
    DecodeError
        If the macroblocks are damaged.
    UnsupportedError
        If the picture is not predicted as the standard says, or an anchor is missing.
    """
    _refuse_old_quarter_samples(coded, plane)
    macroblocks = _macroblocks_of(picture, coded)
    pictures = (picture, *_references(macroblocks, picture, anchors))
    from vidprep.codec import _coded_kernels

    num_rows, num_columns = macroblocks.shape
    size = (picture.height, picture.width)
    ends = size if coded.builds.ends_at_size else (16 * num_rows, 16 * num_columns)
    rules = (int(coded.vol.quarter_sample), coded.vop.rounding_type, *size, *ends)
    block = 8 if plane else 16
    shown, past, future = (plane_lines(each, plane, block * num_rows) for each in pictures)
    scratch = np.empty(_coded_kernels.NUM_SCRATCH_BYTES, np.uint8)
    prediction = np.empty((block * num_rows, block * num_columns), np.uint8)
    _coded_kernels.predict(macroblocks, rules, plane > 0, past, future, scratch, prediction)
    fault = _coded_kernels.find_fault(macroblocks, plane, shown, prediction)
    if fault >= 0:
        raise UnsupportedError(
            f"macroblock={fault} at pts_seconds={picture.time}: a block that is not coded must equal its prediction, "
            "and this one doesn't; libavcodec makes up for faults of old encoders, transcode the video (--codec mpeg4)"
        )
    return prediction


def coded_residual(
    picture: av.VideoFrame, coded: CodedVop, anchors: Anchors, plane: int, out: NDArray[np.int16]
) -> None:
    """Write one plane minus its prediction into ``out`` [shape=(H, W), dtype=int16, range -255 to 255].

    Parameters and errors as in :func:`predict_plane`.
    """
    prediction = predict_plane(picture, coded, anchors, plane)
    from vidprep.codec import _kernels

    _kernels.subtract(plane_lines(picture, plane, out.shape[0]), prediction, out)


def plane_lines(picture: av.VideoFrame, plane: int, num_rows: int) -> NDArray[np.uint8]:
    """View a decoded plane with its hidden rows and columns [shape=(num_rows, line size), dtype=uint8].

    libavcodec decodes whole macroblocks into the picture's own buffer, so the rows below the picture are there.
    PyAV's view of the buffer ends with the last row that is shown; this reads on behind it.
    """
    shown = picture.planes[plane]
    lines = np.frombuffer(memoryview(shown), np.uint8)
    return np.lib.stride_tricks.as_strided(lines, (num_rows, shown.line_size), (shown.line_size, 1))


def _refuse_old_quarter_samples(coded: CodedVop, plane: int) -> None:
    """Raise UnsupportedError if libavcodec interpolates as a faulty encoder did."""
    builds = coded.builds
    if coded.vol.quarter_sample and (builds.has_old_quarter_samples or (plane and builds.has_old_quarter_chroma)):
        raise UnsupportedError(
            f"divx_build={builds.divx_build}, xvid_build={builds.xvid_build}, lavc_build={builds.lavc_build}: quarter "
            "samples of so old an encoder are not those of the standard; transcode it (--codec mpeg4)"
        )


def _macroblocks_of(picture: av.VideoFrame, coded: CodedVop) -> NDArray[np.void]:
    shape = (-(-picture.height // 16), -(-picture.width // 16))
    if picture.format.name != "yuv420p" or shape != coded.vol.mb_shape:
        raise UnsupportedError(
            f"format={picture.format.name}, size={picture.width}x{picture.height}: must be yuv420p, of the size that "
            f"the stream states ({coded.vol.width}x{coded.vol.height}); transcode it (--codec mpeg4)"
        )
    if coded.macroblocks is not None:
        return coded.macroblocks
    macroblocks = np.zeros(shape, MACROBLOCK_DTYPE)
    macroblocks["intra"] = 1
    return macroblocks


def _references(
    macroblocks: NDArray[np.void], picture: av.VideoFrame, anchors: Anchors
) -> tuple[av.VideoFrame, av.VideoFrame]:
    """Return both references; the picture itself stands for one that no macroblock refers to."""
    for name, anchor in anchors._asdict().items():
        if anchor is None and macroblocks[name].any():
            raise UnsupportedError(
                f"{name}_anchor=None at pts_seconds={picture.time}: the frame it refers to is not in the file; it is "
                "cut, get it anew or transcode it (--codec mpeg4)"
            )
    return anchors.past or picture, anchors.future or picture
