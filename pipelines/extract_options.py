"""What a user chooses of an extraction, and how it ended."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from vidprep.codec.transcode import DEFAULT_GOP, DEFAULT_SIZE, Recipe
from vidprep.engines import ENGINES
from vidprep.errors import UsageError
from vidprep.modalities import MODALITIES
from vidprep.modalities.base import Settings
from vidprep.shards.index import Status

LAYOUTS = ("decoded", "bitstream")


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line offers; the defaults are the field's standard preparation."""

    codec: str = "mpeg4"  # mpeg4 | h264 | copy
    modalities: tuple[str, ...] = tuple(MODALITIES)
    size: str | None = None  # 340x256 unless the stream is copied
    gop: int | None = None  # 12 unless the stream is copied
    frames: str = "all"
    segment_seconds: float | None = None
    settings: Settings = field(default_factory=Settings)
    layout: str = "decoded"  # decoded | bitstream
    shard_bytes: int = 10**9
    num_workers: int = 0  # 0: one for each core
    engine: str = "local"
    timeout_seconds: float = 600.0
    decode_errors: str = "fail"  # fail | keep
    overwrite: bool = False
    retry_failed: bool = False

    def __post_init__(self) -> None:
        unknown = [name for name in self.modalities if name not in MODALITIES]
        if unknown or not self.modalities:
            raise UsageError(f"modalities={','.join(self.modalities)}: must be some of {', '.join(MODALITIES)}")
        if self.layout not in LAYOUTS:
            raise UsageError(f"layout={self.layout}: must be one of {', '.join(LAYOUTS)}")
        if self.codec == "copy" and (self.size is not None or self.gop is not None):
            raise UsageError("codec=copy keeps the stream's size and GOP: leave out --size and --gop, or transcode")
        if (self.codec, self.layout, self.decode_errors) == ("copy", "bitstream", "keep"):
            raise UsageError(
                "decode_errors=keep: packing a stream as it is decodes nothing, so no error can be counted; leave out "
                "--decode-errors, --layout bitstream or --codec copy"
            )
        if self.codec == "h264" and "residual" in self.modalities and self.settings.residual_form == "coded":
            raise UsageError("residual_form=coded: the coded residual is for MPEG-4 Part 2; leave out --codec h264")
        if self.segment_seconds is not None and not 0.1 <= self.segment_seconds <= 300:
            raise UsageError(f"segment={self.segment_seconds}: must be between 0.1 and 300 seconds")
        if self.shard_bytes < 1:
            raise UsageError(f"shard_size={self.shard_bytes}: must be at least one byte")
        if self.num_workers < 0:
            raise UsageError(f"workers={self.num_workers}: must be positive, or 0 for one a core")
        if not self.timeout_seconds > 0:  # so written, nan is refused too
            raise UsageError(f"timeout={self.timeout_seconds}: must be a positive number of seconds")
        if self.decode_errors not in ("fail", "keep"):
            raise UsageError(f"decode_errors={self.decode_errors}: must be fail or keep")
        if self.engine not in ENGINES:
            raise UsageError(f"engine={self.engine}: must be one of {', '.join(ENGINES)}")

    @property
    def recipe(self) -> Recipe | None:
        """How videos are encoded; None if they are read as they are."""
        if self.codec == "copy":
            return None
        return Recipe(
            self.codec,
            DEFAULT_SIZE if self.size is None else self.size,
            DEFAULT_GOP if self.gop is None else self.gop,
        )

    @property
    def workers(self) -> int:
        """Number of worker processes."""
        return self.num_workers or len(os.sched_getaffinity(0))


@dataclass(slots=True)
class Summary:
    """How a run ended.

    Attributes
    ----------
    num_done, num_frames, num_bytes : int
        Samples, stored frames and bytes of all finished shards.
    num_resumed : int
        Samples that an earlier run had finished.
    failed : list of Status
        The videos without a sample, with their reasons.
    num_inexact : int
        Samples whose vectors are not quite those of the stream (``motion_exact: false``).
    num_damaged : int
        Samples whose decoders reported errors (``decode_errors`` is not 0).
    num_ignored : int
        Files in the source that are no videos.
    """

    out: Path
    num_done: int = 0
    num_frames: int = 0
    num_bytes: int = 0
    num_resumed: int = 0
    num_shards: int = 0
    num_inexact: int = 0
    num_damaged: int = 0
    num_ignored: int = 0
    failed: list[Status] = field(default_factory=list)
