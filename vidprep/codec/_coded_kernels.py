"""Motion compensation of MPEG-4 Part 2 as libavcodec computes it, bit for bit: numba loops and nothing else.

ISO/IEC 14496-2, sections 7.6.2 (interpolation of half and quarter samples), 7.6.4 (vectors that leave the picture) and
7.6.9 (two references). A picture is one plane of whole macroblocks: (rows, line size), uint8, of which the first
``num_columns`` are the picture. Outside of it the nearest sample is taken.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]

NUM_SCRATCH_BYTES = 2048
"""What the kernels need as ``scratch``: the places below, one after the other."""

_GREY = 128
_STRIDE = 24  # of an area of up to 17 x 17 samples
_FIRST, _SECOND = 0, 256  # predictions of up to 16 x 16 samples, rows on end
_EDGE = 512  # the area, where it leaves the picture
_STAGE = _EDGE + 17 * _STRIDE  # the area after the horizontal filter
_ROW = _STAGE + 17 * _STRIDE  # one row with three mirrored samples at either end


@numba.njit(cache=True, nogil=True)
def coded_luma(
    macroblocks: Array,
    quarter_sample: bool,
    rounding: int,
    size: tuple[int, int],
    picture: Array,
    past: Array,
    future: Array,
    scratch: Array,
    out: Array,
) -> int:
    """Write decoded luma minus its prediction into ``out`` (H, W), int16; the prediction of intra macroblocks is 128.

    ``macroblocks`` (rows, columns) holds MACROBLOCK_DTYPE; ``size`` is the picture's own height and width.

    Returns the number of the first macroblock with an uncoded block whose residual is not zero, else -1.
    """
    num_rows, num_columns = macroblocks.shape
    fault = -1
    for row in range(num_rows):
        for column in range(num_columns):
            macroblock = macroblocks[row, column]
            if macroblock.intra:
                scratch[_FIRST : _FIRST + 256] = _GREY
                coded = 15
            else:
                _predict_luma(
                    macroblock, quarter_sample, rounding, size, 16 * row, 16 * column, 16 * num_columns, past, future,
                    scratch,
                )  # fmt: skip
                coded = np.int64(macroblock.cbp) >> 2
            for block in range(4):
                y, x = 16 * row + (block >> 1) * 8, 16 * column + (block & 1) * 8
                begin = _FIRST + (block >> 1) * 128 + (block & 1) * 8
                is_zero = _subtract(picture, scratch, begin, 16, y, x, out)
                if fault < 0 and not is_zero and not (coded >> (3 - block)) & 1:
                    fault = row * num_columns + column
    return fault


@numba.njit(cache=True, nogil=True)
def coded_chroma(
    macroblocks: Array,
    quarter_sample: bool,
    rounding: int,
    size: tuple[int, int],
    plane: int,
    picture: Array,
    past: Array,
    future: Array,
    scratch: Array,
    out: Array,
) -> int:
    """Do what ``coded_luma`` does for chroma plane 0 or 1; ``size`` is still that of luma."""
    num_rows, num_columns = macroblocks.shape
    fault = -1
    for row in range(num_rows):
        for column in range(num_columns):
            macroblock = macroblocks[row, column]
            if macroblock.intra:
                scratch[_FIRST : _FIRST + 64] = _GREY
                is_coded = True
            else:
                _predict_chroma(
                    macroblock, quarter_sample, rounding, size, 8 * row, 8 * column, 8 * num_columns, past, future,
                    scratch,
                )  # fmt: skip
                is_coded = (np.int64(macroblock.cbp) >> (1 - plane)) & 1 == 1
            is_zero = _subtract(picture, scratch, _FIRST, 8, 8 * row, 8 * column, out)
            if fault < 0 and not is_zero and not is_coded:
                fault = row * num_columns + column
    return fault


@numba.njit(cache=True, nogil=True)
def _subtract(picture: Array, scratch: Array, begin: int, step: int, y: int, x: int, out: Array) -> bool:
    """Write ``picture - prediction`` of an 8 x 8 block as far as it lies in ``out``; tell whether all of it is zero."""
    height, width = out.shape
    flat, result = picture.ravel(), out.ravel()
    count = np.uint64(max(min(width - x, 8), 0))
    difference = np.int16(0)
    for k in range(max(min(height - y, 8), 0)):
        source = np.uint64((y + k) * picture.shape[1] + x)
        target = np.uint64((y + k) * width + x)
        prediction = np.uint64(begin + k * step)
        for i in range(count):
            value = np.int16(flat[source + i]) - np.int16(scratch[prediction + i])
            result[target + i] = value
            difference |= value
    return difference == 0


@numba.njit(cache=True, nogil=True)
def _mean(scratch: Array, count: int) -> None:
    """Replace the first prediction by the mean of both, rounded up (section 7.6.9.4)."""
    for i in range(np.uint64(count)):
        both = np.uint16(scratch[np.uint64(_FIRST) + i]) + np.uint16(scratch[np.uint64(_SECOND) + i])
        scratch[np.uint64(_FIRST) + i] = np.uint8((both + np.uint16(1)) >> np.uint16(1))


@numba.njit(cache=True, nogil=True)
def _predict_luma(
    macroblock: Any,
    quarter_sample: bool,
    rounding: int,
    size: tuple[int, int],
    y: int,
    x: int,
    num_columns: int,
    past: Array,
    future: Array,
    scratch: Array,
) -> None:
    """Write the prediction of the macroblock at ``y``, ``x`` to the first place in ``scratch``."""
    shift, mask = (2, 3) if quarter_sample else (1, 1)
    # With quarter samples libavcodec predicts direct macroblocks by four, as the standard says: filters end at a block.
    num_blocks = 4 if macroblock.four or (quarter_sample and macroblock.direct) else 1
    target = _FIRST
    for is_future in range(2):
        if not (macroblock.future if is_future else macroblock.past):
            continue
        reference = future if is_future else past
        for block in range(num_blocks):
            vx = np.int64(macroblock.future_x[block] if is_future else macroblock.past_x[block])
            vy = np.int64(macroblock.future_y[block] if is_future else macroblock.past_y[block])
            fx, fy = vx & mask, vy & mask
            sx, sy = x + (block & 1) * 8 + (vx >> shift), y + (block >> 1) * 8 + (vy >> shift)
            if num_blocks == 4:
                sx, fx = _clip(sx, fx, -16, size[1])
                sy, fy = _clip(sy, fy, -16, size[0])
            begin = target + (block >> 1) * 128 + (block & 1) * 8
            width = 8 if num_blocks == 4 else 16
            _interpolate(reference, num_columns, sx, sy, fx, fy, quarter_sample, rounding, width, scratch, begin, 16)
        target = _SECOND
    if macroblock.past and macroblock.future:
        _mean(scratch, 256)


@numba.njit(cache=True, nogil=True)
def _predict_chroma(
    macroblock: Any,
    quarter_sample: bool,
    rounding: int,
    size: tuple[int, int],
    y: int,
    x: int,
    num_columns: int,
    past: Array,
    future: Array,
    scratch: Array,
) -> None:
    """Do what ``_predict_luma`` does for one chroma block; its vector follows from those of luma (section 7.6.5)."""
    is_four = macroblock.four or (quarter_sample and macroblock.direct)
    target = _FIRST
    for is_future in range(2):
        if not (macroblock.future if is_future else macroblock.past):
            continue
        reference = future if is_future else past
        vx = _chroma_vector(macroblock.future_x if is_future else macroblock.past_x, is_four, quarter_sample)
        vy = _chroma_vector(macroblock.future_y if is_future else macroblock.past_y, is_four, quarter_sample)
        fx, fy = vx & 1, vy & 1
        sx, sy = x + (vx >> 1), y + (vy >> 1)
        if is_four:
            sx, fx = _clip(sx, fx, -8, size[1] >> 1)
            sy, fy = _clip(sy, fy, -8, size[0] >> 1)
        _interpolate(reference, num_columns, sx, sy, fx, fy, False, rounding, 8, scratch, target, 8)
        target = _SECOND
    if macroblock.past and macroblock.future:
        _mean(scratch, 64)


@numba.njit(cache=True, nogil=True)
def _clip(place: int, fraction: int, low: int, high: int) -> tuple[int, int]:
    """Keep a block of four near the picture, as libavcodec does (it clips to the size without padding)."""
    return min(max(place, low), high), 0 if place >= high else fraction


@numba.njit(cache=True, nogil=True)
def _chroma_vector(vectors: Array, is_four: bool, quarter_sample: bool) -> int:
    """Return a component of the chroma vector in half samples of chroma."""
    total, num_blocks = 0, 4 if is_four else 1
    for block in range(num_blocks):
        value = np.int64(vectors[block])
        if quarter_sample:
            value = value // 2 if value >= 0 else -(-value // 2)  # toward zero
        total += value
    if not is_four:
        return (total >> 1) | (total & 1)
    sixteenth = total & 15
    return ((total >> 3) & ~1) + (0 if sixteenth < 3 else 1 if sixteenth < 14 else 2)


@numba.njit(cache=True, nogil=True)
def _interpolate(
    reference: Array,
    num_columns: int,
    x: int,
    y: int,
    fx: int,
    fy: int,
    quarter_sample: bool,
    rounding: int,
    width: int,
    scratch: Array,
    target: int,
    step: int,
) -> None:
    """Write a square of ``width`` samples at ``x``, ``y`` plus a fraction to ``scratch[target:]``, rows ``step`` apart."""
    num_rows, stride = reference.shape
    source, begin = reference.ravel(), y * stride + x
    if x < 0 or y < 0 or x + width >= num_columns or y + width >= num_rows:
        _replicate_edge(source, stride, num_rows, num_columns, x, y, width + 1, scratch)
        source, begin, stride = scratch, _EDGE, _STRIDE
    if not quarter_sample:
        _half_samples(source, begin, stride, fx, fy, rounding, width, scratch, target, step)
        return
    if fy == 0:
        _filter_rows(source, begin, stride, fx, rounding, width, width, scratch, target, step)
        return
    if fx:
        _filter_rows(source, begin, stride, fx, rounding, width, width + 1, scratch, _STAGE, _STRIDE)
        source, begin, stride = scratch, _STAGE, _STRIDE
    _filter_columns(source, begin, stride, fy, rounding, width, scratch, target, step)


@numba.njit(cache=True, nogil=True)
def _replicate_edge(
    source: Array, stride: int, num_rows: int, num_columns: int, x: int, y: int, size: int, scratch: Array
) -> None:
    """Copy a square of samples, the nearest one of the picture where it leaves the picture."""
    for k in range(size):
        line = min(max(y + k, 0), num_rows - 1) * stride
        for i in range(size):
            column = min(max(x + i, 0), num_columns - 1)
            scratch[np.uint64(_EDGE + k * _STRIDE + i)] = source[np.uint64(line + column)]


@numba.njit(cache=True, nogil=True)
def _half_samples(
    source: Array, begin: int, stride: int, fx: int, fy: int, rounding: int, width: int, scratch: Array, target: int,
    step: int,
) -> None:  # fmt: skip
    """Write the samples half-way to the right, below, or both: a mean of 1, 2 or 4 (section 7.6.2.1)."""
    count = np.uint64(width)
    right, below = np.uint64(fx), np.uint64(fy * stride)
    half, quarter = np.uint16(1 - rounding), np.uint16(2 - rounding)
    for k in range(width):
        a, to = np.uint64(begin + k * stride), np.uint64(target + k * step)
        if fx and fy:
            b, c, d = a + right, a + below, a + right + below
            for i in range(count):
                total = np.uint16(source[a + i]) + np.uint16(source[b + i]) + np.uint16(source[c + i])
                scratch[to + i] = np.uint8((total + np.uint16(source[d + i]) + quarter) >> np.uint16(2))
        elif fx or fy:
            b = a + right + below
            for i in range(count):
                total = np.uint16(source[a + i]) + np.uint16(source[b + i])
                scratch[to + i] = np.uint8((total + half) >> np.uint16(1))
        else:
            for i in range(count):
                scratch[to + i] = source[a + i]


@numba.njit(cache=True, nogil=True)
def _half_by_eight(
    s0: int, s1: int, s2: int, s3: int, s4: int, s5: int, s6: int, s7: int, rounding: int
) -> int:  # fmt: skip
    """Return the sample between ``s3`` and ``s4`` (section 7.6.2.2: weights -1, 3, -6, 20, 20, -6, 3, -1 of 32)."""
    total = 20 * (s3 + s4) - 6 * (s2 + s5) + 3 * (s1 + s6) - (s0 + s7)
    return min(max((total + 16 - rounding) >> 5, 0), 255)


@numba.njit(cache=True, nogil=True)
def _filter_rows(
    source: Array, begin: int, stride: int, fraction: int, rounding: int, width: int, num_rows: int, scratch: Array,
    target: int, step: int,
) -> None:  # fmt: skip
    """Move ``num_rows`` rows by 0 to 3 quarter samples to the left; samples beyond the block are mirrored at its ends."""
    count, up = np.uint64(width), np.int32(1 - rounding)
    row, nearest = np.uint64(_ROW), np.uint64(fraction >> 1)
    for k in range(num_rows):
        a, to = np.uint64(begin + k * stride), np.uint64(target + k * step)
        if fraction == 0:
            for i in range(count):
                scratch[to + i] = source[a + i]
            continue
        for i in range(np.uint64(width + 1)):
            scratch[row + np.uint64(3) + i] = source[a + i]
        for i in range(np.uint64(3)):
            scratch[row + np.uint64(2) - i] = source[a + i]
            scratch[row + np.uint64(4) + count + i] = source[a + count - i]
        for i in range(count):
            s = row + i
            value = _half_by_eight(
                np.int32(scratch[s]), np.int32(scratch[s + np.uint64(1)]), np.int32(scratch[s + np.uint64(2)]),
                np.int32(scratch[s + np.uint64(3)]), np.int32(scratch[s + np.uint64(4)]),
                np.int32(scratch[s + np.uint64(5)]), np.int32(scratch[s + np.uint64(6)]),
                np.int32(scratch[s + np.uint64(7)]), np.int32(rounding),
            )  # fmt: skip
            if fraction != 2:
                value = (value + np.int32(source[a + nearest + i]) + up) >> 1
            scratch[to + i] = np.uint8(value)


@numba.njit(cache=True, nogil=True)
def _filter_columns(
    source: Array, begin: int, stride: int, fraction: int, rounding: int, width: int, scratch: Array, target: int,
    step: int,
) -> None:  # fmt: skip
    """Move a block by 1 to 3 quarter samples upward, as ``_filter_rows`` does to the left."""
    count, up = np.uint64(width), np.int32(1 - rounding)
    for k in range(width):
        to, nearest = np.uint64(target + k * step), np.uint64(begin + (k + (fraction >> 1)) * stride)
        s0 = np.uint64(begin + _mirror(k - 3, width) * stride)
        s1 = np.uint64(begin + _mirror(k - 2, width) * stride)
        s2 = np.uint64(begin + _mirror(k - 1, width) * stride)
        s3 = np.uint64(begin + k * stride)
        s4 = np.uint64(begin + (k + 1) * stride)
        s5 = np.uint64(begin + _mirror(k + 2, width) * stride)
        s6 = np.uint64(begin + _mirror(k + 3, width) * stride)
        s7 = np.uint64(begin + _mirror(k + 4, width) * stride)
        for i in range(count):
            value = _half_by_eight(
                np.int32(source[s0 + i]), np.int32(source[s1 + i]), np.int32(source[s2 + i]), np.int32(source[s3 + i]),
                np.int32(source[s4 + i]), np.int32(source[s5 + i]), np.int32(source[s6 + i]), np.int32(source[s7 + i]),
                np.int32(rounding),
            )  # fmt: skip
            if fraction != 2:
                value = (value + np.int32(source[nearest + i]) + up) >> 1
            scratch[to + i] = np.uint8(value)


@numba.njit(cache=True, nogil=True)
def _mirror(place: int, width: int) -> int:
    """Return the sample of a row of ``width + 1`` that stands for ``place``."""
    if place < 0:
        return -1 - place
    return 2 * width + 1 - place if place > width else place
