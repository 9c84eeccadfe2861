"""From what was read to what a model takes: the view's size, flips, channels first."""

from __future__ import annotations

import math
from typing import Any

import torch
from numpy.typing import NDArray

from vidprep.dataset.views import View

_VECTORS = ("motion", "accumulated_motion")


def to_tensor(kind: str, array: NDArray[Any], view: View, *, resizes: bool) -> torch.Tensor:
    """Bring an array of a view's part to its size; a tensor whose channels come first, stored with them last.

    Pictures are resized bilinearly and antialiased (the filter grows with the reduction): bytes are within a level of
    Pillow's, and residuals, whose positive and negative parts are resized as bytes, within two of a resize in floating
    point. Vectors are averaged likewise, and grow and shrink with the picture, by
    the ratio of the view's size to the part's; in a flip their x changes its sign.

    Parameters
    ----------
    kind : str
        What the array is: ``"motion"`` and ``"accumulated_motion"`` are vectors, x and y in pixels.
    array : ndarray
        The part that was read, :attr:`View.crop` of what is stored [shape=(T, h, w, C)].
    view : View
        Where the part came from and what becomes of it.
    resizes : bool
        Whether any view of this transform may have another size than its part: then vectors are float32, in all of
        its views; else they stay int16. Other arrays keep their type.

    Returns
    -------
    Tensor
        [shape=(C, T, height, width)].
    """
    clip = torch.from_numpy(array)
    if kind in _VECTORS and resizes:
        clip = clip.to(torch.float32)
    if tuple(array.shape[1:3]) != (view.height, view.width):
        clip = _resize(clip, view.height, view.width)
        if kind in _VECTORS:
            scale = (view.width / array.shape[2], view.height / array.shape[1])
            clip = clip * torch.tensor(scale, dtype=torch.float32)
    if view.is_flipped:
        clip = clip.flip(2)
        if kind in _VECTORS:
            clip[..., 0].neg_()
    return clip.permute(3, 0, 1, 2)


def _resize(clip: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Scale pictures bilinearly, antialiased; differences of bytes as their two halves, in half the time of floats."""
    if clip.dtype == torch.int16:  # -255 to 255
        above, below = clip.clamp(0, 255), clip.clamp(-255, 0).neg_()
        above, below = (_resize(half.to(torch.uint8), height, width) for half in (above, below))
        return above.to(torch.int16) - below
    return torch.nn.functional.interpolate(
        clip.permute(0, 3, 1, 2), (height, width), mode="bilinear", align_corners=False, antialias=True
    ).permute(0, 2, 3, 1)


def stack(tensors: list[torch.Tensor]) -> torch.Tensor:
    """Stack clips [shape=(C, T, H, W)] into a batch [shape=(N, C, T, H, W)] without moving the channels.

    A worker stacks into memory that the process which trains sees too: nothing is copied on the way.
    """
    if tensors[0].ndim != 4 or tensors[0].is_contiguous():  # no clip, or one whose channels were first all along
        return torch.stack(tensors)
    stored = [clip.permute(1, 2, 3, 0) for clip in tensors]
    batch = stored[0].new_empty(0)
    if torch.utils.data.get_worker_info() is not None:
        batch = _shared((len(stored), *stored[0].shape), batch.dtype)
    return torch.stack(stored, out=batch).permute(0, 4, 1, 2, 3)


def _shared(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    num_bytes = math.prod(shape) * dtype.itemsize
    storage = torch.UntypedStorage._new_shared(num_bytes)  # type: ignore[no-untyped-call]  # as torch's collate does
    return torch.empty(0, dtype=dtype).set_(storage, 0, shape)  # type: ignore[call-overload,no-any-return]
