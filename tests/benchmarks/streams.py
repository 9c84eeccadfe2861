"""Loaders that are compared: vidprep's, and what training scripts write with other packages, each in its fastest way.

All give random clips of 16 frames of random videos, with the short side scaled to 128 and cropped to 112, or scaled
to 256 and cropped to 224: uint8, through a DataLoader, in batches of the same size. Of each package the fastest way
that was found is taken; what was slower is said where it stands.
"""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader, Dataset

from vidprep.codec.transcode import ffmpeg_path
from vidprep.dataset import RandomClip, RandomCrop, ShardDataset, ShortSide
from vidprep.modalities.base import numbered_names
from vidprep.shards.access import ShardFolder

NUM_FRAMES, BATCH_SIZE = 16, 8
NUM_ITEMS = 1 << 20  # of an epoch: no loader comes to its end
SHORT_SIDES = {112: 128, 224: 256}

Batches = Iterator[Any]
Picture = bytes | NDArray[np.uint8]
Reader = Callable[["Video", int, random.Random], Any]


@dataclass(frozen=True, slots=True)
class Video:
    """One video in all its forms: as both layouts hold it, and an MP4 file of the same stream."""

    mp4: str
    width: int
    height: int
    pictures: Sequence[Picture]
    stream: bytes
    facts: dict[str, Any]

    def draw(self, side: int, rng: random.Random) -> tuple[int, int, int, int, int]:
        """Draw a clip's first frame, and of the scaled picture its width and height and where the crop begins."""
        short = min(self.width, self.height)
        width, height = (round(length * SHORT_SIDES[side] / short) for length in (self.width, self.height))
        start = rng.randrange(len(self.pictures) - NUM_FRAMES + 1)
        return start, width, height, rng.randrange(width - side + 1), rng.randrange(height - side + 1)


def find(bitstream: Path, decoded: Path, folder: Path) -> list[Video]:
    """Return the videos of two folders of shards, made of the same videos; MP4 files are written into ``folder``."""
    jpegs = {}
    for key, entries in samples(decoded):
        jpegs[key] = [entries[name] for name in numbered_names(entries, "rgb")]
    videos = []
    for key, entries in samples(bitstream):
        facts = json.loads(entries["json"])
        path = folder / f"{len(videos)}.mp4"
        stream = entries["video.m4v"]
        remux(stream, path)
        videos.append(Video(str(path), facts["width"], facts["height"], jpegs[key], stream, facts))
    return videos


def samples(root: Path) -> Iterator[tuple[str, Any]]:
    """Yield keys and entries of all samples."""
    folder = ShardFolder(root)
    for shard in folder.index.shards_of(None):
        for number in range(shard.num_samples):
            yield folder.read(shard, number)


def remux(data: bytes, path: Path) -> None:
    """Put a raw stream into an MP4 file, 25 frames a second."""
    command = [ffmpeg_path(), "-loglevel", "error", "-fflags", "+genpts", "-r", "25", "-f", "m4v", "-i", "pipe:0"]
    subprocess.run([*command, "-c", "copy", str(path)], input=data, check=True)


class Mixed(ShardDataset):
    """Random clips of random videos in one long epoch: one of few videos would soon be over."""

    @property
    def num_items(self) -> int:
        """As many items as the other loaders have."""
        return NUM_ITEMS

    def share(self, epoch: int) -> NDArray[np.int64]:
        """Return random videos."""
        return np.random.default_rng(self.seed).integers(self.num_samples, size=NUM_ITEMS)

    def read(self, sample: int, view: int, rng: np.random.Generator) -> Any:
        """Read another clip each time that a video comes."""
        return super().read(sample, view, np.random.default_rng())


def vidprep(root: Path, modalities: tuple[str, ...], side: int, num_workers: int) -> Batches:
    """Read shards with vidprep."""
    transform = (ShortSide(SHORT_SIDES[side]), RandomCrop(side))
    dataset = Mixed(root, modalities=modalities, clips=RandomClip(NUM_FRAMES), transform=transform)
    return iter(dataset.loader(BATCH_SIZE, num_workers))


class Clips(Dataset[Any]):
    """Random clips of random videos, read by a function."""

    def __init__(self, videos: list[Video], side: int, read: Reader) -> None:
        self._videos, self._side, self._read = videos, side, read

    def __len__(self) -> int:
        return NUM_ITEMS

    def __getitem__(self, number: int) -> Any:
        rng = random.Random(number)
        return self._read(rng.choice(self._videos), self._side, rng)


def each(read: Reader, videos: list[Video], side: int, num_workers: int) -> Batches:
    """Read clips by a function."""
    return iter(DataLoader(Clips(videos, side, read), BATCH_SIZE, num_workers=num_workers))


def read_decord(video: Video, side: int, rng: random.Random) -> NDArray[np.uint8]:
    """Read with decord, which scales. Slower: get_batch, and more threads."""
    import decord

    start, width, height, x, y = video.draw(side, rng)
    size = {} if (width, height) == (video.width, video.height) else {"width": width, "height": height}
    reader = decord.VideoReader(video.mp4, num_threads=1, **size)
    reader.seek_accurate(start)
    return np.stack([reader.next().asnumpy()[y : y + side, x : x + side] for _ in range(NUM_FRAMES)])


def read_torchcodec(video: Video, side: int, rng: random.Random) -> torch.Tensor:
    """Read with torchcodec, which crops; torch scales. Slower: the exact seek mode, and its own scaling."""
    from torchcodec.decoders import VideoDecoder
    from torchcodec.transforms import RandomCrop as CropWhileDecoding

    start, width, height, x, y = video.draw(side, rng)
    is_scaled = (width, height) != (video.width, video.height)
    transforms = None if is_scaled else [CropWhileDecoding((side, side))]
    decoder = VideoDecoder(video.mp4, num_ffmpeg_threads=1, seek_mode="approximate", transforms=transforms)
    frames: torch.Tensor = decoder.get_frames_in_range(start, start + NUM_FRAMES).data
    return scaled(frames, width, height, (x, y, side)) if is_scaled else frames


def scaled(frames: torch.Tensor, width: int, height: int, crop: tuple[int, int, int]) -> torch.Tensor:
    """Cut pictures [shape=(T, 3, H, W)] and scale the part: the crop of pictures scaled to a width and height."""
    x, y, side = crop
    across, down = frames.shape[3] / width, frames.shape[2] / height
    rows = slice(round(y * down), round((y + side) * down))
    part = frames[:, :, rows, round(x * across) : round((x + side) * across)]
    return interpolate(part, (side, side), mode="bilinear", antialias=True)


def read_jpegs(video: Video, side: int, rng: random.Random, *, is_small: bool = False) -> torch.Tensor:
    """Decode JPEGs that are in memory; ``is_small`` has libjpeg-turbo halve their size if that is enough."""
    start, width, height, x, y = video.draw(side, rng)
    least = {"min_width": width, "min_height": height} if is_small else {}
    pictures = [decode_jpeg(picture, **least) for picture in video.pictures[start : start + NUM_FRAMES]]
    if pictures[0].shape[:2] == (height, width):
        return torch.from_numpy(np.stack([picture[y : y + side, x : x + side] for picture in pictures]))
    frames = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    return scaled(frames, width, height, (x, y, side)).permute(0, 2, 3, 1)


def decode_jpeg(picture: Picture, **options: int) -> NDArray[np.uint8]:
    """Decode a JPEG in the fastest way, unless it is decoded."""
    if isinstance(picture, bytes):
        picture = simplejpeg.decode_jpeg(picture, "RGB", fastdct=True, fastupsample=True, **options)
    return picture


def webdataset(shards: Path, side: int, num_workers: int, *, is_chosen: bool) -> Batches:
    """Read pictures with plain webdataset: it decodes all of a sample, or we the clip alone, in the fastest way."""
    from webdataset import WebDataset

    urls = [str(path) for path in sorted(shards.glob("*.tar"))]
    samples = WebDataset(urls, resampled=True, shardshuffle=False, seed=0)
    samples = samples if is_chosen else samples.decode("rgb8")
    return iter(DataLoader(samples.map(partial(read_sample, side)), BATCH_SIZE, num_workers=num_workers))


def read_sample(side: int, sample: dict[str, Any]) -> torch.Tensor:
    """Cut a random clip out of a sample of webdataset, decoded or not."""
    facts = json.loads(sample["json"]) if isinstance(sample["json"], bytes) else sample["json"]
    pictures = [sample[name] for name in sorted(sample) if name.endswith(".jpg")]
    video = Video("", facts["width"], facts["height"], pictures, b"", facts)
    return read_jpegs(video, side, random.Random(), is_small=True)
