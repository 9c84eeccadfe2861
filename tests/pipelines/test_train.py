"""The loop of training against one that is written out in plain PyTorch, and what it leaves and refuses."""

import csv
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trainings
from small_shards import OPTIONS, extract_rows, write_view
from torch import nn
from trainings import NUM_STEPS, TEST, TRAIN, Net, checkpoint, same, tiny_recipe

from vidprep.dataset import ShardDataset, UniformClips
from vidprep.errors import ShardError, TrainError, UsageError
from vidprep.manifest import Row
from vidprep.pipelines import train_validate
from vidprep.pipelines.evaluate import Options as EvaluateOptions
from vidprep.pipelines.evaluate import evaluate
from vidprep.pipelines.evaluate_metrics import accuracy
from vidprep.pipelines.recipe import Recipe
from vidprep.pipelines.train import train
from vidprep.pipelines.train_checkpoint import load_model
from vidprep.pipelines.train_options import Options
from vidprep.pipelines.train_ranks import join_ranks
from vidprep.pipelines.train_validate import Validation

RGB_ONLY = replace(OPTIONS, modalities=("rgb",))


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return trainings.extracted(tmp_path_factory.mktemp("shards"))


def batches_of(shards: Path, recipe: Recipe, seed: int) -> Iterator[Iterator[dict[str, Any]]]:
    """The batches of one epoch after the other."""
    clips, steps = recipe.train_clips, recipe.train_transform
    dataset = ShardDataset(shards, TRAIN, clips=clips, transform=steps, shuffle=True, seed=seed)
    loader = dataset.loader(recipe.batch_size, generator=torch.Generator())
    for _ in range(recipe.epochs):
        yield iter(loader)


class TestAgainstAPlainLoop:
    """Each: bit for bit."""

    def test_sgd_with_all_that_belongs_to_it(self, shards: Path, tmp_path: Path) -> None:
        """Nesterov, decay of matrices alone, factors, warm-up into a cosine, clipping, smoothed labels."""
        recipe = tiny_recipe(
            epochs=4,
            nesterov=True,
            weight_decay=0.01,
            learning_rate_of={"network.": 1.0, "network.head": 10.0},
            warmup_epochs=1.5,
            warmup_start=0.2,
            max_grad_norm=0.3,
            label_smoothing=0.1,
        )
        torch.manual_seed(5)
        net = Net(2)
        groups = [
            {"params": [net.network.stem.weight], "weight_decay": 0.01},
            {"params": [net.network.stem.bias, *net.network.norm.parameters()], "weight_decay": 0},
            {"params": [net.network.head.projection.weight], "weight_decay": 0.01},
            {"params": [net.network.head.projection.bias], "weight_decay": 0},
        ]
        optimiser = torch.optim.SGD(groups, momentum=0.9, nesterov=True)
        means = []
        for epoch, batches in enumerate(batches_of(shards, recipe, 5)):
            losses = []
            for step, batch in enumerate(batches):
                now = epoch + step / NUM_STEPS
                rate = 0.1 * 0.5 * (1 + math.cos(math.pi * now / 4))
                if now < 1.5:
                    end = 0.1 * 0.5 * (1 + math.cos(math.pi * 1.5 / 4))
                    rate = 0.02 + (end - 0.02) * now / 1.5
                for group, factor in zip(optimiser.param_groups, (1, 1, 10, 10), strict=True):
                    group["lr"] = rate * factor
                loss = nn.functional.cross_entropy(net(batch), batch["label"], label_smoothing=0.1)
                optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(net.parameters(), 0.3)
                optimiser.step()
                losses.append(loss.item())
            means.append(sum(losses) / len(losses))
        state = trainings.run(shards, tmp_path, recipe, seed=5)
        assert same(state["model"], net.state_dict())
        assert [row["loss"] for row in state["history"]] == pytest.approx(means, rel=1e-12)
        assert state["history"][-1]["learning_rate"] == rate

    @pytest.mark.parametrize("amp", ["off", "bf16", "fp16"])
    def test_adamw_in_shorter_types(self, shards: Path, tmp_path: Path, amp: str) -> None:
        recipe = tiny_recipe(optimiser="adamw", schedule="constant", weight_decay=0.05, max_grad_norm=0.5)
        torch.manual_seed(0)
        net = Net(2)
        matrices = [net.network.stem.weight, net.network.head.projection.weight]
        vectors = [net.network.stem.bias, *net.network.norm.parameters(), net.network.head.projection.bias]
        optimiser = torch.optim.AdamW(
            [{"params": matrices}, {"params": vectors, "weight_decay": 0}], 0.1, weight_decay=0.05
        )
        scaler = torch.amp.GradScaler("cpu", enabled=amp == "fp16")
        for batches in batches_of(shards, recipe, 0):
            for batch in batches:
                dtype = {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}[amp]
                with torch.autocast("cpu", dtype, enabled=dtype is not None):
                    logits = net(batch)
                optimiser.zero_grad()
                scaler.scale(nn.functional.cross_entropy(logits.float(), batch["label"])).backward()
                scaler.unscale_(optimiser)
                nn.utils.clip_grad_norm_(net.parameters(), 0.5)
                scaler.step(optimiser)
                scaler.update()
        state = trainings.run(shards, tmp_path, recipe, amp=amp)
        assert same(state["model"], net.state_dict())
        assert state["scaler"].get("scale") == (65536 if amp == "fp16" else None)

    def test_several_labels_a_video(self, tmp_path: Path) -> None:
        """The binary loss, the mean over videos and classes; the score is the mean average precision."""
        rows = [
            Row(f"{name}.mkv", labels=labels, splits=(TRAIN,))
            for name, labels in (("a", (0,)), ("b", (0, 1)), ("c", ()), ("d", (1,)))
        ]
        for number, row in enumerate(rows):
            write_view(tmp_path / "clips" / row.path, number)
        shards = extract_rows(tmp_path / "clips", rows, tmp_path / "shards", RGB_ONLY, multi_label=True)
        recipe = tiny_recipe(schedule="constant", epochs=1)
        train(recipe, shards, tmp_path / "run", Options(validate=TRAIN))
        torch.manual_seed(0)
        net = Net(2)
        optimiser = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
        dataset = ShardDataset(shards, clips=recipe.train_clips, transform=recipe.train_transform, shuffle=True)
        (batch,) = dataset.loader(4, generator=torch.Generator())
        logits, targets = net(batch), batch["label"].float()
        loss = nn.functional.softplus(logits).sub(logits * targets).mean()
        loss.backward()
        state = checkpoint(tmp_path / "run")
        assert state["history"][0]["loss"] == pytest.approx(loss.item(), rel=1e-6)
        assert 0 < state["history"][0]["map"] <= 1
        decayed = [p for p in net.parameters() if p.dim() > 1]
        for parameter in decayed:
            parameter.grad += 1e-4 * parameter.detach()
        optimiser.step()
        torch.testing.assert_close(dict(state["model"]), dict(net.state_dict()), atol=1e-7, rtol=1e-5)


class TestSeeds:
    def test_one_seed_is_one_training(self, shards: Path, tmp_path: Path) -> None:
        recipe = tiny_recipe(epochs=1)
        found = [
            trainings.run(shards, tmp_path / str(number), recipe, seed=seed, num_workers=num_workers)
            for number, (seed, num_workers) in enumerate([(1, 0), (1, 2), (2, 0)])
        ]
        assert same(found[0], found[1])
        assert not same(found[0]["model"], found[2]["model"])


@pytest.fixture(scope="module")
def left(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("run")
    trainings.run(shards, to, tiny_recipe(epochs=5), validate=TEST, validate_every=2, tensorboard=True)
    return to


class TestWhatIsLeft:
    def test_metrics(self, left: Path) -> None:
        with (left / "metrics.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0]) == ["epoch", "learning_rate", "loss", "top1"]
        assert [row["epoch"] for row in rows] == ["1", "2", "3", "4", "5"]
        assert [bool(row["top1"]) for row in rows] == [False, True, False, True, True]  # each second, and the last
        history = checkpoint(left)["history"]
        assert [float(row["loss"]) for row in rows] == [row["loss"] for row in history]

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_tensorboard(self, left: Path) -> None:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(left / "tensorboard")).Reload()
        history = checkpoint(left)["history"]
        assert sorted(events.Tags()["scalars"]) == ["learning_rate", "loss", "top1"]
        for name in ("learning_rate", "loss", "top1"):
            found = {event.step: event.value for event in events.Scalars(name)}
            assert found == pytest.approx({row["epoch"]: row[name] for row in history if name in row}, rel=1e-6)

    def test_the_best_is_the_first_with_the_best_score(self, shards: Path, left: Path) -> None:
        """The score is that of the mean probabilities over the views of the recipe's test."""
        scores = {row["epoch"]: row["top1"] for row in checkpoint(left)["history"] if "top1" in row}
        best = checkpoint(left, "best.pt")
        assert best["epoch"] == min(epoch for epoch, score in scores.items() if score == max(scores.values()))
        for state in (best, checkpoint(left)):
            net = Net(2).eval()
            net.load_state_dict(state["model"])
            recipe, hits = tiny_recipe(), []
            dataset = ShardDataset(shards, TEST, clips=recipe.test_clips, transform=recipe.test_transform)
            for batch in dataset.loader(2):  # the two clips of a video
                assert len(set(batch["key"])) == 1
                hits.append(net(batch).softmax(1).mean(0).argmax().item() == batch["label"][0])
            assert sum(hits) / len(hits) == scores[state["epoch"]]

    def test_to_validate_changes_nothing_else(self, shards: Path, left: Path, tmp_path: Path) -> None:
        plain = trainings.run(shards, tmp_path, tiny_recipe(epochs=5))
        assert same(plain["model"], checkpoint(left)["model"])
        assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pt", "metrics.csv"]

    @pytest.mark.parametrize("video_score", ["mean", "max"])
    def test_it_measures_what_an_evaluation_does(
        self, shards: Path, left: Path, monkeypatch: pytest.MonkeyPatch, video_score: str
    ) -> None:
        recipe = tiny_recipe(video_score=video_score, test_clips=UniformClips(5, 4))
        model, _, _ = load_model(left / "checkpoint.pt", recipe)
        seen = list[Any]()
        monkeypatch.setattr(train_validate, "accuracy", lambda *found: seen.append(found[0]) or accuracy(*found))
        with join_ranks("cpu") as ranks:
            name, score = Validation(recipe, shards, TEST, 0).score(model, ranks, torch.autocast("cpu", enabled=False))
        found = evaluate(model, recipe, shards, EvaluateOptions(split=TEST))
        np.testing.assert_array_equal(seen[0], found.scores)
        assert (name, score) == ("top1", accuracy(found.scores, found.labels)["top1"])

    def test_the_model_comes_back(self, left: Path) -> None:
        model, recipe, state = load_model(left / "best.pt", tiny_recipe())
        assert same(dict(model.state_dict()), dict(checkpoint(left, "best.pt")["model"]))
        assert recipe == tiny_recipe()
        assert {
            "format": 1,
            "recipe": "",
            "settings": {},
            "classes": ["Run", "Sit"],
            "seed": 0,
        }.items() <= state.items()
        with pytest.raises(UsageError, match="names no recipe, it was trained from Python; give the recipe"):
            load_model(left / "best.pt")


class TestWeights:
    def test_a_checkpoint_of_ours_gives_the_backbone_its_weights(self, shards: Path, tmp_path: Path) -> None:
        first = trainings.run(shards, tmp_path / "first", tiny_recipe(epochs=1))
        began: list[dict[str, torch.Tensor]] = []
        self._begin(shards, tmp_path, began, weights=tmp_path / "first" / "checkpoint.pt")
        assert same(dict(began[0]), dict(first["model"]))

    def test_a_new_head(self, shards: Path, tmp_path: Path) -> None:
        """Weights for three classes, in the layout of others: all but the classifier is theirs."""
        torch.manual_seed(9)
        theirs = Net(3).network.state_dict()
        file = tmp_path / "theirs.pt"
        torch.save(
            {"state_dict": {f"module.{name.replace('stem', 'conv1')}": value for name, value in theirs.items()}}, file
        )
        layouts = {"theirs": ((r"conv1\.(.+)", r"stem.\1"),)}
        began: list[dict[str, torch.Tensor]] = []
        self._begin(shards, tmp_path, began, layouts, weights=file, has_new_head=True)
        own = {name.removeprefix("network."): value for name, value in began[0].items()}
        torch.manual_seed(0)
        expected = theirs | {name: value for name, value in Net(2).network.state_dict().items() if "head" in name}
        assert same({name: own[name] for name in expected}, dict(expected))
        with pytest.raises(UsageError, match=r"are for 3 classes, and the network has 2; .* begin with a new head"):
            self._begin(shards, tmp_path / "more", [], layouts, weights=file)

    def _begin(self, shards: Path, folder: Path, began: list[Any], layouts: Any = None, **options: Any) -> None:
        """Note the weights at the first step."""

        class Noting(Net):
            def forward(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
                began.append({name: value.clone() for name, value in self.state_dict().items()})
                return super().forward(batch)

        recipe = tiny_recipe(epochs=1, model=Noting, layouts=layouts or {})
        train(recipe, shards, folder / "noted", Options(split=TRAIN, **options))

    @pytest.mark.parametrize(
        ("model", "said"),
        [
            (Net, "weights=.*none.pt: No such file or directory; give the file of a state dict"),
            (
                lambda classes: nn.Linear(3, classes),
                "weights=.*: the recipe's model has no backbone by the name of net",
            ),
        ],
    )
    def test_refused(self, shards: Path, tmp_path: Path, model: Any, said: str) -> None:
        with pytest.raises(UsageError, match=said):
            trainings.run(shards, tmp_path / "run", tiny_recipe(model=model), weights=tmp_path / "none.pt")
        assert not (tmp_path / "run" / "checkpoint.pt").exists()


class TestRefused:
    def test_a_loss_that_is_no_number(self, shards: Path, tmp_path: Path) -> None:
        with pytest.raises(TrainError, match="at step 2 of epoch 1: must be finite; begin anew with a smaller --learn"):
            trainings.run(shards, tmp_path, tiny_recipe(learning_rate=1e38, schedule="constant"), checkpoint_seconds=0)
        assert all(
            value.isfinite().all()
            for value in checkpoint(tmp_path)["optimiser"]["state"].values()
            for value in value.values()
        )

    def test_a_gradient_that_is_no_number(self, shards: Path, tmp_path: Path) -> None:
        """The root's slope at 0 is infinite, and its value is not: the weights stay what they were."""

        class Root(Net):
            def forward(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
                logits = super().forward(batch)
                return logits + (logits - logits.detach()).abs().sqrt()

        with pytest.raises(TrainError, match="gradient_norm=nan: at step 1 of epoch 1: must be finite"):
            trainings.run(shards, tmp_path, tiny_recipe(model=Root))

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (lambda logits: logits.flatten(), r"logits=\(8,\)"),
            (lambda logits: (logits,), r"logits=\('tuple',\)"),
            (lambda logits: torch.cat((logits, logits), 1), r"logits=\(4, 4\)"),
        ],
    )
    def test_a_model_that_makes_no_logits(
        self, shards: Path, tmp_path: Path, change: Callable[[torch.Tensor], Any], told: str
    ) -> None:
        class Other(Net):
            def forward(self, batch: Mapping[str, torch.Tensor]) -> Any:
                return change(super().forward(batch))

        with pytest.raises(UsageError, match=rf"{told}: the recipe's model must return \(4, 2\), clips x classes"):
            trainings.run(shards, tmp_path / "run", tiny_recipe(model=Other))

    def test_a_video_without_a_label(self, tmp_path: Path) -> None:
        rows = [Row("a.mkv", labels=(0,)), Row("b.mkv", labels=())]
        for row in rows:
            write_view(tmp_path / "clips" / row.path)
        shards = extract_rows(tmp_path / "clips", rows, tmp_path / "shards", RGB_ONLY)
        with pytest.raises(UsageError, match="label=-1: b%2Emkv: a video without a label can't be learned from"):
            train(tiny_recipe(), shards, tmp_path / "run")

    @pytest.mark.parametrize("num_workers", [0, 1])
    def test_a_damaged_shard_is_named_without_a_traceback(self, shards: Path, tmp_path: Path, num_workers: int) -> None:
        own = Path(shutil.copytree(shards, tmp_path / "own"))
        for tar in own.glob("*.tar"):
            data = bytearray(tar.read_bytes())
            data[600:-2000] = bytes(len(data) - 2600)
            tar.write_bytes(data)
        with pytest.raises(ShardError) as caught:
            trainings.run(own, tmp_path / "run", num_workers=num_workers)
        assert "Traceback" not in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"device": "tpu"}, "device=tpu: must be one of cpu, cuda; choose one .--device"),
            ({"amp": "int8"}, "amp=int8: must be one of off, bf16, fp16; choose one .--amp"),
            ({"sync_batchnorm": True}, "sync_batchnorm=True: PyTorch has it for GPUs alone"),
            ({"validate_every": 0}, "validate_every=0: must be a positive number of epochs; give 1 for each"),
            ({"checkpoint_seconds": -1}, "checkpoint_seconds=-1: must not be negative"),
            ({"checkpoint_seconds": math.nan}, "checkpoint_seconds=nan: must not be negative"),
            ({"has_new_head": True}, "new_head=True: without weights all is new"),
        ],
    )
    def test_options(self, options: dict[str, Any], said: str) -> None:
        with pytest.raises(UsageError, match=said):
            Options(**options)

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
    def test_a_gpu_that_is_not_there(self) -> None:
        with pytest.raises(UsageError, match="device=cuda: PyTorch finds none here; leave out --device"):
            Options(device="cuda")

    def test_tensorboard_that_is_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(
            UsageError, match=r"the package is missing; pip install 'vidprep\[train\]', or leave it out"
        ):
            Options(tensorboard=True)

    def test_nothing_is_there_after_a_refusal(self, shards: Path, tmp_path: Path) -> None:
        """A folder that was there stays, and one that was made for it goes."""
        recipe = replace(tiny_recipe(), learning_rate_of={"net.": 2.0})
        with pytest.raises(
            UsageError,
            match=r"learning_rate_of=net\.: begins no parameter's name; .* begin with network; mend it in the r",
        ):
            trainings.run(shards, tmp_path, recipe)
        assert list(tmp_path.iterdir()) == []
        with pytest.raises(UsageError, match="learning_rate_of"):
            trainings.run(shards, tmp_path / "new", recipe)
        assert list(tmp_path.iterdir()) == []
