"""Small datasets of every kind, extracted for real, and reading of one sample from them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from modalities.conftest import moving_frames
from numpy.typing import NDArray
from runs import extract_here

from vidprep.codec.writer import write_video
from vidprep.dataset import ShardDataset
from vidprep.dataset.items import Item
from vidprep.dataset.views import Step, View
from vidprep.manifest import Manifest, Row
from vidprep.modalities.base import Settings
from vidprep.pipelines.extract import Options
from vidprep.sampling import Clips
from vidprep.shards.access import Entries, ShardFolder

SIZE = (80, 51)
LEVEL = 24  # eight seventeenths
NUM_FRAMES = 20
OPTIONS = Options(
    modalities=("rgb", "motion", "residual", "pyramid"),
    size="native",
    gop=6,
    settings=Settings(residual_format="png", spectrogram_recipe="tbn", levels=(LEVEL,)),
    num_workers=1,
)
WITH_SOUND = replace(OPTIONS, modalities=(*OPTIONS.modalities, "spectrogram"))
CLASSES = ("Run", "Sit")
FPS = 25
STEP_SECONDS = 1 / FPS


def write_view(path: Path, seed: int = 0, num_frames: int = NUM_FRAMES, **more: Any) -> Path:
    """A texture that moves, its colours exchanged by the seed; 25 frames a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(seed).permutation(3)
    write_video(path, [frame[..., order] for frame in moving_frames(num_frames, SIZE)], **more)
    return path


def click(at_seconds: float, seconds: float) -> dict[str, Any]:
    """A sound for `write_view` that is silent but for one sample."""
    samples = np.zeros(round(seconds * 24000), np.float32)
    samples[round(at_seconds * 24000)] = 1.0
    return {"audio": samples, "sample_rate_hz": 24000, "audio_codec": "pcm_s16le"}


def extract_rows(root: Path, rows: list[Row], out: Path, options: Options = OPTIONS, **dataset: Any) -> Path:
    """Extract rows that were made here; all of them must succeed."""
    facts = {"classes": CLASSES, **dataset}
    summary = extract_here(root, out, options, manifest=Manifest("made", root, rows=tuple(rows), **facts))
    assert (summary.num_done, summary.failed) == (len(rows), [])
    return out


def both_layouts(
    root: Path, rows: list[Row], out: Path, options: Options = OPTIONS, **dataset: Any
) -> tuple[Path, Path]:
    """Extract rows in the decoded and in the bitstream layout."""
    decoded = extract_rows(root, rows, out / "decoded", options, **dataset)
    return decoded, extract_rows(root, rows, out / "bitstream", replace(options, layout="bitstream"), **dataset)


def sample_of(folder: Path, key: str) -> Entries:
    """The entries of one sample."""
    shards = ShardFolder(folder)
    for shard in shards.index.shards_of():
        for number in range(shard.num_samples):
            found, entries = shards.read(shard, number)
            if found == key:
                return entries
    raise AssertionError(f"no sample {key}")


def difference(one: NDArray[Any], other: NDArray[Any]) -> tuple[float, int]:
    """Mean and maximum of the absolute difference."""
    far = np.abs(one.astype(np.int64) - other.astype(np.int64))
    return float(far.mean()), int(far.max())


@dataclass(frozen=True)
class Fixed:
    """Clips of known frames."""

    frames: Sequence[int] = (0, 5, 10, 19)
    num_clips: int = 1

    def choose(self, times: Sequence[float], clip: int, rng: np.random.Generator) -> list[int]:
        return [frame + clip for frame in self.frames]


@dataclass(frozen=True)
class Cut:
    """A known crop, perhaps flipped, perhaps resized."""

    box: tuple[int, int, int, int]
    is_flipped: bool = False
    size: tuple[int, int] | None = None
    num_views: ClassVar[int] = 1
    resizes: ClassVar[bool] = True

    def __call__(self, view: View, number: int, rng: np.random.Generator) -> View:
        return replace(view.cropped(*self.box), is_flipped=self.is_flipped).resized(*(self.size or self.box[2:]))


def read_item(
    folder: Path, key: str, *modalities: str, clips: Clips | None = None, steps: Sequence[Step] = (), **more: Any
) -> Item:
    """The first item of one sample of a folder."""
    dataset = ShardDataset(folder, None, modalities, clips=clips or Fixed(), transform=steps, **more)
    return dataset.items_of.read(key, sample_of(folder, key), 0, np.random.default_rng(0))
