"""What an export is told, and how it ended."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from vidprep.errors import UsageError
from vidprep.features import COMPRESSIONS
from vidprep.pipelines.export_arrays import check_names
from vidprep.sampling import Selection

OUTPUTS = ("maps", "pooled")


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line offers: modalities, or a backbone with its weights.

    Attributes
    ----------
    modalities : tuple of str
        What clips may hold, ``spectrogram``, and levels such as ``rgb112``.
    backbone : str, optional
        One of `vidprep.pipelines.export_backbone.NETWORKS`.
    weights : str, optional
        The file of its state dict, or ``random:SEED``.
    outputs : tuple of str
        ``maps`` and ``pooled``, their mean over the picture.
    dtype : {"float16", "float32"}
        Of the backbone's outputs; modalities keep theirs.
    frames : str
        Which of the stored frames: ``all``, ``uniform:16``, ``stride:2`` or ``fps:8``.
    on_error : {"fail", "skip"}
        Whether there is a store if some videos can't be read.
    num_workers : int
        0: one for each core.
    """

    modalities: tuple[str, ...] = ()
    backbone: str | None = None
    weights: str | None = None
    outputs: tuple[str, ...] = ("maps",)
    dtype: str = "float16"
    device: str = "cpu"
    frames: str = "all"
    compression: str = "lzf"
    on_error: str = "fail"
    num_workers: int = 0
    overwrite: bool = False

    def __post_init__(self) -> None:
        if bool(self.modalities) == bool(self.backbone):
            raise UsageError("modalities, backbone: one of them says what to export; give --modalities or --backbone")
        if self.backbone and not self.weights:
            raise UsageError(f"backbone={self.backbone}: needs weights; give --weights FILE or random:SEED")
        if self.weights and not self.backbone:
            raise UsageError(f"weights={self.weights}: only a backbone has weights; give --backbone, or leave it out")
        check_names(self.modalities)
        if not self.outputs or not set(self.outputs) <= set(OUTPUTS):
            raise UsageError(f"outputs={','.join(self.outputs)}: must be some of {', '.join(OUTPUTS)}")
        for name, choices in (
            ("dtype", ("float16", "float32")),
            ("device", ("cpu", "cuda")),
            ("compression", tuple(COMPRESSIONS)),
            ("on_error", ("fail", "skip")),
        ):
            if getattr(self, name) not in choices:
                raise UsageError(f"{name}={getattr(self, name)}: must be one of {', '.join(choices)}")
        if self.num_workers < 0:
            raise UsageError(f"workers={self.num_workers}: must be positive, or 0 for one a core")
        Selection.parse(self.frames)

    @property
    def workers(self) -> int:
        """Number of worker processes."""
        return self.num_workers or len(os.sched_getaffinity(0))


@dataclass(slots=True)
class Summary:
    """How an export ended.

    Attributes
    ----------
    num_videos, num_frames, num_bytes : int
        Of the store; 0 if there is none.
    num_resumed : int
        Videos that an earlier run had read.
    failed : dict of str to str
        Videos that could not be read, by key, with the reasons.
    is_written : bool
        Whether there is a store.
    """

    path: Path
    num_videos: int = 0
    num_frames: int = 0
    num_bytes: int = 0
    num_resumed: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    is_written: bool = False
