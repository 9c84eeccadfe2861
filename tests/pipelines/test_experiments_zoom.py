"""The experiment on adaptive zoom: methods differ in the zoom alone, a run of each from videos to tables."""

from pathlib import Path
from typing import Any

import pytest
import torch
from runs import write_dataset
from torch import nn

from vidprep.models import AdaptiveZoom, FixedZoom, GuidedZoom
from vidprep.pipelines import experiments_zoom
from vidprep.pipelines.experiments import train_and_evaluate
from vidprep.pipelines.experiments_zoom import OF_DEMO, OF_EGOGESTAR, crops_of, other_crops, table, table_of_crops
from vidprep.pipelines.extract import extract

TRIED = ("centre", "paper", "at-residual-unlearned")


def test_methods_are_alike_but_for_the_zoom() -> None:
    shards = {"demo": Path("a"), "egogestar": Path("b")}
    runs = experiments_zoom.runs(shards, [0, 6], {"demo": 1, "egogestar": 2})
    assert len({run.name for run in runs}) == len(runs) == 2 * (len(OF_DEMO) + len(OF_EGOGESTAR))
    assert {run.test_split for run in runs} == {"split1/test", "fold0/test", "fold3/test"}
    zooms = []
    for run in runs[: len(OF_DEMO)]:
        own, plain = run.recipe.facts, runs[0].recipe.facts
        assert {name for name in own if own[name] != plain[name]} <= {"modalities"}
        torch.manual_seed(0)
        model = run.recipe.build(3)
        weights = model.network.state_dict()  # type: ignore[union-attr]
        if run.method == "centre":
            first = weights
        assert all(torch.equal(weights[name], first[name]) for name in first)
        zooms.append(model.zoom)
    assert isinstance(zooms[0], FixedZoom) and isinstance(zooms[-1], GuidedZoom)
    assert all(isinstance(zoom, AdaptiveZoom) for zoom in zooms[1:-1])
    drawn: set[Any] = {(zoom.draw_shear, zoom.size) for zoom in zooms}
    assert drawn == {(0.1, experiments_zoom.SIZE)}


def test_the_network_sees_differences_of_frames() -> None:
    network = experiments_zoom.SmallNetwork(5).eval()
    rgb = torch.rand(2, 3, 9, 32, 32) * 255
    assert network({"rgb": rgb}).shape == (2, 5)
    torch.testing.assert_close(network({"rgb": rgb + 20}), network({"rgb": rgb}), rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], dict[str, Any], Path]:
    """One epoch of three methods on 16 clips, and the crops of Table 7."""
    folder = tmp_path_factory.mktemp("experiments")
    shards = extract(write_dataset(folder / "clips"), folder / "shards", experiments_zoom.EXTRACTION).out
    runs = [run for run in experiments_zoom.runs({"demo": shards}, [0], {"demo": 1}) if run.method in TRIED]
    rows = [train_and_evaluate(run, folder, crops_of) for run in runs]
    return rows, other_crops(runs[0], rows[1], folder), folder


def test_a_run_says_what_it_gave(made: tuple[list[dict[str, Any]], dict[str, Any], Path]) -> None:
    centre, paper, guided = made[0]
    assert [row["method"] for row in made[0]] == list(TRIED)
    assert centre["scales"] == pytest.approx([0.875] * 4) and not torch.tensor(centre["positions"]).any()
    assert all(0.25 < scale < 4 / 3 for scale in paper["scales"]) and not torch.tensor(paper["positions"]).any()
    assert guided["scales"] == [0.5] * 4 and torch.tensor(guided["positions"]).any()
    assert 0 < paper["gmacs"] - centre["gmacs"] < 0.02  # LNet
    assert guided["gmacs"] == centre["gmacs"]


def test_crops_are_shown_to_the_same_network(made: tuple[list[dict[str, Any]], dict[str, Any], Path]) -> None:
    (centre, *_), crops, _ = made
    assert crops["top1"]["centre 87.5 %"] == centre["top1"]
    assert len(crops["top1"]) == 7
    lines = table_of_crops([crops, crops]).splitlines()
    assert lines[2].startswith("| demo | random 80-100 % | ") and lines[2].endswith(" ± 0.0 |")
    assert "mean scale of paper" in lines[-1]


def test_the_table(made: tuple[list[dict[str, Any]], dict[str, Any], Path]) -> None:
    rows = made[0]
    lines = table(rows).splitlines()
    assert [line.split(" | ")[1] for line in lines[2:]] == list(TRIED)
    of_demo = {"class_accuracies": {"ShowsRings": 0.5, "ShowsStripes": 0.25, "MovesUp": 1.0}, "top1": 0.5}
    cells = table([{**rows[0], **of_demo}] * 2).splitlines()[2].strip("| ").split(" | ")
    assert cells[2:6] == ["2", "50.0 ± 0.0", "37.5 ± 0.0", "100.0 ± 0.0"]
    assert cells[7:9] == ["0.88 ± 0.00", "0.00"]


def test_features_are_the_largest_over_space() -> None:
    """A small object answers as it would anywhere, and its surroundings don't dilute it."""
    network = experiments_zoom.SmallNetwork(5).eval()
    for module in network:
        if isinstance(module, nn.BatchNorm3d):
            nn.init.constant_(module.bias, -0.01)
    rgb = torch.zeros(1, 3, 9, 64, 64)
    rgb[:, :, 4, 16:24, 16:24] = 255
    torch.testing.assert_close(network({"rgb": rgb.roll(16, 4)}), network({"rgb": rgb}))
