"""vidprep: prepare video for machine learning."""

__version__ = "0.1.0"
