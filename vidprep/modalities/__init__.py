"""The kinds of arrays that a sample may hold: one table, one small class each."""

from vidprep.modalities.base import Modality
from vidprep.modalities.motion import Motion
from vidprep.modalities.pyramid import Pyramid
from vidprep.modalities.residual import Residual
from vidprep.modalities.rgb import Rgb
from vidprep.modalities.spectrogram import Spectrogram

MODALITIES: dict[str, type[Modality]] = {
    "rgb": Rgb,
    "motion": Motion,
    "residual": Residual,
    "spectrogram": Spectrogram,
    "pyramid": Pyramid,
}
