"""Torch modules, one file a method; they import nothing of the rest of vidprep."""

from vidprep.models.adaptive_temporal_resolution import AdaptiveTemporalResolution
from vidprep.models.adaptive_zoom import AdaptiveZoom, FixedZoom, LNet
from vidprep.models.guides import guide_maps
from vidprep.models.similarity_guided_sampling import SimilarityGuidedSampling

__all__ = [
    "AdaptiveTemporalResolution",
    "AdaptiveZoom",
    "FixedZoom",
    "LNet",
    "SimilarityGuidedSampling",
    "guide_maps",
]
