"""Evaluation of real small networks on real small shards, against loops over the views."""

import copy
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_recipe
import torch
from sklearn.metrics import average_precision_score
from small_shards import CLASSES, OPTIONS, extract_rows, write_view
from torch import nn

from vidprep.dataset import CenterCrop, FiveCrops, Segments, ShardDataset, ShortSide, TenCrops, ThreeCrops, UniformClips
from vidprep.errors import ShardError, TrainError, UsageError
from vidprep.manifest import Row
from vidprep.pipelines import evaluate_speed
from vidprep.pipelines.evaluate import Evaluation, Options, evaluate
from vidprep.pipelines.evaluate_metrics import accuracy
from vidprep.pipelines.evaluate_report import write_report
from vidprep.pipelines.evaluate_views import with_views
from vidprep.pipelines.flops import count_flops
from vidprep.pipelines.recipes import Recipe

RGB_ALONE = replace(OPTIONS, modalities=("rgb",))
LABELS = [(0,), (1,), (), (0,), (1,)]
SEVERAL = [(0, 1), (1,), (), (0,), (1,)]
RECIPE = tiny_recipe.recipe
NUM_VIEWS = 6


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def make_shards(root: Path, labels: list[tuple[int, ...]], **dataset: Any) -> Path:
    """Extract five views that move, in different colours; the last two are in the split test."""
    rows = []
    for number, own in enumerate(labels):
        write_view(root / "in" / f"{number}.avi", seed=number, num_frames=8 + number)
        rows.append(Row(f"{number}.avi", labels=own, splits=("test",) if number > 2 else ("train",)))
    return extract_rows(root / "in", rows, root / "out", RGB_ALONE, **dataset)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shards(tmp_path_factory.mktemp("one"), LABELS)


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shards(tmp_path_factory.mktemp("several"), SEVERAL, multi_label=True)


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    made = tiny_recipe.model(len(CLASSES))
    made.network[5].weight.data.mul_(20)  # so that views disagree
    return made


def views_of(shards: Path, recipe: Recipe, split: str | None = None) -> dict[str, list[dict[str, Any]]]:
    """All views of each video, one by one."""
    dataset = ShardDataset(shards, split, clips=recipe.test_clips, transform=recipe.test_transform)
    found: dict[str, list[dict[str, Any]]] = {}
    for item in dataset:
        found.setdefault(item["key"], []).append(item)
    return found


def logits_of(model: nn.Module, views: list[dict[str, Any]]) -> torch.Tensor:
    """Logits of views, each alone."""
    with torch.no_grad():
        return torch.cat([copy.deepcopy(model).eval()({"rgb": view["rgb"][None]}) for view in views]).double()


class TestScores:
    @pytest.mark.parametrize("batch_size", [1, 4, 30])
    def test_are_means_of_the_views_probabilities(self, shards: Path, model: nn.Module, batch_size: int) -> None:
        found = evaluate(model, RECIPE, shards, Options(batch_size=batch_size))
        wanted = views_of(shards, RECIPE)
        assert found.keys == list(wanted)
        assert (len(wanted), found.num_views) == (5, NUM_VIEWS)
        for key, scores, label in zip(found.keys, found.scores, found.labels, strict=True):
            assert len(wanted[key]) == NUM_VIEWS
            probabilities = logits_of(model, wanted[key]).softmax(1)
            np.testing.assert_allclose(scores, probabilities.mean(0), atol=1e-6)
            assert probabilities.std(0).max() > 1e-3
            assert label == wanted[key][0]["label"]
        assert sorted(found.labels) == [-1, 0, 0, 1, 1]
        assert found.classes == list(CLASSES)

    def test_or_the_most_of_the_views_logits(self, shards: Path, model: nn.Module) -> None:
        found = evaluate(model, replace(RECIPE, video_score="max"), shards, Options())
        for key, views in views_of(shards, RECIPE).items():
            np.testing.assert_allclose(found.scores[found.keys.index(key)], logits_of(model, views).amax(0), atol=1e-5)

    def test_of_several_labels_each_class_has_its_own_probability(self, several: Path, model: nn.Module) -> None:
        found = evaluate(model, RECIPE, several, Options(split="train"))
        wanted = views_of(several, RECIPE, "train")
        assert found.keys == list(wanted) and found.labels.shape == (3, 2)
        for key, scores, labels in zip(found.keys, found.scores, found.labels, strict=True):
            np.testing.assert_allclose(scores, logits_of(model, wanted[key]).sigmoid().mean(0), atol=1e-6)
            assert labels.tolist() == wanted[key][0]["label"].tolist()

    def test_of_a_split_alone(self, shards: Path, model: nn.Module) -> None:
        assert set(evaluate(model, RECIPE, shards, Options(split="test")).keys) == set(views_of(shards, RECIPE, "test"))

    def test_in_a_shorter_type(self, shards: Path, model: nn.Module) -> None:
        exact, short = (evaluate(model, RECIPE, shards, Options(amp=amp)).scores for amp in ("off", "bf16"))
        assert 0 < np.abs(exact - short).max() < 0.1

    def test_the_model_is_in_evaluation_and_stays_what_it_is(self, shards: Path, model: nn.Module) -> None:
        before = copy.deepcopy(model.state_dict())
        evaluate(model.train(), RECIPE, shards, Options())
        assert not model.training
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())

    def test_all_ranks_may_do_it(self, shards: Path, model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RANK", "1")
        monkeypatch.setenv("WORLD_SIZE", "2")
        assert len(evaluate(model, RECIPE, shards, Options()).keys) == 5


class TestCosts:
    def test_are_those_of_a_view(self, shards: Path, model: nn.Module) -> None:
        found = evaluate(model, RECIPE, shards, Options())
        conv = 8 * 2 * 8 * 8 * 3 * 27  # maps, frames, rows, columns, and taps of each colour
        assert found.cost.macs == conv + 8 * 2
        assert found.cost.operations == found.cost.macs + 4 * 8 * 2 * 8 * 8
        assert found.cost.num_parameters == 8 * 81 + 16 + 18

    def test_are_means_over_all_views_where_data_decide(self, shards: Path) -> None:
        views = [view for one in views_of(shards, RECIPE).values() for view in one]
        brightness = sorted(float(view["rgb"].float().mean()) for view in views)
        model = tiny_recipe.Skipping(2, (brightness[10] + brightness[11]) / 2)
        num_bright = sum(bool(model.is_bright(view["rgb"][None])) for view in views)
        assert (num_bright, len(views)) == (19, 30)
        found = evaluate(model, RECIPE, shards, Options(batch_size=7))
        one = count_flops(model.model, {"rgb": views[0]["rgb"][None]})[""]
        assert found.cost.macs == pytest.approx(one.macs * 19 / 30)
        assert found.cost.operations == pytest.approx(one.operations * 19 / 30)

    def test_speed_is_measured_on_single_views_and_on_batches(self, shards: Path, model: nn.Module) -> None:
        """The views that are timed are spread over all that there are."""
        sizes, samples = [], []

        class Noting(nn.Module):
            def forward(self, batch: Mapping[str, Any]) -> torch.Tensor:
                assert len(batch["key"]) == len(batch["sample"]) == len(batch["rgb"])
                sizes.append(len(batch["key"]))
                samples.append(batch["sample"].tolist())
                return torch.zeros(len(batch["rgb"]), 2)

        speed = evaluate(Noting(), RECIPE, shards, Options(batch_size=8)).speed
        num_singles = evaluate_speed.NUM_WARMUP + evaluate_speed.NUM_SINGLES
        num_batches = evaluate_speed.NUM_WARMUP + evaluate_speed.NUM_BATCHES
        assert sizes == [8, 8, 8, 6] + num_singles * [1] + num_batches * [8]
        every = [sample for batch in samples[:4] for sample in batch]
        assert samples[-1] == [every[place] for place in (0, 4, 8, 12, 16, 20, 24, 29)]
        assert samples[4:12] == [[sample] for sample in samples[-1]]
        assert speed.batch_size == 8
        assert speed.latency_seconds > 0 and speed.views_per_second > 0

    def test_medians_pass_over_the_warm_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A clock that only runs in the model: the first calls are slow, and one is later on."""
        now = [0.0]
        singles, wholes = iter([9.0, 9, *[1] * 4, 50, *[1] * 5]), iter([9.0, 9, 2, 2, 50])

        def run(batch: dict[str, Any]) -> None:
            now[0] += next(wholes if len(batch["key"]) == 6 else singles)

        monkeypatch.setattr("time.perf_counter", lambda: now[0])
        found = evaluate_speed.measure_speed(run, [{"key": [key], "rgb": torch.zeros(1)} for key in "abcdef"], "cpu")
        assert (found.latency_seconds, found.views_per_second) == (1, 3)


class TestViews:
    def test_their_numbers_change(self) -> None:
        recipe = replace(RECIPE, test_transform=(ShortSide(40), CenterCrop(32)))
        found = with_views(recipe, "5")
        assert (found.test_clips, found.test_transform) == (UniformClips(5, 4), recipe.test_transform)
        for crops, kind in ((1, CenterCrop), (3, ThreeCrops), (5, FiveCrops), (10, TenCrops)):
            found = with_views(recipe, f"7x{crops}")
            assert (found.test_clips, found.test_transform) == (UniformClips(7, 4), (ShortSide(40), kind(32)))
            assert with_views(found, "1x1").test_transform == recipe.test_transform

    def test_and_so_does_what_is_read(self, shards: Path, model: nn.Module) -> None:
        assert evaluate(model, with_views(RECIPE, "3x1"), shards, Options(split="test")).num_views == 3

    @pytest.mark.parametrize("views", ["", "x", "0", "3x", "x3", "3x2", "3x0", "-1", "3x3x3", "two", "\u0663", "1.5"])
    def test_what_cannot_be_meant(self, views: str) -> None:
        with pytest.raises(UsageError, match=r"views=.*must be clips, or clips x crops of 1, 3, 5, 10"):
            with_views(RECIPE, views)

    def test_what_cannot_change(self) -> None:
        with pytest.raises(UsageError, match=r"views=3: the recipe tests on Segments"):
            with_views(replace(RECIPE, test_clips=Segments(8)), "3")
        with pytest.raises(UsageError, match=r"views=\.\.\.x3: no crop .*\(ShortSide\); leave it out"):
            with_views(replace(RECIPE, test_transform=(ShortSide(40),)), "2x3")


class TestRefusals:
    def test_other_classes(self, shards: Path, model: nn.Module) -> None:
        for classes, message in (
            (["Run", "Lie"], r"shards=.*: class 1 is Sit, and the checkpoint's is Lie; evaluate on"),
            (["Run"], r"2 classes, and the checkpoint knows 1"),
            (["Run", "Sit", "Lie"], r"2 classes, and the checkpoint knows 3"),
        ):
            with pytest.raises(ShardError, match=message):
                evaluate(model, RECIPE, shards, Options(), classes=classes)

    def test_what_is_no_number(self, shards: Path, model: nn.Module) -> None:
        model.network[5].bias.data[1] = float("nan")
        with pytest.raises(TrainError, match=r"key=\d%2Eavi: the model's logits are no finite numbers"):
            evaluate(model, RECIPE, shards, Options())

    @pytest.mark.parametrize("wrong", [lambda x: x[:1], lambda x: x[:, :1], lambda x: x[..., None], lambda _: "logits"])
    def test_what_are_no_logits_of_these_classes(self, shards: Path, model: nn.Module, wrong: Any) -> None:
        class Wrong(nn.Module):
            def forward(self, batch: Mapping[str, Any]) -> Any:
                return wrong(model(batch))

        with pytest.raises(UsageError, match=r"logits=\(.*\): the recipe's model must return \(4, 2\)"):
            evaluate(Wrong(), RECIPE, shards, Options())

    def test_a_small_gpu(self, shards: Path) -> None:
        class Large(nn.Module):
            def forward(self, batch: Mapping[str, Any]) -> torch.Tensor:
                raise torch.OutOfMemoryError

        with pytest.raises(TrainError, match=r"batch_size=4: the memory of the GPU is too small"):
            evaluate(Large(), RECIPE, shards, Options())

    @pytest.mark.parametrize("option", [{"device": "tpu"}, {"amp": "fp8"}])
    def test_options(self, option: dict[str, Any]) -> None:
        with pytest.raises(UsageError, match=r"=\w+: must be one of .*; choose one \(--"):
            Options(**option)

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
    def test_a_gpu_that_is_not_there(self) -> None:
        with pytest.raises(UsageError, match="device=cuda: PyTorch finds none"):
            Options(device="cuda")


def strict(path: Path) -> dict[str, Any]:
    """A JSON file, with nothing in it that JSON lacks."""

    def refuse(name: str) -> None:
        raise AssertionError(name)

    found: dict[str, Any] = json.loads(path.read_text("ascii"), parse_constant=refuse)
    return found


FACTS = {"device": "cpu", "amp": "off"}


@pytest.fixture(scope="module")
def found(shards: Path) -> Evaluation:
    torch.manual_seed(0)
    return evaluate(tiny_recipe.model(2), RECIPE, shards, Options())


class TestReport:
    def test_holds_what_was_measured(self, found: Evaluation, tmp_path: Path) -> None:
        report = write_report(tmp_path / "a.json", found, RECIPE, FACTS)
        assert strict(tmp_path / "a.json") == report
        assert (report["num_videos"], report["num_unlabelled"], report["num_views"]) == (5, 1, 6)
        assert report["gmacs_per_video"] == 6 * report["gmacs_per_view"] == 6 * (found.cost.macs / 1e9)
        assert report["gflops_c2_per_video"] == 6 * (found.cost.operations / 1e9)
        assert report["videos_per_second"] * 6 == pytest.approx(found.speed.views_per_second)
        assert np.sum(report["confusions"]) == 4
        assert "UniformClips(count=2, length=4" in report["clips"] and "ThreeCrops" in report["transform"][0]

    def test_and_the_scores_that_give_its_numbers_again(self, found: Evaluation, tmp_path: Path) -> None:
        report = write_report(tmp_path / "a.json", found, RECIPE, FACTS)
        assert report["scores"] == "a.npz"
        with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
            assert file["keys"].tolist() == found.keys
            again = accuracy(file["scores"], file["labels"])
        assert again.pop("num_labelled") == 4
        assert {name: report[name] for name in again} == again
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.npz"]

    def test_of_several_labels(self, several: Path, model: nn.Module, tmp_path: Path) -> None:
        found = evaluate(model, RECIPE, several, Options())
        report = write_report(tmp_path / "a.json", found, RECIPE, FACTS)
        assert (report["num_videos"], report["num_unlabelled"]) == (5, 1)
        labelled = found.labels.any(1)
        wanted = [average_precision_score(found.labels[labelled, c], found.scores[labelled, c]) for c in (0, 1)]
        assert report["map"] == pytest.approx(np.mean(wanted))
        assert report["top1"] is report["confusions"] is None

    def test_without_labels(self, found: Evaluation, tmp_path: Path) -> None:
        nothing = replace(found, labels=np.full(5, -1))
        assert write_report(tmp_path / "a.json", nothing, RECIPE, FACTS)["top1"] is None
        assert strict(tmp_path / "a.json")["num_unlabelled"] == 5
