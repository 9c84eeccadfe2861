"""Torch modules, one file a method; they import nothing of the rest of vidprep."""

from vidprep.models.adaptive_temporal_resolution import AdaptiveTemporalResolution
from vidprep.models.adaptive_zoom import AdaptiveZoom, LNet
from vidprep.models.guides import guide_maps
from vidprep.models.similarity_guided_sampling import SimilarityGuidedSampling
from vidprep.models.zooms import FixedZoom, GuidedZoom

__all__ = [
    "AdaptiveTemporalResolution",
    "AdaptiveZoom",
    "FixedZoom",
    "GuidedZoom",
    "LNet",
    "SimilarityGuidedSampling",
    "guide_maps",
]
