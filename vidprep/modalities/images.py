"""Pictures as bytes: JPEG through simplejpeg, PNG through Pillow."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from vidprep.errors import ShardError
from vidprep.reading import readable

QUALITY = 95
_PIXELS_PER_BYTE = 512  # JPEG spends a bit on each block of 64 pixels, zlib a byte on a thousand
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


@readable("picture")
def decode(data: bytes) -> NDArray[Any]:
    """Decode a JPEG or PNG; ShardError if it is damaged.

    Returns
    -------
    ndarray [shape=(H, W, 3) or, if it is grey, (H, W, 1)]
        uint8; uint16 for a PNG of 16 bits.
    """
    is_jpeg = data[:2] == b"\xff\xd8"
    if is_jpeg:
        height, width, kind, _ = simplejpeg.decode_jpeg_header(data)
    else:
        image = Image.open(io.BytesIO(data))
        (width, height), kind = image.size, image.mode
    if height * width > _PIXELS_PER_BYTE * len(data):
        raise ShardError(f"size={width}x{height}: too large for {len(data)} bytes; run vidprep verify")
    if is_jpeg:
        colorspace = "GRAY" if kind == "Gray" else "RGB"
        picture: NDArray[Any] = simplejpeg.decode_jpeg(data, colorspace=colorspace, fastdct=False, fastupsample=False)
        return picture
    if kind in ("L", "I;16"):
        return np.asarray(image)[..., np.newaxis]
    return np.asarray(image.convert("RGB"))


@readable("pictures")
def decode_all(pictures: Sequence[bytes], shape: tuple[int, int, int] | None = None) -> NDArray[Any] | None:
    """Decode pictures of one size to one array [shape=(T, H, W, C)]; None if there are none.

    Raises
    ------
    ShardError
        If one is damaged, or the array is not of ``shape`` (T, H, W) where that is known.
    """
    if not pictures:
        return None
    found = np.stack([decode(data) for data in pictures])
    if shape not in (None, found.shape[:3]):
        raise ShardError(f"shape={found.shape[:3]}: the json says {shape}; run vidprep verify, or extract anew")
    return found
