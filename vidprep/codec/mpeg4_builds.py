"""Which program made an MPEG-4 Part 2 stream: libavcodec knows the faults of some and decodes them accordingly."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from vidprep.codec.bitstream import BitReader

_USER_DATA = re.compile(rb"\x00\x00\x01\xb2(.*?)(?=\x00\x00\x01|\Z)", re.DOTALL)
_LAYER = re.compile(rb"\x00\x00\x01[\x20-\x2f](.{6})", re.DOTALL)
_DIVX = re.compile(rb"DivX(\d+)(?:Build|b)(\d+)")
_XVID = re.compile(rb"XviD(\d+)")
_LAVC = re.compile(rb"Lavc(\d+)\.(\d+)\.(\d+)")
_OLD_LAVC = re.compile(rb"FFmpe[^b]*b(\d+)|FFmpeg v\d+\.\d+\.\d+ / libavcodec build: (\d+)")
_OLDEST_LAVC_BUILD = 4600  # what libavcodec takes the bare word for
_XVID_TAGS = frozenset({"XVID", "XVIX", "RMP4", "ZMP4", "SIPP"})  # taken for the first XviD, if nothing else is said
_DIRECT_IN_FOUR_BUILD = 4655  # from it on, libavcodec's encoder predicts direct macroblocks as the standard says


@dataclass(frozen=True, slots=True)
class Builds:
    """Builds of the encoders that a stream's user data names, -1 where it doesn't; and what else gives them away.

    Attributes
    ----------
    codec_tag : str
        What the container calls the codec.
    has_bare_layer : bool
        Whether the video object layer states neither its type nor control parameters.
    divx_version, divx_build, xvid_build, lavc_build : int
        From the user data.
    """

    codec_tag: str = ""
    has_bare_layer: bool = False
    divx_version: int = -1
    divx_build: int = -1
    xvid_build: int = -1
    lavc_build: int = -1

    def updated(self, data: bytes) -> Builds:
        """Return what is known after the user data in a configuration or a packet."""
        builds = self
        for start in _LAYER.findall(data):
            builds = replace(builds, has_bare_layer=_is_bare(start))
        for text in _USER_DATA.findall(data):
            builds = builds._updated(text)
        if builds.xvid_build >= 0:  # XviD also claims to be a DivX, for players that know nothing else
            builds = replace(builds, divx_version=-1, divx_build=-1)
        return builds

    def _updated(self, text: bytes) -> Builds:
        if match := _DIVX.match(text):
            return replace(self, divx_version=int(match[1]), divx_build=int(match[2]))
        if match := _XVID.match(text):
            return replace(self, xvid_build=int(match[1]))
        if match := _LAVC.match(text):
            return replace(self, lavc_build=(int(match[1]) << 16) + (int(match[2]) << 8) + int(match[3]))
        if match := _OLD_LAVC.match(text):
            return replace(self, lavc_build=int(match[1] or match[2]))
        return replace(self, lavc_build=_OLDEST_LAVC_BUILD) if text == b"ffmpeg" else self

    @property
    def ends_at_size(self) -> bool:
        """Whether references end at the picture's own size, not with its last macroblocks, and are replicated there."""
        is_old = 0 <= self.xvid_build <= 12 or 0 <= self.divx_version < 500 or 0 <= self.lavc_build < 4670
        is_divx_4 = self._is_nameless and self.codec_tag.upper() == "DIVX" and self.has_bare_layer
        return is_old or is_divx_4 or self._is_nameless_xvid

    @property
    def has_old_quarter_samples(self) -> bool:
        """Whether quarter samples are the mean of four, not of two."""
        return 0 <= self.lavc_build < 4653

    @property
    def has_old_quarter_chroma(self) -> bool:
        """Whether chroma vectors follow from quarter-sample vectors in another way than the standard's."""
        return (
            (self.divx_version >= 500 and self.divx_build < 1814) or 0 <= self.xvid_build <= 1 or self._is_nameless_xvid
        )

    @property
    def _is_nameless(self) -> bool:
        return self.divx_version == self.xvid_build == self.lavc_build == -1

    @property
    def _is_nameless_xvid(self) -> bool:
        return self._is_nameless and self.codec_tag.upper() in _XVID_TAGS

    @property
    def has_direct_in_four(self) -> bool:
        """Whether direct macroblocks of quarter-pel streams are predicted in four blocks, as the standard says."""
        return self.divx_version < 0 and not 0 <= self.lavc_build < _DIRECT_IN_FOUR_BUILD


def _is_bare(start: bytes) -> bool:
    """Tell whether a video object layer begins without a type and control parameters (section 6.2.3)."""
    reader = BitReader(start)
    reader.bits(1)  # random_accessible_vol
    object_type = reader.bits(8)
    reader.bits(7 * reader.bits(1))  # version and priority
    has_extended_aspect = reader.bits(4) == 15
    reader.bits(16 * has_extended_aspect)
    return object_type == 0 and not reader.bits(1)
