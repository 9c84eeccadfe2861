"""What the model of a recipe costs on one of its test views: the method around a network too."""

from __future__ import annotations

import numpy as np
import torch

from vidprep.dataset.views import plan_view
from vidprep.errors import UsageError
from vidprep.pipelines.flops import Cost, backbone_flops, count_flops
from vidprep.pipelines.recipes import find_recipe
from vidprep.pipelines.recipes_methods import METHOD_RECIPES

_CHANNELS = {"rgb": 3, "motion": 2, "accumulated_motion": 2, "residual": 3, "coded_residual": 1}
_TIMES = [frame / 30 for frame in range(300)]  # of a video that has enough frames for a clip
_WIDTH, _HEIGHT = 340, 256  # what extraction stores by default


def named_flops(
    name: str, *, num_frames: int | None = None, size: int | None = None, num_classes: int = 400
) -> dict[str, Cost]:
    """Return what a backbone costs (:func:`~vidprep.pipelines.flops.backbone_flops`), or the recipe of a method.

    Raises
    ------
    UsageError
        If there is neither, or a recipe is given a size: its test views have theirs.
    """
    if name.replace("_", "-") not in METHOD_RECIPES and not name.endswith(".py"):
        return backbone_flops(name, num_frames=num_frames, size=size, num_classes=num_classes)
    for option, value in (("frames", num_frames), ("size", size)):
        if value is not None:
            raise UsageError(f"{option}={value}: not with a recipe, whose test views say it; leave out --{option}")
    return recipe_flops(name, num_classes=num_classes)


def recipe_flops(name: str, *, num_classes: int = 400) -> dict[str, Cost]:
    """Return what a recipe's model costs on one test view of a video of 340x256 pixels; computes nothing.

    Parameters
    ----------
    name : str
        As :func:`~vidprep.pipelines.recipes.find_recipe` takes it.
    num_classes : int

    Raises
    ------
    UsageError
        If there is no such recipe, or its cost depends on the data.
    """
    recipe, rng = find_recipe(name), np.random.default_rng(0)
    num_frames = len(recipe.test_clips.choose(_TIMES, 0, rng))
    view = plan_view(recipe.test_transform, _WIDTH, _HEIGHT, 0, rng)
    cure = "train it, and vidprep evaluate counts on real views"
    if others := [modality for modality in recipe.modalities if modality not in _CHANNELS]:
        raise UsageError(f"recipe={name}: reads {', '.join(others)}, whose sizes only data know; {cure}")
    with torch.device("meta"):
        model = recipe.build(num_classes).eval()
        batch = {
            modality: torch.empty(1, _CHANNELS[modality], num_frames, view.height, view.width).to(
                torch.uint8 if modality == "rgb" else torch.float32
            )
            for modality in recipe.modalities
        }
        try:
            return count_flops(model, batch)
        except (NotImplementedError, RuntimeError) as error:  # what tensors without data say
            reason = str(error).partition("\n")[0]
            raise UsageError(f"recipe={name}: doesn't run without data ({reason}); {cure}") from error
