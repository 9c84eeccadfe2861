"""``vidprep flops``: its options."""

from __future__ import annotations

import click

MAX = 100_000  # nothing is computed, but shapes overflow


@click.command()
@click.argument("network")
@click.option("--frames", "num_frames", type=click.IntRange(1, MAX), help="Of a clip.  [default: as its weights take]")
@click.option("--size", type=click.IntRange(1, MAX), help="Side of the pictures.  [default: as its weights take]")
@click.option("--classes", "num_classes", type=click.IntRange(1, MAX), default=400, show_default=True)
@click.option("--depth", type=click.IntRange(min=0), default=1, show_default=True, help="Of nested modules shown.")
def flops(network: str, depth: int, **choices: int) -> None:
    """Print what NETWORK costs on one clip: parameters, and operations in two conventions.

    NETWORK is a backbone, or a method's recipe, on one of its test views.

    C1 counts multiply-adds. C2 counts what the first versions of ptflops did: biases, normalisations, ReLUs and
    poolings too.
    """
    from vidprep.pipelines.flops import table
    from vidprep.pipelines.flops_recipe import named_flops

    click.echo(table(named_flops(network, **choices), depth))
