"""``vidprep manifest``: the standard datasets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vidprep.cli.extract import MAX_LISTED

if TYPE_CHECKING:
    from vidprep.manifest import Split, SplitCount

_annotations = click.option(
    "--annotations",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="The dataset's official annotation files, where it needs them.",
)


@click.group()
def manifest() -> None:
    """Show standard datasets: their classes, splits and expected counts."""


@manifest.command("list")
def manifest_list() -> None:
    """List the standard datasets that vidprep knows."""
    from vidprep.manifest import list_manifests, load_standard

    for name in list_manifests():
        dataset = load_standard(name)
        needs = "; needs its official annotation files" if dataset.annotations else ""
        click.echo(f"{name:20} {dataset.title}: {dataset.num_videos} videos, {len(dataset.classes)} classes{needs}")


@manifest.command("show")
@click.argument("name")
@_annotations
def manifest_show(name: str, annotations: Path | None) -> None:
    """Show a standard dataset: where it comes from, its splits and classes; what its official lists hold."""
    from vidprep.manifest import count_splits, find_annotations, load_standard, official_rows

    dataset = load_standard(name)
    click.echo(f"{dataset.title}\n\n{dataset.about.strip()}\n\nPreparation: {dataset.preparation.strip()}")
    for paper in dataset.papers:
        facts = "; ".join(f"{what.replace('_', ' ')}: {fact}" for what, fact in paper.items() if what != "by")
        click.echo(f"{paper['by']}: {facts}")
    click.echo()
    for what, address in dataset.sources:
        click.echo(f"{what}: {address}")
    for role, files in dataset.annotations.items():
        click.echo(f"file {role}{' (optional)' if role in dataset.optional else ''}: {' or '.join(files)}")
    click.echo(f"\n{dataset.num_videos} videos")
    for split in dataset.splits:
        click.echo(f"{split.name}: {_published(split)}")
    if annotations is not None:
        rows = official_rows(dataset, annotations=annotations)
        for role, file in find_annotations(dataset, annotations=annotations).items():
            click.echo(f"\n{role}: {file}", nl=False)
        click.echo()
        for count in count_splits(dataset, rows):
            click.echo(f"{count.name}: {count.num_listed} videos, {count.num_rows_listed} rows listed")
    for target, classes in dataset.targets.items():
        click.echo(f"\n{len(classes)} classes of {target}: {', '.join(classes)}")
    click.echo(f"\n{len(dataset.classes)} classes: {', '.join(dataset.classes)}")


@manifest.command("check")
@click.argument("name")
@click.argument("root", type=click.Path(path_type=Path))
@_annotations
@click.option("--all", "names_all", is_flag=True, help="Name all that is missing or extra.")
def manifest_check(name: str, root: Path, annotations: Path | None, names_all: bool) -> None:
    """Compare the videos below ROOT with a standard dataset.

    Exit status 1 if anything is missing, doubled, unclear or too much, or if the official lists don't hold what was
    published. Where videos vanish from the web, missing ones and other lists are said, and are no fault; nor are extra
    ones, where the dataset is a choice of another, or has test videos without labels.
    """
    from vidprep.manifest import check, load_standard

    report = check(load_standard(name), root, annotations)
    faults = {
        "missing": report.missing,
        "extra": report.extra,
        "doubled": report.doubled,
        "unclear (its name must say which clip of that video it is)": report.unclear,
    }
    counts = [f"{len(names)} {what.split()[0]}" for what, names in faults.items() if names or what in _ALWAYS]
    click.echo(f"{len(report.present)} present, {', '.join(counts)}")
    for split in report.splits:
        click.echo(_found(split))
    for what, names in faults.items():
        num_named = len(names) if names_all else MAX_LISTED
        for found in names[:num_named]:
            click.echo(f"{what}: {found}")
        if len(names) > num_named:
            click.echo(f"{what.split()[0]}: ... and {len(names) - num_named} more (--all)")
    if report.ok and report.extra:
        click.echo(f"extra videos are no fault of this dataset: {report.others}")
    if report.ok and report.missing:
        click.echo("videos of this dataset vanish from the web: missing ones are no fault")
    if not report.ok:
        raise click.exceptions.Exit(1)


_ALWAYS = ("missing", "extra")


def _found(split: SplitCount) -> str:
    if not split.num_listed:
        return f"{split.name:14}      no official list"
    text = f"{split.name:14} {split.num_present:6} of {split.num_listed}"
    if not split.is_as_published:
        rows = f" with {split.num_rows_listed} rows" if split.published.num_rows else ""
        text += f"; the lists hold {split.num_listed} videos{rows}, and should hold {_published(split.published)}"
    elif split.published.num_videos_in_paper is not None:
        text += f" ({split.published.num_videos_in_paper} in the paper)"
    return text


def _published(split: Split) -> str:
    videos = "number unknown" if split.num_videos is None else f"{split.num_videos} videos"
    rows = "" if split.num_rows is None else f", {split.num_rows} rows"
    paper = "" if split.num_videos_in_paper is None else f" ({split.num_videos_in_paper} in the paper)"
    return videos + rows + paper
