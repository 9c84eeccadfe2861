"""Shards to batches: an iterable dataset of clips, epochs that are epochs, and a loader that can go on in mid-epoch."""

from vidprep.dataset.features import FeatureDataset
from vidprep.dataset.loader import Loader
from vidprep.dataset.shards import ShardDataset
from vidprep.dataset.views import Flip, RandomCrop, ShortSide
from vidprep.sampling import RandomClip

__all__ = ["FeatureDataset", "Flip", "Loader", "RandomClip", "RandomCrop", "ShardDataset", "ShortSide"]
