"""Arrays of videos, made once and read by many: a random-access store in one HDF5 file."""

from vidprep.features.arrays import CHANNELS_LAST, ArrayKind
from vidprep.features.recipe import differences
from vidprep.features.store import SIGNATURE, FeatureStore, StoredArray, StoredVideo
from vidprep.features.writer import COMPRESSIONS, FeatureWriter

__all__ = [
    "ArrayKind",
    "CHANNELS_LAST",
    "COMPRESSIONS",
    "FeatureStore",
    "FeatureWriter",
    "SIGNATURE",
    "StoredArray",
    "StoredVideo",
    "differences",
]
