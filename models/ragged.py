"""Clips of different lengths as one batch without padding: the frames of all of them, one clip after the other.

What treats each frame for itself (normalisation, activations, convolutions without a kernel over time) runs on all
frames at once, so batch normalisation counts the frames of all clips and nothing else; the rest runs on neighbouring
clips of one length at a time. So networks written for one tensor run on clips of many lengths, exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate, groupby
from typing import Any

import torch
from torch.nn import functional


class Ragged(torch.Tensor):
    """Maps of clips of different lengths, which functions of torch take for a batch.

    What depends on one clip's length (``.shape``, say) is refused where lengths differ; ``numel`` counts all values.

    Parameters
    ----------
    frames : Tensor [shape=(1, C, F, H, W)]
        All frames, clip by clip.
    lengths : sequence of int
        The frames of each clip, F in all. The more alike neighbours are, the fewer calls it takes.

    Raises
    ------
    TypeError
        If a function gives neither tensors nor the same for all clips.
    """

    frames: torch.Tensor
    lengths: tuple[int, ...]

    @staticmethod
    def __new__(cls, frames: torch.Tensor, lengths: Sequence[int]) -> Ragged:
        """Return a tensor without values of its own, which stands for the clips."""
        made: Ragged = torch.Tensor._make_subclass(cls, torch.empty(0, device="meta"))
        made.frames, made.lengths = frames, tuple(lengths)
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Ragged(frames of {self.frames.dtype}, lengths={self.lengths})"

    @classmethod
    def without_padding(cls, maps: torch.Tensor, lengths: Sequence[int]) -> Ragged:
        """Return the first frames of each clip [shape=(N, C, T, H, W)], as many as it has."""
        places = [clip * maps.shape[2] + frame for clip, length in enumerate(lengths) for frame in range(length)]
        frames = maps.transpose(0, 1).flatten(1, 2)
        return cls(frames.index_select(1, torch.tensor(places, device=maps.device))[None], lengths)

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run a function on all frames, or on some clips after the others."""
        kwargs = kwargs or {}
        if func is torch.Tensor.numel:
            return args[0].frames.numel()
        if func in _FRAMEWISE or (func is torch.conv3d and _is_without_time(*args[1:], **kwargs)):
            lengths = max(one.lengths for one in _all_in((args, kwargs)))
            if all(one.lengths == lengths or max(one.lengths) == 1 for one in _all_in((args, kwargs))):
                return cls(func(*_mapped(args, _frames_of(lengths)), **_mapped(kwargs, _frames_of(lengths))), lengths)
        return _run_by_run(func, args, kwargs)

    def clips(self, first: int, num_clips: int) -> torch.Tensor:
        """Return some neighbouring clips of one length [shape=(num_clips, C, T, H, W)]."""
        start, length = sum(self.lengths[:first]), self.lengths[first]
        frames = self.frames[0, :, start : start + num_clips * length]
        return frames.unflatten(1, (num_clips, length)).transpose(0, 1)  # type: ignore[no-any-return,no-untyped-call]


_FRAMEWISE = {
    functional.batch_norm,
    functional.dropout,
    functional.relu,
    functional.silu,
    torch.relu,
    torch.sigmoid,
    torch.cat,  # of channels; maps of clips are never joined otherwise
    torch.Tensor.relu,
    torch.Tensor.sigmoid,
    torch.Tensor.add,
    torch.Tensor.mul,
    torch.Tensor.__add__,
    torch.Tensor.__iadd__,
    torch.Tensor.__mul__,
}
"""What treats each frame for itself; whatever else does and stands not here is only slower."""


def _is_without_time(
    weight: torch.Tensor,
    _bias: torch.Tensor | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] | str = (0,),
    *_others: Any,
) -> bool:
    """Whether a convolution treats each frame for itself."""
    return weight.shape[2] == 1 and stride[0] == 1 and padding[0] == 0


def _all_in(value: Any) -> Iterator[Ragged]:
    if isinstance(value, Ragged):
        yield value
    elif isinstance(value, list | tuple | dict):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _all_in(one)


def _mapped(value: Any, part: Callable[[Ragged], torch.Tensor]) -> Any:
    if isinstance(value, Ragged):
        return part(value)
    if isinstance(value, dict):
        return {name: _mapped(one, part) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_mapped(one, part) for one in value)
    return value


def _frames_of(lengths: Sequence[int]) -> Callable[[Ragged], torch.Tensor]:
    """Return what gives the frames; one frame a clip stands for all of that clip's."""

    def frames_of(ragged: Ragged) -> torch.Tensor:
        if ragged.lengths == lengths:
            return ragged.frames
        clips = [clip for clip, length in enumerate(lengths) for _ in range(length)]
        return ragged.frames.index_select(2, torch.tensor(clips, device=ragged.frames.device))

    return frames_of


def _run_by_run(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Run a function on each run of neighbouring clips that have one length, in each argument."""
    alike = zip(*(one.lengths for one in _all_in((args, kwargs))), strict=True)
    counts = [len(list(run)) for _, run in groupby(alike)]
    found = []
    for first, count in zip(accumulate(counts, initial=0), counts, strict=False):

        def clips(ragged: Ragged, first: int = first, count: int = count) -> torch.Tensor:
            return ragged.clips(first, count)

        found.append(func(*_mapped(args, clips), **_mapped(kwargs, clips)))
    if not all(isinstance(one, torch.Tensor) for one in found):
        if any(one != found[0] for one in found):
            raise TypeError(f"{getattr(func, '__name__', func)}: differs between clips of different lengths: {found}")
        return found[0]
    if found[0].dim() != 5:
        return torch.cat(found)  # values of clips, not of frames
    lengths = [one.shape[2] for one in found for _ in range(len(one))]
    return Ragged(torch.cat([one.transpose(0, 1).flatten(1, 2) for one in found], 1)[None], lengths)
