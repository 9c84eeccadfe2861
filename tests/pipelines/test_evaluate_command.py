"""From shards to a checkpoint to an evaluation to a plot, by the command line; and what it says to bad input."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_recipe
import torch
from PIL import Image
from small_exports import run
from small_shards import OPTIONS, extract_rows, write_view

from vidprep.errors import UsageError
from vidprep.manifest import Row
from vidprep.models import AdaptiveZoom
from vidprep.models.backbones import coviar
from vidprep.pipelines import evaluate_plot
from vidprep.pipelines.evaluate import Options, evaluate
from vidprep.pipelines.evaluate_report import read_report
from vidprep.pipelines.flops import backbone_flops, count_flops, table
from vidprep.pipelines.flops_recipe import recipe_flops
from vidprep.pipelines.train_checkpoint import load_model

CLASSES = ("Run", "Sit", "Stand")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rows = tmp_path_factory.mktemp("shards"), []
    for number in range(6):
        write_view(root / "in" / f"{number}.avi", seed=number, num_frames=6)
        split = "split1/test" if number > 2 else "split1/train"
        rows.append(Row(f"{number}.avi", labels=(number % 3,) if number < 5 else (), splits=(split,)))
    return extract_rows(root / "in", rows, root / "out", replace(OPTIONS, modalities=("rgb",)), classes=CLASSES)


@pytest.fixture(scope="module")
def trained(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one epoch of training leaves."""
    to = tmp_path_factory.mktemp("trained") / "run"
    run("train", tiny_recipe.__file__, shards, "--to", to, "--split", "split1/train", "--workers", 0)
    return to


@pytest.fixture(scope="module")
def report(trained: Path, shards: Path) -> Path:
    to = trained.parent / "reports" / "six-views.json"
    result = run("evaluate", trained, shards, "--split", "split1/test", "--to", to, "--workers", 1)
    first, second, third = result.stdout.splitlines()
    top1 = read_report(to)["top1"]
    assert first.startswith(f"3 videos x 6 views: top-1 {100 * top1:.2f} %, top-5 100.00 %, mean class accuracy ")
    assert second == "1 videos without a label are left out of these numbers"
    assert third.endswith(f"videos/s: {to}") and " GMAC a video, " in third
    return to


@pytest.fixture(scope="module")
def cheaper(trained: Path, shards: Path) -> Path:
    to = trained.parent / "reports" / "one-view.json"
    options = ("--views", "1x1", "--batch-size", 2, "--amp", "bf16", "--workers", 0)
    run("evaluate", trained / "checkpoint.pt", shards, "--split", "split1/test", "--to", to, *options)
    return to


class TestEvaluate:
    def test_is_that_of_the_checkpoints_own_model(self, report: Path, trained: Path, shards: Path) -> None:
        model, recipe, state = load_model(trained / "checkpoint.pt")
        wanted = evaluate(model, recipe, shards, Options(split="split1/test"))
        with np.load(report.with_suffix(".npz")) as file:
            assert file["keys"].tolist() == wanted.keys
            np.testing.assert_allclose(file["scores"], wanted.scores, atol=1e-6)
        found = read_report(report)
        assert found["classes"] == state["classes"] == list(CLASSES)
        assert (found["split"], found["epochs"], found["num_unlabelled"]) == ("split1/test", 1, 1)
        assert found["checkpoint"] == str(trained / "checkpoint.pt")
        assert Path(found["recipe"]) == Path(tiny_recipe.__file__).resolve()

    def test_views_count_in_the_costs(self, report: Path, cheaper: Path) -> None:
        six, one = read_report(report), read_report(cheaper)
        assert (six["num_views"], one["num_views"]) == (6, 1)
        assert six["gmacs_per_video"] == pytest.approx(6 * one["gmacs_per_video"])
        assert (one["amp"], one["batch_size"]) == ("bf16", 2)

    def test_without_to_it_stands_beside_the_checkpoint(self, trained: Path, shards: Path) -> None:
        run("evaluate", trained, shards, "--split", "split1/train", "--workers", 0)
        assert read_report(trained / "evaluation-split1-train.json")["num_videos"] == 3
        assert (trained / "evaluation-split1-train.npz").exists()

    def test_other_views_and_types_have_reports_of_their_own(self, trained: Path, shards: Path, tmp_path: Path) -> None:
        shutil.copy(trained / "checkpoint.pt", tmp_path)
        names = []
        for options in (("--split", "split1/train"), ("--views", "1"), ("--views", "1x1", "--amp", "bf16")):
            run("evaluate", tmp_path, shards, "--workers", 0, *options)
            (new,) = {path.name for path in tmp_path.glob("*.json")} - set(names)
            names.append(new)
        assert names == ["evaluation-split1-train.json", "evaluation-all-1.json", "evaluation-all-1x1-bf16.json"]
        shutil.copy(trained / "checkpoint.pt", tmp_path / "best.pt")
        run("evaluate", tmp_path / "best.pt", shards, "--workers", 0)
        assert (tmp_path / "evaluation-best-all.json").exists()

    def test_a_file_of_others_is_not_replaced(self, trained: Path, shards: Path, tmp_path: Path) -> None:
        (tmp_path / "index.json").write_text('{"mine": 1}')
        message = run("evaluate", trained, shards, "--to", tmp_path / "index.json", status=2).stderr
        assert "index.json: is there, and no evaluation; give another --to, or remove it" in message
        assert (tmp_path / "index.json").read_text() == '{"mine": 1}'

    def test_other_classes_are_refused(self, trained: Path, shards: Path, tmp_path: Path) -> None:
        state = torch.load(trained / "checkpoint.pt", weights_only=True)
        torch.save(state | {"classes": ["Run", "Sit", "Lie"]}, tmp_path / "other.pt")
        message = run("evaluate", tmp_path / "other.pt", shards, "--to", tmp_path / "a.json", status=1).stderr
        assert "class 2 is Stand, and the checkpoint's is Lie; evaluate on shards of the dataset that" in message
        assert not (tmp_path / "a.json").exists()

    def test_a_model_that_gives_no_numbers_writes_nothing(self, trained: Path, shards: Path, tmp_path: Path) -> None:
        state = torch.load(trained / "checkpoint.pt", weights_only=True)
        state["model"]["network.5.bias"][0] = float("inf")
        torch.save(state, tmp_path / "broken.pt")
        message = run("evaluate", tmp_path / "broken.pt", shards, "--workers", 0, status=1).stderr
        assert "the model's logits are no finite numbers" in message
        assert [path.name for path in tmp_path.iterdir()] == ["broken.pt"]

    @pytest.mark.parametrize(
        ("options", "status", "message"),
        [
            (("--to", "a.txt"), 2, r"to=a.txt: must be a file that ends in .json"),
            (("--to", "/proc/none/a.json"), 2, r"to=/proc/none/a.json: "),
            (("--views", "3x2"), 2, "views=3x2: must be clips, or clips x crops of 1, 3, 5, 10; give 10 or"),
            (("--split", "split9/test"), 1, "split=split9/test: not in these shards; they have: split1/test"),
            (("--device", "tpu"), 2, "'tpu' is not one of"),
            (("--batch-size", "0"), 2, "0 is not in the range"),
        ],
    )
    def test_options_that_cannot_be_meant(
        self, trained: Path, shards: Path, options: tuple[str, ...], status: int, message: str
    ) -> None:
        result = run("evaluate", trained, shards, "--workers", 0, *options, status=status)
        assert message in result.stderr

    def test_what_is_no_checkpoint_and_what_are_no_shards(self, trained: Path, shards: Path, tmp_path: Path) -> None:
        (tmp_path / "a.pt").write_bytes(b"none")
        for checkpoint in (tmp_path, tmp_path / "a.pt", tmp_path / "none"):
            assert "checkpoint=" in run("evaluate", checkpoint, shards, status=2).stderr
        assert "no such file" in run("evaluate", trained, tmp_path, "--to", tmp_path / "a.json", status=1).stderr

    def test_several_processes(self, trained: Path, shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WORLD_SIZE", "2")
        assert "begin it without torchrun" in run("evaluate", trained, shards, status=2).stderr


def changed(report: Path, to: Path, **values: Any) -> Path:
    to.write_text(json.dumps(read_report(report) | values))
    return to


class TestPlot:
    def test_costs(self, report: Path, cheaper: Path, tmp_path: Path) -> None:
        result = run("plot", report, cheaper, "--to", tmp_path / "new" / "costs.png")
        assert result.stdout == f"top-1 of 2 evaluations: {tmp_path / 'new' / 'costs.png'}\n"
        with Image.open(tmp_path / "new" / "costs.png") as image:
            image.load()
            assert (image.format, image.size) == ("PNG", (1050, 750))

    def test_a_line_for_each_recipe_a_point_for_each_report(self, report: Path, cheaper: Path, tmp_path: Path) -> None:
        other = changed(report, tmp_path / "other.json", recipe="x3d-m", map=0.25, gmacs_per_video=3.0)
        reports = {path: read_report(path) for path in (report, cheaper, other)}
        (axes,) = evaluate_plot._costs(reports, "map").axes
        lines = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
        one, six = reports[cheaper], reports[report]
        assert lines == {
            "tiny_recipe": [[each["gmacs_per_video"], 100 * each["map"]] for each in (one, six)],
            "x3d-m": [[3.0, 25.0]],
        }
        assert [text.get_text() for text in axes.texts] == ["one-view", "six-views", "other"]
        assert axes.get_ylabel() == "Mean average precision (%)"

    def test_points_are_told_apart_by_as_much_of_their_paths_as_it_takes(
        self, report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for folder in ("a/run", "b/run", "b/other"):
            (tmp_path / folder).mkdir(parents=True)
            changed(report, tmp_path / folder / "one.json")
        changed(report, tmp_path / "b" / "run" / "two.json")
        monkeypatch.chdir(tmp_path / "b" / "run")

        def named(*paths: str) -> set[str]:
            (axes,) = evaluate_plot._costs({Path(path): read_report(Path(path)) for path in paths}, "top1").axes
            return {text.get_text() for text in axes.texts}

        assert named("one.json", "two.json") == {"one", "two"}
        assert named("one.json", "two.json", "../other/one.json") == {"run/one", "run/two", "other/one"}
        assert named("one.json", "../../a/run/one.json") == {"b/run/one", "a/run/one"}
        assert named("one.json", "../run/one.json") == {"one"}

    def test_confusions(self, report: Path, tmp_path: Path) -> None:
        wrong = changed(report, tmp_path / "a.json", confusions=[[3, 1, 0], [0, 0, 0], [0, 0, 2]])
        run("plot", wrong, "--confusions", "--to", tmp_path / "a.png")
        with Image.open(tmp_path / "a.png") as image:
            assert image.format == "PNG"
        axes = evaluate_plot._confusions(read_report(wrong)).axes[0]
        assert axes.images[0].get_array().tolist() == [[75, 25, 0], [0, 0, 0], [0, 0, 100]]
        assert [label.get_text() for label in axes.get_yticklabels()] == list(CLASSES)

    def test_names_of_classes_are_no_formulas_and_left_out_where_they_are_many(
        self, report: Path, tmp_path: Path
    ) -> None:
        odd = changed(report, tmp_path / "a.json", classes=["$1", "$x^$", "_"])
        run("plot", odd, "--confusions", "--to", tmp_path / "a.png")
        for count in (60, 61):
            names = [f"class {number}" for number in range(count)]
            many = changed(report, tmp_path / "b.json", confusions=np.eye(count).tolist(), classes=names)
            (axes, _) = evaluate_plot._confusions(read_report(many)).axes
            assert (axes.get_yticklabels()[-1].get_text() == "class 59") == (count == 60)

    def test_the_measure_that_all_have(self, report: Path, tmp_path: Path) -> None:
        several = changed(report, tmp_path / "several.json", top1=None, confusions=None)
        assert run("plot", several, report, "--to", tmp_path / "a.png").stdout.startswith("mAP of 2")
        assert "knows top5, " in run("plot", several, "--measure", "top1", "--to", tmp_path / "a.png", status=2).stderr
        assert "has no confusions" in run("plot", several, "--confusions", "--to", tmp_path / "a.png", status=2).stderr
        nothing = changed(several, tmp_path / "none.json", top5=None, map=None, mean_class_accuracy=None)
        assert (
            "knows none: its videos have no label" in run("plot", nothing, "--to", tmp_path / "a.png", status=2).stderr
        )

    def test_what_is_no_report(self, report: Path, tmp_path: Path) -> None:
        for name, content in (("a.json", b"{"), ("b.json", b"[]"), ("c.json", b'{"format": 1}'), ("d.json", b"\xff")):
            (tmp_path / name).write_bytes(content)
            message = run("plot", report, tmp_path / name, "--to", tmp_path / "a.png", status=2).stderr
            assert f"report={tmp_path / name}: " in message and "vidprep evaluate wrote" in message
        assert "No such file" in run("plot", tmp_path / "none.json", "--to", tmp_path / "a.png", status=2).stderr
        assert "must be a file that ends in .png" in run("plot", report, "--to", tmp_path / "a.pdf", status=2).stderr
        assert (
            "takes one report"
            in run("plot", report, report, "--confusions", "--to", tmp_path / "a.png", status=2).stderr
        )
        assert not (tmp_path / "a.png").exists()

    def test_without_matplotlib(self, report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(evaluate_plot, "find_spec", lambda name: None if name == "matplotlib" else name)
        assert "pip install 'vidprep[train]'" in run("plot", report, "--to", tmp_path / "a.png", status=2).stderr


class TestFlops:
    def test_prints_the_table(self) -> None:
        result = run("flops", "r3d_18", "--frames", 4, "--size", 56, "--classes", 7, "--depth", 2)
        costs = backbone_flops("r3d_18", num_frames=4, size=56, num_classes=7)
        assert result.stdout == table(costs, 2) + "\n"
        assert "| head.projection | 3,591 | 0.0000 | 0.0000 |" in result.stdout

    def test_of_a_methods_recipe(self) -> None:
        """On its test views: of the zoom, what stands before the crop; of CoViAR, all 25 frames."""
        found = recipe_flops("adaptive-zoom-hara-resnet18", num_classes=7)
        with torch.device("meta"):
            zoom = AdaptiveZoom(size=112, num_frames=16).eval()
            motion = coviar.motion_network(400).eval()
            frames = torch.empty(1, 3, 16, 256, 342)
            costs = [count_flops(zoom, frames, frames), count_flops(motion, torch.empty(1, 2, 25, 224, 224))]
        assert (found["zoom"], found["network"]) == (costs[0][""], backbone_flops("hara_resnet18", num_classes=7)[""])
        result = run("flops", "coviar_motion", "--depth", 0)
        assert result.stdout == table(costs[1], 0) + "\n"

    def test_of_a_recipe_in_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "wide.py"
        path.write_text(
            "from dataclasses import replace\nimport tiny_recipe\nfrom vidprep.dataset import Resize\n"
            "recipe = replace(tiny_recipe.recipe, test_transform=(Resize(64, 32),))\n"
        )
        costs = count_flops(tiny_recipe.model(7).eval(), {"rgb": torch.empty(1, 3, tiny_recipe.FRAMES, 32, 64)})
        assert run("flops", path, "--classes", 7).stdout == table(costs) + "\n"
        assert recipe_flops(str(path), num_classes=7) == costs

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("sgs-x3d-s",), "recipe=sgs-x3d-s: doesn't run without data"),
            (("sgs-x3d-s",), "; train it, and vidprep evaluate counts on real views"),
            (("coviar-motion", "--frames", "8"), "frames=8: not with a recipe, whose test views say it; leave out --f"),
            (("coviar-motion", "--size", "64"), "size=64: not with a recipe, whose test views say it; leave out --si"),
            (("r3d_180",), "; mend the name, or give that of a method's recipe"),
            (("r3d_180",), "network=r3d_180: must be one of mobilenet_v2, "),
            (("r3d_18", "--size", "0"), "0 is not in the range"),
            (("r3d_18", "--classes", "1000000000000000000"), "is not in the range"),
        ],
    )
    def test_what_cannot_be(self, arguments: tuple[str, ...], message: str) -> None:
        assert message in run("flops", *arguments, status=2).stderr

    def test_what_only_data_know(self, tmp_path: Path) -> None:
        (tmp_path / "recipe.py").write_text(
            "from vidprep.pipelines.recipe import Recipe\n"
            "recipe = Recipe(model=lambda num_classes: None, modalities=('rgb', 'spectrogram'))\n"
        )
        with pytest.raises(UsageError, match=r"recipe\.py: reads spectrogram, whose sizes only data know; train it"):
            recipe_flops(str(tmp_path / "recipe.py"))
