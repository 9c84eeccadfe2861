"""Recipes of methods: the papers' settings, and models that run on what the recipe reads."""

from pathlib import Path

import pytest
import torch
from torch import nn

from vidprep.dataset import CenterCrop, Flip, Resize, Segments, UniformClips
from vidprep.errors import UsageError
from vidprep.models import AdaptiveTemporalResolution, AdaptiveZoom
from vidprep.models.backbones import BACKBONES, coviar
from vidprep.pipelines.recipes import find_recipe
from vidprep.pipelines.recipes_methods import METHOD_RECIPES, Coded, Zoomed
from vidprep.pipelines.recipes_networks import RGB
from vidprep.pipelines.train_setup import begin_with

CHANNELS = {"rgb": 3, "residual": 3, "accumulated_motion": 2}


def batch_of(name: str, num_frames: int, height: int, width: int) -> dict[str, torch.Tensor]:
    """What the recipe's dataset would give, on the default device."""
    made = {
        modality: torch.randint(0, 100, (2, CHANNELS[modality], num_frames, height, width))
        for modality in find_recipe(name).modalities
    }
    return {modality: values.to(torch.uint8 if modality == "rgb" else torch.int16) for modality, values in made.items()}


@pytest.mark.parametrize("name", [name for name in METHOD_RECIPES if not name.startswith("sgs")])
def test_models_run_on_what_their_recipes_read(name: str) -> None:
    """Without computing anything: on frames as large as the recipe asks for."""
    recipe = find_recipe(name)
    first = recipe.test_transform[0]
    height, width = (first.height, first.width) if isinstance(first, Resize) else (224, 224)
    with torch.device("meta"):
        model = recipe.build(5)
        logits = model(batch_of(name, 16 if "zoom" in name else 3, height, width))
    assert logits.shape == (2, 5)


def test_a_sampled_network_runs_on_what_its_recipe_reads() -> None:
    torch.manual_seed(0)
    model = find_recipe("sgs-resnet3d-18").build(5)
    assert isinstance(model, RGB)
    assert isinstance(model.network, AdaptiveTemporalResolution)
    logits = model(batch_of("sgs-resnet3d-18", 8, 32, 32))
    assert logits.shape == (2, 5)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.network.samplers.parameters())


@pytest.mark.parametrize("name", [name for name in METHOD_RECIPES if name.startswith("adaptive")])
def test_a_zoom_takes_the_place_of_the_baselines_crops(name: str) -> None:
    recipe, baseline = find_recipe(name), find_recipe(name.removeprefix("adaptive-zoom-"))
    frames, crop = baseline.test_transform
    assert isinstance(crop, CenterCrop)
    assert recipe.train_transform == (frames, Flip())
    assert recipe.test_transform == (frames,)
    model = recipe.build(2)
    assert isinstance(model, Zoomed) and isinstance(model.zoom, AdaptiveZoom)
    assert model.zoom.size == crop.size
    assert model.zoom.num_frames == BACKBONES[name.removeprefix("adaptive-zoom-").replace("-", "_")].num_frames
    shared = ("epochs", "batch_size", "learning_rate", "momentum", "schedule", "train_clips", "test_clips")
    assert all(getattr(recipe, field) == getattr(baseline, field) for field in shared)


def test_coviar_reads_three_segments_and_is_tested_on_25() -> None:
    for name, modality in (("coviar-motion", "accumulated_motion"), ("coviar-residual", "residual")):
        recipe = find_recipe(name)
        assert recipe.modalities == (modality,)
        assert (recipe.train_clips, recipe.test_clips) == (Segments(3, random=True), Segments(25))
    motion = torch.randint(-60, 60, (1, 2, 3, 32, 32), dtype=torch.int16)
    model = find_recipe("coviar-motion").build(4).eval()
    assert isinstance(model, Coded)
    torch.testing.assert_close(
        model({"accumulated_motion": motion}), model.network(coviar.motion_input(motion)), rtol=0, atol=0
    )


def test_a_baselines_weights_go_into_every_method_around_it(tmp_path: Path) -> None:
    """Through all that stands around the network, as do those of a training of the baseline."""
    for name, backbone in (("adaptive-zoom-hara-resnet18", "hara_resnet18"), ("sgs-x3d-s", "x3d_s")):
        torch.manual_seed(1)
        network = BACKBONES[backbone].build(3)
        recipe = find_recipe(name)
        for prefix in ("", "network."):
            path = tmp_path / "weights.pt"
            torch.save({prefix + key: value for key, value in network.state_dict().items()}, path)
            model = recipe.build(3)
            begin_with(path, model, recipe, has_new_head=False)
            inner: nn.Module = model
            while type(inner) is not type(network):
                inner = inner.get_submodule("network")
            found = inner.state_dict()
            assert all(torch.equal(found[key], value) for key, value in network.state_dict().items())


def test_a_model_without_a_backbone_takes_no_weights(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no backbone by the name of network; leave it out"):
        begin_with(tmp_path / "weights.pt", nn.Linear(2, 2), find_recipe("r3d-18"), has_new_head=False)


def test_sampled_networks_are_trained_and_tested_as_their_baselines() -> None:
    for name in ("resnet3d-18", "resnet3d-50", "slowfast-r50-8x8"):
        assert find_recipe(f"sgs-{name}").facts == find_recipe(name).facts
    assert find_recipe("sgs-x3d-s").test_clips == UniformClips(10, 13, 6)
