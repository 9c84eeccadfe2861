"""Residuals: what motion compensation leaves over.

The accumulated residual of a frame is its picture minus its GOP's I-picture warped along the motion,
``rgb[t][p] - rgb[I][source[p]]`` (Wu et al., CVPR 2018, section 3.1). The warped picture is carried along
block by block by :mod:`vidprep.codec.motion`, so what remains here is one subtraction.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidprep.errors import UnsupportedError

MAGNITUDE_SCALES = (1, 2, 4, 8)


def accumulated_residual(
    rgb_rows: NDArray[np.uint8], prediction: NDArray[np.uint8], *, out: NDArray[np.int16] | None = None
) -> NDArray[np.int16]:
    """Return picture minus prediction [shape=(H, W, 3), dtype=int16, range -255 to 255].

    Parameters
    ----------
    rgb_rows : ndarray [shape=(H, >= 3 * W), dtype=uint8]
        The picture; rows may be padded.
    prediction : ndarray [shape=(H, 3 * W), dtype=uint8]
        The I-picture warped along the motion.
    out : ndarray, optional
        C-contiguous array to write into [shape=(H, W, 3), dtype=int16].
    """
    result = output(out, _picture_shape(prediction), np.int16)
    from vidprep.codec import _kernels

    _kernels.subtract(rgb_rows, prediction, result.reshape(prediction.shape))
    return result


def accumulated_residual_uint8(
    rgb_rows: NDArray[np.uint8], prediction: NDArray[np.uint8], *, out: NDArray[np.uint8] | None = None
) -> tuple[NDArray[np.uint8], int]:
    """Return picture minus prediction plus 128, clipped, and the number of clipped values.

    Parameters and shapes as in :func:`accumulated_residual`; the result is [shape=(H, W, 3), dtype=uint8].
    """
    result = output(out, _picture_shape(prediction), np.uint8)
    from vidprep.codec import _kernels

    num_clipped = _kernels.subtract_uint8(rgb_rows, prediction, result.reshape(prediction.shape))
    return result, int(num_clipped)


def cropped_residual(
    picture: NDArray[np.uint8],
    start: int,
    step: int,
    prediction: NDArray[np.uint8],
    crop: tuple[int, int, int, int],
    *,
    out: NDArray[np.int16] | None = None,
) -> NDArray[np.int16]:
    """Return the part of :func:`accumulated_residual` in a crop [shape=(h, w, 3), dtype=int16].

    Parameters
    ----------
    picture : ndarray [shape=(N,), dtype=uint8]
        Bytes that hold the crop of the picture: its lines begin at ``start`` and are ``step`` bytes apart.
    prediction : ndarray [shape=(H, 3 * W), dtype=uint8]
        The whole I-picture warped along the motion.
    crop : tuple of int
        x, y, width and height in pixels.
    out : ndarray, optional
        C-contiguous array to write into [shape=(h, w, 3), dtype=int16].
    """
    x, y, width, height = crop
    result = output(out, _picture_shape(prediction[y : y + height, 3 * x : 3 * (x + width)]), np.int16)
    from vidprep.codec import _kernels

    origin, stride = y * prediction.shape[1] + 3 * x, prediction.shape[1]
    lines = result.reshape(height, 3 * width)
    _kernels.subtract_lines(picture, start, step, prediction.ravel(), origin, stride, lines)
    return result


def accumulated_residual_magnitude(
    rgb_rows: NDArray[np.uint8],
    prediction: NDArray[np.uint8],
    scale: int,
    *,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Return the norm over RGB of picture minus prediction, averaged; see ``Frame.accumulated_residual_magnitude``.

    Parameters and shapes as in :func:`accumulated_residual`.
    """
    if type(scale) is not int or scale not in MAGNITUDE_SCALES:
        raise UnsupportedError(
            f"scale={scale}: must be one of {', '.join(map(str, MAGNITUDE_SCALES))}; resize what one of them gives"
        )
    height, width, _ = _picture_shape(prediction)
    result = output(out, (-(-height // scale), -(-width // scale)), np.float32)
    squares = np.empty(3 * width, np.uint16)
    sums, halves = (np.empty(result.shape[1] * scale, np.float32) for _ in range(2))
    from vidprep.codec import _kernels

    _kernels.average_magnitude(rgb_rows, prediction, squares, sums, halves, result)
    return result


def _picture_shape(prediction: NDArray[np.uint8]) -> tuple[int, int, int]:
    if prediction.shape[0] == 0:
        raise UnsupportedError(
            'track="motion" carries no picture: residuals need Video.frames(track="picture"), or "residual"'
        )
    return prediction.shape[0], prediction.shape[1] // 3, 3


def output(out: NDArray[Any] | None, shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
    """Return the array to write into: a new one if ``out`` is None; UnsupportedError if it doesn't fit."""
    if out is None:
        return np.empty(shape, dtype)
    if out.shape != shape or out.dtype != dtype or not out.flags.c_contiguous:
        raise UnsupportedError(
            f"out.shape={out.shape}, out.dtype={out.dtype}: must be C-contiguous, {np.dtype(dtype)}, of shape {shape}"
        )
    return out
