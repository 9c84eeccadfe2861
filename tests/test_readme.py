"""What the README names exists, and its snippets run."""

import re
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from runs import extract_here

from vidprep.cli import main
from vidprep.dataset import RandomClip
from vidprep.models.backbones import BACKBONES
from vidprep.pipelines.demo_clip import DemoSettings
from vidprep.pipelines.demo_data import write_demo_data
from vidprep.pipelines.extract import Options
from vidprep.pipelines.recipes import find_recipe
from vidprep.shards.reader import read_samples

README = Path(__file__).resolve().parents[1] / "README.md"
NOT_OURS = {"--help", "--nproc_per_node"}  # every command's, and torchrun's


def options(command: click.Command) -> set[str]:
    names = {name for parameter in command.params for name in parameter.opts}
    children = command.commands.values() if isinstance(command, click.Group) else ()
    return names.union(*(options(child) for child in children))


def test_every_option_in_the_readme_is_one_of_the_command() -> None:
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z_-]+", README.read_text(encoding="utf-8"))) - NOT_OURS
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


def test_the_snippets_that_train_run_as_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a smaller demo dataset; what their comments say of shapes and types is so."""
    for _ in write_demo_data(tmp_path / "demo/data", DemoSettings(num_classes=2, num_groups=12, num_frames=36)):
        pass
    options = Options(modalities=("rgb", "motion", "residual"), layout="bitstream")
    extract_here(tmp_path / "demo/data", tmp_path / "demo/shards", options)
    monkeypatch.chdir(tmp_path)
    section = README.read_text(encoding="utf-8").partition("### Train on the shards")[2].partition("\n### ")[0]
    first, second = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    found: dict[str, Any] = {}
    exec(first, found)
    promised = re.findall(r'batch\["(\w+)"\]  # \(8, ([\d, ]+)\) (\w+)', first)
    assert [name for name, *_ in promised] == ["rgb", "residual", "motion"]
    for name, shape, dtype in promised:
        value = found["batch"][name]
        assert tuple(value.shape[1:]) == tuple(map(int, shape.split(", "))), name
        assert str(value.dtype) == f"torch.{dtype}", name
    exec(second, found)
    assert tuple(found["again"]["rgb"].shape) == (3, 16, 112, 112)


def snippets(section: str) -> list[str]:
    text = README.read_text(encoding="utf-8").partition(f"### {section}")[2].partition("\n### ")[0]
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_the_snippet_of_modules_gives_what_it_says() -> None:
    torch.set_num_threads(1)
    (snippet,) = snippets("Use the modules in your own training code")
    found: dict[str, Any] = {}
    exec(snippet, found)
    assert (found["clips"].shape, found["clips"].dtype) == ((2, 3, 16, 112, 112), torch.float32)
    assert found["clips"].requires_grad
    assert found["logits"].shape == (2, 101)
    assert found["maps"].shape == (2, 24, int(found["num_bins"].max()), 14, 14)


def test_the_snippet_of_a_recipe_is_a_recipe(tmp_path: Path) -> None:
    """As the file that it is meant to be."""
    (snippet,) = snippets("Train a network, or a method")
    (tmp_path / "small.py").write_text(snippet)
    recipe = find_recipe(str(tmp_path / "small.py"))
    assert (recipe.epochs, recipe.optimiser, recipe.train_clips) == (4, "adamw", RandomClip(8, 4))


def test_the_files_of_backbones_are_named_for_all_of_them() -> None:
    table = README.read_text(encoding="utf-8").partition("| backbone | official files")[2].partition("\n\n")[0]
    named = set(re.findall(r"`(\w+)`", table.replace("`x3d_xs_pytorchvideo` to `x3d_l_pytorchvideo`", "")))
    wanted = {name for name in BACKBONES if not name.endswith("_pytorchvideo")}
    assert wanted <= named


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
