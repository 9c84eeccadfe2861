"""What frames shall carry beside their pictures, and which codecs can give it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from vidprep.codec.anchors import link_anchors
from vidprep.codec.coded import check_codec
from vidprep.codec.frame import Frame
from vidprep.codec.motion import track_frames
from vidprep.errors import UnsupportedError, UsageError

VECTOR_CODECS = frozenset({"mpeg4", "h264", "mpeg1video", "mpeg2video", "h263", "flv1", "msmpeg4v2", "msmpeg4v3"})
"""Codecs whose decoders export motion vectors."""

Track = Literal["none", "motion", "picture", "residual"]
"""What is followed to the I-frame: nothing, displacements, the I-picture, or both."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one pass shall give; the parameters of :meth:`vidprep.codec.video.Video.frames` say what each means."""

    track: Track = "none"
    vectors: bool = True
    macroblocks: bool = False
    coded: bool = False

    def __post_init__(self) -> None:
        if self.track not in get_args(Track):
            raise UsageError(f"track={self.track}: must be one of {', '.join(get_args(Track))}")

    @property
    def needs_vectors(self) -> bool:
        """Whether the decoder has to export its block vectors."""
        return self.vectors or self.track != "none"

    @property
    def needs_macroblocks(self) -> bool:
        """Whether the bitstream has to be parsed."""
        return self.macroblocks or self.coded

    def check(self, codec: str) -> None:
        """Raise UnsupportedError if a codec can't give it."""
        if self.coded:
            check_codec(codec)
        if self.needs_vectors and codec not in VECTOR_CODECS:
            raise UnsupportedError(
                f"codec={codec}: its decoder exports no motion vectors (those of {', '.join(sorted(VECTOR_CODECS))} "
                "do); transcode it (--codec mpeg4)"
            )
        if self.needs_macroblocks and codec != "mpeg4":
            raise UnsupportedError(f"codec={codec}: only MPEG-4 Part 2 is parsed; transcode it (--codec mpeg4)")

    def follow(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Give each frame its references and its place in the I-frame, as far as they are wanted."""
        frames = link_anchors(frames) if self.coded else frames
        if self.track == "none":
            return frames
        return track_frames(frames, with_field=self.track != "picture", with_picture=self.track != "motion")


def union(tracks: Iterable[Track]) -> Track:
    """Return what follows all that several tracks follow."""
    parts = {part for track in tracks for part in _PARTS[track]}
    return next(track for track, own in _PARTS.items() if parts == set(own))


_PARTS: dict[Track, tuple[str, ...]] = {
    "none": (),
    "motion": ("field",),
    "picture": ("picture",),
    "residual": ("field", "picture"),
}
