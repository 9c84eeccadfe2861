"""3D CNNs with adaptive temporal resolution: any network on clips, with similarity-guided sampling inside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

import torch
from torch import nn

from vidprep.models.backbones.network import Pathways, VideoNetwork
from vidprep.models.ragged import Ragged
from vidprep.models.similarity_guided_sampling import SimilarityGuidedSampling

_ACTIVATIONS = (nn.ReLU, nn.SiLU)


class AdaptiveTemporalResolution(nn.Module):
    """A network whose later stages run on the bins of each clip, as many as it needs.

    The sampler stands in a stage's end, before its last ReLU (in a block: between the sum and the ReLU). Clips of one
    batch are grouped by their numbers of bins and each group runs on its own, so nothing is padded, a clip's result
    doesn't depend on the others of its batch, and what is saved is saved. In training the groups run side by side, and
    batch normalisation takes the statistics of all of them together: those of the whole batch without any padding.

    Parameters
    ----------
    network : VideoNetwork
        Changed: its ReLU there is taken out. Its parameters keep their names, so weights load before and after.
    after : str
        The stage.
    **options
        Of :class:`~vidprep.models.SimilarityGuidedSampling`, one for each pathway.

    Attributes
    ----------
    last_num_bins : Tensor [shape=(N, pathways)], int64
        The bins of the last batch's clips.

    Raises
    ------
    ValueError
        If the network has no such stage, or the stage doesn't end as a :class:`VideoNetwork` promises.
    """

    last_num_bins: torch.Tensor

    def __init__(self, network: VideoNetwork, *, after: str = "res2", **options: Any) -> None:
        super().__init__()
        if after not in (possible := network.stage_names[:-1]):
            raise ValueError(f"after={after!r}: must be a stage before the last; choose one of {', '.join(possible)}")
        self.network, self.after = network, after
        stages = network.stage(after)
        samplers = [SimilarityGuidedSampling(num_channels=_num_channels(stage), **options) for stage in stages]
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
        groups, group_of = torch.unique(self.last_num_bins, dim=0, return_inverse=True)
        members = [(group_of == place).nonzero()[:, 0] for place in range(len(groups))]
        sampled = (
            [
                sampler.aggregate(maps[clips], assignment.of(clips), num)
                for (sampler, maps), assignment, num in zip(
                    self._with_samplers(pathways), assignments, num_bins, strict=True
                )
            ]
            for clips, num_bins in zip(members, groups.tolist(), strict=True)
        )
        if self.training and len(members) > 1:
            side_by_side = self._rest([Ragged(maps) for maps in zip(*sampled, strict=True)])
            features = torch.cat(side_by_side.groups)  # type: ignore[attr-defined]
        else:
            features = torch.cat([self._rest(maps) for maps in sampled])
        return features[torch.cat(members).argsort()]

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
            f"stage={stage}: must end with an activation or a block that ends with its `relu`; sample once"
        )
    last.relu = nn.Identity()
    return relu


def _num_channels(stage: nn.Sequential) -> int:
    """Return the channels of a stage's maps: those that its last normalisation has."""
    return [module.num_features for module in stage.modules() if isinstance(module, nn.BatchNorm3d)][-1]
