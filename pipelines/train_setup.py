"""What a training begins with: its batches, its model, and weights for that."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from vidprep.dataset import Loader, ShardDataset
from vidprep.errors import UsageError
from vidprep.models import AdaptiveTemporalResolution
from vidprep.models.weights import WeightsError, load_weights, read_state_dict
from vidprep.pipelines.recipe import Recipe
from vidprep.pipelines.train_options import Options


def read_batches(recipe: Recipe, shards: Path, options: Options) -> tuple[ShardDataset, Loader]:
    """Return what is trained on: samples in an order of their own in each epoch, and this rank's batches.

    Raises
    ------
    UsageError
        If the batch can't be shared evenly by the ranks.
    """
    dataset = ShardDataset(
        shards,
        options.split,
        recipe.modalities,
        clips=recipe.train_clips,
        transform=recipe.train_transform,
        shuffle=True,
        seed=options.seed,
    )
    num_ranks = dataset.ranks[1]
    batch_size, rest = divmod(recipe.batch_size, num_ranks)
    if rest:
        raise UsageError(
            f"batch_size={recipe.batch_size}: must be a multiple of the {num_ranks} ranks, which share it; change"
            " --batch-size"
        )
    # A last batch that is not full would count for more, and one of a single sample breaks normalisation.
    loader = dataset.loader(
        batch_size,
        options.num_workers,
        drop_last=dataset.num_items >= batch_size,
        persistent_workers=options.num_workers > 0,
        pin_memory=options.device == "cuda",
        generator=torch.Generator(),  # so that to begin to iterate, once more after a kill, draws nothing from torch's
    )
    return dataset, loader


def build_model(recipe: Recipe, num_classes: int, options: Options) -> nn.Module:
    """Return the recipe's model with random weights, those of the seed."""
    torch.manual_seed(options.seed)
    model = recipe.build(num_classes)
    if options.sync_batchnorm:
        if any(isinstance(module, AdaptiveTemporalResolution) for module in model.modules()):
            raise UsageError(
                "sync_batchnorm=True: not with similarity-guided sampling, whose clips differ in length; leave out"
                " --sync-batchnorm"
            )
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    return model


def begin_with(path: Path, model: nn.Module, recipe: Recipe, *, has_new_head: bool) -> None:
    """Give a model's backbone its first weights: a file of its authors, or a checkpoint of ours, of whatever recipe.

    Raises
    ------
    UsageError
        If the file can't be read or doesn't fit, or the model has no ``network``.
    """
    network = _backbone(model)
    if network is model:
        raise UsageError(f"weights={path}: the recipe's model has no backbone by the name of network; leave it out")
    try:
        state = read_state_dict(path)
        while any(name.startswith("network.") for name in state):  # methods stand around networks around networks
            state = {name.removeprefix("network."): state[name] for name in state if name.startswith("network.")}
        load_weights(network, state, source=str(path), layouts=recipe.layouts, has_new_head=has_new_head)
    except WeightsError as error:
        raise UsageError(str(error)) from error


def _backbone(model: nn.Module) -> nn.Module:
    """Return what no other ``network`` is inside of."""
    inner = getattr(model, "network", None)
    return _backbone(inner) if isinstance(inner, nn.Module) else model
