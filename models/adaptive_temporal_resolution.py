"""3D CNNs with adaptive temporal resolution: any network on clips, with similarity-guided sampling inside."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn

from vidprep.models.backbones.network import Pathways, VideoNetwork
from vidprep.models.ragged import Ragged
from vidprep.models.similarity_guided_sampling import Assignment, SimilarityGuidedSampling


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
    num_bins : Tensor [shape=(N, pathways)], int64
        Of the last batch.

    Raises
    ------
    ValueError
        If the network has no such stage, or the stage doesn't end as a :class:`VideoNetwork` promises.
    """

    num_bins: torch.Tensor

    def __init__(self, network: VideoNetwork, *, after: str = "res2", **options: Any) -> None:
        super().__init__()
        if after not in network.stage_names[:-1]:
            raise ValueError(f"after={after}: must be a stage of the network; choose {', '.join(network.stage_names[:-1])}")
        self.network, self.after = network, after
        stages = network.stage(after)
        self.samplers = nn.ModuleList(
            SimilarityGuidedSampling(num_channels=_num_channels(stage), **options) for stage in stages
        )
        self.activations = nn.ModuleList(_take_activation(stage) for stage in stages)

    @property
    def num_features(self) -> int:
        """The network's number of features."""
        return self.network.num_features

    @property
    def head(self) -> nn.Module:
        """The network's head."""
        return self.network.head

    def features(self, clip: torch.Tensor) -> torch.Tensor:
        """Return the features of a normalised clip [shape=(N, num_features)]."""
        names = self.network.stage_names
        place = names.index(self.after) + 1
        pathways = self.network.run(self.network.pathways(clip), names[: place - 1])
        pathways = [stage(maps) for stage, maps in zip(self.network.stage(self.after), pathways, strict=True)]
        if self.samplers[0].variant == "official":
            return self._rest(self._padded(pathways))
        assignments = [sampler.assign(maps) for sampler, maps in zip(self.samplers, pathways, strict=True)]
        self.num_bins = torch.stack([one.num_bins for one in assignments], 1)
        groups, group_of = torch.unique(self.num_bins, dim=0, return_inverse=True)
        members = [(group_of == place).nonzero()[:, 0] for place in range(len(groups))]
        sampled = [self._sampled(pathways, assignments, clips, num.tolist()) for clips, num in zip(members, groups, strict=True)]
        order = torch.cat(members).argsort()
        if self.training and len(sampled) > 1:
            ragged = self._rest([Ragged(one) for one in zip(*sampled, strict=True)])
            return torch.cat(ragged.groups)[order]  # type: ignore[attr-defined]
        return torch.cat([self._rest(one) for one in sampled])[order]

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        """Return the logits of a normalised clip [shape=(N, num_classes)]."""
        logits: torch.Tensor = self.head(self.features(clip))
        return logits

    def _sampled(
        self, pathways: Pathways, assignments: list[Assignment], clips: torch.Tensor, num_bins: list[int]
    ) -> Pathways:
        parts = zip(self.samplers, pathways, assignments, num_bins, strict=True)
        return [sampler.aggregate(maps[clips], one.of(clips), num) for sampler, maps, one, num in parts]

    def _padded(self, pathways: Pathways) -> Pathways:
        sampled = [sampler(maps) for sampler, maps in zip(self.samplers, pathways, strict=True)]
        self.num_bins = torch.stack([num_bins for _, num_bins in sampled], 1)
        return [maps for maps, _ in sampled]

    def _rest(self, pathways: Pathways) -> torch.Tensor:
        network, names = self.network, self.network.stage_names
        pathways = [activation(maps) for activation, maps in zip(self.activations, pathways, strict=True)]
        rest = names[names.index(self.after) + 1 :]
        return network.pool(network.run(network.fuse(self.after, pathways), rest))


def _take_activation(stage: nn.Sequential) -> nn.Module:
    """Take a stage's last activation out, and return it."""
    last = stage[-1]
    if isinstance(relu := getattr(last, "relu", None), nn.Module):
        last.relu = nn.Identity()
        return relu
    if next(last.children(), None) is None and not list(last.parameters()):
        stage[-1] = nn.Identity()
        return last
    raise ValueError(f"stage={stage}: must end with an activation, or a block that ends with its `relu`")


def _num_channels(stage: nn.Sequential) -> int:
    widths = [module.num_features for module in stage.modules() if isinstance(module, nn.BatchNorm3d)]
    return widths[-1]
