"""Groups of clips of different lengths run as one batch: what each function gives, and joint batch normalisation."""

from collections.abc import Callable

import networks as _networks  # noqa: F401 - one thread for all tests of networks
import pytest
import torch
from torch import nn
from torch.nn import functional

from vidprep.models.ragged import Ragged

LENGTHS = (3, 1, 5)


def groups_of(seed: int = 0, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    draws = torch.Generator().manual_seed(seed)
    shapes = [(number + 1, 4, length, 2, 2) for number, length in enumerate(LENGTHS)]
    return [torch.randn(shape, generator=draws, dtype=dtype).requires_grad_() for shape in shapes]


def values_of(groups: list[torch.Tensor]) -> torch.Tensor:
    """All values of each channel, without any padding [shape=(1, 4, values)]."""
    return torch.cat([one.transpose(0, 1).flatten(1) for one in groups], 1)[None]


@pytest.mark.parametrize(
    "function",
    [
        lambda maps: maps + maps,
        lambda maps: (2 * maps).relu(),
        lambda maps: maps.mean((2, 3, 4)),
        lambda maps: torch.cat([maps, maps], 1),
        lambda maps: functional.max_pool3d(maps, (3, 1, 1), (2, 1, 1), (1, 0, 0)),
        nn.Conv3d(4, 2, (3, 1, 1), padding=(1, 0, 0)).double(),
        nn.BatchNorm3d(4).double().eval(),
        nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Sigmoid()),
    ],
)
def test_functions_run_on_each_group(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    groups = groups_of()
    found = function(Ragged(groups))
    assert isinstance(found, Ragged)
    for one, group in zip(found.groups, groups, strict=True):
        torch.testing.assert_close(one, function(group))


def test_what_all_groups_agree_on_is_given_and_what_they_differ_in_refused() -> None:
    ragged = Ragged(groups_of())
    assert ragged.dim() == 5
    assert ragged.numel() == sum(one.numel() for one in ragged.groups)
    assert ragged.dtype == torch.float64
    with pytest.raises(TypeError, match="differs between clips of different lengths"):
        _ = ragged.shape


@pytest.mark.parametrize("options", [{}, {"affine": False}, {"track_running_stats": False}, {"momentum": None}])
def test_batch_norm_is_that_of_all_values_together(options: dict[str, bool]) -> None:
    joint, plain = nn.BatchNorm3d(4, **options).double(), nn.BatchNorm1d(4, **options).double()  # type: ignore[arg-type]
    for norm in (joint, plain):
        for number, parameter in enumerate(norm.parameters()):
            nn.init.constant_(parameter, number + 0.5)
    ours, theirs = groups_of(), groups_of()
    for _ in range(2):
        found, expected = joint(Ragged(ours)), plain(values_of(theirs))
    torch.testing.assert_close(values_of(list(found.groups)), expected)
    slopes = torch.linspace(-1, 1, expected.numel(), dtype=torch.float64).view_as(expected)
    (values_of(list(found.groups)) * slopes).sum().backward()
    (expected * slopes).sum().backward()
    torch.testing.assert_close([one.grad for one in ours], [one.grad for one in theirs])
    torch.testing.assert_close([p.grad for p in joint.parameters()], [p.grad for p in plain.parameters()])
    for name, value in plain.named_buffers():
        torch.testing.assert_close(joint.get_buffer(name), value)


def test_an_activation_in_place_and_autograd_agree() -> None:
    norm, ours, theirs = nn.BatchNorm3d(4).double(), groups_of(), groups_of()
    found = nn.ReLU(inplace=True)(norm(Ragged(ours)))
    sum(one.square().sum() for one in found.groups).backward()  # type: ignore[union-attr]
    functional.batch_norm(values_of(theirs), None, None, training=True).relu().square().sum().backward()
    torch.testing.assert_close([one.grad for one in ours], [one.grad for one in theirs])


def test_batch_norm_takes_shorter_types() -> None:
    norm, groups = nn.BatchNorm3d(4), groups_of(dtype=torch.float32)
    short = norm(Ragged([one.bfloat16() for one in groups]))
    assert {one.dtype for one in short.groups} == {torch.bfloat16}
    torch.testing.assert_close(
        [one.float() for one in short.groups], list(nn.BatchNorm3d(4)(Ragged(groups)).groups), atol=0.05, rtol=0.05
    )
    sum(one.float().square().sum() for one in short.groups).backward()  # type: ignore[union-attr]
    assert all(one.grad is not None and one.grad.isfinite().all() for one in groups)
