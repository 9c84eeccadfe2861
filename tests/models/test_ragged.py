"""Clips of different lengths run as one batch: functions give what they give each clip alone."""

from collections.abc import Callable

import networks as _networks  # noqa: F401 - one thread for all tests of networks
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.overrides import handle_torch_function, has_torch_function

from vidprep.models.ragged import Ragged

LENGTHS = (1, 3, 3, 5)


def clips_of(seed: int = 0, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    """Clips of their own [shape=(1, 4, T, 2, 2)]."""
    draws = torch.Generator().manual_seed(seed)
    return [torch.randn(1, 4, length, 2, 2, generator=draws, dtype=dtype).requires_grad_() for length in LENGTHS]


def ragged_of(clips: list[torch.Tensor]) -> Ragged:
    return Ragged(torch.cat(clips, 2), [clip.shape[2] for clip in clips])


class Squeeze(nn.Module):
    """Scale channels by their means: X3D's way."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Conv3d(4, 4, 1)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps * self.fc(maps.mean((2, 3, 4), keepdim=True)).relu().sigmoid()


@pytest.mark.parametrize(
    "function",
    [
        lambda maps: maps + maps,
        lambda maps: (2 * maps).relu(),
        lambda maps: torch.cat([maps, -maps], 1),
        lambda maps: functional.max_pool3d(maps, (3, 1, 1), (2, 1, 1), (1, 0, 0)),
        lambda maps: functional.pad(maps, (0, 0, 0, 0, 1, 2)),
        lambda maps: functional.conv3d(maps, torch.ones(2, 4, 1, 3, 3, dtype=maps.dtype), padding="same"),
        nn.Conv3d(4, 2, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
        nn.Conv3d(4, 2, (3, 1, 1), padding=(1, 0, 0)),
        nn.Conv3d(4, 2, (1, 1, 1), stride=(2, 1, 1)),
        nn.Conv3d(4, 2, (1, 1, 1), padding=(1, 0, 0)),
        nn.Conv3d(4, 4, 3, padding=1, groups=4),
        nn.BatchNorm3d(4).eval(),
        nn.Dropout(0.5).eval(),
        nn.SiLU(),
        nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Sigmoid()),
        Squeeze(),
    ],
)
def test_functions_give_what_they_give_each_clip(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    if isinstance(function, nn.Module):
        function.double()
    ours, theirs = clips_of(), clips_of()
    found, expected = function(ragged_of(ours)), [function(clip) for clip in theirs]
    assert isinstance(found, Ragged)
    assert found.lengths == tuple(one.shape[2] for one in expected)
    torch.testing.assert_close(found.frames, torch.cat(expected, 2))
    slopes = torch.linspace(-1, 1, found.frames.numel(), dtype=torch.float64).view_as(found.frames)
    (found.frames * slopes).sum().backward()
    (torch.cat(expected, 2) * slopes).sum().backward()
    torch.testing.assert_close([one.grad for one in ours], [one.grad for one in theirs])


def test_values_of_clips_are_a_plain_tensor_in_their_order() -> None:
    clips = clips_of()
    found = ragged_of(clips).mean((2, 3, 4))
    assert not isinstance(found, Ragged)
    torch.testing.assert_close(found, torch.cat([clip.mean((2, 3, 4)) for clip in clips]))


def test_functions_of_two_lengths_of_the_same_clips() -> None:
    """As where one pathway gives another its maps: run by run of clips that are alike in both."""

    def longer(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        if has_torch_function((one, other)):
            return handle_torch_function(longer, (one, other), one, other)
        return torch.cat([one, other], 2)

    clips, others = clips_of(), [clip[:, :, :2] for clip in clips_of(1)]
    found = longer(ragged_of(clips), ragged_of(others))
    assert found.lengths == (2, 5, 5, 7)
    expected = [torch.cat(pair, 2) for pair in zip(clips, others, strict=True)]
    torch.testing.assert_close(found.frames, torch.cat(expected, 2))


def test_padding_is_left_out() -> None:
    padded = torch.arange(2 * 3 * 4.0).view(2, 1, 4, 3, 1).transpose(2, 3).reshape(2, 1, 3, 4, 1)
    found = Ragged.without_padding(padded, [1, 3])
    assert found.lengths == (1, 3)
    torch.testing.assert_close(found.frames, torch.cat([padded[:1, :, :1], padded[1:]], 2))
    torch.testing.assert_close(found.clips(1, 1), padded[1:])


def test_what_all_clips_agree_on_is_given_and_what_they_differ_in_refused() -> None:
    ragged = ragged_of(clips_of())
    assert ragged.dim() == 5
    assert ragged.dtype == torch.float64
    assert repr(ragged) == "Ragged(frames of torch.float64, lengths=(1, 3, 3, 5))"
    assert ragged.numel() == sum(LENGTHS) * 4 * 2 * 2
    with pytest.raises(TypeError, match="differs between clips of different lengths"):
        _ = ragged.shape


@pytest.mark.parametrize("options", [{}, {"affine": False}, {"track_running_stats": False}, {"momentum": None}])
def test_batch_norm_counts_all_frames_and_nothing_else(options: dict[str, bool]) -> None:
    joint, plain = nn.BatchNorm3d(4, **options).double(), nn.BatchNorm1d(4, **options).double()  # type: ignore[arg-type]
    ours, theirs = clips_of(), clips_of()
    for _ in range(2):
        found, expected = joint(ragged_of(ours)), plain(torch.cat([clip.flatten(2) for clip in theirs], 2))
    torch.testing.assert_close(found.frames.flatten(2), expected)
    for name, value in plain.named_buffers():
        torch.testing.assert_close(joint.get_buffer(name), value)
    found.frames.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close([one.grad for one in ours], [one.grad for one in theirs])


def test_an_activation_in_place() -> None:
    maps = ragged_of(clips_of())
    expected = maps.frames.detach().relu()
    torch.testing.assert_close(nn.ReLU(inplace=True)(maps + 0.0 * maps).frames, expected)
