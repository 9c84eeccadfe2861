"""3D CNNs with adaptive temporal resolution: any network on clips, with similarity-guided sampling inside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import nn

from vidprep.models.backbones.network import Pathways, VideoNetwork
from vidprep.models.ragged import Ragged
from vidprep.models.similarity_guided_sampling import SimilarityGuidedSampling
from vidprep.models.weights import KeyMap

_ACTIVATIONS = (nn.ReLU, nn.SiLU)


def sampled_layouts(layouts: Mapping[str, KeyMap]) -> dict[str, KeyMap]:
    """Return layouts of checkpoints of a network with sampling, as the released code has them, for those without.

    Its layer is ``s2.ts_layer``, or ``s2.pathway0_ts_layer`` and ``s2.pathway1_ts_layer`` of SlowFast. For
    :func:`~vidprep.models.weights.load_weights` into a network of ``variant="official"``.
    """
    layers = ((r"s\d\.ts_layer\.(.+)", r"samplers.0.\1"), (r"s\d\.pathway(\d)_ts_layer\.(.+)", r"samplers.\1.\2"))
    return {
        name: (*layers, *((pattern, f"network.{new}") for pattern, new in key_map)) for name, key_map in layouts.items()
    }


class AdaptiveTemporalResolution(nn.Module):
    """A network whose later stages run on the bins of each clip, as many as it needs.

    The sampler stands in a stage's end, before its last ReLU (in a block: between the sum and the ReLU). What follows
    runs on the bins of all clips without padding (:class:`~vidprep.models.ragged.Ragged`): a clip's result doesn't
    depend on the others of its batch, in training batch normalisation counts the bins that there are, and what is
    saved is saved.

    Parameters
    ----------
    network : VideoNetwork
        Changed: its ReLU there is taken out. Its parameters keep their names, so weights load before and after.
    after : str
        The stage.
    block_frames : int or sequence of int, optional
        Of the sampling; a sequence has one for each pathway: (2, 8) for SlowFast's slow and fast one.
    **options
        Of :class:`~vidprep.models.SimilarityGuidedSampling`, one for each pathway.

    Attributes
    ----------
    last_num_bins : Tensor [shape=(N, pathways)], int64
        The bins of the last batch's clips.

    Raises
    ------
    ValueError
        If the network has no such stage, is none on clips but on frames, or the stage doesn't end as a
        :class:`VideoNetwork` promises.
    """

    last_num_bins: torch.Tensor

    def __init__(
        self,
        network: VideoNetwork,
        *,
        after: str = "res2",
        block_frames: int | Sequence[int | None] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        if not isinstance(network, VideoNetwork):
            raise TypeError(
                f"network={type(network).__name__}: must be a VideoNetwork, whose stages have names; take one of"
                " vidprep.models.backbones, or put a SimilarityGuidedSampling into your own"
            )
        if after not in (possible := network.stage_names[:-1]):
            raise ValueError(f"after={after!r}: must be a stage before the last; choose one of {', '.join(possible)}")
        self.network, self.after = network, after
        stages = network.stage(after)
        blocks = tuple(block_frames) if isinstance(block_frames, Sequence) else (block_frames,) * len(stages)
        if len(blocks) != len(stages):
            raise ValueError(f"block_frames={block_frames}: give an int, or one for each of {len(stages)} pathways")
        samplers = [
            SimilarityGuidedSampling(num_channels=_num_channels(stage), block_frames=of_stage, **options)
            for stage, of_stage in zip(stages, blocks, strict=True)
        ]
        self.samplers = nn.ModuleList(samplers)
        self.activations = nn.ModuleList(_take_activation(stage) for stage in stages)
        self.num_features, self.is_official = network.num_features, samplers[0].variant == "official"

    @property
    def head(self) -> nn.Module:
        """The network's head."""
        return self.network.head

    def features(self, clip: torch.Tensor) -> torch.Tensor:
        """Return the features of a normalised clip [shape=(N, num_features)]."""
        network, names = self.network, self.network.stage_names
        pathways = network.run(network.pathways(clip), names[: names.index(self.after)])
        pathways = [stage(maps) for stage, maps in zip(network.stage(self.after), pathways, strict=True)]
        if self.is_official:
            return self._rest(self._padded(pathways))
        assignments = [sampler.assign(maps) for sampler, maps in self._with_samplers(pathways)]
        self.last_num_bins = torch.stack([one.num_bins for one in assignments], 1)
        num_bins = self.last_num_bins.tolist()
        order = torch.tensor(sorted(range(len(clip)), key=num_bins.__getitem__), device=clip.device)
        sampled = [  # alike clips stand side by side
            sampler.aggregate(maps[order], assignment.of(order), max(lengths))
            for (sampler, maps), assignment, *lengths in zip(
                self._with_samplers(pathways), assignments, *num_bins, strict=True
            )
        ]
        if num_bins[order[0]] != num_bins[order[-1]]:
            lengths_of_pathways = zip(*(num_bins[place] for place in order.tolist()), strict=True)
            sampled = [
                Ragged.without_padding(maps, lengths)
                for maps, lengths in zip(sampled, lengths_of_pathways, strict=True)
            ]
        features = self._rest(sampled)
        return torch.empty_like(features).index_copy(0, order, features)

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        """Return the logits of a normalised clip [shape=(N, num_classes)]."""
        logits: torch.Tensor = self.head(self.features(clip))
        return logits

    def _with_samplers(self, pathways: Pathways) -> Iterator[tuple[SimilarityGuidedSampling, torch.Tensor]]:
        return zip(cast("Iterable[SimilarityGuidedSampling]", self.samplers), pathways, strict=True)

    def _padded(self, pathways: Pathways) -> Pathways:
        sampled = [sampler(maps) for sampler, maps in self._with_samplers(pathways)]
        self.last_num_bins = torch.stack([num_bins for _, num_bins in sampled], 1)
        return [maps for maps, _ in sampled]

    def _rest(self, pathways: Pathways) -> torch.Tensor:
        """Return the features of sampled maps."""
        network, names = self.network, self.network.stage_names
        pathways = [activation(maps) for activation, maps in zip(self.activations, pathways, strict=True)]
        return network.pool(network.run(network.fuse(self.after, pathways), names[names.index(self.after) + 1 :]))


def _take_activation(stage: nn.Sequential) -> nn.Module:
    """Take a stage's last activation out, and return it."""
    last = stage[-1]
    if isinstance(last, _ACTIVATIONS):
        stage[-1] = nn.Identity()
        return last
    relu = getattr(last, "relu", None)
    if not isinstance(relu, _ACTIVATIONS):
        raise ValueError(
            f"network: ends its stage with {type(last).__name__} and no activation; a network can be sampled once, so"
            " build another, or let its stages end with an activation or a block that ends with its `relu`"
        )
    last.relu = nn.Identity()
    return relu


def _num_channels(stage: nn.Sequential) -> int:
    """Return the channels of a stage's maps: those that its last normalisation has."""
    widths = [module.num_features for module in stage.modules() if isinstance(module, nn.BatchNorm3d)]
    if not widths:
        raise ValueError("network: its stages are on single frames, which time can't be sampled in; give a 3D network")
    return widths[-1]
