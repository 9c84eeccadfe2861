"""Accumulated residuals, offset by 128 and clipped to eight bits.

JPEG 95 4:4:4 is a training approximation; PNG keeps the clipped values exactly. The json says how many values
were clipped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidprep.codec.frame import Frame
from vidprep.modalities import images
from vidprep.modalities.base import Entry, Modality, Settings, numbered
from vidprep.modalities.packed import is_packed, read_packed

OFFSET = 128
_SUFFIX = {"jpeg": "jpg", "png": "png"}


def extract(frame: Frame, *, out: NDArray[np.uint8] | None = None) -> tuple[NDArray[np.uint8], int]:
    """Return residual + 128, clipped [shape=(H, W, 3), dtype=uint8], and the number of clipped values."""
    return frame.accumulated_residual_uint8(out=out)


def encode(residual: NDArray[np.uint8], image_format: str = "jpeg") -> bytes:
    """Encode an offset residual [shape=(H, W, 3), dtype=uint8] as ``"jpeg"`` or ``"png"``."""
    return images.encode_jpeg(residual, "444") if image_format == "jpeg" else images.encode_png(residual)


def decode(data: bytes) -> NDArray[np.int16]:
    """Decode a stored residual [shape=(H, W, 3), dtype=int16, range -128 to 127]."""
    return images.decode(data).astype(np.int16) - OFFSET


class Residual(Modality):
    """Entries ``residual.000000.jpg`` (or ``.png``), ..., one for each stored frame; I-frames hold zeros."""

    name = "residual"
    track = "residual"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._buffer: NDArray[np.uint8] | None = None
        self._num_clipped = self._num_values = 0

    def add(self, frame: Frame, position: int | None) -> Iterator[Entry]:
        """Yield the residual of a stored frame."""
        if position is None:
            return
        self._buffer, num_clipped = extract(frame, out=self._buffer)
        self._num_clipped += num_clipped
        self._num_values += self._buffer.size
        image_format = self.settings.residual_format
        yield f"residual.{position:06d}.{_SUFFIX[image_format]}", encode(self._buffer, image_format)

    def facts(self) -> dict[str, Any]:
        """Return the format, the offset and the share of clipped values."""
        exact = self.settings.residual_format == "png"
        kept = {} if exact else {"quality": images.QUALITY, "subsampling": "4:4:4"}
        return {
            "format": self.settings.residual_format,
            **kept,
            "form": "accumulated",
            "offset": OFFSET,
            "exact_within_clipping": exact,
            "num_clipped": self._num_clipped,
            "clipped_share": self._num_clipped / max(self._num_values, 1),
        }

    @staticmethod
    def decode(entries: Mapping[str, bytes], facts: Mapping[str, Any]) -> NDArray[np.int16] | None:
        """Return the residuals [shape=(T, H, W, 3), dtype=int16]: -128 to 127, or exact ones from a packed stream."""
        if is_packed(entries):
            return read_packed(entries, facts, ["residual"])["residual"]
        pictures = images.decode_all(numbered(entries, "residual"))
        return None if pictures is None else pictures.astype(np.int16) - OFFSET
