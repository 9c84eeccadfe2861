"""Numba functions that read the codes of MPEG-4 Part 2 macroblocks one by one.

``data`` is a packet with zero bytes behind its end: the codes are made so that zeros end in an invalid one, so a
reader that is past the end stops within a few bytes. A function that reads returns the bit where it stopped, or
``INVALID``.

numba compiles these into the loops of ``_mpeg4_kernels`` and looks at that file alone to tell whether what it has
cached is stale: whoever edits this one, or the tables, touches that one as well.
"""

from typing import Any, NamedTuple

import numpy as np

from vidprep.codec._compile import inlined, kernel
from vidprep.codec._mpeg4_tables import (
    CODE_BITS,
    COEFFICIENTS,
    DC_SIZES,
    ESCAPE,
    LONGEST_RUNS,
    MOTION,
)

PADDING_BYTES = 64
INVALID = -1
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


@inlined
def peek(data: Any, position: int, count: int) -> int:
    """Return the next ``count`` bits, 1 to 25."""
    at = np.uint64(position) >> np.uint64(3)
    one = np.uint64(1)
    word = np.uint32(data[at]) << np.uint32(24) | np.uint32(data[at + one]) << np.uint32(16)
    word |= np.uint32(data[at + one + one]) << np.uint32(8) | np.uint32(data[at + one + one + one])
    return int(np.int64(np.uint32(word << np.uint32(position & 7)) >> np.uint32(32 - count)))


@kernel
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


@kernel
def skip_dc(data: Any, position: int, table: Any) -> int:
    """Read an intra block's DC difference."""
    entry = table[peek(data, position, CODE_BITS)]
    size = entry >> 4
    if entry == 0:
        return INVALID
    return int(position + (entry & 15) + size + (size > 8))


@kernel
def skip_inter(data: Any, position: int, cbp: int) -> int:
    """Read the coefficients of the blocks that a pattern names."""
    for block in range(6):
        if cbp >> (5 - block) & 1 and position >= 0:
            position = skip_coefficients(data, position, _INTER, _INTER_RUNS, 0)
    return position


@kernel
def skip_intra(data: Any, position: int, cbp: int, has_dc: bool) -> int:
    """Read an intra macroblock's blocks."""
    for block in range(6):
        if has_dc and position >= 0:
            position = skip_dc(data, position, _DC_LUMA if block < 4 else _DC_CHROMA)
        if cbp >> (5 - block) & 1 and position >= 0:
            position = skip_coefficients(data, position, _INTRA, _INTRA_RUNS, 1 if has_dc else 0)
    return position


@kernel
def read_vector(data: Any, position: int, predictor: int, fcode: int) -> tuple[int, int]:
    """Return one component of a vector, and where it ends (section 7.6.3)."""
    entry = MOTION[peek(data, position, CODE_BITS)]
    if entry == 0:
        return 0, INVALID
    position += entry & 15
    value = int(entry >> 4)
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


@kernel
def skip_stuffing(data: Any, position: int) -> int:
    """Skip macroblock stuffing in a P-VOP: a bit that says coded, then the stuffing code."""
    while peek(data, position, 10) == 1:
        position += 10
    return position


@kernel
def read_packet(data: Any, position: int, quantiser: int, header: Header) -> tuple[int, int, int]:
    """Read a video packet's header if there is one; return its first macroblock, else -1; position; quantiser."""
    gap = 8 - (position & 7)  # a zero, then ones up to the byte's end
    if peek(data, position, gap) != (1 << (gap - 1)) - 1 or peek(data, position + gap, 16):
        return -1, position, quantiser
    at = position + gap + 16
    while at - position - gap < header.prefix_zeros and not peek(data, at, 1):
        at += 1
    is_marker = at - position - gap == header.prefix_zeros and peek(data, at, 1)  # more zeros make a start code
    if not is_marker or at + header.number_bits + 7 > header.end:
        return -1, position, quantiser
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
