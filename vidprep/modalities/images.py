"""Pictures as bytes: JPEG through simplejpeg, PNG through Pillow."""

from __future__ import annotations

import io
from collections.abc import Sequence

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


@readable("picture")
def decode(data: bytes) -> NDArray[np.uint8]:
    """Decode a JPEG or PNG to RGB [shape=(H, W, 3), dtype=uint8]; ShardError if it is damaged."""
    is_jpeg = data[:2] == b"\xff\xd8"
    size = simplejpeg.decode_jpeg_header(data)[:2] if is_jpeg else Image.open(io.BytesIO(data)).size
    if size[0] * size[1] > _PIXELS_PER_BYTE * len(data):
        raise ShardError(f"size={size[0]}x{size[1]}: too large for {len(data)} bytes; run vidprep verify")
    if is_jpeg:
        picture: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, colorspace="RGB", fastdct=False, fastupsample=False)
        return picture
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@readable("pictures")
def decode_all(pictures: Sequence[bytes], shape: tuple[int, int, int] | None = None) -> NDArray[np.uint8] | None:
    """Decode pictures of one size to one array [shape=(T, H, W, 3), dtype=uint8]; None if there are none.

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
