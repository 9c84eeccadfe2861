"""All recipes by name, one visible table, and those of Python files."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vidprep.errors import UsageError
from vidprep.pipelines.recipe import Recipe
from vidprep.pipelines.recipes_methods import METHOD_RECIPES
from vidprep.pipelines.recipes_networks import NETWORK_RECIPES, RGB

__all__ = ["RECIPES", "RGB", "Recipe", "find_recipe"]

RECIPES: dict[str, Callable[[], Recipe]] = {**NETWORK_RECIPES, **METHOD_RECIPES}


def find_recipe(name: str, settings: Mapping[str, Any] | None = None) -> Recipe:
    """Return a recipe of the table, or that of a Python file which defines ``recipe``.

    Parameters
    ----------
    name : str
        Its name in :data:`RECIPES`, with hyphens or underscores, or the file.
    settings : mapping, optional
        Fields of it that are changed. With ``epochs``, warm-up and milestones keep their share of the whole.

    Raises
    ------
    UsageError
        If there is no such recipe, or the file defines none.
    """
    known = name.replace("_", "-")  # a backbone's name, as it is in `BACKBONES`, is its recipe's too
    if known in RECIPES:
        found = RECIPES[known]()
    else:
        found, known = _read_recipe(name), str(Path(name).resolve())
    return _changed(found, settings or {}, known)


def _changed(recipe: Recipe, settings: Mapping[str, Any], name: str) -> Recipe:
    """Return a recipe with some fields changed; with the epochs, what counts in epochs shrinks or grows."""
    pace = settings.get("epochs", recipe.epochs) / recipe.epochs
    paced: dict[str, Any] = {}
    if pace != 1:
        paced["warmup_epochs"] = recipe.warmup_epochs * pace
        paced["milestones"] = tuple(milestone * pace for milestone in recipe.milestones)
    return replace(recipe, **paced | dict(settings), name=name, settings=dict(settings))


def _read_recipe(name: str) -> Recipe:
    path = Path(name)
    if path.suffix == ".py" and not path.is_file():
        raise UsageError(f"recipe={name}: there is no such file; mend its path")
    if path.suffix != ".py":
        raise UsageError(
            f"recipe={name}: must be one of {', '.join(RECIPES)}, or a Python file that defines recipe; mend the name"
        )
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)  # what stands beside the file, it may import, as a script may
    try:
        found = runpy.run_path(name).get("recipe")
    except (Exception, SystemExit) as error:  # whatever the user's file does
        raise UsageError(f"recipe={name}: {type(error).__name__}: {error}; mend the file") from error
    finally:
        sys.path.remove(folder)
    if not isinstance(found, Recipe):
        raise UsageError(f"recipe={name}: defines no Recipe by the name of recipe; add recipe = Recipe(...)")
    return found
