"""One pass over a video stream: packets are watched on their way into the decoder, pictures on their way out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import av
from av.video.frame import PictureType

from vidprep.codec.damage import Damage
from vidprep.codec.frame import exported_vectors
from vidprep.codec.macroblocks import CodedVop, MacroblockParser, can_parse
from vidprep.codec.packets import PacketLog
from vidprep.codec.pictures import decode, set_up
from vidprep.codec.wanted import Wanted
from vidprep.errors import DecodeError, UnsupportedError

if TYPE_CHECKING:
    from vidprep.codec.pictures import Packet


class SinglePass:
    """Decodes one stream once.

    Parameters
    ----------
    context : av.VideoCodecContext
        Its decoder, not yet used.
    damage : Damage
        What to do about damage.
    wanted : Wanted
        What pictures shall carry.
    """

    def __init__(self, context: av.VideoCodecContext, damage: Damage, wanted: Wanted) -> None:
        set_up(context, vectors=wanted.needs_vectors, exact=wanted.coded)
        self.log = PacketLog(context)
        self._codec = context.codec.canonical_name
        self._context = context
        self._damage = damage
        self._vectors = wanted.needs_vectors
        self._macroblocks = wanted.needs_macroblocks
        # libavcodec loses vectors of MPEG-4 Part 2 with B-frames; from the bitstream they can be had.
        self._has_b_frames = context.reorder_depth > 0
        self._can_parse = self._codec == "mpeg4" and self._has_b_frames and can_parse(context.extradata or b"")

    def pictures(
        self,
        packets: Iterable[Packet],
        decode_packet: Callable[[Packet], list[av.VideoFrame]],
        stream: av.VideoStream | None = None,
    ) -> Iterator[av.VideoFrame]:
        """Decode packets to pictures of one size, in display order.

        ``stream`` is where packets come from that may hold several VOPs; errors are those of
        :func:`vidprep.codec.pictures.decode`.
        """
        packets = self.log.watch(packets)
        if self._macroblocks or (self._vectors and self._can_parse):
            self._context.copy_opaque = True
            packets = annotate(
                packets if stream is None else _unpack(packets, stream),
                MacroblockParser(self._context.extradata or b"", self._context.codec_tag),
                strict=self._macroblocks,
            )
        return decode(packets, decode_packet, self._damage)

    def is_exact(self, picture: av.VideoFrame) -> bool:
        """Tell whether a picture's vectors are those of the stream; where none are wanted, what is known of them.

        Raises
        ------
        UnsupportedError
            If vectors are wanted and the picture is interlaced.
        """
        # H.264's decoder tells how a picture should be shown; for the others that is how it was coded.
        is_interlaced = self.log.has_fields if self._codec == "h264" else picture.interlaced_frame
        if self._vectors:
            refuse_fields(self._codec, picture, self._damage.name, is_interlaced=is_interlaced)
        return self.log.motion_exact and not is_interlaced and (self._codec != "mpeg4" or self._is_parsed(picture))

    def _is_parsed(self, picture: av.VideoFrame) -> bool:
        """Tell whether vectors that libavcodec does not export were parsed, if there are any."""
        if picture.pict_type == PictureType.S:
            return False
        is_b = picture.pict_type == PictureType.B
        if not self._vectors:
            return self._can_parse or not is_b
        # libavcodec exports none for an anchor that it has to be asked for at the end, as streams with B-frames have.
        left_out = self._has_b_frames and picture.pict_type == PictureType.P and exported_vectors(picture) is None
        return not (is_b or left_out) or check_annotation(picture, strict=self._macroblocks)


def refuse_fields(codec: str, picture: av.VideoFrame, name: str, *, is_interlaced: bool) -> None:
    """Raise UnsupportedError if a picture's vectors are of fields."""
    if codec == "mpeg2video" and not is_interlaced:  # fields in progressive frames: half a macroblock each
        blocks = exported_vectors(picture)
        is_interlaced = blocks is not None and bool((blocks["h"] != blocks["w"]).any())
    if is_interlaced:
        raise UnsupportedError(
            f"interlaced=true at pts_seconds={picture.time} in {name}: vectors of fields can't be told from those of "
            "frames; transcode it (--codec mpeg4), or leave out motion and residual"
        )


def _unpack(packets: Iterable[Packet], stream: av.VideoStream) -> Iterator[Packet]:
    """Let each packet hold one VOP; XviD and DivX pack a P- and a B-VOP into one."""
    unpack = av.BitStreamFilterContext("mpeg4_unpack_bframes", stream)
    for packet in packets:
        is_flush = not packet.size  # the filter takes a packet's data away
        yield from unpack.filter(None if is_flush else packet)
        if is_flush:
            yield packet


def annotate(packets: Iterable[Packet], parser: MacroblockParser, *, strict: bool) -> Iterator[Packet]:
    """Let the picture of each packet carry what the parser makes of it.

    If ``strict`` is not set, an error of the parser ends the annotations, not the packets.
    """
    reader: MacroblockParser | None = parser
    for packet in packets:
        if reader is not None and packet.size:
            try:
                packet.opaque = reader.read(bytes(packet))
            except DecodeError:
                if strict:
                    raise
                reader = None
        yield packet


def check_annotation(picture: av.VideoFrame, *, strict: bool) -> bool:
    """Tell whether a picture's macroblocks can be parsed; if not, and not ``strict``, take away what it carries."""
    try:
        return isinstance(picture.opaque, CodedVop) and picture.opaque.macroblocks is not None
    except DecodeError:
        if strict:
            raise
        picture.opaque = None
        return False
