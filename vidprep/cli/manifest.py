"""``vidprep manifest``: the standard datasets."""

from __future__ import annotations

from pathlib import Path

import click

from vidprep.cli.extract import MAX_LISTED


@click.group()
def manifest() -> None:
    """Show standard datasets: their classes, splits and expected counts."""


@manifest.command("list")
def manifest_list() -> None:
    """List the standard datasets that vidprep knows."""
    from vidprep.manifest import list_manifests, load_standard

    for name in list_manifests():
        dataset = load_standard(name)
        click.echo(f"{name:20} {dataset.title}: {len(dataset.rows)} videos, {len(dataset.classes)} classes")


@manifest.command("show")
@click.argument("name")
def manifest_show(name: str) -> None:
    """Show a standard dataset: where it comes from, its splits and classes."""
    from vidprep.manifest import load_standard

    dataset = load_standard(name)
    click.echo(f"{dataset.title}\n\n{dataset.about.strip()}\n\nPreparation: {dataset.preparation.strip()}\n")
    for what, address in dataset.sources:
        click.echo(f"{what}: {address}")
    click.echo(f"\n{len(dataset.rows)} videos")
    for split in dataset.splits:
        click.echo(f"{split.name}: {split.num_train} train, {split.num_test} test")
    click.echo(f"\n{len(dataset.classes)} classes: {', '.join(dataset.classes)}")


@manifest.command("check")
@click.argument("name")
@click.argument("root", type=click.Path(path_type=Path))
def manifest_check(name: str, root: Path) -> None:
    """Compare the videos below ROOT with a standard dataset."""
    from vidprep.manifest import check, load_standard

    report = check(load_standard(name), root)
    click.echo(f"{len(report.present)} present, {len(report.missing)} missing, {len(report.extra)} extra")
    for split in report.splits:
        click.echo(f"{split.name:14} {split.num_present:6} of {split.num_expected}")
    for what, paths in (("missing", report.missing), ("extra", report.extra)):
        for path in paths[:MAX_LISTED]:
            click.echo(f"{what}: {path}")
        if len(paths) > MAX_LISTED:
            click.echo(f"{what}: ... and {len(paths) - MAX_LISTED} more")
    if not report.ok:
        raise click.exceptions.Exit(1)
