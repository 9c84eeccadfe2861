"""``vidprep plot``: accuracy against GFLOPs, and confusions, as PNG pictures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vidprep.errors import UsageError
from vidprep.pipelines.evaluate_report import Report, read_report
from vidprep.shards.files import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLES = {
    "top1": "Top-1 accuracy (%)",
    "top5": "Top-5 accuracy (%)",
    "mean_class_accuracy": "Mean class accuracy (%)",
    "map": "Mean average precision (%)",
}
MAX_NAMED_CLASSES = 60  # more names can't be read
_INCHES_PER_CLASS = 0.22


def plot_costs(reports: Sequence[Path], to: Path, measure: str | None = None) -> str:
    """Draw accuracy against multiply-adds a video: a point for each report, a line for those of one recipe.

    Parameters
    ----------
    reports : sequence of path
        JSON files that ``vidprep evaluate`` wrote.
    to : path
        The PNG file.
    measure : {"top1", "top5", "mean_class_accuracy", "map"}, optional
        Without, the first that all reports have, of ``top1`` and ``map``.

    Returns
    -------
    str
        The measure.

    Raises
    ------
    UsageError
        If a file is no report, or lacks the measure; or if matplotlib is missing.
    """
    _check_to(to)
    found = {path: read_report(path) for path in reports}
    measure = measure or next(
        (name for name in ("top1", "map") if all(one.get(name) is not None for one in found.values())), "top1"
    )
    for path, report in found.items():
        if report.get(measure) is None:
            known = (
                ", ".join(name for name in TITLES if report.get(name) is not None) or "none: its videos have no label"
            )
            raise UsageError(f"measure={measure}: {path} knows {known}; choose another --measure, or other reports")
    _save(_costs(found, measure), to)
    return measure


def plot_confusions(report: Path, to: Path) -> None:
    """Draw for each class of a report how often its videos were taken for which class.

    Parameters
    ----------
    report, to : path
        A JSON file that ``vidprep evaluate`` wrote; and the PNG file.

    Raises
    ------
    UsageError
        If the file is no report, or its dataset has several labels a video; or if matplotlib is missing.
    """
    _check_to(to)
    found = read_report(report)
    if found.get("confusions") is None:
        raise UsageError(f"report={report}: has no confusions, which videos with one label have; choose another")
    _save(_confusions(found), to)


def _check_to(to: Path) -> None:
    if find_spec("matplotlib") is None:
        raise UsageError("matplotlib: the package is missing, which draws; pip install 'vidprep[train]'")
    if to.suffix != ".png" or to.is_dir():
        raise UsageError(f"to={to}: must be a file that ends in .png; give another --to")


def _costs(reports: dict[Path, Report], measure: str) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.ticker import StrMethodFormatter

    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.add_subplot()
    lines = defaultdict(list)
    for name, report in zip(_names(list(reports)), reports.values(), strict=True):
        lines[Path(report["recipe"]).stem].append((report["gmacs_per_video"], 100 * report[measure], name))
    for recipe, points in sorted(lines.items()):
        costs, values, names = zip(*sorted(points), strict=True)
        axes.plot(costs, values, "o-", label=recipe)
        for cost, value, name in zip(costs, values, names, strict=True):
            axes.annotate(name, (cost, value), xytext=(4, 4), textcoords="offset points", fontsize="small")
    axes.set(xlabel="GFLOPs a video (multiply-adds, all views)", ylabel=TITLES[measure], xscale="log")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(StrMethodFormatter("{x:g}"))
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    return figure


def _names(paths: Sequence[Path]) -> list[str]:
    """Return names of files, and of the folders that they are in where else two would have the same."""
    found = [path.resolve().with_suffix("").parts for path in paths]
    length = next(length for length in count(1) if len({parts[-length:] for parts in found}) == len(set(found)))
    return ["/".join(parts[-length:]) for parts in found]


def _confusions(report: Report) -> Figure:
    from matplotlib.figure import Figure

    counts = np.array(report["confusions"], np.float64)
    totals = counts.sum(1, keepdims=True)
    num_shown = min(len(counts), MAX_NAMED_CLASSES)
    figure = Figure(
        figsize=(4 + _INCHES_PER_CLASS * num_shown, 3 + _INCHES_PER_CLASS * num_shown), layout="constrained"
    )
    axes = figure.add_subplot()
    image = axes.imshow(100 * counts / np.where(totals, totals, 1), vmin=0, vmax=100, cmap="Blues")
    if len(counts) <= MAX_NAMED_CLASSES:
        places = range(len(counts))
        names = [name.replace("$", r"\$") for name in report["classes"]]  # or they would be read as formulas
        axes.set_xticks(places, names, rotation=90, fontsize="small")
        axes.set_yticks(places, names, fontsize="small")
    axes.set(xlabel="Taken for", ylabel="Class")
    figure.colorbar(image, label="Videos of the class (%)")
    return figure


def _save(figure: Figure, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(to) as file:
        figure.savefig(file, format="png", dpi=150)
