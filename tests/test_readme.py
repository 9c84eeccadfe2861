"""What the README names exists."""

import re
from pathlib import Path

import click
import pytest

from vidprep.cli import main
from vidprep.shards.reader import read_samples

README = Path(__file__).resolve().parents[1] / "README.md"


def options(command: click.Command) -> set[str]:
    names = {name for parameter in command.params for name in parameter.opts}
    children = command.commands.values() if isinstance(command, click.Group) else ()
    return names.union(*(options(child) for child in children))


def test_every_option_in_the_readme_is_one_of_the_command() -> None:
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README.read_text(encoding="utf-8")))
    assert len(named) > 10
    assert named <= options(main)


def test_the_snippets_import_what_there_is() -> None:
    text = README.read_text(encoding="utf-8")
    imports = re.findall(r"^from vidprep\S* import .*$", text, re.MULTILINE)
    assert len(imports) >= 3
    namespace: dict[str, object] = {}
    for line in imports:
        exec(line, namespace)
    assert namespace["read_samples"] is read_samples


@pytest.mark.parametrize(
    ("script", "rows"),
    [
        ("extract.py", ["the limit", "residual magnitude", "2 workers against 1"]),
        ("loader.py", ["JPEG in memory", "webdataset", "bytes of RGB as JPEG"]),
        ("peers.py", ["the limit", "decord", "mv-extractor", "OpenCV", "torchcodec"]),
    ],
)
def test_the_benchmarks_have_filled_their_places(script: str, rows: list[str]) -> None:
    begin, end = f"<!-- tests/benchmarks/{script} -->", "<!-- end -->"
    table = README.read_text(encoding="utf-8").partition(begin)[2].partition(end)[0]
    for row in rows:
        assert row in table
