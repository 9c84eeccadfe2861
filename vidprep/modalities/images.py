"""Pictures as bytes: JPEG through simplejpeg, PNG through Pillow."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

QUALITY = 95
_PNG_LEVEL = 1  # residuals are noise: more effort wins a few per cent and costs several times as much


def encode_jpeg(picture: NDArray[np.uint8], subsampling: str) -> bytes:
    """Encode a picture [shape=(H, W, 3) or (H, W, 1), dtype=uint8] as JPEG 95.

    ``subsampling`` is ``"420"`` or ``"444"``; one channel is stored as grey.
    """
    grey = picture.shape[2] == 1
    data: bytes = simplejpeg.encode_jpeg(
        picture,
        quality=QUALITY,
        colorspace="GRAY" if grey else "RGB",
        colorsubsampling="Gray" if grey else subsampling,
        fastdct=False,
    )
    return data


def encode_png(picture: NDArray[Any]) -> bytes:
    """Encode a picture [shape=(H, W, 3), dtype=uint8, or (H, W, 1), dtype=uint8 or uint16] without loss."""
    buffer = io.BytesIO()
    Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture).save(
        buffer, "PNG", compress_level=_PNG_LEVEL
    )
    return buffer.getvalue()


def decode(data: bytes) -> NDArray[Any]:
    """Decode a JPEG or PNG [shape=(H, W, 3) or, if it is grey, (H, W, 1), dtype=uint8 or, of 16 bits, uint16]."""
    if data[:2] == b"\xff\xd8":
        colorspace = "GRAY" if simplejpeg.decode_jpeg_header(data)[2] == "Gray" else "RGB"
        picture: NDArray[Any] = simplejpeg.decode_jpeg(data, colorspace=colorspace, fastdct=False, fastupsample=False)
        return picture
    image = Image.open(io.BytesIO(data))
    if image.mode in ("L", "I;16"):
        return np.asarray(image)[..., np.newaxis]
    return np.asarray(image.convert("RGB"))


def decode_all(pictures: Sequence[bytes]) -> NDArray[Any] | None:
    """Decode pictures of one size to one array [shape=(T, H, W, C)]; None if there are none."""
    return np.stack([decode(data) for data in pictures]) if pictures else None
