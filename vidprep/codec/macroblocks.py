"""Macroblocks of MPEG-4 Part 2 pictures, parsed from the bitstream: what libavcodec decodes but doesn't export.

ISO/IEC 14496-2, sections 6.2.5 to 6.2.8 and 7.6.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vidprep.codec.mpeg4 import Vop

MACROBLOCK_DTYPE = np.dtype(
    [
        ("intra", "u1"),
        ("skipped", "u1"),
        ("past", "u1"),
        ("future", "u1"),
        ("direct", "u1"),
        ("split", "u1"),
        ("four", "u1"),
        ("quantiser", "u1"),
        ("cbp", "u1"),
        ("past_x", "<i2", (4,)),
        ("past_y", "<i2", (4,)),
        ("future_x", "<i2", (4,)),
        ("future_y", "<i2", (4,)),
    ]
)
"""One macroblock of a P- or B-VOP.

``intra``: coded without prediction. ``skipped``: nothing is coded, and it equals the past anchor (in a P-VOP
``not_coded``; in a B-VOP because its place was skipped in the next anchor). ``past``, ``future``: which predictions
it has. ``direct``: a B-VOP's macroblock with vectors derived from the next anchor's. ``split``: each 8x8 block has a
vector of its own. ``four``: predicted as four 8x8 blocks, as libavcodec does it (also direct mode in quarter-pel
streams; interpolation at block edges differs from 16x16). ``quantiser``: 1 to 31. ``cbp``: which blocks have
coefficients, bit 5 for the first luma block, bits 1 and 0 for Cb and Cr; in intra macroblocks AC coefficients only.
``past_x`` ...: vectors of the four luma blocks, source minus destination in half pixels (quarter pixels if
``Vol.quarter_sample``); zero where there is no such prediction.
"""


class MacroblockParser:
    """Parses the VOPs of one stream, one after the other, in decoding order.

    Parameters
    ----------
    extradata : bytes
        The decoder's configuration; it may be empty, if packets repeat the headers.

    Attributes
    ----------
    vol : Vol or None
        The stream's last video object layer.
    """

    def __init__(self, extradata: bytes) -> None:
        raise NotImplementedError

    def parse(self, packet: bytes) -> tuple[Vop, NDArray[np.void] | None]:
        """Return a packet's VOP and its macroblocks [shape=(mb_rows, mb_cols), dtype=MACROBLOCK_DTYPE].

        None in place of the macroblocks for I-VOPs, VOPs that are not coded, and B-VOPs that libavcodec drops because
        their times are out of order. A packet holds one VOP (libavcodec's filter ``mpeg4_unpack_bframes``).
        """
        raise NotImplementedError


def block_vectors(macroblocks: NDArray[np.void], quarter_sample: bool) -> NDArray[np.void]:
    """Return macroblocks' vectors as libavcodec would export them [shape=(N,), dtype=BLOCK_DTYPE]."""
    raise NotImplementedError
