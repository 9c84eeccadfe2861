"""Recipes: the table and the papers' numbers, one that is run, and numbers that can't be meant."""

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import trainings
from torch import nn
from trainings import TEST, checkpoint, tiny_recipe

from vidprep.cli.train import RECIPE_NAMES
from vidprep.dataset import CenterCrop, Flip, RandomClip, RandomCrop, Resize, ThreeCrops, UniformClips
from vidprep.errors import UsageError
from vidprep.models.backbones import BACKBONES
from vidprep.pipelines.recipe import Recipe
from vidprep.pipelines.recipes import RECIPES, RGB, find_recipe
from vidprep.pipelines.recipes_networks import NETWORK_RECIPES
from vidprep.pipelines.train import train
from vidprep.pipelines.train_checkpoint import load_model
from vidprep.pipelines.train_options import Options


class TestTable:
    def test_the_command_line_names_it(self) -> None:
        assert tuple(RECIPES) == RECIPE_NAMES

    def test_each_network_on_clips_has_one(self) -> None:
        networks = {name.replace("_", "-") for name, backbone in BACKBONES.items() if backbone.num_frames > 1}
        assert networks <= set(RECIPES)

    @pytest.mark.parametrize("name", NETWORK_RECIPES)
    def test_each_is_whole(self, name: str) -> None:
        """Input of the network's size, a random part in training, the same one each time in tests."""
        recipe, backbone = find_recipe(name), BACKBONES[name.replace("-", "_")]
        assert recipe.layouts == backbone.layouts
        assert recipe.train_clips == RandomClip(backbone.num_frames, backbone.frame_stride)
        assert recipe.test_clips == UniformClips(10, backbone.num_frames, backbone.frame_stride)
        assert recipe.train_transform[-1] == Flip()
        assert getattr(recipe.train_transform[-2], "size") == backbone.input_size  # noqa: B009 - of several kinds
        assert isinstance(recipe.test_transform[-1], CenterCrop | ThreeCrops)
        assert (recipe.name, recipe.settings) == (name, {})

    def test_fine_tuning(self) -> None:
        """The paper of adaptive zoom: 0.01 for a batch of 256, 128x171 to 112, plateau on the loss."""
        recipe = find_recipe("r2plus1d-18")
        assert recipe.learning_rate / recipe.batch_size == pytest.approx(0.01 / 256)
        assert (recipe.schedule, recipe.factor) == ("plateau", 0.1)
        assert recipe.train_transform == (Resize(171, 128), RandomCrop(112), Flip())

    def test_from_scratch(self) -> None:
        """The paper of SGS: 0.1 for a batch of 64, Nesterov, 34 of 196 epochs of warm-up, 30 views of 256."""
        recipe = find_recipe("resnet3d-50")
        assert recipe.learning_rate / recipe.batch_size == pytest.approx(0.1 / 64)
        assert (recipe.momentum, recipe.nesterov, recipe.weight_decay) == (0.9, True, 1e-4)
        assert (recipe.schedule, recipe.epochs, recipe.warmup_epochs, recipe.warmup_start) == ("cosine", 196, 34, 0.1)
        assert recipe.train_clips == RandomClip(32, 2)
        assert recipe.test_transform[-1] == ThreeCrops(256)


def test_a_network_of_the_table_from_shards_to_a_model(tmp_path: Path) -> None:
    """X3D-XS on clips of 64x48, which are brought to its size."""
    torch.set_num_threads(1)
    shards = trainings.extracted(tmp_path)
    recipe = find_recipe("x3d-xs", {"epochs": 1, "batch_size": 4})
    train(recipe, shards, tmp_path / "run", Options(split=TEST))
    state = checkpoint(tmp_path / "run")
    assert (state["recipe"], state["settings"]) == ("x3d-xs", {"epochs": 1, "batch_size": 4})
    model, found, _ = load_model(tmp_path / "run" / "checkpoint.pt")
    assert found.facts == recipe.facts
    assert isinstance(model, RGB)
    torch.manual_seed(0)
    began = recipe.build(2).state_dict()
    moved = [name for name, value in model.state_dict().items() if not torch.equal(value, began[name])]
    assert len(moved) > len(began) / 2


def test_rgb_is_normalised() -> None:
    mean, std = (0.5, 0.25, 0.0), (0.5, 0.25, 1.0)
    clips = torch.randint(0, 256, (2, 3, 4, 5, 6), dtype=torch.uint8)
    shape = (1, 3, 1, 1, 1)
    expected = (clips.float() / 255 - torch.tensor(mean).view(shape)) / torch.tensor(std).view(shape)
    model = RGB(nn.Identity(), mean, std)
    torch.testing.assert_close(model({"rgb": clips}), expected)
    assert dict(model.state_dict()) == {}


class TestRules:
    @pytest.mark.parametrize(
        ("field", "values"),
        [
            ("epochs", (0, -1, 1.5, True)),
            ("batch_size", (0, 2.0)),
            ("optimiser", ("adam",)),
            ("learning_rate", (0, -0.1, math.nan, math.inf, "0.1")),
            ("momentum", (1, -0.1, math.nan)),
            ("weight_decay", (-1, math.inf)),
            ("schedule", ("linear",)),
            ("factor", (-0.1, 1.1)),
            ("patience", (-1, 0.5)),
            ("warmup_epochs", (-1, math.nan)),
            ("warmup_start", (1.5,)),
            ("max_grad_norm", (0, -1, math.nan)),
            ("label_smoothing", (1, -0.1)),
            ("modalities", ("rgb", (1,), None)),
            ("milestones", ("20", 20, ("20",), (20, 10), (20, 20), (-1,), (math.nan,))),
        ],
    )
    def test_what_can_not_be_meant(self, field: str, values: tuple[Any, ...]) -> None:
        for value in values:
            said = re.escape(f"{field}={value}: must be ")
            with pytest.raises(UsageError, match=f"^{said}.*; change it in the recipe, or the opt"):
                tiny_recipe(**{field: value})

    def test_warm_up_ends_before_the_training(self) -> None:
        """It would be all that there is; the command's --epochs takes the warm-up along."""
        whole = find_recipe("resnet3d-18")
        for epochs in (4, 34):
            with pytest.raises(UsageError, match=rf"^warmup_epochs=34: must be less than epochs={epochs}, .*; give bo"):
                replace(whole, epochs=epochs)
        assert replace(whole, epochs=35).epochs == 35
        assert replace(whole, epochs=4, warmup_epochs=1).epochs == 4
        assert find_recipe("resnet3d-18", {"epochs": 1}).warmup_epochs < 1
        assert tiny_recipe(epochs=1, warmup_epochs=0).warmup_epochs == 0

    def test_nesterov_needs_momentum(self) -> None:
        """PyTorch's AdamW has neither."""
        with pytest.raises(UsageError, match=r"^nesterov=True: must have a momentum, not momentum=0; give one"):
            tiny_recipe(nesterov=True, momentum=0)
        tiny_recipe(nesterov=True, momentum=0, optimiser="adamw")

    def test_steps_need_milestones(self) -> None:
        with pytest.raises(UsageError, match=r"^schedule=step: must have milestones; give the epochs"):
            tiny_recipe(schedule="step")
        tiny_recipe(schedule="step", milestones=[0, 2.5])

    def test_facts_of_a_step_that_says_nothing_about_itself(self) -> None:
        """An address is another in each run, and means nothing."""

        class Own:
            pass

        one, other = (Recipe(model=nn.Linear, train_transform=(Own(),)) for _ in range(2))  # type: ignore[arg-type]
        assert one.facts == other.facts
        assert "Own" in one.facts["train_transform"]
        assert "model" not in one.facts
        assert one.facts != tiny_recipe().facts


def test_backbones_and_their_recipes_go_by_one_name() -> None:
    assert find_recipe("x3d_xs").facts == find_recipe("x3d-xs").facts
    assert find_recipe("x3d_xs").name == "x3d-xs"


def test_with_other_epochs_the_schedule_keeps_its_shape() -> None:
    recipe, whole = find_recipe("resnet3d-18", {"epochs": 49}), find_recipe("resnet3d-18")
    assert (recipe.epochs, recipe.warmup_epochs) == (49, 34 / 4)
    assert find_recipe("tsm-resnet50", {"epochs": 100}).milestones == (40, 80)
    assert whole.warmup_epochs == 34
    assert find_recipe("resnet3d-18", {"batch_size": 4}).warmup_epochs == 34
