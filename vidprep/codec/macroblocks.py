"""Macroblocks of MPEG-4 Part 2 pictures, parsed from the bitstream: what libavcodec decodes but doesn't export.

ISO/IEC 14496-2, sections 6.2.5 to 6.2.8 and 7.6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vidprep.codec.blocks import BLOCK_DTYPE
from vidprep.codec.mpeg4 import Clock, Vol, Vop, has_short_header, has_vol, read_vol, read_vop
from vidprep.codec.mpeg4_builds import Builds
from vidprep.errors import DecodeError, UnsupportedError

if TYPE_CHECKING:
    from vidprep.codec._mpeg4_kernels import Header

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
    only_b : bool
        Parse P-VOPs only where a B-VOP needs them, and don't return their macroblocks.

    Attributes
    ----------
    vol : Vol or None
        The stream's last video object layer.
    builds : Builds
        Who made the stream, as far as it says.

    Raises
    ------
    UnsupportedError
        If the stream uses coding tools that are not known here.
    """

    def __init__(self, extradata: bytes, *, only_b: bool = False) -> None:
        self.vol: Vol | None = None
        self._only_b = only_b
        self.builds = Builds()
        self._clock = Clock()
        self._anchor: tuple[bytes, Vop] | None = None
        self._anchor_macroblocks: NDArray[np.void] | None = None
        self._read_headers(extradata)

    def parse(self, packet: bytes) -> tuple[Vop | None, NDArray[np.void] | None]:
        """Return a packet's VOP and its macroblocks [shape=(mb_rows, mb_cols), dtype=MACROBLOCK_DTYPE].

        Parameters
        ----------
        packet : bytes
            It holds one VOP; libavcodec's filter ``mpeg4_unpack_bframes`` takes care of that.

        Returns
        -------
        vop : Vop or None
            None if the packet holds none.
        macroblocks : ndarray or None
            None for I-VOPs, VOPs that are not coded, and B-VOPs that libavcodec drops: their times are out of order.

        Raises
        ------
        DecodeError
            If a code is invalid, or the macroblocks don't end where the VOP does.
        UnsupportedError
            If the stream uses coding tools that are not known here.
        """
        self._read_headers(packet)
        if self.vol is None:
            raise DecodeError("num_vols=0: the stream begins without its layer's header; it is cut, get it anew")
        vop = read_vop(packet, self.vol)
        if vop is None:
            return None, None
        if vop.picture_type == "S":
            raise UnsupportedError("picture_type=S: global motion is not followed; transcode it (--codec mpeg4)")
        past_ticks, span_ticks = self._clock.step(vop, self.vol.ticks_per_second)
        if not vop.coded:
            return vop, None
        if vop.picture_type == "B":
            return vop, self._parse_b(packet, vop, past_ticks, span_ticks) if 0 < past_ticks < span_ticks else None
        self._anchor, self._anchor_macroblocks = (packet, vop), None
        return vop, None if self._only_b or vop.picture_type == "I" else self._future_anchor()

    def _read_headers(self, data: bytes) -> None:
        head = data.partition(b"\0\0\1\xb6")[0]
        if head:
            self.builds = self.builds.updated(head)
        if has_vol(head) or has_short_header(head):
            self.vol = read_vol(head)
            _refuse(self.vol)

    def _future_anchor(self) -> NDArray[np.void]:
        """Return the macroblocks of the anchor decoded last, which B-VOPs refer to as the next one displayed."""
        assert self.vol is not None
        if self._anchor_macroblocks is None:
            macroblocks = np.zeros(self.vol.mb_shape, MACROBLOCK_DTYPE)
            if self._anchor is not None and self._anchor[1].picture_type == "P":
                from vidprep.codec._mpeg4_kernels import parse_p

                packet, vop = self._anchor
                data, header = self._prepared(packet, vop, 1, 1)
                _check_end(data, header, *parse_p(data, header, macroblocks.reshape(-1)), macroblocks.size)
            self._anchor_macroblocks = macroblocks
        return self._anchor_macroblocks

    def _parse_b(self, packet: bytes, vop: Vop, past_ticks: int, span_ticks: int) -> NDArray[np.void]:
        from vidprep.codec._mpeg4_kernels import parse_b

        assert self.vol is not None
        anchors = self._future_anchor()
        macroblocks = np.zeros(self.vol.mb_shape, MACROBLOCK_DTYPE)
        data, header = self._prepared(packet, vop, past_ticks, span_ticks)
        result = parse_b(data, header, macroblocks.reshape(-1), anchors.reshape(-1))
        _check_end(data, header, *result, macroblocks.size)
        return macroblocks

    def _prepared(self, packet: bytes, vop: Vop, past_ticks: int, span_ticks: int) -> tuple[NDArray[np.uint8], Header]:
        from vidprep.codec._mpeg4_kernels import PADDING_BYTES, Header

        assert self.vol is not None
        data = np.zeros(len(packet) + PADDING_BYTES, np.uint8)
        data[: len(packet)] = np.frombuffer(packet, np.uint8)
        num_rows, num_columns = self.vol.mb_shape
        is_b = vop.picture_type == "B"
        fcode = max(vop.past_fcode, vop.future_fcode, 2) if is_b else vop.past_fcode
        return data, Header(
            num_columns=num_columns,
            end=8 * len(packet),
            position=vop.position,
            quantiser=vop.quantiser,
            dc_threshold=vop.dc_threshold,
            past_fcode=vop.past_fcode,
            future_fcode=vop.future_fcode,
            prefix_zeros=fcode + 15,
            number_bits=max((num_rows * num_columns - 1).bit_length(), 1),
            tick_bits=self.vol.tick_bits,
            num_fcodes=1 + is_b,
            past_ticks=past_ticks,
            span_ticks=span_ticks,
            direct_in_four=int(self.vol.quarter_sample and self.builds.has_direct_in_four),
        )


def _refuse(vol: Vol) -> None:
    tools = {"interlacing": vol.interlaced, "sprites or global motion": vol.sprite,
             "data partitioning": vol.data_partitioned, **dict.fromkeys(vol.other_tools, True)}  # fmt: skip
    used = [name for name, is_used in tools.items() if is_used]
    if used:
        raise UnsupportedError(
            f"coding_tools={used}: macroblocks of streams with such tools are not read; transcode it (--codec mpeg4)"
        )


def _check_end(data: NDArray[np.uint8], header: Header, num_read: int, position: int, size: int) -> None:
    """Raise DecodeError unless all macroblocks were read, and stuffing is all that follows (section 6.2.5)."""
    cure = "the stream is damaged; get the file anew, or transcode it (--codec mpeg4)"
    if position < 0:
        raise DecodeError(f"macroblock={num_read} of {size}: an invalid code; {cure}")
    at = position // 8
    stuffing = (1 << (7 - position % 8)) - 1  # a zero, then ones up to the byte's end
    rest = data[at + 1 : header.end // 8].tobytes()
    after = rest.lstrip(b"\0")
    is_start_code = after[:1] == b"\1" and len(rest) - len(after) >= 2
    if position >= header.end or int(data[at]) & (2 * stuffing + 1) != stuffing or (after and not is_start_code):
        raise DecodeError(f"position={position} of {header.end} bits: the macroblocks end, but the VOP doesn't; {cure}")


def block_vectors(macroblocks: NDArray[np.void], quarter_sample: bool) -> NDArray[np.void]:
    """Return macroblocks' vectors as libavcodec would export them [shape=(N,), dtype=BLOCK_DTYPE].

    Parameters
    ----------
    macroblocks : ndarray [shape=(mb_rows, mb_cols), dtype=MACROBLOCK_DTYPE]
    quarter_sample : bool
        Whether vectors count quarter pixels.
    """
    from vidprep.codec._mpeg4_kernels import fill_blocks

    num_blocks = np.where(macroblocks["split"], 4, 1) * (macroblocks["past"] + macroblocks["future"])
    blocks = np.zeros(int(num_blocks.sum()), BLOCK_DTYPE)
    fill_blocks(macroblocks, 4 if quarter_sample else 2, blocks)
    return blocks
