"""Clips of different lengths as one batch, without padding: a tensor that stands for groups of equal lengths.

Modules and functions run on each group; batch normalisation takes the statistics of all groups together, as it would
of a padded batch whose padding were left out. So networks written for one tensor run on clips of many lengths, exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional


class Ragged(torch.Tensor):
    """Groups of maps that every function of torch runs on one by one.

    What depends on one group's length alone (``.shape``, say) is refused where the groups differ; ``numel`` counts
    the values of all.

    Parameters
    ----------
    groups : sequence of Tensor
        Of each group [shape=(N_g, C, T_g, H, W)]: clips of one length.

    Raises
    ------
    TypeError
        If a function gives neither tensors nor the same for all groups.
    """

    groups: tuple[torch.Tensor, ...]

    @staticmethod
    def __new__(cls, groups: Sequence[torch.Tensor]) -> Ragged:
        """Return a tensor without values of its own, which stands for the groups."""
        made: Ragged = torch.Tensor._make_subclass(cls, torch.empty(0, device="meta"))
        made.groups = tuple(groups)
        return made

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run a function on each group."""
        kwargs = kwargs or {}
        if func is functional.batch_norm:
            return _batch_norm(*args, **kwargs)
        if func is torch.Tensor.numel:
            return sum(one.numel() for one in args[0].groups)
        num_groups = next(len(value.groups) for value in _all_in((args, kwargs)))
        found = [func(*_of_group(args, place), **_of_group(kwargs, place)) for place in range(num_groups)]
        if all(isinstance(one, torch.Tensor) for one in found):
            return cls(found)
        if any(one != found[0] for one in found):
            raise TypeError(f"{getattr(func, '__name__', func)}: differs between clips of different lengths: {found}")
        return found[0]


def _all_in(value: Any) -> Iterator[Ragged]:
    if isinstance(value, Ragged):
        yield value
    elif isinstance(value, list | tuple | dict):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _all_in(one)


def _of_group(value: Any, place: int) -> Any:
    if isinstance(value, Ragged):
        return value.groups[place]
    if isinstance(value, dict):
        return {name: _of_group(one, place) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_of_group(one, place) for one in value)
    return value


def _batch_norm(
    maps: Ragged,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Ragged:
    if not training:
        return Ragged(
            [functional.batch_norm(one, running_mean, running_var, weight, bias, eps=eps) for one in maps.groups]
        )
    *normalised, mean, var = _JointBatchNorm.apply(weight, bias, eps, *maps.groups)
    if running_mean is not None and running_var is not None:
        num_values = sum(one.numel() // one.shape[1] for one in maps.groups)
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((var * (num_values / max(num_values - 1, 1))).to(running_var.dtype), momentum)
    return Ragged(normalised)


class _JointBatchNorm(torch.autograd.Function):
    """Batch normalisation of several tensors by their common statistics; nothing is copied together."""

    @staticmethod
    def forward(
        ctx: Any, weight: torch.Tensor | None, bias: torch.Tensor | None, eps: float, *groups: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        mean, var, num_values = _joint_moments(groups)
        ctx.save_for_backward(weight, bias, mean, var, *groups)
        ctx.eps, ctx.num_values = eps, num_values
        normalised = [functional.batch_norm(one, mean, var, weight, bias, eps=eps) for one in groups]
        ctx.mark_non_differentiable(mean, var)
        return (*normalised, mean, var)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return ``weight / std * (grad - mean(grad) - x' * mean(grad * x'))``, x' the normalised maps."""
        weight, bias, mean, var, *groups = ctx.saved_tensors
        of_fixed = [  # the last two gradients are those of the statistics, which have none
            _fixed_backward(one, grad, mean, var, weight, ctx.eps) for one, grad in zip(groups, grads[:-2], strict=True)
        ]
        sum_weight = torch.stack([by_weight for _, by_weight, _ in of_fixed]).sum(0)
        sum_bias = torch.stack([by_bias for _, _, by_bias in of_fixed]).sum(0)
        inverse = (var + ctx.eps).rsqrt()
        scale = inverse if weight is None else inverse * weight
        slope = -scale * inverse * sum_weight / ctx.num_values
        offset = -scale * sum_bias / ctx.num_values - slope * mean
        by_groups = [
            maps_grad.add_(_per_channel(offset, maps)).addcmul_(maps, _per_channel(slope, maps))
            for (maps_grad, _, _), maps in zip(of_fixed, groups, strict=True)
        ]
        return (None if weight is None else sum_weight, None if bias is None else sum_bias, None, *by_groups)


def _joint_moments(groups: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Return the mean and variance of each channel over all groups, and of how many values."""
    dims = (0, *range(2, groups[0].dim()))
    wide = torch.promote_types(groups[0].dtype, torch.float32)
    moments = [torch.var_mean(one.to(wide), dims, correction=0) for one in groups]
    counts = [one.numel() // one.shape[1] for one in groups]
    shares = torch.tensor(counts, dtype=wide, device=groups[0].device)[:, None] / sum(counts)
    means = torch.stack([mean for _, mean in moments])
    mean = (shares * means).sum(0)
    var = (shares * (torch.stack([var for var, _ in moments]) + (means - mean) ** 2)).sum(0)
    return mean, var, sum(counts)


def _fixed_backward(
    maps: torch.Tensor,
    grad: torch.Tensor,
    mean: torch.Tensor,
    var: torch.Tensor,
    weight: torch.Tensor | None,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the gradients by maps, weight and bias of one group, as if its statistics were constants."""
    found: tuple[torch.Tensor, torch.Tensor, torch.Tensor] = torch.ops.aten.native_batch_norm_backward(
        grad, maps, weight, mean, var, None, None, False, eps, [True, True, True]
    )
    return found


def _per_channel(values: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    return values.to(maps.dtype).view(-1, *[1] * (maps.dim() - 2))
