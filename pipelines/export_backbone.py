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
from vidprep.models.backbones import BACKBONES
from vidprep.pipelines.export_arrays import Arrays
from vidprep.pipelines.export_options import Options

BATCH_FRAMES = 16  # of one video: what a batch holds never depends on the other videos
_RANDOM = "random:"
_MAX_NAMED = 5
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
        if options.backbone not in BACKBONES:
            raise UsageError(f"backbone={options.backbone}: must be one of {', '.join(BACKBONES)}")
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
            maps = self._backbone.maps(self._network, (scaled - self._mean) / self._std)
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


def _load(name: str, weights: str) -> tuple[torch.nn.Module, str]:
    """Return the network with its weights, and the digest of the file that they came from; empty for random ones."""
    seed = weights.removeprefix(_RANDOM) if weights.startswith(_RANDOM) else None
    if seed is not None and not (seed.isdecimal() and int(seed) < 1 << 63):
        raise UsageError(f"weights={weights}: must be random: and a whole number, such as random:0, or a file")
    if seed is not None:
        return _random_network(name, int(seed)), ""
    network = BACKBONES[name].build()
    state, digest = _read_state(Path(weights))
    _check_state(name, weights, state, network.state_dict())
    network.load_state_dict(state)
    return network, digest


def _random_network(name: str, seed: int) -> torch.nn.Module:
    """Return a network whose outputs are of the inputs' size: those that torchvision begins with vanish untrained."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = BACKBONES[name].build()
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
    return network


def _read_state(path: Path) -> tuple[dict[str, torch.Tensor], str]:
    cure = "give the file of a state dict, as torch.save(network.state_dict()) writes it"
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            state = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UsageError(f"weights={path}: {error.strerror or error}; {cure}, or random:SEED") from error
    except Exception as error:  # damaged files, and pickles of anything else than tensors
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UsageError(f"weights={path}: can't be read ({reason}); {cure}") from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UsageError(f"weights={path}: holds no state dict; {cure}")
    return {str(key).removeprefix("module."): value for key, value in state.items()}, digest


def _check_state(
    name: str, weights: str, state: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]
) -> None:
    faults = {
        "missing": sorted(wanted.keys() - state.keys()),
        "unexpected": sorted(state.keys() - wanted.keys()),
        "of another shape": sorted(
            key for key in wanted.keys() & state.keys() if wanted[key].shape != state[key].shape
        ),
    }
    found = [f"{len(keys)} {what} ({_listed(keys)})" for what, keys in faults.items() if keys]
    if found:
        raise UsageError(f"weights={weights}: not those of {name}: keys {'; '.join(found)}; give its own")


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(keys[:_MAX_NAMED]) + (", ..." if len(keys) > _MAX_NAMED else "")
