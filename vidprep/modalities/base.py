"""What every modality is: a way to read arrays off a video, to write them, and to read them back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.typing import NDArray

from vidprep.codec.frame import Frame
from vidprep.codec.video import Video
from vidprep.codec.wanted import Track
from vidprep.errors import ShardError, UsageError

MAX_PIXELS = 1 << 25  # of one picture, 8192x4096: a larger size in a json is damage
Entry = tuple[str, bytes]
"""Name of a file in a sample, without the key, and its bytes."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a user chooses of the modalities.

    Attributes
    ----------
    residual_format : {"jpeg", "png"}
        JPEG 95 4:4:4 (a training approximation) or PNG (exact but clipped).
    spectrogram_recipe : {"mel", "tbn"}
    levels : tuple of int
        Short sides of the pyramid's levels in pixels.
    residual_form : {"accumulated", "coded", "magnitude"}
        RGB against the warped I-picture, luma against the codec's own prediction, or the norm of the first at a
        quarter of the size.
    """

    residual_format: str = "jpeg"
    spectrogram_recipe: str = "mel"
    levels: tuple[int, ...] = (112,)
    residual_form: str = "accumulated"

    def __post_init__(self) -> None:
        if self.residual_form not in ("accumulated", "coded", "magnitude"):
            raise UsageError(f"residual_form={self.residual_form}: must be accumulated, coded or magnitude")
        if self.residual_format not in ("jpeg", "png"):
            raise UsageError(f"residual_format={self.residual_format}: must be jpeg or png")
        if self.spectrogram_recipe not in ("mel", "tbn"):
            raise UsageError(f"spectrogram_recipe={self.spectrogram_recipe}: must be mel or tbn")
        if not self.levels or len(set(self.levels)) < len(self.levels) or not all(8 <= n <= 4096 for n in self.levels):
            raise UsageError(f"levels={self.levels}: must be different short sides of 8 to 4096 pixels")

    @property
    def stored_residual_format(self) -> str:
        """The format of the residual's pictures; magnitudes have 16 bits, which JPEG does not."""
        return "png" if self.residual_form == "magnitude" else self.residual_format


@dataclass(frozen=True, slots=True)
class Span:
    """The part of a source that a sample covers, in seconds from the video's start; None where it is open."""

    start_seconds: float | None = None
    end_seconds: float | None = None


class Modality(ABC):
    """One kind of array of one video, written while the video is decoded once.

    ``add`` is called for every frame in display order, ``finish`` once at the end; both yield the entries that
    are ready. ``decode`` reads the entries back.
    """

    name: ClassVar[str]
    from_stream: ClassVar[bool] = True
    """Whether it can be rebuilt from the video stream alone."""
    track: Track = "none"
    """How far frames must be tracked for it."""
    coded: bool = False
    """Whether it needs the codec's own prediction."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def add(self, frame: Frame, position: int | None) -> Iterator[Entry]:
        """Take one frame; ``position`` is its number among the stored frames, None if it is not stored."""
        yield from ()

    def finish(self, source: Video, span: Span) -> Iterator[Entry]:
        """Take what belongs to the video as a whole; ``source`` is the original file."""
        yield from ()

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Return what a reader of the entries must know; it goes into the sample's json."""

    @staticmethod
    @abstractmethod
    def decode(entries: Mapping[str, bytes], facts: Mapping[str, Any]) -> NDArray[Any] | None:
        """Rebuild the array from a sample's entries and its json; None if the sample has none."""


def is_stored(name: str, facts: Mapping[str, Any], found: object) -> bool:
    """Tell whether a sample holds a modality; ShardError if its json says so and no entry was found."""
    if not found and facts.get(name):
        raise ShardError(f"{name}: its entries are missing, and the json has them; run vidprep verify, or extract anew")
    return bool(found)


def stored_shape(facts: Mapping[str, Any]) -> tuple[int, int, int] | None:
    """Return the number of stored frames, and their height and width in pixels; None if the json lacks them.

    Raises
    ------
    ShardError
        If there can be no such pictures.
    """
    if not {"frame_indices", "height", "width"} <= facts.keys():
        return None
    height, width = facts["height"], facts["width"]
    if type(height) is not int or type(width) is not int or min(height, width) < 1 or height * width > MAX_PIXELS:
        raise ShardError(
            f"size={width}x{height}: must be 1 to {MAX_PIXELS} pixels; run vidprep verify, or extract anew"
        )
    return len(facts["frame_indices"]), height, width


def numbered(entries: Mapping[str, bytes], prefix: str) -> list[bytes]:
    """Return the data of ``prefix.000000.*``, ``prefix.000001.*`` and so on, in order."""
    return [entries[name] for name in numbered_names(entries, prefix)]


def numbered_names(entries: Iterable[str], prefix: str) -> list[str]:
    """Return the names ``prefix.000000.*``, ``prefix.000001.*`` and so on, in order."""
    return sorted(name for name in entries if name.startswith(f"{prefix}.") and name.split(".")[1].isdecimal())
