"""One pass over a video stream: packets are watched on their way into the decoder, pictures on their way out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

import av
from av.video.frame import PictureType

from vidprep.codec.damage import Damage
from vidprep.codec.frame import exported_vectors
from vidprep.codec.macroblocks import CodedVop, MacroblockParser, needs_parsing
from vidprep.codec.packets import PacketLog
from vidprep.codec.pictures import decode, filtered, set_up
from vidprep.codec.wanted import Wanted
from vidprep.errors import DecodeError, UnsupportedError

if TYPE_CHECKING:
    from vidprep.codec.pictures import Packet

_REPEATED_CODECS = frozenset({"mpeg1video", "mpeg2video"})
"""Codecs whose last anchor libavcodec gives out without vectors; MPEG-4's are parsed."""

_REPEATED: Any = object()
_PICTURE, _SEQUENCE_END = b"\0\0\1\0", b"\0\0\1\xb7"


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
        self._has_b_frames = context.reorder_depth > 0
        self._can_parse = self._codec == "mpeg4" and needs_parsing(
            context.extradata or b"", has_b_frames=self._has_b_frames
        )

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
                packets if stream is None else filtered(packets, "mpeg4_unpack_bframes", stream),
                MacroblockParser(self._context.extradata or b"", self._context.codec_tag),
                strict=self._macroblocks,
            )
        if self._codec in _REPEATED_CODECS and self._vectors:
            self._context.copy_opaque = True
            packets = _repeat_last(packets)
        for picture in decode(packets, decode_packet, self._damage):
            if picture.opaque is not _REPEATED:
                yield picture

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
        if isinstance(picture.opaque, CodedVop) and not picture.opaque.is_export_exact:
            return picture.pict_type == PictureType.I or check_annotation(picture, strict=self._macroblocks)
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


def _repeat_last(packets: Iterable[Packet]) -> Iterator[Packet]:
    """Give the decoder its last anchor twice.

    It keeps an anchor until the next one comes; the one that it is asked for at the end comes without vectors.
    """
    last = b""
    for packet in packets:
        if packet.size:
            data = bytes(packet)
            if _is_anchor(data):
                last = data
            elif data.startswith(_SEQUENCE_END) and _PICTURE not in data:
                continue  # at a lone one too it gives out an anchor without vectors
        elif last:
            yield _repeated(last, packet.time_base)
        yield packet


def _is_anchor(data: bytes) -> bool:
    """Tell whether a packet of MPEG-1 or 2 holds an I- or P-picture (ISO/IEC 13818-2, section 6.2.3)."""
    place = data.find(_PICTURE)
    return 0 <= place < len(data) - 5 and data[place + 5] >> 3 & 7 in (1, 2)


def _repeated(data: bytes, time_base: Fraction | None) -> Packet:
    """Return a packet whose picture is to be passed over."""
    packet = cast("Packet", av.Packet(len(data)))
    packet.update(data)
    packet.opaque = _REPEATED
    if time_base is not None:
        packet.time_base = time_base
    return packet


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
