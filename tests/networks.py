"""What the tests of networks share: weights and clips that follow from names and shapes, and counts."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from vidprep.models.backbones import VideoNetwork
from vidprep.models.weights import KeyMap, renamed

Shapes = dict[str, tuple[int, ...]]

torch.set_num_threads(1)  # the networks here are small, and every test process would take all cores


def _stream(name: str) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little"))


def filled_tensor(name: str, shape: Sequence[int]) -> torch.Tensor:
    """One parameter or buffer [dtype=float32]: a norm near its start, other weights of variance 1 / fan-in."""
    draws, last = _stream(name), name.rsplit(".", 1)[-1]
    if last == "num_batches_tracked":
        return torch.zeros(tuple(shape))
    if last == "running_var":
        values = 0.5 + draws.random(shape)
    elif last == "running_mean":
        values = 0.1 * draws.standard_normal(shape)
    elif last == "weight" and len(shape) == 1:
        values = 1 + 0.1 * draws.standard_normal(shape)
    elif "bias" in last:
        values = 0.05 * draws.standard_normal(shape)
    else:
        values = draws.standard_normal(shape) / math.sqrt(max(1, math.prod(shape[1:])))
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def filled_state(shapes: Shapes) -> dict[str, torch.Tensor]:
    return {name: filled_tensor(name, shape) for name, shape in shapes.items()}


def filled(network: VideoNetwork) -> VideoNetwork:
    """The network with filled weights, in evaluation mode."""
    network.load_state_dict(filled_state(shapes_of(network)))
    return network.eval()


def filled_on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    """Any network with filled weights, in evaluation mode, without the time that random ones take."""
    with torch.device("meta"):
        network = build().eval()
    network.load_state_dict(filled_state(shapes_of(network)), assign=True)
    return network


def filled_clip(name: str, *shape: int) -> torch.Tensor:
    """A clip of normal numbers [shape=(N, 3, T, H, W), dtype=float32]."""
    return torch.from_numpy(_stream("input:" + name).standard_normal(shape).astype(np.float32))


def filled_uniform(name: str, *shape: int) -> torch.Tensor:
    """Numbers from 0 to 1 [dtype=float32]."""
    return torch.from_numpy(_stream("input:" + name).random(shape).astype(np.float32))


@functools.cache
def on_meta(build: Callable[..., VideoNetwork], num_classes: int = 400, **options: bool) -> VideoNetwork:
    """A network without weights, in evaluation mode: its shapes and counts cost nothing. Leave it as it is."""
    with torch.device("meta"):
        return build(num_classes, **options).eval()


def shapes_of(network: nn.Module) -> Shapes:
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def renamed_shapes(official: Shapes, key_map: KeyMap) -> Shapes:
    """What a checkpoint of these names and shapes gives us; two names must not become one."""
    ours = renamed({name: torch.empty(shape, device="meta") for name, shape in official.items()}, key_map)
    assert len(ours) == len(official)
    return {name: tuple(value.shape) for name, value in ours.items()}


def num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def giga_macs(network: VideoNetwork, *size: int, after: str | None = None, num_kept: int = 0) -> float:
    """10^9 multiply-adds of convolutions and linear layers on one clip [shape=(T, H, W)]; the network is on meta.

    With ``after``, only ``num_kept`` of the frames go on behind that stage.
    """
    clip = torch.empty(1, 3, *size, device="meta")
    names = network.stage_names
    split = len(names) if after is None else names.index(after) + 1
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        pathways = network.run(network.pathways(clip), names[:split])
        if after is not None:
            pathways = network.run([maps[:, :, :num_kept] for maps in pathways], names[split:])
        network.head(network.pool(pathways))
    return counter.get_total_flops() / 2 / 1e9


def norm_shapes(name: str, width: int) -> Shapes:
    """The entries of a batch norm."""
    vectors = ("weight", "bias", "running_mean", "running_var")
    return {**{f"{name}.{vector}": (width,) for vector in vectors}, f"{name}.num_batches_tracked": ()}


def norm(state: Mapping[str, torch.Tensor], name: str, maps: torch.Tensor) -> torch.Tensor:
    """A batch norm in evaluation, by its definition."""
    mean, var, weight, bias = (
        state[f"{name}.{vector}"][:, None, None, None] for vector in ("running_mean", "running_var", "weight", "bias")
    )
    return (maps - mean) / torch.sqrt(var + 1e-5) * weight + bias


def conv(
    state: Mapping[str, torch.Tensor], name: str, maps: torch.Tensor, stride: int = 1, **options: int
) -> torch.Tensor:
    """A convolution without bias, padded so that a stride of 1 keeps the size; ``stride`` is in space."""
    weight = state[f"{name}.weight"]
    padding = [side // 2 for side in weight.shape[2:]]
    return functional.conv3d(maps, weight, None, (1, stride, stride), padding, **options)
