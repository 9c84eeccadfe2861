"""Recipes of adaptive zoom: against the baselines' recipes, and a run from shards to a checkpoint to an evaluation."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from runs import write_dataset
from torch import nn
from trainings import TEST, TRAIN, Net, tiny_recipe

from vidprep.dataset import Flip, Resize
from vidprep.models import AdaptiveZoom, FixedZoom
from vidprep.models.backbones import BACKBONES
from vidprep.pipelines.evaluate import Options as EvaluateOptions
from vidprep.pipelines.evaluate import evaluate
from vidprep.pipelines.extract import Options as ExtractOptions
from vidprep.pipelines.extract import extract
from vidprep.pipelines.recipe import Recipe
from vidprep.pipelines.recipes import find_recipe
from vidprep.pipelines.recipes_zoom import ZOOM_RECIPES, Zoomed
from vidprep.pipelines.train import train
from vidprep.pipelines.train_checkpoint import read_checkpoint
from vidprep.pipelines.train_options import Options

COLOURS = ((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))


def zoomed(num_classes: int) -> Zoomed:
    zoom = AdaptiveZoom(size=16, num_frames=4, guide_size=(32, 43))
    return Zoomed(zoom, Net(num_classes).network, *COLOURS)


@pytest.mark.parametrize("name", ZOOM_RECIPES)
def test_all_but_the_cropping_is_the_baselines(name: str) -> None:
    recipe, plain = find_recipe(name), find_recipe(name.removesuffix("-zoom"))
    same = replace(
        plain,
        model=recipe.model,
        modalities=("rgb", "residual"),
        train_transform=(plain.train_transform[0], Flip()),
        test_transform=plain.test_transform[:1],
    )
    assert recipe == same
    with torch.device("meta"):
        model = recipe.build(5)
    assert isinstance(model, Zoomed) and isinstance(model.zoom, AdaptiveZoom)
    assert isinstance(recipe.train_transform[0], Resize)
    assert model.zoom.guide_size == (64, 86)
    assert model.zoom.num_frames == BACKBONES[name.removesuffix("-zoom").replace("-", "_")].num_frames


def test_the_network_sees_normalised_crops() -> None:
    network = nn.Identity()
    model = Zoomed(FixedZoom(size=16), network, *COLOURS).eval()
    batch = {
        "rgb": torch.randint(0, 256, (2, 3, 4, 24, 32), dtype=torch.uint8),
        "residual": torch.zeros(2, 3, 4, 24, 32),
    }
    mean, std = (torch.tensor(colour)[:, None, None, None] for colour in COLOURS)
    expected = (FixedZoom(size=16).eval()(batch["rgb"]) / 255 - mean) / std
    torch.testing.assert_close(model(batch), expected, rtol=1e-4, atol=1e-4)


def test_from_shards_to_an_evaluation(tmp_path: Path) -> None:
    options = ExtractOptions(modalities=("rgb", "residual"), size="native", num_workers=1)
    extract(write_dataset(tmp_path / "clips"), tmp_path / "shards", options)
    recipe: Recipe = tiny_recipe(
        model=zoomed, modalities=("rgb", "residual"), train_transform=(Flip(),), test_transform=(), learning_rate=0.01
    )
    train(recipe, tmp_path / "shards", tmp_path / "run", Options(split=TRAIN))
    model = zoomed(2)
    before = model.state_dict()["zoom.lnet.classifier.1.weight"].clone()
    model.load_state_dict(read_checkpoint(tmp_path / "run" / "checkpoint.pt")["model"])
    assert not torch.equal(model.zoom.lnet.classifier[1].weight, before)
    found = evaluate(model, recipe, tmp_path / "shards", EvaluateOptions(split=TEST))
    assert found.scores.shape == (4, 2)
    alone = evaluate(
        Zoomed(FixedZoom(size=16), Net(2).network, *COLOURS), recipe, tmp_path / "shards", EvaluateOptions(split=TEST)
    )
    assert 0 < found.cost.macs - alone.cost.macs < 0.1e9  # what LNet adds
