"""Shards to batches: an iterable dataset of clips, epochs that are epochs, and a loader that can go on in mid-epoch."""

from vidprep.dataset.features import FeatureDataset
from vidprep.dataset.kinds import Windows
from vidprep.dataset.loader import Loader
from vidprep.dataset.shards import ShardDataset
from vidprep.dataset.steps import (
    CenterCrop,
    FiveCrops,
    Flip,
    MultiScaleCrop,
    RandomCrop,
    RandomResizedCrop,
    Resize,
    ShortSide,
    TenCrops,
    ThreeCrops,
)
from vidprep.dataset.views import View
from vidprep.sampling import RandomClip, Segments, UniformClips, WholeVideo

__all__ = [
    "CenterCrop",
    "FeatureDataset",
    "FiveCrops",
    "Flip",
    "Loader",
    "MultiScaleCrop",
    "RandomClip",
    "RandomCrop",
    "RandomResizedCrop",
    "Resize",
    "Segments",
    "ShardDataset",
    "ShortSide",
    "TenCrops",
    "ThreeCrops",
    "UniformClips",
    "View",
    "WholeVideo",
    "Windows",
]
