"""Block vectors as libavcodec exports them, and the dense field that they spread over."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vidprep.errors import UnsupportedError

BLOCK_DTYPE = np.dtype(
    {
        "names": [
            "source",
            "w",
            "h",
            "src_x",
            "src_y",
            "dst_x",
            "dst_y",
            "motion_x",
            "motion_y",
            "motion_scale",
        ],
        "formats": ["<i4", "u1", "u1", "<i2", "<i2", "<i2", "<i2", "<i4", "<i4", "<u2"],
        "offsets": [0, 4, 5, 6, 8, 10, 12, 24, 28, 32],
        "itemsize": 40,
    }
)
"""One block vector as libavcodec exports it (``AVMotionVector``).

``source`` is -1 for the past and +1 for the future reference; ``w`` and ``h`` are the block's size in pixels;
``dst`` is the block's centre in this frame and ``src`` in the reference, in whole pixels (truncated toward
zero); ``motion / motion_scale`` is source minus destination in pixels, exact.
"""

NO_BLOCKS: NDArray[np.void] = np.empty(0, BLOCK_DTYPE)
NO_BLOCKS.flags.writeable = False


def dense_motion(
    blocks: NDArray[np.void],
    height: int,
    width: int,
    *,
    future: bool = False,
    out: NDArray[np.int16] | None = None,
) -> NDArray[np.int16]:
    """Spread block vectors over their pixels; see :meth:`vidprep.codec.frame.Frame.motion`.

    Parameters
    ----------
    blocks : ndarray [shape=(N,), dtype=BLOCK_DTYPE]
    height, width : int
        Size of the field in pixels.
    """
    if out is None:
        out = np.empty((height, width, 2), np.int16)
    pairs = as_pairs(out, height, width)
    pairs[...] = 0
    from vidprep.codec import _kernels

    _kernels.fill_motion(blocks, 1 if future else -1, pairs)
    return out


def as_pairs(field: NDArray[np.int16], height: int, width: int) -> NDArray[np.int32]:
    """View a field [shape=(H, W, 2), dtype=int16] as one int32 a pixel, as kernels write it."""
    shape = (height, width, 2)
    if field.shape != shape or field.dtype != np.int16 or not field.flags.c_contiguous:
        raise UnsupportedError(
            f"out.shape={field.shape}, out.dtype={field.dtype}: must be C-contiguous, int16, of shape {shape}"
        )
    return field.view(np.int32)[..., 0]
