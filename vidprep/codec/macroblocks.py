"""Macroblocks of MPEG-4 Part 2 pictures, parsed from the bitstream: what libavcodec decodes but doesn't export.

ISO/IEC 14496-2, sections 6.2.5 to 6.2.8 and 7.6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vidprep.codec.blocks import BLOCK_DTYPE, NO_BLOCKS
from vidprep.codec.mpeg4 import Vol, has_short_header, has_vol, read_vol
from vidprep.codec.mpeg4_builds import Builds
from vidprep.codec.mpeg4_vop import Clock, Vop, read_vop
from vidprep.errors import DecodeError, UnsupportedError

if TYPE_CHECKING:
    from vidprep.codec._mpeg4_codes import Header

MACROBLOCK_DTYPE = np.dtype(
    [
        ("intra", "u1"),
        ("first", "u1"),
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

``intra``: coded without prediction. ``first``: begins a video packet (in a P-VOP; the VOP's own first doesn't count).
``skipped``: nothing is coded, and it equals the past anchor (in a P-VOP
``not_coded``; in a B-VOP because its place was skipped in the next anchor). ``past``, ``future``: which predictions
it has. ``direct``: a B-VOP's macroblock with vectors derived from the next anchor's. ``split``: each 8x8 block has a
vector of its own. ``four``: predicted as four 8x8 blocks, as libavcodec does it (also direct mode in quarter-pel
streams; interpolation at block edges differs from 16x16). ``quantiser``: 1 to 31. ``cbp``: which blocks have
coefficients, bit 5 for the first luma block, bits 1 and 0 for Cb and Cr; in intra macroblocks AC coefficients only.
``past_x`` ...: vectors of the four luma blocks, source minus destination in half pixels (quarter pixels if
``Vol.quarter_sample``); zero where there is no such prediction.
"""


class CodedVop:
    """One VOP's header, and its macroblocks, which are parsed when they are first asked for.

    Attributes
    ----------
    vop : Vop
        The header.
    vol : Vol
        Of its layer.
    builds : Builds
        Who made the stream, as far as it has said.
    """

    __slots__ = ("_future", "_macroblocks", "_packet", "_ticks", "_vectors", "builds", "vol", "vop")

    def __init__(
        self, packet: bytes, vop: Vop, vol: Vol, builds: Builds, ticks: tuple[int, int], future: CodedVop | None
    ) -> None:
        self.vop = vop
        self.vol = vol
        self.builds = builds
        self._packet = packet
        self._ticks = ticks
        self._future = future
        self._macroblocks: NDArray[np.void] | None = None
        self._vectors: NDArray[np.void] | None = None

    @property
    def is_export_exact(self) -> bool:
        """Whether libavcodec exports its vectors as they are.

        It exports zeros for B-VOPs; and where a macroblock with four vectors begins a video packet, it forgets the last
        vector of the one before.
        """
        return self.vop.picture_type != "B" and self.vol.resync_marker_disable

    @property
    def macroblocks(self) -> NDArray[np.void] | None:
        """Macroblocks [shape=(mb_rows, mb_cols), dtype=MACROBLOCK_DTYPE]; None for I-VOPs.

        None also for VOPs that libavcodec makes no picture of: those that are not coded, and B-VOPs without a future
        anchor or whose times are out of order.

        Raises
        ------
        DecodeError
            If a code is invalid, or the macroblocks don't end where the VOP does.
        """
        if self._macroblocks is None and self.vop.coded and self.vop.picture_type in "PB":
            past, span = self._ticks
            if self.vop.picture_type == "P" or (self._future is not None and 0 < past < span):
                self._macroblocks = self._parse()
                self._future = None  # it holds a packet
        return self._macroblocks

    @property
    def vectors(self) -> NDArray[np.void]:
        """Block vectors as libavcodec would export them [shape=(N,), dtype=BLOCK_DTYPE]."""
        if self._vectors is None:
            macroblocks = self.macroblocks
            self._vectors = NO_BLOCKS if macroblocks is None else block_vectors(macroblocks, self.vol.quarter_sample)
        return self._vectors

    def _parse(self) -> NDArray[np.void]:
        from vidprep.codec import _mpeg4_kernels
        from vidprep.codec._mpeg4_codes import PADDING_BYTES

        macroblocks = np.zeros(self.vol.mb_shape, MACROBLOCK_DTYPE)
        data = np.zeros(len(self._packet) + PADDING_BYTES, np.uint8)
        data[: len(self._packet)] = np.frombuffer(self._packet, np.uint8)
        header, flat = self._header(), macroblocks.reshape(-1)
        if self._future is None:
            result = _mpeg4_kernels.parse_p(data, header, flat)
        else:
            anchors = self._future.macroblocks
            anchors = np.zeros_like(macroblocks) if anchors is None else anchors
            if anchors.shape != macroblocks.shape:
                raise DecodeError(
                    f"size={anchors.shape} before {macroblocks.shape}, in macroblocks: it must not change"
                )
            result = _mpeg4_kernels.parse_b(data, header, flat, anchors.reshape(-1))
        _check_end(self._packet, *result, flat.size)
        return macroblocks

    def _header(self) -> Header:
        from vidprep.codec._mpeg4_codes import Header

        vop, (num_rows, num_columns) = self.vop, self.vol.mb_shape
        is_b = vop.picture_type == "B"
        return Header(
            num_columns=num_columns,
            end=8 * len(self._packet),
            position=vop.position,
            quantiser=vop.quantiser,
            dc_threshold=vop.dc_threshold,
            past_fcode=vop.past_fcode,
            future_fcode=vop.future_fcode,
            prefix_zeros=15 + (max(vop.past_fcode, vop.future_fcode, 2) if is_b else vop.past_fcode),
            number_bits=max((num_rows * num_columns - 1).bit_length(), 1),
            tick_bits=self.vol.tick_bits,
            num_fcodes=1 + is_b,
            past_ticks=self._ticks[0],
            span_ticks=self._ticks[1],
            direct_in_four=int(self.vol.quarter_sample and self.builds.has_direct_in_four),
        )


class MacroblockParser:
    """Reads the VOPs of one stream, one after the other, in decoding order.

    Parameters
    ----------
    extradata : bytes
        The decoder's configuration; it may be empty, if packets repeat the headers.
    codec_tag : str
        What the container calls the codec, by which libavcodec guesses who made a stream that doesn't say it.

    Raises
    ------
    DecodeError
        If its headers are damaged.
    UnsupportedError
        If the stream uses coding tools that are not known here.
    """

    def __init__(self, extradata: bytes, codec_tag: str = "") -> None:
        self._vol: Vol | None = None
        self._builds = Builds(codec_tag)
        self._clock = Clock()
        self._anchor: CodedVop | None = None
        self._read_headers(extradata)

    @property
    def has_video_packets(self) -> bool:
        """Whether the headers so far allow video packets."""
        return self._vol is not None and not self._vol.resync_marker_disable

    def read(self, packet: bytes) -> CodedVop | None:
        """Return what a packet holds; None if there is no VOP.

        Parameters
        ----------
        packet : bytes
            It holds one VOP; libavcodec's filter ``mpeg4_unpack_bframes`` takes care of that.

        Raises
        ------
        DecodeError
            If its headers are damaged.
        UnsupportedError
            If the stream uses coding tools that are not known here.
        """
        self._read_headers(packet)
        if self._vol is None:
            raise DecodeError("num_vols=0: the stream begins without its layer's header; it is cut, get it anew")
        vop = read_vop(packet, self._vol)
        if vop is None:
            return None
        if vop.picture_type == "S":
            raise UnsupportedError("picture_type=S: global motion is not followed; transcode it (--codec mpeg4)")
        ticks = self._clock.step(vop, self._vol.ticks_per_second)
        future = self._anchor if vop.picture_type == "B" else None
        coded = CodedVop(packet, vop, self._vol, self._builds, ticks, future)
        if vop.coded and vop.picture_type != "B":
            self._anchor = coded
        return coded

    def _read_headers(self, data: bytes) -> None:
        end = data.find(b"\0\0\1\xb6")
        head = data if end < 0 else data[:end]
        if head:
            self._builds = self._builds.updated(head)
            if has_vol(head) or has_short_header(head):
                self._vol = read_vol(head)
                _refuse(self._vol)


def can_parse(extradata: bytes) -> bool:
    """Tell whether a decoder's configuration names no coding tools that are not known here."""
    return _parser_of(extradata) is not None


def needs_parsing(extradata: bytes, *, has_b_frames: bool) -> bool:
    """Tell whether libavcodec exports vectors wrongly that can be parsed; see :attr:`CodedVop.is_export_exact`."""
    parser = _parser_of(extradata)
    return parser is not None and (has_b_frames or parser.has_video_packets)


def _parser_of(extradata: bytes) -> MacroblockParser | None:
    try:
        return MacroblockParser(extradata)
    except DecodeError:
        return None


def _refuse(vol: Vol) -> None:
    tools = {"interlacing": vol.interlaced, "sprites or global motion": vol.sprite,
             "data partitioning": vol.data_partitioned, **dict.fromkeys(vol.other_tools, True)}  # fmt: skip
    used = [name for name, is_used in tools.items() if is_used]
    if used:
        raise UnsupportedError(
            f"coding_tools={used}: macroblocks of streams with such tools are not read; transcode it (--codec mpeg4)"
        )


def _check_end(packet: bytes, num_read: int, position: int, size: int) -> None:
    """Raise DecodeError unless all macroblocks were read, and stuffing is all that follows (section 5.2.4)."""
    cure = "the stream is damaged; get the file anew, or transcode it (--codec mpeg4)"
    if position < 0:
        raise DecodeError(f"macroblock={num_read} of {size}: an invalid code; {cure}")
    byte, bit = divmod(position, 8)
    stuffing = (1 << (7 - bit)) - 1  # a zero, then ones up to the byte's end
    rest = packet[byte + 1 :]
    after = rest.lstrip(b"\0")
    is_start_code = after[:1] == b"\1" and len(rest) - len(after) >= 2
    is_stuffed = byte < len(packet) and packet[byte] & (2 * stuffing + 1) == stuffing
    if not is_stuffed or (after and not is_start_code):
        raise DecodeError(f"position={position} of {8 * len(packet)} bits: macroblocks end, the VOP doesn't; {cure}")


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
