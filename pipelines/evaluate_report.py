"""What an evaluation leaves: a JSON file for people and plots, and the scores of all videos beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vidprep import __version__
from vidprep.errors import UsageError
from vidprep.pipelines.evaluate_metrics import accuracy
from vidprep.pipelines.evaluate_speed import device_name
from vidprep.pipelines.recipes import Recipe
from vidprep.shards.files import whole_file, write_json

if TYPE_CHECKING:
    from vidprep.pipelines.evaluate import Evaluation

FORMAT = 1
Report = dict[str, Any]


def check_to(to: Path) -> None:
    """UsageError if no report can be written there; known before hours are spent on it."""
    if to.suffix != ".json" or to.is_dir():
        raise UsageError(f"to={to}: must be a file that ends in .json; give another --to")
    if to.exists():
        try:
            read_report(to)
        except UsageError as error:
            raise UsageError(f"to={to}: is there, and no evaluation; give another --to, or remove it") from error
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"to={to}: {error.strerror}; choose a folder that can be written (--to)") from error
    if not os.access(to.parent, os.W_OK):
        raise UsageError(f"to={to}: its folder can't be written; choose another (--to)")


def write_report(to: Path, found: Evaluation, recipe: Recipe, facts: Mapping[str, Any]) -> Report:
    """Write a report, and beside it ``.npz`` with keys, labels and scores; returns the report.

    The JSON holds no NaN: what is not known is null. Numbers of accuracy are shares from 0 to 1; see
    :func:`vidprep.pipelines.evaluate_metrics.accuracy`. ``gmacs`` are convention C1, ``gflops_c2`` convention C2, both
    means over all views: see :class:`vidprep.pipelines.flops.Cost`.
    """
    measured = accuracy(found.scores, found.labels)
    report = {
        "format": FORMAT,
        "vidprep": __version__,
        "recipe": recipe.name,
        **facts,
        "device_name": device_name(facts["device"]),
        "num_videos": len(found.keys),
        "num_unlabelled": len(found.keys) - measured.pop("num_labelled"),
        "num_views": found.num_views,
        "clips": repr(recipe.test_clips),
        "transform": [repr(step) for step in recipe.test_transform],
        "video_score": recipe.video_score,
        **measured,
        **_costs(found),
        "classes": found.classes,
        "scores": to.with_suffix(".npz").name,
    }
    with whole_file(to.with_suffix(".npz")) as file:
        np.savez(file, keys=np.array(found.keys), labels=found.labels, scores=found.scores)
    write_json(to, report)
    return report


def _costs(found: Evaluation) -> Report:
    gmacs, gflops = found.cost.macs / 1e9, found.cost.operations / 1e9
    return {
        "num_parameters": found.cost.num_parameters,
        "gmacs_per_view": gmacs,
        "gmacs_per_video": gmacs * found.num_views,
        "gflops_c2_per_view": gflops,
        "gflops_c2_per_video": gflops * found.num_views,
        "latency_seconds_per_view": found.speed.latency_seconds,
        "views_per_second": found.speed.views_per_second,
        "videos_per_second": found.speed.views_per_second / found.num_views,
        "batch_size": found.speed.batch_size,
    }


def read_report(path: Path) -> Report:
    """Read a report; UsageError if it is none."""
    cure = "give a JSON file that vidprep evaluate wrote"
    try:
        report = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"report={path}: {error.strerror}; {cure}") from error
    except ValueError as error:
        raise UsageError(f"report={path}: is no JSON ({error}); {cure}") from error
    if not isinstance(report, dict) or report.get("format") != FORMAT or "gmacs_per_video" not in report:
        raise UsageError(f"report={path}: is no evaluation of this version; {cure}")
    return report
