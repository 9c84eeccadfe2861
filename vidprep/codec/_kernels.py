"""Numba loops and nothing else: each takes preallocated arrays and is tested through ``.py_func``.

Imported where a kernel first runs: numba takes a fifth of a second to load, and probing does without it.

A displacement is one int32, seen from outside as int16 x, int16 y: so a run of pixels is moved and added to as a
vector, without a division or a lookup a pixel, and what is kept is what is given out.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidprep.codec._compile import inlined, kernel

Array = NDArray[np.generic]

_X = 0xFFFF  # the half of a pair that is x


# Rows are addressed by unsigned offsets into flat arrays: with signed ones numba tests each pixel for a negative
# index, and the loops over a row are ten times slower.


@inlined
def _extent(first: Any, last: Any, height: int, width: int) -> tuple[int, int, int, int, int, int]:
    """Return a run's vector and its rows and columns whose pixel and source both lie in the frame."""
    vx = np.int64(first.dst_x) - first.src_x
    vy = np.int64(first.dst_y) - first.src_y
    left = np.int64(first.dst_x) - first.w // 2
    right = np.int64(last.dst_x) - last.w // 2 + last.w
    top = np.int64(first.dst_y) - first.h // 2
    x0, x1 = max(left, 0, vx), min(right, width, width + vx)
    y0, y1 = max(top, 0, vy), min(top + first.h, height, height + vy)
    return vx, vy, x0, max(x0, x1), y0, max(y0, y1)


@inlined
def _next_run(blocks: Any, source: int, start: int) -> tuple[int, int]:
    """Return where the next run begins and ends: blocks with one vector, side by side, that don't stay as they are."""
    begin, num_blocks = start, blocks.shape[0]
    while begin < num_blocks:
        first = blocks[begin]
        if first.source == source and (first.dst_x != first.src_x or first.dst_y != first.src_y or source > 0):
            break
        begin += 1
    end = begin + 1
    while end < num_blocks:
        last, block = blocks[end - 1], blocks[end]
        distance = np.int64(block.dst_x) - last.dst_x
        if block.source != source or block.dst_y != last.dst_y or block.h != last.h:
            break
        if block.src_y != last.src_y or np.int64(block.src_x) - last.src_x != distance:
            break
        if distance != last.w - last.w // 2 + block.w // 2:
            break
        end += 1
    return begin, end


@inlined
def _sizes(field: Array, picture: Array) -> tuple[int, int, Any, Any]:
    """Return height and width in pixels, and of each pixel the pairs and bytes that move: none of what has no rows."""
    one, three = np.uint64(1 if field.shape[0] > 0 else 0), np.uint64(3 if picture.shape[0] > 0 else 0)
    return max(field.shape[0], picture.shape[0]), field.shape[1], one, three


@kernel
def fill_motion(blocks: Array, source: int, field: Array) -> None:
    """Write each block's whole-pixel vector into ``field`` (H, W), int32 seen as int16 x, int16 y, zeroed before."""
    height, width = field.shape
    flat = field.ravel()
    begin, end = _next_run(blocks, source, 0)
    while begin < blocks.shape[0]:
        vx, vy, x0, x1, y0, y1 = _extent(blocks[begin], blocks[end - 1], height, width)
        begin, end = _next_run(blocks, source, end)
        pair = np.int32((vy << 16) | (vx & _X))
        if pair == 0:
            continue
        count = np.uint64(x1 - x0)
        for y in range(y0, y1):
            place = np.uint64(y * width + x0)
            for k in range(count):
                flat[place + k] = pair


@kernel
def gather_blocks(
    blocks: Array, source: int, reference: Array, reference_picture: Array, moved: Array, moved_picture: Array
) -> int:
    """Compose each moved block of direction ``source`` with ``reference``, row behind row: ``v + reference[p - v]``.

    The pictures (H, 3 * W), uint8, are gathered along; a field or pictures of zero rows are left alone. Returns the
    number of pixels; what doesn't fit into ``moved`` is left out.
    """
    height, width, one, three = _sizes(reference, reference_picture)
    capacity = max(moved.shape[0], moved_picture.shape[0] // 3)
    flat, flat_picture = reference.ravel(), reference_picture.ravel()
    num_pixels = 0
    begin, end = _next_run(blocks, source, 0)
    while begin < blocks.shape[0]:
        vx, vy, x0, x1, y0, y1 = _extent(blocks[begin], blocks[end - 1], height, width)
        begin, end = _next_run(blocks, source, end)
        step_y = vy << 16
        count = np.uint64(x1 - x0)
        place = np.uint64(num_pixels)
        num_pixels += (y1 - y0) * (x1 - x0)
        if num_pixels > capacity:
            continue
        for y in range(y0, y1):
            origin = np.uint64((y - vy) * width + x0 - vx)
            for k in range(one * count):
                pair = flat[origin + k]
                moved[place + k] = ((pair & ~_X) + step_y) | ((pair + vx) & _X)
            for k in range(three * count):
                moved_picture[three * place + k] = flat_picture[three * origin + k]
            place += count
    return num_pixels


@kernel
def scatter_blocks(
    blocks: Array, source: int, moved: Array, moved_picture: Array, target: Array, target_picture: Array
) -> None:
    """Put what ``gather_blocks`` gathered for the same blocks in its place; all other pixels keep their value."""
    height, width, one, three = _sizes(target, target_picture)
    flat, flat_picture = target.ravel(), target_picture.ravel()
    place = np.uint64(0)
    begin, end = _next_run(blocks, source, 0)
    while begin < blocks.shape[0]:
        _vx, _vy, x0, x1, y0, y1 = _extent(blocks[begin], blocks[end - 1], height, width)
        begin, end = _next_run(blocks, source, end)
        count = np.uint64(x1 - x0)
        for y in range(y0, y1):
            origin = np.uint64(y * width + x0)
            for k in range(one * count):
                flat[origin + k] = moved[place + k]
            for k in range(three * count):
                flat_picture[three * origin + k] = moved_picture[three * place + k]
            place += count


@kernel
def restore_blocks(
    blocks: Array, source: int, base: Array, base_picture: Array, target: Array, target_picture: Array
) -> None:
    """Copy each block of direction ``source`` from ``base`` to ``target``, as it stands."""
    height, width, one, three = _sizes(target, target_picture)
    for i in range(blocks.shape[0]):
        block = blocks[i]
        if block.source != source:
            continue
        left = np.int64(block.dst_x) - block.w // 2
        top = np.int64(block.dst_y) - block.h // 2
        x0, x1 = max(left, 0), min(left + block.w, width)
        for y in range(max(top, 0), min(top + block.h, height)):
            for x in range(np.int64(one) * x0, np.int64(one) * x1):
                target[y, x] = base[y, x]
            for x in range(np.int64(three) * x0, np.int64(three) * x1):
                target_picture[y, x] = base_picture[y, x]


@kernel
def subtract(picture: Array, prediction: Array, out: Array) -> None:
    """Write ``picture - prediction`` of uint8 rows into ``out``, int16; rows of ``picture`` may be padded."""
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            out[y, x] = np.int16(picture[y, x]) - np.int16(prediction[y, x])


@kernel
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


@kernel
def subtract_uint8(picture: Array, prediction: Array, out: Array) -> int:
    """Write ``picture - prediction + 128`` clipped to uint8 into ``out``; return the number of clipped values."""
    num_clipped = 0
    for y in range(out.shape[0]):
        row, predicted, result = picture[y], prediction[y], out[y]
        num_in_row = np.uint16(0)  # as narrow as the rest, or the loop is four times slower; no row has 65536 values
        for x in range(np.uint64(result.shape[0])):
            value = np.int16(np.int16(row[x]) - np.int16(predicted[x]) + np.int16(128))
            clipped = min(max(value, np.int16(0)), np.int16(255))
            num_in_row = np.uint16(num_in_row + np.uint16(value != clipped))
            result[x] = clipped
        num_clipped += int(num_in_row)
    return num_clipped


@kernel
def average_magnitude(
    picture: Array, prediction: Array, squares: Array, sums: Array, halves: Array, out: Array
) -> None:
    """Write the mean over squares of pixels of ``|picture - prediction|``, the norm over RGB, into ``out``, float32.

    The side of a square is a power of two: ``sums`` and ``halves`` hold that many values for each column of ``out``,
    ``squares`` holds a row of ``prediction``, uint16. Sums run down a column first, then over pairs: always in the
    same order, so that every machine gets the same bits.
    """
    one, two, three = np.uint64(1), np.uint64(2), np.uint64(3)
    height, width = prediction.shape[0], prediction.shape[1] // 3
    scale = sums.shape[0] // out.shape[1]
    for i in range(out.shape[0]):
        sums[:] = 0
        bottom = min((i + 1) * scale, height)
        for y in range(i * scale, bottom):
            for k in range(prediction.shape[1]):
                difference = np.int32(picture[y, k]) - np.int32(prediction[y, k])
                squares[k] = np.uint16(difference * difference)
            for x in range(np.uint64(width)):
                red = three * x
                total = np.int32(squares[red]) + np.int32(squares[red + one]) + np.int32(squares[red + two])
                sums[x] += np.sqrt(np.float32(np.int32(total)))
        source, target, count = sums, halves, np.uint64(sums.shape[0])
        while count > out.shape[1]:
            count //= two
            for half in range(count):
                target[half] = source[two * half] + source[two * half + one]
            source, target = target, source
        num_rows, last = bottom - i * scale, out.shape[1] - 1
        for j in range(out.shape[1]):
            out[i, j] = source[j] / np.float32(num_rows * scale)
        out[i, last] = source[last] / np.float32(num_rows * (width - last * scale))
