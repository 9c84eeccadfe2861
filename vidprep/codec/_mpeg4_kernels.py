"""Numba loops that walk through the macroblocks of a VOP, and nothing else.

``data`` is a packet with zero bytes behind its end: all codes are made so that zeros end in an invalid one, so a
reader that is past the end stops within a few bytes. A function that reads returns the bit where it stopped, or
``INVALID``, which is smaller than any place that could come of adding to it.

Imported where a kernel first runs: numba takes a fifth of a second to load.
"""

from typing import Any, NamedTuple

import numba
import numpy as np

from vidprep.codec._mpeg4_tables import (
    CBPY,
    CODE_BITS,
    COEFFICIENTS,
    DC_SIZES,
    ESCAPE,
    LONGEST_RUNS,
    MB_TYPE_B,
    MCBPC_INTER,
    MOTION,
    STUFFING,
)

PADDING_BYTES = 64
INVALID = -(1 << 40)
_INTER, _INTRA = COEFFICIENTS
_INTER_RUNS, _INTRA_RUNS = LONGEST_RUNS
_DC_LUMA, _DC_CHROMA = DC_SIZES


class Header(NamedTuple):
    """What the loops need of a VOP and its layer, all integers."""

    num_columns: int
    end: int  # of the data, in bits
    position: int  # of the first macroblock, in bits
    quantiser: int
    dc_threshold: int
    past_fcode: int
    future_fcode: int
    prefix_zeros: int  # in front of a video packet
    number_bits: int  # of a macroblock's number there
    tick_bits: int
    num_fcodes: int
    past_ticks: int  # TRB
    span_ticks: int  # TRD
    direct_in_four: int


@numba.njit(cache=True, nogil=True, inline="always")
def peek(data: Any, position: int, count: int) -> int:
    """Return the next ``count`` bits, 1 to 25."""
    at = np.uint64(position) >> np.uint64(3)
    one = np.uint64(1)
    word = np.uint32(data[at]) << np.uint32(24) | np.uint32(data[at + one]) << np.uint32(16)
    word |= np.uint32(data[at + one + one]) << np.uint32(8) | np.uint32(data[at + one + one + one])
    return np.int64(np.uint32(word << np.uint32(position & 7)) >> np.uint32(32 - count))


@numba.njit(cache=True, nogil=True)
def skip_coefficients(data: Any, position: int, table: Any, longest_runs: Any, first: int) -> int:
    """Read a block's run-level events; ``first`` is the place of the first coefficient that they may fill."""
    place = first - 1
    last = 0
    while not last:
        entry = table[peek(data, position, CODE_BITS)]
        position += entry & 15
        if entry >> 4 != ESCAPE:
            last, run = entry >> 16, entry >> 10 & 63
            position += 1  # the sign
        elif entry == 0:
            return INVALID
        elif peek(data, position, 2) == 3:  # third escape: marker, last, run, marker, level, marker
            fields = peek(data, position, 23)
            if not (fields >> 13 & 1 and fields & 1):
                return INVALID
            last, run = fields >> 20 & 1, fields >> 14 & 63
            position += 23
        else:
            far = peek(data, position, 1)  # second escape: more zeros; first: a greater level
            position += 1 + far
            entry = table[peek(data, position, CODE_BITS)]
            if entry >> 4 == ESCAPE:
                return INVALID
            last, run = entry >> 16, entry >> 10 & 63
            if far:
                run += longest_runs[last, entry >> 4 & 63] + 1
            position += (entry & 15) + 1
        place += run + 1
        if place > 63:
            return INVALID
    return position


@numba.njit(cache=True, nogil=True)
def skip_dc(data: Any, position: int, table: Any) -> int:
    """Read an intra block's DC difference."""
    entry = table[peek(data, position, CODE_BITS)]
    size = entry >> 4
    if entry == 0:
        return INVALID
    return position + (entry & 15) + size + (size > 8)


@numba.njit(cache=True, nogil=True)
def skip_inter(data: Any, position: int, cbp: int) -> int:
    """Read the coefficients of the blocks that a pattern names."""
    for block in range(6):
        if cbp >> (5 - block) & 1 and position >= 0:
            position = skip_coefficients(data, position, _INTER, _INTER_RUNS, 0)
    return position


@numba.njit(cache=True, nogil=True)
def skip_intra(data: Any, position: int, cbp: int, has_dc: bool) -> int:
    """Read an intra macroblock's blocks."""
    for block in range(6):
        if has_dc and position >= 0:
            position = skip_dc(data, position, _DC_LUMA if block < 4 else _DC_CHROMA)
        if cbp >> (5 - block) & 1 and position >= 0:
            position = skip_coefficients(data, position, _INTRA, _INTRA_RUNS, 1 if has_dc else 0)
    return position


@numba.njit(cache=True, nogil=True)
def read_vector(data: Any, position: int, predictor: int, fcode: int) -> tuple[int, int]:
    """Return one component of a vector, and where it ends (section 7.6.3)."""
    entry = MOTION[peek(data, position, CODE_BITS)]
    if entry == 0:
        return 0, INVALID
    position += entry & 15
    value = np.int64(entry >> 4)
    if value == 0:
        return predictor, position
    negative = peek(data, position, 1)
    position += 1
    if fcode > 1:
        value = ((value - 1) << (fcode - 1)) + peek(data, position, fcode - 1) + 1
        position += fcode - 1
    half = 1 << (fcode + 4)
    value = predictor - value if negative else predictor + value
    return ((value + half) & (2 * half - 1)) - half, position


@numba.njit(cache=True, nogil=True)
def median(a: int, b: int, c: int) -> int:
    """Return the middle one of three."""
    return max(min(a, b), min(max(a, b), c))


@numba.njit(cache=True, nogil=True)
def predict(macroblocks: Any, number: int, block: int, num_columns: int, first: int) -> tuple[int, int]:
    """Return the vector expected for a luma block (section 7.6.5); ``first`` is its packet's first macroblock."""
    if block == 3:
        mb = macroblocks[number]
        x = median(mb.past_x[0], mb.past_x[1], mb.past_x[2])
        return x, median(mb.past_y[0], mb.past_y[1], mb.past_y[2])
    column = number % num_columns
    left, above, beside = number - 1, number - num_columns, number - num_columns + 1
    left_block, above_block, beside_block = block + 1, block + 2, 2
    has_left, has_above = column > 0 and left >= first, above >= first
    has_beside = column + 1 < num_columns and beside >= first
    if block == 1:
        left, left_block, has_left = number, 0, True
    elif block == 2:
        above, above_block, beside, beside_block = number, 0, number, 1
        has_above = has_beside = True
    ax = ay = bx = by = cx = cy = 0
    if has_left:
        ax, ay = macroblocks[left].past_x[left_block], macroblocks[left].past_y[left_block]
    if has_above:
        bx, by = macroblocks[above].past_x[above_block], macroblocks[above].past_y[above_block]
    if has_beside:
        cx, cy = macroblocks[beside].past_x[beside_block], macroblocks[beside].past_y[beside_block]
    if not has_above and has_left != has_beside:  # only one is there
        return ax + cx, ay + cy
    return median(ax, bx, cx), median(ay, by, cy)


@numba.njit(cache=True, nogil=True)
def skip_stuffing(data: Any, position: int) -> int:
    """Skip macroblock stuffing in a P-VOP: a bit that says coded, then the stuffing code."""
    while peek(data, position, 10) == 1:
        position += 10
    return position


@numba.njit(cache=True, nogil=True)
def read_packet(data: Any, position: int, quantiser: int, header: Header) -> tuple[int, int, int]:
    """Read a video packet's header if there is one; return its first macroblock, else -1; position; quantiser."""
    gap = 8 - (position & 7)  # a zero, then ones up to the byte's end
    if peek(data, position, gap) != (1 << (gap - 1)) - 1 or peek(data, position + gap, 16):
        return -1, position, quantiser
    at = position + gap + 16
    while at - position - gap < header.prefix_zeros and not peek(data, at, 1):
        at += 1
    if at - position - gap < header.prefix_zeros or at + header.number_bits + 7 > header.end:
        return -1, position, quantiser
    if not peek(data, at, 1):
        return -1, INVALID, quantiser
    number = peek(data, at + 1, header.number_bits)
    at += 1 + header.number_bits
    coded_quantiser = peek(data, at, 5)
    has_extension = peek(data, at + 5, 1)
    at += 6
    if has_extension:  # the VOP's header again: the time, the type, the threshold, the vectors' ranges
        while at < header.end and peek(data, at, 1):
            at += 1
        at += 1 + 1 + header.tick_bits + 1 + 2 + 3 + 3 * header.num_fcodes
    return number, at, coded_quantiser if coded_quantiser else quantiser


@numba.njit(cache=True, nogil=True)
def parse_p(data: Any, header: Header, macroblocks: Any) -> tuple[int, int]:
    """Fill in the macroblocks (N,), zeroed before, of a P-VOP; return how many were read, and where they end."""
    position, quantiser, first = header.position, header.quantiser, 0
    for number in range(macroblocks.shape[0]):
        position = skip_stuffing(data, position)
        if number:
            packet, position, quantiser = read_packet(data, position, quantiser, header)
            if packet >= 0:
                first = number
                if packet != number:
                    return number, INVALID
        if position >= 0:
            position, quantiser = parse_p_macroblock(data, position, quantiser, header, macroblocks, number, first)
        if position < 0 or position > header.end:
            return number, INVALID
        macroblocks[number].quantiser = quantiser
    return macroblocks.shape[0], skip_stuffing(data, position)


@numba.njit(cache=True, nogil=True)
def parse_p_macroblock(
    data: Any, position: int, quantiser: int, header: Header, macroblocks: Any, number: int, first: int
) -> tuple[int, int]:
    """Fill in one macroblock of a P-VOP; return where it ends, and its quantiser (section 6.2.6)."""
    mb = macroblocks[number]
    mb.past = 1
    if peek(data, position, 1):
        mb.skipped = 1
        return position + 1, quantiser
    entry = MCBPC_INTER[peek(data, position + 1, CODE_BITS)]
    kind = entry >> 4
    if entry == 0 or kind == STUFFING:
        return INVALID, quantiser
    intra = kind >> 2 & 1
    position += 1 + (entry & 15) + intra  # ac_pred_flag
    entry = CBPY[peek(data, position, CODE_BITS)]
    if entry == 0:
        return INVALID, quantiser
    position += entry & 15
    mb.cbp = ((entry >> 4) ^ (0 if intra else 15)) << 2 | kind & 3
    has_dc = quantiser < header.dc_threshold
    if kind & 8:
        change = peek(data, position, 2)  # -1, -2, 1, 2
        quantiser = min(max(quantiser + (change - 1 if change > 1 else -1 - change), 1), 31)
        position += 2
    if intra:
        mb.intra = 1
        mb.past = 0
        return skip_intra(data, position, mb.cbp, has_dc), quantiser
    mb.split = mb.four = kind >> 4
    position = read_past_vectors(data, position, header, macroblocks, number, first)
    return skip_inter(data, position, mb.cbp), quantiser


@numba.njit(cache=True, nogil=True)
def read_past_vectors(data: Any, position: int, header: Header, macroblocks: Any, number: int, first: int) -> int:
    """Read the vector or the four vectors of a P-VOP's macroblock."""
    mb = macroblocks[number]
    for block in range(4 if mb.split else 1):
        x, y = predict(macroblocks, number, block, header.num_columns, first)
        x, position = read_vector(data, position, x, header.past_fcode)
        if position >= 0:
            y, position = read_vector(data, position, y, header.past_fcode)
        if position < 0:
            return INVALID
        for place in range(block, block + 1 if mb.split else 4):
            mb.past_x[place], mb.past_y[place] = x, y
    return position


@numba.njit(cache=True, nogil=True)
def parse_b(data: Any, header: Header, macroblocks: Any, anchors: Any) -> tuple[int, int]:
    """Fill in the macroblocks (N,), zeroed before, of a B-VOP; ``anchors`` are those of the next anchor."""
    position, quantiser = header.position, header.quantiser
    vectors = np.zeros(4, np.int64)  # the last ones, which the next are coded against: past x, y, future x, y
    for number in range(macroblocks.shape[0]):
        mb = macroblocks[number]
        if number % header.num_columns == 0:
            vectors[:] = 0
        if anchors[number].skipped:
            mb.past = mb.skipped = 1
            mb.quantiser = quantiser
            continue
        if number:
            packet, position, quantiser = read_packet(data, position, quantiser, header)
            if packet >= 0:
                vectors[:] = 0
                while packet < number and anchors[packet].skipped:  # a packet may begin with skipped ones
                    packet += 1
                if packet != number:
                    return number, INVALID
        if position >= 0:
            position, quantiser = parse_b_macroblock(data, position, quantiser, header, vectors, mb, anchors[number])
        if position < 0 or position > header.end:
            return number, INVALID
        mb.quantiser = quantiser
    return macroblocks.shape[0], position


@numba.njit(cache=True, nogil=True)
def parse_b_macroblock(
    data: Any, position: int, quantiser: int, header: Header, vectors: Any, mb: Any, anchor: Any
) -> tuple[int, int]:
    """Fill in one macroblock of a B-VOP; return where it ends, and its quantiser (sections 6.2.6 and 6.3.6)."""
    if peek(data, position, 1):  # direct, nothing coded
        set_direct(mb, anchor, 0, 0, header)
        return position + 1, quantiser
    has_blocks = not peek(data, position + 1, 1)
    entry = MB_TYPE_B[peek(data, position + 2, CODE_BITS)]
    kind = entry >> 4
    if entry == 0:
        return INVALID, quantiser
    position += 2 + (entry & 15)
    if has_blocks:
        mb.cbp = peek(data, position, 6)
        position += 6
    if mb.cbp and kind:
        change = peek(data, position, 2)  # 0, -2, 2
        if change > 1:
            quantiser = min(max(quantiser + 4 * (change & 1) - 2, 1), 31)
        position += 1 + (change > 1)
    if kind == 0:
        x, position = read_vector(data, position, 0, 1)
        y = 0
        if position >= 0:
            y, position = read_vector(data, position, 0, 1)
        set_direct(mb, anchor, x, y, header)
    if kind & 1:  # both, or past
        mb.past = 1
        position = read_b_vector(data, position, vectors[:2], header.past_fcode, mb.past_x, mb.past_y)
    if kind == 1 or kind == 2:
        mb.future = 1
        position = read_b_vector(data, position, vectors[2:], header.future_fcode, mb.future_x, mb.future_y)
    return skip_inter(data, position, mb.cbp), quantiser


@numba.njit(cache=True, nogil=True)
def read_b_vector(data: Any, position: int, last: Any, fcode: int, xs: Any, ys: Any) -> int:
    """Read one vector of a B-VOP's macroblock, and keep it in ``last``."""
    for axis in range(2):
        if position >= 0:
            last[axis], position = read_vector(data, position, last[axis], fcode)
    for block in range(4):
        xs[block], ys[block] = last[0], last[1]
    return position


@numba.njit(cache=True, nogil=True)
def set_direct(mb: Any, anchor: Any, x: int, y: int, header: Header) -> None:
    """Derive the vectors of direct mode from the next anchor's and a difference (section 7.6.9.5.2)."""
    mb.direct = mb.past = mb.future = 1
    mb.split = anchor.split
    mb.four = anchor.split or header.direct_in_four
    for block in range(4):
        mb.past_x[block], mb.future_x[block] = scale(np.int64(anchor.past_x[block]), x, header)
        mb.past_y[block], mb.future_y[block] = scale(np.int64(anchor.past_y[block]), y, header)


@numba.njit(cache=True, nogil=True)
def scale(motion: int, change: int, header: Header) -> tuple[int, int]:
    """Divide an anchor's motion between the past and the future, truncating toward zero."""
    sign = -1 if motion < 0 else 1
    past = sign * (sign * motion * header.past_ticks // header.span_ticks) + change
    if change:
        return past, past - motion
    rest = header.span_ticks - header.past_ticks
    return past, -sign * (sign * motion * rest // header.span_ticks)


@numba.njit(cache=True, nogil=True)
def fill_blocks(macroblocks: Any, motion_scale: int, blocks: Any) -> None:
    """Write block vectors, zeroed before, in libavcodec's order: by macroblock, past before future, by block."""
    count = 0
    for row in range(macroblocks.shape[0]):
        for column in range(macroblocks.shape[1]):
            mb = macroblocks[row, column]
            size = 8 if mb.split else 16
            for source in (-1, 1):
                if not (mb.future if source > 0 else mb.past):
                    continue
                for i in range(4 if mb.split else 1):
                    x = np.int64(mb.future_x[i] if source > 0 else mb.past_x[i])
                    y = np.int64(mb.future_y[i] if source > 0 else mb.past_y[i])
                    block = blocks[count]
                    count += 1
                    block.source = source
                    block.w = block.h = size
                    block.dst_x = 16 * column + 8 * (i & 1) + size // 2
                    block.dst_y = 16 * row + 8 * (i >> 1) + size // 2
                    block.motion_x, block.motion_y, block.motion_scale = x, y, motion_scale
                    block.src_x = block.dst_x + (x // motion_scale if x >= 0 else -(-x // motion_scale))
                    block.src_y = block.dst_y + (y // motion_scale if y >= 0 else -(-y // motion_scale))
