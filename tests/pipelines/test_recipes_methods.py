"""Recipes of methods: the papers' settings, and models that run on what the recipe reads."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from vidprep.dataset import Flip, RandomCrop, Resize, Segments, ShortSide, ThreeCrops, UniformClips
from vidprep.errors import UsageError
from vidprep.models import AdaptiveTemporalResolution, AdaptiveZoom, FixedZoom, SimilarityGuidedSampling
from vidprep.models.backbones import BACKBONES, coviar
from vidprep.pipelines.recipes import find_recipe
from vidprep.pipelines.recipes_methods import METHOD_RECIPES, Coded, Zoomed, compressed_domain, similarity_guided
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


def test_a_sampled_network_is_made_with_the_options_of_its_recipe() -> None:
    with torch.device("meta"):
        model = similarity_guided(BACKBONES["resnet3d_18"], after="res3", block_frames=8, order="time").build(2)
        plain = find_recipe("sgs-resnet3d-18").build(2)
    assert isinstance(model, RGB) and isinstance(model.network, AdaptiveTemporalResolution)
    (sampler,) = model.network.samplers
    assert isinstance(sampler, SimilarityGuidedSampling)
    assert (model.network.after, sampler.block_frames, sampler.order) == ("res3", 8, "time")
    assert isinstance(plain, RGB) and isinstance(plain.network, AdaptiveTemporalResolution)
    assert (plain.network.after, getattr(plain.network.samplers[0], "block_frames")) == ("res2", None)  # noqa: B009


@pytest.mark.parametrize("name", [name for name in METHOD_RECIPES if name.startswith("adaptive")])
def test_a_zoom_and_its_baseline_differ_in_who_chooses_the_scale(name: str) -> None:
    """Both see frames larger than their crops, and draw the same positions and shears in training."""
    recipe, baseline = find_recipe(name), find_recipe(name.replace("adaptive", "fixed"))
    differing = {field for field, fact in recipe.facts.items() if fact != baseline.facts[field]}
    assert differing == {"modalities"}
    assert recipe.test_transform == (Resize(342, 256),)
    assert recipe.train_transform == (Resize(342, 256), Flip())
    adaptive, fixed = recipe.build(2), baseline.build(2)
    assert isinstance(adaptive, Zoomed) and isinstance(adaptive.zoom, AdaptiveZoom)
    assert isinstance(fixed, Zoomed) and isinstance(fixed.zoom, FixedZoom)
    backbone = BACKBONES[name.removeprefix("adaptive-zoom-").replace("-", "_")]
    assert adaptive.zoom.size == fixed.zoom.size == backbone.input_size
    assert adaptive.zoom.num_frames == backbone.num_frames
    assert adaptive.zoom.draw_position == fixed.zoom.draw_position
    assert adaptive.zoom.draw_shear == fixed.zoom.draw_shear
    frames = torch.randint(0, 255, (1, 3, 4, 64, 86), dtype=torch.uint8)
    residual = torch.randint(-9, 9, (1, 3, backbone.num_frames, 64, 86))
    torch.testing.assert_close(adaptive.zoom.eval()(frames, residual), fixed.zoom.eval()(frames))


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


@pytest.mark.parametrize(
    ("name", "num_channels", "make"),
    [
        ("coviar-motion", 2, partial(compressed_domain, coviar.motion_network, "accumulated_motion")),
        ("coviar-residual", 3, partial(compressed_domain, coviar.residual_network, "residual")),
    ],
)
def test_coviars_own_files_go_into_its_recipes(name: str, num_channels: int, make: Any, tmp_path: Path) -> None:
    """Into that of the table, and into one with the authors' coding, which gives the authors' logits."""
    torch.manual_seed(3)
    norm, pictures = nn.BatchNorm2d(num_channels), torchvision.models.resnet18(num_classes=4)
    pictures.conv1 = nn.Conv2d(num_channels, 64, 7, stride=2, padding=3, bias=False)
    norm.running_mean.uniform_(-1, 1)
    state = {f"module.base_model.{key}": value for key, value in pictures.state_dict().items()}
    state |= {f"module.data_bn.{key}": value for key, value in norm.state_dict().items()}
    torch.save({"epoch": 7, "arch": "resnet18", "state_dict": state}, tmp_path / "model_best.pth.tar")
    code = {2: coviar.motion_input, 3: coviar.residual_input}[num_channels]
    for recipe in (find_recipe(name), make(partial(code, variant="official"))):
        model = recipe.build(4)
        begin_with(tmp_path / "model_best.pth.tar", model, recipe, has_new_head=False)
    batch = batch_of(name, 3, 32, 32)
    frames = code(*batch.values(), variant="official").transpose(1, 2).flatten(0, 1)
    expected = pictures.eval()(norm.eval()(frames)).view(2, 3, 4).mean(1)
    torch.testing.assert_close(model.eval()(batch), expected)


def test_a_model_without_a_backbone_takes_no_weights(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no backbone by the name of network; leave it out"):
        begin_with(tmp_path / "weights.pt", nn.Linear(2, 2), find_recipe("r3d-18"), has_new_head=False)


@pytest.mark.parametrize("name", [name for name in METHOD_RECIPES if name.startswith("sgs")])
def test_sampled_networks_are_trained_and_tested_as_their_baselines(name: str) -> None:
    assert find_recipe(name).facts == find_recipe(name.removeprefix("sgs-")).facts


def test_networks_are_trained_and_tested_at_their_own_sizes() -> None:
    recipe = find_recipe("sgs-x3d-s")
    assert recipe.train_transform == (ShortSide((182, 227)), RandomCrop(160), Flip())
    assert recipe.test_transform == (ShortSide(182), ThreeCrops(182))
    assert recipe.test_clips == UniformClips(10, 13, 6)
