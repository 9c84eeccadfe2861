"""Numba loops that walk through the macroblocks of a VOP, and nothing else.

Imported where a kernel first runs: numba takes a fifth of a second to load.
"""

from typing import Any

import numpy as np

from vidprep.codec._compile import kernel
from vidprep.codec._mpeg4_codes import (
    INVALID,
    Header,
    peek,
    read_packet,
    read_vector,
    skip_inter,
    skip_intra,
    skip_stuffing,
)
from vidprep.codec._mpeg4_tables import CBPY, CODE_BITS, MB_TYPE_B, MCBPC_INTER, STUFFING


@kernel
def scale(motion: int, change: int, header: Header) -> tuple[int, int]:
    """Divide an anchor's motion between the past and the future, truncating toward zero."""
    sign = -1 if motion < 0 else 1
    past = sign * (sign * motion * header.past_ticks // header.span_ticks) + change
    if change:
        return past, past - motion
    rest = header.span_ticks - header.past_ticks
    return past, -sign * (sign * motion * rest // header.span_ticks)


@kernel
def set_direct(macroblocks: Any, anchors: Any, number: int, x: int, y: int, header: Header) -> None:
    """Derive the vectors of direct mode from the next anchor's and a difference (section 7.6.9.5.2)."""
    mb, anchor = macroblocks[number], anchors[number]
    mb.direct = mb.past = mb.future = 1
    mb.split = anchor.split
    mb.four = anchor.split or header.direct_in_four
    for block in range(4):
        mb.past_x[block], mb.future_x[block] = scale(int(anchor.past_x[block]), x, header)
        mb.past_y[block], mb.future_y[block] = scale(int(anchor.past_y[block]), y, header)
    # libavcodec has forgotten the last of four vectors where a macroblock with four, in a new packet, followed.
    beside = number + 1
    if mb.split and beside % header.num_columns and anchors[beside].first and anchors[beside].split:
        mb.past_x[3], mb.past_y[3], mb.future_x[3], mb.future_y[3] = x, y, x, y


@kernel
def median(a: int, b: int, c: int) -> int:
    """Return the middle one of three."""
    return max(min(a, b), min(max(a, b), c))


@kernel
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


@kernel
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


@kernel
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


@kernel
def parse_p(data: Any, header: Header, macroblocks: Any) -> tuple[int, int]:
    """Fill in the macroblocks (N,), zeroed before, of a P-VOP; return how many were read, and where they end."""
    position, quantiser, first = header.position, header.quantiser, 0
    for number in range(macroblocks.shape[0]):
        position = skip_stuffing(data, position)
        if number:
            packet, position, quantiser = read_packet(data, position, quantiser, header)
            if packet >= 0:
                first = number
                macroblocks[number].first = 1
                if packet != number:
                    return number, INVALID
                position = skip_stuffing(data, position)
        if position >= 0:
            position, quantiser = parse_p_macroblock(data, position, quantiser, header, macroblocks, number, first)
        if position < 0 or position > header.end:
            return number, INVALID
        macroblocks[number].quantiser = quantiser
    return macroblocks.shape[0], skip_stuffing(data, position)


@kernel
def read_b_vector(data: Any, position: int, last: Any, fcode: int, xs: Any, ys: Any) -> int:
    """Read one vector of a B-VOP's macroblock, and keep it in ``last``."""
    for axis in range(2):
        if position >= 0:
            last[axis], position = read_vector(data, position, last[axis], fcode)
    for block in range(4):
        xs[block], ys[block] = last[0], last[1]
    return position


@kernel
def parse_b_macroblock(
    data: Any, position: int, quantiser: int, header: Header, vectors: Any, macroblocks: Any, anchors: Any, number: int
) -> tuple[int, int]:
    """Fill in one macroblock of a B-VOP; return where it ends, and its quantiser (sections 6.2.6 and 6.3.6)."""
    mb = macroblocks[number]
    if peek(data, position, 1):  # direct, nothing coded
        set_direct(macroblocks, anchors, number, 0, 0, header)
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
        set_direct(macroblocks, anchors, number, x, y, header)
    if kind & 1:  # both, or past
        mb.past = 1
        position = read_b_vector(data, position, vectors[:2], header.past_fcode, mb.past_x, mb.past_y)
    if kind == 1 or kind == 2:
        mb.future = 1
        position = read_b_vector(data, position, vectors[2:], header.future_fcode, mb.future_x, mb.future_y)
    return skip_inter(data, position, mb.cbp), quantiser


@kernel
def read_b_packets(
    data: Any, position: int, quantiser: int, header: Header, vectors: Any, number: int, anchors: Any
) -> tuple[int, int]:
    """Read the headers of video packets; a packet may begin with skipped macroblocks, or have no others."""
    packet = 0
    while packet >= 0 and position >= 0:
        packet, position, quantiser = read_packet(data, position, quantiser, header)
        if packet >= 0:
            vectors[:] = 0
            while packet < number and anchors[packet].skipped:
                packet += 1
            if packet != number:
                return INVALID, quantiser
    return position, quantiser


@kernel
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
            position, quantiser = read_b_packets(data, position, quantiser, header, vectors, number, anchors)
        if position >= 0:
            position, quantiser = parse_b_macroblock(
                data, position, quantiser, header, vectors, macroblocks, anchors, number
            )
        if position < 0 or position > header.end:
            return number, INVALID
        mb.quantiser = quantiser
    position, quantiser = read_b_packets(data, position, quantiser, header, vectors, macroblocks.shape[0], anchors)
    return macroblocks.shape[0], position


@kernel
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
                    x = int(mb.future_x[i] if source > 0 else mb.past_x[i])
                    y = int(mb.future_y[i] if source > 0 else mb.past_y[i])
                    block = blocks[count]
                    count += 1
                    block.source = source
                    block.w = block.h = size
                    block.dst_x = 16 * column + 8 * (i & 1) + size // 2
                    block.dst_y = 16 * row + 8 * (i >> 1) + size // 2
                    block.motion_x, block.motion_y, block.motion_scale = x, y, motion_scale
                    block.src_x = block.dst_x + (x // motion_scale if x >= 0 else -(-x // motion_scale))
                    block.src_y = block.dst_y + (y // motion_scale if y >= 0 else -(-y // motion_scale))
