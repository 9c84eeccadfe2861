"""Parts of the training: schedules, groups of parameters, losses, checkpoints, and what the command line refuses."""

import errno
import io
import math
import re
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import trainings
from hypothesis import given
from hypothesis import strategies as st
from small_exports import run as vidprep
from torch import nn
from trainings import TEST, TRAIN, checkpoint, in_child, recipe_file, same, tiny_recipe

from vidprep.cli import main
from vidprep.errors import UsageError
from vidprep.pipelines.train_checkpoint import load_model, read_checkpoint, write_checkpoint
from vidprep.pipelines.train_loss import loss_of
from vidprep.pipelines.train_optimiser import make_optimiser
from vidprep.pipelines.train_schedule import Plateau, learning_rate


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return trainings.extracted(tmp_path_factory.mktemp("shards"))


def rates(steps_an_epoch: int = 4, **settings: Any) -> list[float]:
    recipe = tiny_recipe(**settings)
    plateau = Plateau(recipe.factor, recipe.patience)
    return [learning_rate(recipe, i / steps_an_epoch, plateau) for i in range(recipe.epochs * steps_an_epoch)]


def torch_rates(num: int, make: Any) -> list[float]:
    """What a schedule of PyTorch gives, asked once a step."""
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule, found = make(optimiser), []
    for _ in range(num):
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    return found


class TestSchedules:
    def test_cosine(self) -> None:
        expected = torch_rates(40, lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 40))
        assert rates(epochs=10, schedule="cosine") == pytest.approx(expected, rel=1e-9)

    def test_step(self) -> None:
        expected = torch_rates(40, lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [8, 30], 0.3))
        assert rates(epochs=10, schedule="step", milestones=(2, 7.5), factor=0.3) == pytest.approx(expected, rel=1e-9)

    def test_constant(self) -> None:
        assert set(rates(epochs=10, schedule="constant")) == {0.1}

    def test_warm_up_meets_the_schedule(self) -> None:
        """The published numbers: 34 of 196 epochs from 0.01 to the cosine's value there."""
        found = rates(1, epochs=196, schedule="cosine", warmup_epochs=34, warmup_start=0.1)
        assert found[0] == pytest.approx(0.01)
        assert found[34] == pytest.approx(0.05 * (1 + math.cos(math.pi * 34 / 196)))
        assert found[17] == pytest.approx((found[0] + found[34]) / 2)
        assert found[34:] == rates(1, epochs=196, schedule="cosine")[34:]
        assert rates(epochs=3, schedule="step", milestones=(0,), factor=0.5, warmup_epochs=1)[4] == 0.05

    @given(
        losses=st.lists(st.sampled_from([0.5, 0.49999, 0.4999, 0.4, 0.3, 0.6]), min_size=1, max_size=30),
        patience=st.integers(0, 3),
        stop=st.integers(0, 30),
    )
    def test_plateau(self, losses: list[float], patience: int, stop: int) -> None:
        """PyTorch's, also where it goes on from a state."""
        optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
        theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.5, patience=patience, eps=0)
        ours, recipe = Plateau(0.5, patience), tiny_recipe(schedule="plateau")
        for number, loss in enumerate(losses):
            if number == stop:
                state, ours = ours.state_dict(), Plateau(0.5, patience)
                ours.load_state_dict(state)
            ours.step(loss)
            theirs.step(loss)
            assert learning_rate(recipe, 1, ours) == pytest.approx(optimiser.param_groups[0]["lr"], rel=1e-9)


class TestOptimiser:
    def test_each_parameter_is_in_one_group(self) -> None:
        """The longest name that fits says the factor; what is frozen is in none."""
        net = trainings.Net(2)
        net.network.norm.requires_grad_(False)
        factors = {"network": 0.5, "network.head.projection.bias": 3.0}
        found = make_optimiser(tiny_recipe(learning_rate_of=factors, weight_decay=0.25), net).param_groups
        names = {parameter: name for name, parameter in net.named_parameters()}
        seen = {
            names[parameter]: (group["factor"], group["weight_decay"])
            for group in found
            for parameter in group["params"]
        }
        assert seen == {
            "network.stem.weight": (0.5, 0.25),
            "network.stem.bias": (0.5, 0),
            "network.head.projection.weight": (0.5, 0.25),
            "network.head.projection.bias": (3.0, 0),
        }
        assert sum(len(group["params"]) for group in found) == 4


class TestLosses:
    @pytest.mark.parametrize("smoothing", [0.0, 0.2])
    def test_of_one_label_and_of_several(self, smoothing: float) -> None:
        logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]], dtype=torch.float64)
        share = torch.full((2, 3), smoothing / 3, dtype=torch.float64)
        share[0, 2] += 1 - smoothing
        share[1, 0] += 1 - smoothing
        one = -(share * logits.log_softmax(1)).sum(1).mean()
        assert loss_of(logits, torch.tensor([2, 0]), smoothing).item() == pytest.approx(one.item())
        labels = torch.tensor([[1, 0, 1], [0, 0, 0]], dtype=torch.uint8)
        holds = labels.double() * (1 - smoothing) + smoothing / 2
        several = -(holds * logits.sigmoid().log() + (1 - holds) * (1 - logits.sigmoid()).log()).mean()
        assert loss_of(logits, labels, smoothing).item() == pytest.approx(several.item())


class TestCheckpoints:
    def test_of_a_file_s_recipe_with_changes(
        self, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """From any folder, and with what the command changed."""
        recipe_file(tmp_path)
        monkeypatch.chdir(tmp_path)
        to = tmp_path / "run"
        said = vidprep(
            "train", "recipe.py", shards, "--to", to, "--split", TRAIN, "--epochs", 1, "--learning-rate", 0.2
        )
        assert re.fullmatch(rf"1 epochs, loss 0\.\d{{4}}: {to}/checkpoint\.pt\n", said.stdout)
        monkeypatch.chdir("/")
        model, recipe, state = load_model(to / "checkpoint.pt")
        assert (state["recipe"], state["settings"]) == (
            str(tmp_path / "recipe.py"),
            {"epochs": 1, "learning_rate": 0.2},
        )
        assert recipe == tiny_recipe(epochs=1, learning_rate=0.2)
        assert same(dict(model.state_dict()), dict(state["model"]))
        again = vidprep(
            "train", tmp_path / "recipe.py", shards, "--to", to, "--split", TRAIN, "--epochs", 1, "--learning-rate", 0.2
        )
        assert again.output.splitlines()[1] == "all of it was there from an earlier run; --overwrite to begin anew"
        (tmp_path / "recipe.py").unlink()
        with pytest.raises(UsageError, match=r"recipe=.*recipe\.py: there is no such file; mend its path"):
            load_model(to / "checkpoint.pt")

    def test_of_another_kind(self, tmp_path: Path) -> None:
        path = tmp_path / "some.pt"
        with pytest.raises(UsageError, match=r"some\.pt: No such file or directory; give the checkpoint\.pt that"):
            read_checkpoint(path)
        torch.save({"model": {}}, path)
        with pytest.raises(UsageError, match=r"some\.pt: is none of vidprep's"):
            read_checkpoint(path)
        torch.save(dict.fromkeys(("format", "recipe", "settings", "classes", "seed", "epoch", "model"), 2), path)
        with pytest.raises(UsageError, match=r"some\.pt: has format 2, and this version reads 1; use the version"):
            read_checkpoint(path)

    def test_a_full_disk_names_the_file_and_leaves_the_last_one(self, tmp_path: Path) -> None:
        path = tmp_path / "checkpoint.pt"
        write_checkpoint(path, {"model": torch.zeros(3)})
        before = path.read_bytes()

        def full() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
            with pytest.raises(OSError, match="File too large") as caught:
                write_checkpoint(path, {"model": torch.zeros(3000)})
            assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))

        assert in_child(full) == 0
        assert path.read_bytes() == before
        assert [one.name for one in tmp_path.iterdir()] == ["checkpoint.pt"]

    def test_no_code_is_run(self, tmp_path: Path) -> None:
        data = io.BytesIO()
        torch.save({"model": Path.unlink}, data)
        (tmp_path / "bad.pt").write_bytes(data.getvalue())
        with pytest.raises(UsageError, match="can't be read"):
            read_checkpoint(tmp_path / "bad.pt")


class TestCommand:
    @pytest.mark.parametrize(
        ("arguments", "status", "said"),
        [
            ("r4d {shards}", 2, "recipe=r4d: must be one of r3d-18, "),
            ("r4d {shards}", 2, "or a Python file that defines recipe; mend the name"),
            ("{tmp}/none.py {shards}", 2, "none.py: there is no such file; mend its path"),
            ("{tmp}/broken.py {shards}", 2, "broken.py: ZeroDivisionError: division by zero; mend the file"),
            ("{tmp}/leaves.py {shards}", 2, "leaves.py: SystemExit: 3; mend the file"),
            (
                "{tmp}/empty.py {shards}",
                2,
                "empty.py: defines no Recipe by the name of recipe; add recipe = Recipe(...)",
            ),
            ("{tmp}/recipe.py {tmp}/none", 1, "no such"),
            ("{tmp}/recipe.py {shards} --split split9/train", 1, "split=split9/train: not in these shards; they have:"),
            ("{tmp}/recipe.py {shards} --validate x", 1, "split=x: not in these shards; they have: "),
            ("{tmp}/recipe.py {shards} --learning-rate nan", 2, "learning_rate=nan: must be a positive number; change"),
            ("{tmp}/recipe.py {shards} --learning-rate -1", 2, "learning_rate=-1.0: must be a positive number"),
            ("{tmp}/recipe.py {shards} --epochs 0", 2, "--epochs"),
            ("{tmp}/recipe.py {shards} --batch-size 0", 2, "--batch-size"),
            ("{tmp}/recipe.py {shards} --seed 4294967296", 2, "seed=4294967296: must be an integer from 0 on, below"),
            ("{tmp}/recipe.py {shards} --weights {tmp}/none.pt", 2, "weights={tmp}/none.pt: No such file or directory"),
            ("{tmp}/recipe.py {shards} --new-head", 2, "new_head=True: without weights all is new; give --weights"),
            ("{tmp}/recipe.py {shards} --sync-batchnorm", 2, "sync_batchnorm=True: PyTorch has it for GPUs alone"),
            ("{tmp}/residual.py {shards}", 1, "modality=residual: the shards hold none, they were extracted with"),
            ("{tmp}/recipe.py {shards} --to {tmp}/recipe.py", 2, "to={tmp}/recipe.py: "),
        ],
    )
    def test_bad_input_is_one_message(
        self, shards: Path, tmp_path: Path, arguments: str, status: int, said: str
    ) -> None:
        recipe_file(tmp_path)
        (tmp_path / "broken.py").write_text("1 / 0")
        (tmp_path / "leaves.py").write_text("raise SystemExit(3)")
        (tmp_path / "empty.py").write_text("")
        residual = (
            'from vidprep.pipelines.recipe import Recipe\nrecipe = Recipe(model=None, modalities=("residual",))\n'
        )
        (tmp_path / "residual.py").write_text(residual)
        given = ["--to", f"{tmp_path}/run", *arguments.format(tmp=tmp_path, shards=shards).split()]
        output = vidprep("train", *given, status=status).output
        assert said.format(tmp=tmp_path) in output
        assert "Traceback" not in output
        assert len(output.splitlines()) == 1 or output.startswith("Usage: ")
        assert not (tmp_path / "run" / "checkpoint.pt").exists()

    def test_an_interrupted_overwrite_names_the_cure(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        def interrupted(*_told: object, **_more: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("vidprep.pipelines.train.train", interrupted)
        told = ["train", "r3d-18", "shards", "--to", str(tmp_path), "--overwrite"]
        monkeypatch.setattr("sys.argv", ["vidprep", *told])
        said = vidprep(*told, status=130).output
        cure = "run the same command, without --overwrite, again, it goes on where it ended"
        assert said == f"vidprep: error: interrupted; {cure}\n"

    def test_a_recipe_that_was_edited_is_another_training(self, shards: Path, tmp_path: Path) -> None:
        """Its settings are the same, and so may the names of its weights be."""
        recipe = recipe_file(tmp_path)
        command = ("train", recipe, shards, "--to", tmp_path / "run", "--split", TRAIN)
        vidprep(*command)
        recipe.write_text(recipe.read_text() + "# changed\n")
        said = vidprep(*command, status=2).output
        assert f"recipe={recipe}: the file was edited since {tmp_path / 'run'} was begun; name another" in said
        assert "--overwrite to begin anew" in said

    def test_a_terminal_sees_progress(self, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The bar counts the steps of all epochs; the line of each epoch is written past it."""
        shown: list[tuple[int, int]] = []
        told: list[tuple[int, str]] = []

        class Bar:
            def __init__(self, **_options: Any) -> None:
                self.total, self.n, self.initial = None, 0, 0

            def __enter__(self) -> "Bar":
                return self

            def __exit__(self, *_error: object) -> None:
                pass

            def set_postfix(self, *_told: object, **_more: object) -> None:
                pass

            def update(self, num: int) -> None:
                self.n += num
                shown.append((self.n, self.total))

            def write(self, line: str, file: Any) -> None:
                assert file is sys.stderr
                told.append((self.n, line.partition(":")[0]))

        monkeypatch.setattr("tqdm.tqdm", Bar)
        vidprep("train", recipe_file(tmp_path), shards, "--to", tmp_path / "run", "--split", TRAIN)
        assert shown == [(step, 6) for step in range(1, 7)]
        assert told == [(3, "epoch 1 of 2"), (6, "epoch 2 of 2")]
        assert checkpoint(tmp_path / "run")["epoch"] == 2

    def test_a_line_for_each_epoch(self, shards: Path, tmp_path: Path) -> None:
        """Where no bar can be shown, too."""
        arguments = ("train", recipe_file(tmp_path), shards, "--to", tmp_path / "run", "--split", TRAIN)
        said = vidprep(*arguments, "--validate", TEST).stderr.splitlines()
        assert [line.partition(":")[0] for line in said] == ["epoch 1 of 2", "epoch 2 of 2"]
        row = checkpoint(tmp_path / "run")["history"][1]
        names = ("learning_rate", "loss", "top1")
        assert said[1].partition(": ")[2] == ", ".join(f"{name} {row[name]:.3g}" for name in names)

    def test_help_names_the_recipes(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            main(["train", "--help"])
        said = " ".join(capsys.readouterr().out.split())
        assert "Recipes: r3d-18, r2plus1d-18, " in said
        assert "slowfast-r50-8x8; or a Python file that defines recipe = Recipe(...)." in said
