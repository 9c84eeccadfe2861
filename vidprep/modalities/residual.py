"""Residuals in three forms, as pictures.

``accumulated``: RGB minus the I-picture warped along the motion, offset by 128 and clipped to eight bits.
``coded``: decoded luma minus the codec's own motion-compensated prediction (MPEG-4 Part 2), stored likewise.
``magnitude``: the accumulated residual's L2 norm over the channels at a quarter of the size, which is what LNet takes
(adaptive zoom from motion and residuals), in steps of 1/64.

JPEG 95 4:4:4 is a training approximation; PNG keeps the clipped values exactly. The json says how many values
were clipped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidprep.codec.frame import Frame
from vidprep.codec.wanted import Track
from vidprep.modalities import images
from vidprep.modalities.base import Entry, Modality, Settings, is_stored, numbered, stored_shape
from vidprep.modalities.packed import MAGNITUDE_SCALE, is_packed, read_packed
from vidprep.reading import readable

OFFSET = 128
MAGNITUDE_STEPS = 64  # a pixel's norm is at most 255 * sqrt(3) = 441.7, so that it fits into 16 bits
Stored = tuple[NDArray[Any], int]
"""A picture [shape=(H, W, C)] and how many of its values were clipped."""


def extract(frame: Frame, *, out: NDArray[np.uint8] | None = None) -> tuple[NDArray[np.uint8], int]:
    """Return residual + 128, clipped [shape=(H, W, 3), dtype=uint8], and the number of clipped values."""
    return frame.accumulated_residual_uint8(out=out)


def extract_coded(frame: Frame, *, out: NDArray[np.uint8] | None = None) -> tuple[NDArray[np.uint8], int]:
    """Return the coded residual + 128, clipped [shape=(H, W, 1), dtype=uint8], and the number of clipped values."""
    residual = frame.coded_residual()[..., np.newaxis] + OFFSET
    out = np.empty(residual.shape, np.uint8) if out is None else out
    np.clip(residual, 0, 255, out=out, casting="unsafe")
    return out, int(np.count_nonzero(out != residual))


def extract_magnitude(frame: Frame, *, out: NDArray[np.uint16] | None = None) -> tuple[NDArray[np.uint16], int]:
    """Return 64 times the magnitude at a quarter of the size [shape=(H/4, W/4, 1), dtype=uint16]; none is clipped."""
    magnitude = frame.accumulated_residual_magnitude(MAGNITUDE_SCALE)[..., np.newaxis]
    out = np.empty(magnitude.shape, np.uint16) if out is None else out
    np.rint(magnitude * MAGNITUDE_STEPS, out=out, casting="unsafe")
    return out, 0


def encode(residual: NDArray[Any], image_format: str = "jpeg") -> bytes:
    """Encode an offset residual [shape=(H, W, 3) or (H, W, 1)] as ``"jpeg"`` or ``"png"``."""
    return images.encode_jpeg(residual, "444") if image_format == "jpeg" else images.encode_png(residual)


def decode(data: bytes) -> NDArray[np.int16]:
    """Decode a stored residual [shape=(H, W, 3) or (H, W, 1), dtype=int16, range -128 to 127]."""
    return restore(images.decode(data))


def restore(pictures: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Take the offset away."""
    return pictures.astype(np.int16) - OFFSET


def restore_magnitude(pictures: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Return magnitudes [dtype=float32, range 0 to 441.7]."""
    return pictures.astype(np.float32) / np.float32(MAGNITUDE_STEPS)


@dataclass(frozen=True, slots=True)
class Form:
    """One form of residual: what clips call it, what it needs of a frame, how it is stored and read back."""

    kind: str
    track: Track
    coded: bool
    extract: Callable[..., Stored]
    restore: Callable[[NDArray[Any]], NDArray[Any]]
    facts: Mapping[str, Any]
    scale: int = 1


FORMS = {
    "accumulated": Form("residual", "picture", False, extract, restore, {"offset": OFFSET}),
    "coded": Form("coded_residual", "none", True, extract_coded, restore, {"offset": OFFSET}),
    "magnitude": Form(
        "residual_magnitude",
        "picture",
        False,
        extract_magnitude,
        restore_magnitude,
        {"scale": f"1/{MAGNITUDE_SCALE}", "steps_per_unit": MAGNITUDE_STEPS},
        MAGNITUDE_SCALE,
    ),
}
SUFFIXES = {"jpeg": "jpg", "png": "png"}


class Residual(Modality):
    """Entries ``residual.000000.jpg`` (or ``.png``), ..., one for each stored frame."""

    name = "residual"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._form = FORMS[settings.residual_form]
        self.track = self._form.track
        self.coded = self._form.coded
        self._format = settings.stored_residual_format
        self._buffer: NDArray[Any] | None = None
        self._num_clipped = self._num_values = 0

    def add(self, frame: Frame, position: int | None) -> Iterator[Entry]:
        """Yield the residual of a stored frame."""
        if position is None:
            return
        self._buffer, num_clipped = self._form.extract(frame, out=self._buffer)
        self._num_clipped += num_clipped
        self._num_values += self._buffer.size
        yield f"residual.{position:06d}.{SUFFIXES[self._format]}", encode(self._buffer, self._format)

    def facts(self) -> dict[str, Any]:
        """Return the form, the format, what restores the values, and the share of clipped ones."""
        exact = self._format == "png"
        kept = {} if exact else {"quality": images.QUALITY, "subsampling": "4:4:4"}
        return {
            "format": self._format,
            **kept,
            "form": self.settings.residual_form,
            **self._form.facts,
            "exact_within_clipping": exact,
            "num_clipped": self._num_clipped,
            "clipped_share": self._num_clipped / max(self._num_values, 1),
        }

    @staticmethod
    @readable("residual")
    def decode(entries: Mapping[str, bytes], facts: Mapping[str, Any]) -> NDArray[Any] | None:
        """Return the residuals of the sample's form [shape=(T, H, W, C)].

        Accumulated: C is 3, dtype=int16, range -128 to 127. Coded: C is 1, the same type and range. Magnitude: C is 1,
        H and W are a quarter, dtype=float32, range 0 to 441.7. From the bitstream layout they are exact, and not
        clipped.
        """
        if is_packed(entries):
            kind = FORMS[facts["recipe"]["residual_form"]].kind
            return read_packed(entries, facts, [kind])[kind]
        pictures = numbered(entries, "residual")
        if not is_stored("residual", facts, pictures):
            return None
        form, shape = FORMS[facts["residual"]["form"]], stored_shape(facts)
        if shape is not None:
            shape = (shape[0], -(-shape[1] // form.scale), -(-shape[2] // form.scale))
        decoded = images.decode_all(pictures, shape)
        return None if decoded is None else form.restore(decoded)
