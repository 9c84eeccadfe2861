"""Motion compensation of MPEG-4 Part 2, bit for bit as libavcodec does it: numba loops and nothing else.

ISO/IEC 14496-2, sections 7.6.2.1 (half samples), 7.6.2.2 (quarter samples), 7.6.4 (places outside of the picture),
7.6.5 (vectors of chroma) and 7.6.9 (two references). A plane is (rows, line size), uint8, of which ``num_rows`` and
``num_columns`` are used. Outside, the nearest sample is taken. With rounding type 1, means are rounded down.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidprep.codec._compile import kernel

Array = NDArray[np.generic]
Rules = tuple[int, int, int, int, int, int]
"""Of one picture: whether vectors count quarter samples, its rounding type, its height and width, and how many rows and
columns of luma a reference has, all in pixels."""

_STRIDE = 24  # of an area of up to 17 x 17 samples
# What scratch holds, one after the other: a second prediction of up to 16 x 16 samples, the area that a prediction is
# made from where it leaves the picture, the area after the horizontal filter, and one row with three mirrored samples
# at either end
_SECOND, _EDGE = 0, 256
_STAGE = _EDGE + 17 * _STRIDE
_ROW = _STAGE + 17 * _STRIDE
NUM_SCRATCH_BYTES = _ROW + _STRIDE
_GREY = 128


@kernel
def predict(
    macroblocks: Array, rules: Rules, is_chroma: bool, past: Array, future: Array, scratch: Array, prediction: Array
) -> None:
    """Write the prediction of one plane, whole macroblocks (H, W), uint8; that of intra macroblocks is 128.

    ``macroblocks`` (rows, columns) holds MACROBLOCK_DTYPE; ``past`` and ``future`` are the plane in both anchors.
    """
    num_rows, num_columns = macroblocks.shape
    size, stride = 8 if is_chroma else 16, prediction.shape[1]
    flat = prediction.ravel()
    for row in range(num_rows):
        for column in range(num_columns):
            macroblock = macroblocks[row, column]
            begin = size * (row * stride + column)
            if macroblock.intra:
                _fill(size, flat, begin, stride)
                continue
            if macroblock.past:
                xs, ys = macroblock.past_x, macroblock.past_y
                _compensate(macroblock, xs, ys, rules, is_chroma, row, column, past, scratch, flat, begin, stride)
            if macroblock.future:
                xs, ys = macroblock.future_x, macroblock.future_y
                to, at, step = (scratch, _SECOND, size) if macroblock.past else (flat, begin, stride)
                _compensate(macroblock, xs, ys, rules, is_chroma, row, column, future, scratch, to, at, step)
                if macroblock.past:
                    _average(size, scratch, flat, begin, stride)


@kernel
def find_fault(macroblocks: Array, plane: int, picture: Array, prediction: Array) -> int:
    """Return a macroblock in which a block that isn't coded differs from its prediction, or -1.

    ``plane`` is 0 for luma, 1 and 2 for chroma; ``picture`` (rows, line size) may be wider than ``prediction``.
    """
    num_rows, num_columns = macroblocks.shape
    num_blocks = 1 if plane else 2  # a side
    first, second = picture.ravel(), prediction.ravel()
    for row in range(num_rows * num_blocks):
        for column in range(num_columns * num_blocks):
            number = row // num_blocks, column // num_blocks
            bit = 2 - plane if plane else 5 - 2 * (row & 1) - (column & 1)
            if macroblocks[number].intra or (np.int64(macroblocks[number].cbp) >> bit) & 1:
                continue
            difference = np.uint8(0)
            for k in range(8):
                a = np.uint64((8 * row + k) * picture.shape[1] + 8 * column)
                b = np.uint64((8 * row + k) * prediction.shape[1] + 8 * column)
                for i in range(np.uint64(8)):
                    difference |= first[a + i] ^ second[b + i]
            if difference:
                return int(number[0] * num_columns + number[1])
    return -1


@kernel
def _fill(size: int, out: Array, begin: int, stride: int) -> None:
    for k in range(size):
        to = np.uint64(begin + k * stride)
        for i in range(np.uint64(size)):
            out[to + i] = _GREY


@kernel
def _average(size: int, scratch: Array, out: Array, begin: int, stride: int) -> None:
    """Replace a prediction by the mean of it and the second one, rounded up."""
    for k in range(size):
        to, second = np.uint64(begin + k * stride), np.uint64(_SECOND + k * size)
        for i in range(np.uint64(size)):
            total = np.uint16(out[to + i]) + np.uint16(scratch[second + i]) + np.uint16(1)
            out[to + i] = np.uint8(total >> np.uint16(1))


@kernel
def _compensate(
    macroblock: Any, xs: Array, ys: Array, rules: Rules, is_chroma: bool, row: int, column: int, reference: Array,
    scratch: Array, out: Array, begin: int, stride: int,
) -> None:  # fmt: skip
    """Write what the vectors of one direction make of a macroblock to ``out[begin:]``, rows ``stride`` apart."""
    if is_chroma:
        _compensate_chroma(xs, ys, macroblock.four, rules, 8 * row, 8 * column, reference, scratch, out, begin, stride)
    else:
        _compensate_luma(xs, ys, macroblock.four, rules, 16 * row, 16 * column, reference, scratch, out, begin, stride)


@kernel
def _compensate_luma(
    xs: Array, ys: Array, is_four: bool, rules: Rules, y: int, x: int, reference: Array, scratch: Array, out: Array,
    begin: int, stride: int,
) -> None:  # fmt: skip
    quarter_sample, rounding, height, width, num_rows, num_columns = rules
    shift, mask = (2, 3) if quarter_sample else (1, 1)
    size, num_blocks = (8, 4) if is_four else (16, 1)
    for i in range(num_blocks):
        below, right = (i >> 1) * 8, (i & 1) * 8
        vx, vy = int(xs[i]), int(ys[i])
        fx, fy = vx & mask, vy & mask
        sx, sy = x + right + (vx >> shift), y + below + (vy >> shift)
        if is_four:
            sx, fx = _clip(sx, fx, -16, width)
            sy, fy = _clip(sy, fy, -16, height)
        to = begin + below * stride + right
        _interpolate(
            reference, num_rows, num_columns, sx, sy, fx, fy, quarter_sample, rounding, size, scratch, out, to, stride
        )


@kernel
def _compensate_chroma(
    xs: Array, ys: Array, is_four: bool, rules: Rules, y: int, x: int, reference: Array, scratch: Array, out: Array,
    begin: int, stride: int,
) -> None:  # fmt: skip
    quarter_sample, rounding, height, width, num_rows, num_columns = rules
    vx, vy = _chroma_vector(xs, is_four, quarter_sample), _chroma_vector(ys, is_four, quarter_sample)
    fx, fy = vx & 1, vy & 1
    sx, sy = x + (vx >> 1), y + (vy >> 1)
    if is_four:
        sx, fx = _clip(sx, fx, -8, width >> 1)
        sy, fy = _clip(sy, fy, -8, height >> 1)
    _interpolate(
        reference, num_rows >> 1, num_columns >> 1, sx, sy, fx, fy, 0, rounding, 8, scratch, out, begin, stride
    )


@kernel
def _clip(place: int, fraction: int, low: int, high: int) -> tuple[int, int]:
    """Keep a block of four near the picture, as libavcodec does (it clips to the size without padding)."""
    return min(max(place, low), high), 0 if place >= high else fraction


@kernel
def _chroma_vector(vectors: Array, is_four: bool, quarter_sample: int) -> int:
    """Return a component of the chroma vector in half samples of chroma."""
    total, num_blocks = 0, 4 if is_four else 1
    for i in range(num_blocks):
        value = int(vectors[i])
        total += (value + (value < 0)) >> 1 if quarter_sample else value  # halved toward zero
    if not is_four:
        return (total >> 1) | (total & 1)
    sixteenth = total & 15
    return ((total >> 3) & ~1) + (0 if sixteenth < 3 else 1 if sixteenth < 14 else 2)


@kernel
def _interpolate(
    plane: Array, num_rows: int, num_columns: int, x: int, y: int, fx: int, fy: int, quarter_sample: int,
    rounding: int, size: int, scratch: Array, out: Array, to: int, step: int,
) -> None:  # fmt: skip
    """Write the square of ``size`` samples at ``x + fx``, ``y + fy`` into ``out[to:]``, rows ``step`` apart.

    ``fx`` and ``fy`` count halves, or quarters with ``quarter_sample``.
    """
    stride = plane.shape[1]
    source, begin = plane.ravel(), y * stride + x
    if x < 0 or y < 0 or x + size >= num_columns or y + size >= num_rows:
        _replicate_edge(source, stride, num_rows, num_columns, x, y, size + 1, scratch)
        source, begin, stride = scratch, _EDGE, _STRIDE
    if not (fx or fy):
        _copy(source, begin, stride, size, size, out, to, step)
    elif not quarter_sample:
        _half_samples(source, begin, stride, fx, fy, rounding, size, out, to, step)
    elif not fy:
        _filter_rows(source, begin, stride, fx, rounding, size, size, scratch, out, to, step)
    else:
        _filter_rows(source, begin, stride, fx, rounding, size, size + 1, scratch, scratch, _STAGE, _STRIDE)
        _filter_columns(fy, rounding, size, scratch, out, to, step)


@kernel
def _replicate_edge(
    source: Array, stride: int, num_rows: int, num_columns: int, x: int, y: int, size: int, scratch: Array
) -> None:
    for k in range(size):
        line = min(max(y + k, 0), num_rows - 1) * stride
        for i in range(size):
            column = min(max(x + i, 0), num_columns - 1)
            scratch[np.uint64(_EDGE + k * _STRIDE + i)] = source[np.uint64(line + column)]


@kernel
def _copy(source: Array, begin: int, stride: int, width: int, num_rows: int, out: Array, to: int, step: int) -> None:
    for k in range(num_rows):
        a, b = np.uint64(begin + k * stride), np.uint64(to + k * step)
        for i in range(np.uint64(width)):
            out[b + i] = source[a + i]


@kernel
def _half_samples(
    source: Array, begin: int, stride: int, fx: int, fy: int, rounding: int, size: int, out: Array, to: int, step: int
) -> None:
    """Write the mean of 2 samples beside or above each other, or that of 4."""
    count, right, below = np.uint64(size), np.uint64(fx), np.uint64(fy * stride)
    half_up, quarter_up = np.uint16(1 - rounding), np.uint16(2 - rounding)
    for k in range(size):
        a, at = np.uint64(begin + k * stride), np.uint64(to + k * step)
        b = a + right + below
        if fx and fy:
            c, d = a + right, a + below
            for i in range(count):
                total = np.uint16(source[a + i]) + np.uint16(source[b + i]) + np.uint16(source[c + i])
                out[at + i] = np.uint8((total + np.uint16(source[d + i]) + quarter_up) >> np.uint16(2))
        else:
            for i in range(count):
                total = np.uint16(source[a + i]) + np.uint16(source[b + i])
                out[at + i] = np.uint8((total + half_up) >> np.uint16(1))


@kernel
def _filter_rows(
    source: Array, begin: int, stride: int, fraction: int, rounding: int, size: int, num_rows: int, scratch: Array,
    out: Array, to: int, step: int,
) -> None:  # fmt: skip
    """Take each row ``fraction`` quarters further right; its ``size + 1`` samples are mirrored beyond the ends."""
    if not fraction:
        _copy(source, begin, stride, size, num_rows, out, to, step)
        return
    count, three, row = np.uint64(size), np.uint64(3), np.uint64(_ROW)
    places = (row, row + np.uint64(1), row + np.uint64(2), row + three, row + np.uint64(4), row + np.uint64(5),
              row + np.uint64(6), row + np.uint64(7))  # fmt: skip
    for k in range(num_rows):
        a = np.uint64(begin + k * stride)
        for i in range(np.uint64(size + 1)):
            scratch[row + three + i] = source[a + i]
        for i in range(three):
            scratch[row + np.uint64(2) - i] = source[a + i]
            scratch[row + np.uint64(4) + count + i] = source[a + count - i]
        _filter(places, fraction, rounding, count, scratch, out, np.uint64(to + k * step))


@kernel
def _filter_columns(fraction: int, rounding: int, size: int, scratch: Array, out: Array, to: int, step: int) -> None:
    """Take the area after the horizontal filter ``fraction`` quarters further down."""
    for k in range(size):
        places = (_line(k - 3, size), _line(k - 2, size), _line(k - 1, size), _line(k, size), _line(k + 1, size),
                  _line(k + 2, size), _line(k + 3, size), _line(k + 4, size))  # fmt: skip
        _filter(places, fraction, rounding, np.uint64(size), scratch, out, np.uint64(to + k * step))


@kernel
def _line(k: int, size: int) -> np.uint64:
    """Return where line ``k`` of the area's ``size + 1`` begins, or the one that it mirrors."""
    if k < 0:
        k = -1 - k
    if k > size:
        k = 2 * size + 1 - k
    return np.uint64(_STAGE + k * _STRIDE)


@kernel
def _filter(
    places: tuple[np.uint64, ...], fraction: int, rounding: int, count: np.uint64, scratch: Array, out: Array,
    to: np.uint64,
) -> None:  # fmt: skip
    """Write the samples half-way between the 4th and the 5th place, or their means with one of both."""
    a, b, c, d, e, f, g, h = places
    half_up, up = np.int32(16 - rounding), np.int32(1 - rounding)
    nearest = e if fraction == 3 else d
    for i in range(count):
        total = np.int32(20) * (np.int32(scratch[d + i]) + np.int32(scratch[e + i]))
        total -= np.int32(6) * (np.int32(scratch[c + i]) + np.int32(scratch[f + i]))
        total += np.int32(3) * (np.int32(scratch[b + i]) + np.int32(scratch[g + i]))
        total -= np.int32(scratch[a + i]) + np.int32(scratch[h + i])
        value = min(max((total + half_up) >> np.int32(5), np.int32(0)), np.int32(255))
        if fraction != 2:
            value = (value + np.int32(scratch[nearest + i]) + up) >> np.int32(1)
        out[to + i] = np.uint8(value)
