"""The outputs of a backbone as arrays of a store."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vidprep.dataset.arrays import to_tensor
from vidprep.dataset.steps import CenterCrop, ShortSide
from vidprep.dataset.views import View, plan_view
from vidprep.errors import FeatureError, UsageError
from vidprep.features import ArrayKind
from vidprep.modalities.clip import read_clip
from vidprep.models.backbones import BACKBONES, VideoNetwork, load_backbone
from vidprep.models.weights import WeightsError
from vidprep.pipelines.export_arrays import Arrays
from vidprep.pipelines.export_options import Options

NETWORKS = tuple(name for name, backbone in BACKBONES.items() if backbone.num_frames == 1)
"""The backbones on pictures: one on clips gives no output for each frame."""
BATCH_FRAMES = 16  # of one video: what a batch holds never depends on the other videos
_RANDOM = "random:"
_NUM_CLASSES = 1000  # ImageNet's, whose weights these are
_AXES = {"maps": ("frames", "channels", "height", "width"), "pooled": ("frames", "channels")}


class BackboneOutputs:
    """Runs a backbone over centre crops of stored frames.

    Parameters
    ----------
    options : Options
        Its ``backbone``, ``weights``, ``outputs``, ``dtype`` and ``device``.

    Raises
    ------
    UsageError
        If there is no such backbone or device, or the weights aren't its own.
    """

    def __init__(self, options: Options) -> None:
        assert options.backbone is not None
        assert options.weights is not None
        if options.backbone not in NETWORKS:
            raise UsageError(f"backbone={options.backbone}: must be one of {', '.join(NETWORKS)}")
        if options.device == "cuda" and not torch.cuda.is_available():
            raise UsageError("device=cuda: PyTorch finds none here; leave out --device")
        self._options = options
        self._backbone = BACKBONES[options.backbone]
        network, self._checkpoint_sha256 = _load(options.backbone, options.weights)
        self._weights_sha256 = weights_sha256(network)
        self._network = network.eval().to(options.device)
        mean, std = (
            torch.tensor(values, device=options.device) for values in (self._backbone.mean, self._backbone.std)
        )
        self._mean, self._std = mean[:, None, None], std[:, None, None]

    @property
    def kinds(self) -> dict[str, ArrayKind]:
        """The arrays that it gives."""
        return {name: ArrayKind(self._options.dtype, _AXES[name]) for name in self._options.outputs}

    def describe(self) -> dict[str, Any]:
        """Return what its outputs depend on."""
        backbone = self._backbone
        return {
            "backbone": self._options.backbone,
            "weights_sha256": self._weights_sha256,
            "checkpoint_sha256": self._checkpoint_sha256,
            "short_side": backbone.short_side,
            "input_size": backbone.input_size,
            "mean": list(backbone.mean),
            "std": list(backbone.std),
            "batch_frames": BATCH_FRAMES,
            "device": self._options.device,
        }

    def read(self, entries: Mapping[str, bytes], facts: Mapping[str, Any], positions: Sequence[int]) -> Arrays:
        """Return the outputs for some stored frames of a sample."""
        view = centre_view(facts["width"], facts["height"], self._backbone.short_side, self._backbone.input_size)
        rgb = read_clip(entries, facts, positions, ("rgb",), crop=view.crop)["rgb"]
        pictures = to_tensor("rgb", rgb, view, resizes=True).transpose(0, 1)
        batches = [self._run(batch) for batch in torch.split(pictures, BATCH_FRAMES)]
        return {name: np.concatenate([batch[name] for batch in batches]) for name in self._options.outputs}

    def read_whole(self, entries: Mapping[str, bytes], facts: Mapping[str, Any]) -> Arrays:
        """Return nothing: all outputs are those of frames."""
        return {}

    @torch.inference_mode()
    def _run(self, pictures: torch.Tensor) -> Arrays:
        scaled = pictures.to(self._options.device).to(torch.float32) / 255
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            (maps,) = self._network.maps(((scaled - self._mean) / self._std)[:, :, None])  # clips of one frame each
        maps = maps[:, :, 0]
        found = {"maps": maps, "pooled": maps.mean((2, 3))}
        return {name: self._stored(name, found[name]) for name in self._options.outputs}

    def _stored(self, name: str, output: torch.Tensor) -> Any:
        stored = output.to(getattr(torch, self._options.dtype)).cpu()
        if not stored.isfinite().all() or (output.any() and not stored.any()):
            extremes = f"{output.min():.3g} to {output.max():.3g}"
            raise FeatureError(
                f"{name}: {extremes} doesn't fit into {self._options.dtype}; take --dtype float32 or other weights"
            )
        return stored.numpy()


def centre_view(width: int, height: int, short_side: int, size: int) -> View:
    """Return the centre crop of pictures of some width and height whose short side is brought to a size, in pixels."""
    return plan_view((ShortSide(short_side), CenterCrop(size)), width, height, 0, np.random.default_rng(0))


def weights_sha256(network: torch.nn.Module) -> str:
    """Return a digest of all weights and buffers of a network, whatever file they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _load(name: str, weights: str) -> tuple[VideoNetwork, str]:
    """Return the network with its weights, and the digest of the file that they came from; empty for random ones."""
    seed = weights.removeprefix(_RANDOM) if weights.startswith(_RANDOM) else None
    if seed is not None and not (seed.isdecimal() and int(seed) < 1 << 63):
        raise UsageError(f"weights={weights}: must be random: and a whole number, such as random:0, or a file")
    if seed is not None:
        return _random_network(name, int(seed)), ""
    try:
        network = load_backbone(name, _NUM_CLASSES, weights)
    except WeightsError as error:
        raise UsageError(f"{error}, or random:SEED") from error
    with Path(weights).open("rb") as file:
        return network, hashlib.file_digest(file, "sha256").hexdigest()


def _random_network(name: str, seed: int) -> VideoNetwork:
    """Return a network whose outputs are of the inputs' size: those that torchvision begins with vanish untrained."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = BACKBONES[name].build(_NUM_CLASSES)
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
    return network
