"""The experiments: runs are made once, tables say what they hold; a run of each method from videos to a table."""

import csv
import dataclasses
import json
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import filled_clip
from runs import write_dataset

from vidprep.errors import UsageError
from vidprep.models import AdaptiveTemporalResolution
from vidprep.pipelines import experiments_sgs, experiments_zoom
from vidprep.pipelines.experiments import (
    Run,
    egogestar_shards,
    made_once,
    markdown,
    mean_and_spread,
    train_and_evaluate,
)
from vidprep.pipelines.extract import extract
from vidprep.pipelines.extract_options import Options
from vidprep.pipelines.recipes_methods import Zoomed

EXTRACTION = Options(modalities=("rgb",), size="native", num_workers=1)


def test_what_was_made_is_read(tmp_path: Path) -> None:
    made = []

    def make() -> dict[str, Any]:
        made.append(1)
        return {"top1": 0.5}

    path, settings = tmp_path / "a" / "run.json", {"epochs": "3"}
    expected = {"top1": 0.5, "settings": settings}
    assert [made_once(path, settings, make) for _ in range(3)] == [expected] * 3
    assert len(made) == 1
    assert json.loads(path.read_text()) == expected

    def fail() -> dict[str, Any]:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        made_once(tmp_path / "b.json", settings, fail)
    assert not list(tmp_path.glob("b*"))


def test_what_was_made_with_other_settings_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    made_once(path, {"epochs": "3", "factor": "1"}, lambda: {"top1": 0.5})
    with pytest.raises(UsageError, match=r"epochs=5: .*run\.json was made with 3; name another folder for results"):
        made_once(path, {"epochs": "5", "factor": "1"}, lambda: {"top1": 0.5})


def test_the_model_is_among_the_settings() -> None:
    """So what one method gave is not taken for another's, and its checkpoint neither."""
    for experiment in (experiments_sgs, experiments_zoom):
        runs = experiment.runs({"demo": Path("a"), "egogestar": Path("b")}, [0], {"demo": 1, "egogestar": 2})
        told = [run.settings["recipe"] for run in runs]
        of_runs = {(name, run.dataset, run.method == "fewer-frames") for name, run in zip(told, runs, strict=True)}
        assert len(of_runs) == len(runs)
        assert not any(" at 0x" in name for name in told)
    assert "'block_frames': 4" in experiments_sgs.runs({"demo": Path("a")}, [0], {"demo": 1})[-1].settings["recipe"]


def test_a_training_that_was_killed_has_no_time(made: tuple[Path, list[Run], list[dict[str, Any]]]) -> None:
    """What it took before the kill is not known."""
    folder, (run, *_), (row, *_) = made
    assert row["train_cpu_seconds"] > 0
    (folder / f"{run.name}.json").unlink()
    again = train_and_evaluate(run, folder, experiments_sgs.bins_and_motion)
    assert (again["train_cpu_seconds"], again["top1"]) == (None, row["top1"])
    assert mean_and_spread([None, 2.0, 4.0]) == "3.0 ± 1.4"
    assert mean_and_spread([None]) == ""


def test_means_and_spreads() -> None:
    assert mean_and_spread([0.5, 0.7], 1, 100) == "60.0 ± 14.1"
    assert mean_and_spread([3.14159], 3) == "3.142"
    assert markdown(["a", "b", "c"], [["1", "2", "3"]]) == "| a | b | c |\n| --- | --- | --: |\n| 1 | 2 | 3 |"


def test_folds_become_splits(tmp_path: Path) -> None:
    source, folder = write_dataset(tmp_path / "clips"), tmp_path / "results"
    folder.mkdir()
    with pytest.raises(UsageError, match=r"must hold manifest.csv"):
        egogestar_shards(source, folder, EXTRACTION)
    paths = sorted(path.relative_to(source).as_posix() for path in source.rglob("*.*") if path.is_file())[:5]
    with (source / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label", "fold", "frames"))
        writer.writerows((path, f"class{place % 2}", place, 9) for place, path in enumerate(paths))
    shards = egogestar_shards(source, folder, EXTRACTION)
    index = json.loads((shards / "index.json").read_text())
    assert "fold3/test" in json.dumps(index)
    with (folder / "egogestar.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for place, row in enumerate(rows):
        splits = row["split"].split(";")
        assert [split for split in splits if split.endswith("test")] == [f"fold{place}/test"]
        assert len(splits) == 5


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Run], list[dict[str, Any]]]:
    """One epoch of all methods on 16 clips, twice: the second time nothing is trained."""
    folder = tmp_path_factory.mktemp("experiments")
    options = dataclasses.replace(EXTRACTION, modalities=("rgb", "residual"))
    shards = extract(write_dataset(folder / "clips"), folder / "shards", options).out
    runs = experiments_sgs.runs({"demo": shards}, [0], {"demo": 1})
    first = [train_and_evaluate(run, folder, experiments_sgs.bins_and_motion) for run in runs]
    assert first == [train_and_evaluate(run, folder, experiments_sgs.bins_and_motion) for run in runs]
    return folder, runs, first


@pytest.fixture
def rows(made: tuple[Path, list[Run], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return made[2]


def test_runs_are_alike_but_for_the_sampling() -> None:
    runs = experiments_sgs.runs({"demo": Path("a"), "egogestar": Path("b")}, [0, 6], {"demo": 1, "egogestar": 2})
    methods = {"demo": list(experiments_sgs.OF_DEMO), "egogestar": list(experiments_sgs.METHODS)}
    assert len({run.name for run in runs}) == len(runs)
    groups = [(group, list(of_group)) for group, of_group in groupby(runs, lambda run: (run.dataset, run.test_split))]
    assert [group for group, _ in groups] == [
        ("demo", "split1/test"),
        ("egogestar", "fold0/test"),
        ("demo", "split1/test"),
        ("egogestar", "fold3/test"),
    ]
    torch.manual_seed(0)
    for (dataset, _), (plain, *others) in groups:
        assert [run.method for run in (plain, *others)] == methods[dataset]
        for other in others:
            differing = {name for name, fact in other.recipe.facts.items() if fact != plain.recipe.facts[name]}
            assert differing == ({"train_clips", "test_clips"} if other.method == "fewer-frames" else set())
            assert (plain.seed, plain.shards, plain.train_split) == (other.seed, other.shards, other.train_split)
        models = [run.recipe.build(3) for run in (plain, *others)]
        assert [_num_samplings(model) for model in models] == [int(name.startswith("sgs")) for name in methods[dataset]]
        assert all(isinstance(model, Zoomed) is (dataset == "demo") for model in models)


def _num_samplings(model: torch.nn.Module) -> int:
    return sum(isinstance(module, AdaptiveTemporalResolution) for module in model.modules())


def test_a_run_says_what_it_gave(rows: list[dict[str, Any]]) -> None:
    plain, sampled, _ = rows
    assert [row["method"] for row in rows] == list(experiments_sgs.OF_DEMO)
    assert sampled["gmacs"] < plain["gmacs"]
    assert 0 <= sampled["top1"] <= 1
    assert len(sampled["bins"]) == len(sampled["still_bins"]) == len(sampled["motion"]) == 4
    assert all(1 <= num <= experiments_sgs.NUM_FRAMES for num in sampled["bins"])
    assert "bins" not in plain


def test_the_table(rows: list[dict[str, Any]]) -> None:
    lines = experiments_sgs.table(rows).splitlines()
    assert len(lines) == 2 + len(rows)
    assert [line.split(" | ")[1] for line in lines[2:]] == list(experiments_sgs.OF_DEMO)
    many = [{**rows[1], "bins": [1, 2, 3, 4], "motion": [4.0, 3.0, 2.0, 1.0], "still_bins": [1, 1, 1, 2]}] * 2
    cells = experiments_sgs.table(many).splitlines()[2].strip("| ").split(" | ")
    assert cells[6:] == ["2.5 ± 0.0", "4.0 ± 0.0", "1.0 ± 0.0", "1.2 ± 0.0", "-1.0 ± 0.0"]


def test_a_still_clip_has_no_differences() -> None:
    seen = []
    network = torch.nn.Identity()
    network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    clip = (100 * filled_clip("differences", 1, 3, 5, 4, 4)).clamp(0, 255).to(torch.uint8)
    experiments_sgs.Differences(network)({"rgb": clip})
    experiments_sgs.Differences(network)({"rgb": clip[:, :, :1].expand_as(clip)})
    assert seen[0].shape == (1, 3, 4, 4, 4)
    torch.testing.assert_close(seen[0][:, :, 0] * 57, clip[:, :, 1].float() - clip[:, :, 0].float())
    assert not seen[1].any()


def test_a_run_is_named_by_what_it_is() -> None:
    recipe = experiments_sgs.recipe("demo", "all-frames", 1)
    run = Run(
        dataset="demo",
        method="SGS",
        seed=3,
        recipe=recipe,
        shards=Path("x"),
        train_split="split1/train",
        test_split="split1/test",
    )
    assert run.name == "demo-split1-test-SGS-3"
