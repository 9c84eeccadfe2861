"""Pictures as bytes: JPEG through simplejpeg, PNG through Pillow."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

QUALITY = 95
_PNG_LEVEL = 1  # residuals are noise: more effort wins a few per cent and costs several times as much


def encode_jpeg(picture: NDArray[np.uint8], subsampling: str) -> bytes:
    """Encode a picture [shape=(H, W, 3), dtype=uint8] as JPEG 95; ``subsampling`` is ``"420"`` or ``"444"``."""
    data: bytes = simplejpeg.encode_jpeg(
        picture, quality=QUALITY, colorspace="RGB", colorsubsampling=subsampling, fastdct=False
    )
    return data


def encode_png(picture: NDArray[np.uint8]) -> bytes:
    """Encode a picture [shape=(H, W, 3), dtype=uint8] without loss."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", compress_level=_PNG_LEVEL)
    return buffer.getvalue()


def decode(data: bytes) -> NDArray[np.uint8]:
    """Decode a JPEG or PNG to RGB [shape=(H, W, 3), dtype=uint8]."""
    if data[:2] == b"\xff\xd8":
        picture: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, colorspace="RGB", fastdct=False, fastupsample=False)
        return picture
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def decode_all(pictures: Sequence[bytes]) -> NDArray[np.uint8] | None:
    """Decode pictures of one size to one array [shape=(T, H, W, 3), dtype=uint8]; None if there are none."""
    return np.stack([decode(data) for data in pictures]) if pictures else None
