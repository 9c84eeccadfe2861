"""Numba loops and nothing else: each takes preallocated arrays and is tested through ``.py_func``.

Imported where a kernel first runs: numba takes a fifth of a second to load, and probing does without it.

A displacement (x, y) is one int32, ``y * 65536 + x``. Packed so, displacements add up like plain numbers,
and a block's row is moved by one addition a pixel, without a division or a gather.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]

_HALF = 1 << 15
_LOW = 0xFFFF


# Rows are addressed by unsigned offsets into flat arrays: with signed ones numba tests each pixel for a negative
# index, and the loops over a row are ten times slower.


@numba.njit(cache=True, nogil=True, inline="always")
def _extent(block: Any, height: int, width: int) -> tuple[int, int, int, int, int, int]:
    """Return a block's vector and its rows and columns whose pixel and source both lie in the frame."""
    vx = np.int64(block.dst_x) - block.src_x
    vy = np.int64(block.dst_y) - block.src_y
    left = np.int64(block.dst_x) - block.w // 2
    top = np.int64(block.dst_y) - block.h // 2
    x0, x1 = max(left, 0, vx), min(left + block.w, width, width + vx)
    y0, y1 = max(top, 0, vy), min(top + block.h, height, height + vy)
    return vx, vy, x0, max(x0, x1), y0, y1


@numba.njit(cache=True, nogil=True)
def fill_motion(blocks: Array, source: int, field: Array) -> None:
    """Write each block's whole-pixel vector into ``field`` (H, W), int32 seen as int16 x, int16 y, zeroed before."""
    height, width = field.shape
    flat = field.ravel()
    for i in range(blocks.shape[0]):
        if blocks[i].source != source:
            continue
        vx, vy, x0, x1, y0, y1 = _extent(blocks[i], height, width)
        if vx == 0 and vy == 0:
            continue
        pair = np.int32((vy << 16) | (vx & _LOW))
        count = np.uint64(x1 - x0)
        for y in range(y0, y1):
            begin = np.uint64(y * width + x0)
            for k in range(count):
                flat[begin + k] = pair


@numba.njit(cache=True, nogil=True)
def move_blocks(
    blocks: Array, source: int, reference: Array, reference_picture: Array, target: Array, target_picture: Array
) -> None:
    """Compose each block of direction ``source`` with ``reference``: ``target[p] = v + reference[p - v]``.

    Pixels whose source lies outside the frame keep what ``target`` holds. The pictures (H, 3 * W), uint8, are
    moved along; pictures of zero rows are left alone.
    """
    height, width = target.shape
    three = np.uint64(3 if target_picture.shape[0] > 0 else 0)
    from_flat, to_flat = reference.ravel(), target.ravel()
    from_picture, to_picture = reference_picture.ravel(), target_picture.ravel()
    for i in range(blocks.shape[0]):
        if blocks[i].source != source:
            continue
        vx, vy, x0, x1, y0, y1 = _extent(blocks[i], height, width)
        if vx == 0 and vy == 0 and source < 0:
            continue  # the target began as a copy of the past anchor
        step = np.int32(vy * 65536 + vx)
        count = np.uint64(x1 - x0)
        for y in range(y0, y1):
            begin = np.uint64(y * width + x0)
            origin = np.uint64((y - vy) * width + x0 - vx)
            for k in range(count):
                to_flat[begin + k] = from_flat[origin + k] + step
            begin *= three
            origin *= three
            for k in range(three * count):
                to_picture[begin + k] = from_picture[origin + k]


@numba.njit(cache=True, nogil=True)
def restore_blocks(
    blocks: Array, source: int, base: Array, base_picture: Array, target: Array, target_picture: Array
) -> None:
    """Copy each block of direction ``source`` from ``base`` to ``target``, as it stands."""
    height, width = target.shape
    three = 3 if target_picture.shape[0] > 0 else 0
    for i in range(blocks.shape[0]):
        block = blocks[i]
        if block.source != source:
            continue
        left = np.int64(block.dst_x) - block.w // 2
        top = np.int64(block.dst_y) - block.h // 2
        x0, x1 = max(left, 0), min(left + block.w, width)
        for y in range(max(top, 0), min(top + block.h, height)):
            for x in range(x0, x1):
                target[y, x] = base[y, x]
            for x in range(three * x0, three * x1):
                target_picture[y, x] = base_picture[y, x]


@numba.njit(cache=True, nogil=True)
def unpack(packed: Array, field: Array) -> None:
    """Write packed displacements (H, W) as the pairs of ``field``, (H, W) int32 seen as int16 x, int16 y."""
    for y in range(packed.shape[0]):
        for x in range(packed.shape[1]):
            value = packed[y, x]
            field[y, x] = ((value + _HALF) & ~_LOW) | (value & _LOW)


@numba.njit(cache=True, nogil=True)
def subtract(picture: Array, prediction: Array, out: Array) -> None:
    """Write ``picture - prediction`` of uint8 rows into ``out``, int16; rows of ``picture`` may be padded."""
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            out[y, x] = np.int16(picture[y, x]) - np.int16(prediction[y, x])


@numba.njit(cache=True, nogil=True)
def subtract_lines(
    picture: Array, start: int, step: int, prediction: Array, prediction_start: int, prediction_step: int, out: Array
) -> None:
    """Write ``picture - prediction`` into ``out`` (h, w), int16; both are flat, uint8, with a line at each step."""
    height, width = out.shape
    flat = out.ravel()
    for y in range(height):
        begin, place = np.uint64(start + y * step), np.uint64(y * width)
        origin = np.uint64(prediction_start + y * prediction_step)
        for k in range(np.uint64(width)):
            flat[place + k] = np.int16(picture[begin + k]) - np.int16(prediction[origin + k])


@numba.njit(cache=True, nogil=True)
def subtract_uint8(picture: Array, prediction: Array, out: Array) -> int:
    """Write ``picture - prediction + 128`` clipped to uint8 into ``out``; return the number of clipped values."""
    num_clipped = 0
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            value = np.int16(picture[y, x]) - np.int16(prediction[y, x]) + np.int16(128)
            clipped = min(max(value, np.int16(0)), np.int16(255))
            num_clipped += value != clipped
            out[y, x] = clipped
    return num_clipped
