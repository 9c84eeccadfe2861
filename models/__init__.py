"""Torch modules, one file a method; they import nothing of the rest of vidprep."""

from vidprep.models.adaptive_zoom import AdaptiveZoom, FixedZoom, LNet, guide_maps

__all__ = ["AdaptiveZoom", "FixedZoom", "LNet", "guide_maps"]
