"""A training that is killed, at any moment, and told again ends bit for bit as one that was not."""

import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import trainings
from runs import contents, identities
from small_exports import run as vidprep
from trainings import NUM_STEPS, TEST, TRAIN, Net, begin_child, checkpoint, in_child, kill, same, tiny_recipe

from vidprep.cli import main
from vidprep.errors import ShardError, UsageError
from vidprep.pipelines.train import train
from vidprep.pipelines.train_checkpoint import read_checkpoint
from vidprep.pipelines.train_options import Options
from vidprep.shards.files import locked_folder

EVERY_STEP = Options(split=TRAIN, validate=TEST, checkpoint_seconds=0)
# So fast that the loss rises in the second epoch: the plateau has something to know of the first.
RECIPE = tiny_recipe(schedule="plateau", patience=0, factor=0.5, learning_rate=2.0, optimiser="adamw")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return trainings.extracted(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="module")
def whole(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that nobody disturbed."""
    to = tmp_path_factory.mktemp("whole") / "run"
    train(RECIPE, shards, to, EVERY_STEP)
    assert checkpoint(to)["plateau"]["scale"] == 0.5
    return to


def killed_at(number: int, *, after: bool) -> Callable[[Path, Path], Path]:
    """Return what renames a file, and kills the process at one of its calls, before or after the file is there."""
    replace, calls = Path.replace, 0

    def renamed(self: Path, target: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls == number and not after:
            kill()
        replace(self, target)
        if calls == number:
            kill()
        return target

    return renamed


def same_end(one: Path, other: Path) -> bool:
    assert (one / "metrics.csv").read_bytes() == (other / "metrics.csv").read_bytes()
    assert sorted(path.name for path in one.iterdir()) == sorted(path.name for path in other.iterdir())
    return all(same(checkpoint(one, name), checkpoint(other, name)) for name in ("checkpoint.pt", "best.pt"))


class TestKilled:
    @pytest.mark.parametrize("after", [False, True])
    def test_at_each_moment_at_which_the_folder_changes(
        self, shards: Path, whole: Path, tmp_path: Path, after: bool
    ) -> None:
        """Each step ends with a checkpoint here; between two changes of the folder, a kill leaves the same files."""
        number, status = 0, -signal.SIGKILL
        while status == -signal.SIGKILL:
            number += 1
            to = tmp_path / str(number)

            def run(number: int = number, to: Path = to) -> None:
                Path.replace = killed_at(number, after=after)  # type: ignore[method-assign]
                train(RECIPE, shards, to, EVERY_STEP)

            status = in_child(run)
            train(RECIPE, shards, to, EVERY_STEP)
            assert same_end(whole, to), number
        assert status == 0
        assert number == 1 + 1 + 2 * (NUM_STEPS + 3) - 1  # the first, the end, and one epoch that was not the best

    def test_again_and_again_with_other_numbers_of_workers(self, shards: Path, whole: Path, tmp_path: Path) -> None:
        """Workers that outlive a killed run hold no lock on its folder."""
        to = tmp_path / "run"
        for num_workers in (1, 0, 2, 1):
            options = Options(split=TRAIN, validate=TEST, checkpoint_seconds=0, num_workers=num_workers)
            steps = iter(range(2))

            def die_at_the_second(*_told: float, steps: Any = steps) -> None:
                if next(steps) == 1:
                    kill()

            assert in_child(lambda o=options, d=die_at_the_second: train(RECIPE, shards, to, o, on_progress=d)) == -9
        train(RECIPE, shards, to, EVERY_STEP)
        assert same_end(whole, to)

    def test_without_a_checkpoint_in_the_epoch_it_begins_anew(self, shards: Path, whole: Path, tmp_path: Path) -> None:
        to, options = tmp_path / "run", Options(split=TRAIN, validate=TEST)

        def die_late(done: int, _total: int, _loss: float) -> None:
            if done == 2 * NUM_STEPS:
                kill()

        assert in_child(lambda: train(RECIPE, shards, to, options, on_progress=die_late)) == -9
        assert checkpoint(to)["epoch"] == 1
        done: list[int] = []
        summary = train(RECIPE, shards, to, options, on_progress=lambda step, *_: done.append(step))
        assert done == [NUM_STEPS + 1, NUM_STEPS + 2, NUM_STEPS + 3]
        assert (summary.num_resumed, summary.num_epochs) == (1, 2)
        assert same_end(whole, to)

    @pytest.mark.parametrize("amp", ["bf16", "fp16"])
    def test_in_shorter_types(self, shards: Path, tmp_path: Path, amp: str) -> None:
        """The state of the gradient scaler is in the checkpoint too."""
        options = Options(split=TRAIN, amp=amp, checkpoint_seconds=0)

        def die(done: int, _total: int, _loss: float) -> None:
            if done == 4:
                kill()

        assert in_child(lambda: train(tiny_recipe(), shards, tmp_path / "killed", options, on_progress=die)) == -9
        train(tiny_recipe(), shards, tmp_path / "killed", options)
        train(tiny_recipe(), shards, tmp_path / "whole", options)
        one, other = checkpoint(tmp_path / "killed"), checkpoint(tmp_path / "whole")
        assert same(one, other)
        assert one["scaler"].get("_growth_tracker") == {"bf16": None, "fp16": 6}[amp]

    def test_the_random_numbers_of_others_do_not_matter(self, shards: Path, whole: Path, tmp_path: Path) -> None:
        torch.rand(7)
        train(RECIPE, shards, tmp_path / "run", EVERY_STEP)
        assert same_end(whole, tmp_path / "run")


class TestSignals:
    @pytest.mark.parametrize(
        ("number", "status", "word"), [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")]
    )
    def test_what_it_says_is_true(
        self, shards: Path, tmp_path: Path, number: signal.Signals, status: int, word: str
    ) -> None:
        recipe, to = trainings.recipe_file(tmp_path, epochs=3), tmp_path / "run"
        command = ["train", str(recipe), str(shards), "--to", str(to), "--split", TRAIN, "--checkpoint-seconds", "0"]

        def interrupted() -> None:
            replace, calls = Path.replace, 0

            def renamed(self: Path, target: Path) -> Path:
                nonlocal calls
                calls += 1
                if calls == 5:  # the second epoch, after its metrics
                    os.kill(os.getpid(), number)
                return replace(self, target)

            Path.replace = renamed  # type: ignore[method-assign]
            main(command)

        assert in_child(interrupted, tmp_path / "errors") == status
        said = f"vidprep: error: {word}; run the same command again, it goes on where it ended\n"
        assert (tmp_path / "errors").read_text() == said
        assert "3 epochs" in vidprep(*command).output
        trainings.run(shards, tmp_path / "whole", tiny_recipe(epochs=3))
        assert same(checkpoint(to)["model"], checkpoint(tmp_path / "whole")["model"])


class TestOtherTrainings:
    @pytest.mark.parametrize(
        ("changes", "options", "said"),
        [
            ({"learning_rate": 0.2}, {}, "learning_rate=0.2: {to} holds a training with learning_rate=2.0; give the"),
            ({"epochs": 3}, {}, "epochs=3: {to} holds a training with epochs=2"),
            ({"train_transform": ()}, {}, r"train_transform=\(\): {to} holds a training with train_transform=\(Random"),
            ({"batch_size": 3}, {}, "batch_size=3"),
            ({}, {"seed": 1}, "seed=1: {to} holds a training with seed=0"),
            ({}, {"split": "split2/train"}, "shards_sha256="),
            ({}, {"split": None}, "shards_sha256="),
            ({}, {"validate": None}, "validate=None"),
            ({}, {"amp": "bf16"}, "amp=bf16: {to} holds a training with amp=off"),
            ({}, {"weights": Path("x.pt")}, "weights=.*x.pt: {to} holds a training with weights=None"),
        ],
    )
    def test_are_refused(
        self, shards: Path, whole: Path, changes: dict[str, Any], options: dict[str, Any], said: str
    ) -> None:
        before = identities(whole)
        told = {"split": TRAIN, "validate": TEST} | options
        recipe = tiny_recipe(**{name: getattr(RECIPE, name) for name in RECIPE.facts} | changes)
        with pytest.raises(UsageError, match=said.format(to=whole)):
            train(recipe, shards, whole, Options(**told))
        assert identities(whole) == before

    def test_a_finished_one_is_left_as_it_is(self, shards: Path, whole: Path) -> None:
        before = identities(whole)
        steps: list[int] = []
        summary = train(RECIPE, shards, whole, EVERY_STEP, on_progress=lambda step, *_: steps.append(step))
        assert (steps, summary.num_resumed, summary.num_epochs) == ([], 2, 2)
        assert identities(whole) == before

    def test_overwrite_begins_anew(self, shards: Path, tmp_path: Path) -> None:
        trainings.run(shards, tmp_path / "run", validate=TEST)
        (tmp_path / "run" / "notes.txt").write_text("mine")
        trainings.run(shards, tmp_path / "run", tiny_recipe(epochs=1), overwrite=True, seed=3)
        trainings.run(shards, tmp_path / "fresh", tiny_recipe(epochs=1), seed=3)
        assert same(checkpoint(tmp_path / "run"), checkpoint(tmp_path / "fresh"))
        assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
            "checkpoint.pt",
            "metrics.csv",
            "notes.txt",
        ]
        assert len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 2

    @pytest.mark.parametrize("overwrite", [False, True])
    @pytest.mark.parametrize("name", ["metrics.csv", "best.pt", "index.json", "plan.json"])
    def test_files_of_others_are_left(self, shards: Path, tmp_path: Path, name: str, overwrite: bool) -> None:
        (tmp_path / name).write_text("mine")
        with pytest.raises(UsageError, match=f"holds {name}, but no training; name another folder"):
            trainings.run(shards, tmp_path, overwrite=overwrite)
        assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "mine")]

    @pytest.mark.parametrize("data", [b"", b"no checkpoint", {"model": {}}])
    def test_a_training_of_others_is_not_overwritten(self, shards: Path, tmp_path: Path, data: Any) -> None:
        """Many programs call their files so."""
        if isinstance(data, bytes):
            (tmp_path / "checkpoint.pt").write_bytes(data)
        else:
            torch.save(data, tmp_path / "checkpoint.pt")
        (tmp_path / "best.pt").write_text("mine")
        (tmp_path / "metrics.csv").write_text("mine")
        before = contents(tmp_path)
        said = r"holds a checkpoint\.pt that is damaged, or not of this program; name another folder, or remove what"
        with pytest.raises(UsageError, match=said):
            trainings.run(shards, tmp_path, overwrite=True)
        assert contents(tmp_path) == before

    def test_one_that_is_refused_leaves_no_folder(self, shards: Path, tmp_path: Path) -> None:
        with pytest.raises(ShardError):
            trainings.run(shards, tmp_path / "run", split="split9/train")
        assert not (tmp_path / "run").exists()

    def test_a_training_that_never_began_is_no_other_training(self, shards: Path, tmp_path: Path) -> None:
        """Its recipe failed in the first step: mended, the same command begins."""

        class Fails(Net):
            def forward(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
                raise RuntimeError("a slip")

        with pytest.raises(RuntimeError, match="a slip"):
            trainings.run(shards, tmp_path / "run", tiny_recipe(model=Fails, epochs=3))
        assert (tmp_path / "run" / "checkpoint.pt").exists()
        trainings.run(shards, tmp_path / "run", tiny_recipe(epochs=1))
        trainings.run(shards, tmp_path / "fresh", tiny_recipe(epochs=1))
        assert same(checkpoint(tmp_path / "run"), checkpoint(tmp_path / "fresh"))

    def test_two_runs_do_not_share_a_folder(self, shards: Path, tmp_path: Path) -> None:
        with (
            locked_folder(tmp_path, "vidprep train", "to", tmp_path),
            pytest.raises(ShardError, match="another vidprep train is writing to it; wait for it, or end it"),
        ):
            trainings.run(shards, tmp_path)
        trainings.run(shards, tmp_path, tiny_recipe(epochs=1))

    @pytest.mark.parametrize("data", [b"", b"no checkpoint", b"PK\3\4"])
    def test_a_damaged_checkpoint(self, shards: Path, tmp_path: Path, data: bytes) -> None:
        (tmp_path / "checkpoint.pt").write_bytes(data)
        with pytest.raises(
            UsageError, match=r"checkpoint\.pt: can't be read, it is damaged or no checkpoint; give the"
        ):
            trainings.run(shards, tmp_path)

    def test_a_checkpoint_with_other_bytes_is_not_taken_for_sound(self, whole: Path, tmp_path: Path) -> None:
        """A single one, among the numbers: torch reads it."""
        data = bytearray((whole / "checkpoint.pt").read_bytes())
        weight = checkpoint(whole)["model"]["network.stem.weight"].numpy().tobytes()
        data[data.index(weight) + 2] ^= 0xFF
        (tmp_path / "checkpoint.pt").write_bytes(data)
        torch.load(tmp_path / "checkpoint.pt", weights_only=True)
        with pytest.raises(UsageError, match=r"checkpoint\.pt: can't be read, it is damaged"):
            read_checkpoint(tmp_path / "checkpoint.pt")

    def test_a_model_that_has_changed(self, shards: Path, tmp_path: Path) -> None:
        trainings.run(shards, tmp_path, tiny_recipe(epochs=1))
        with pytest.raises(UsageError, match=r"5 unexpected \(network.norm.*or the recipe as it was in the training"):
            trainings.run(shards, tmp_path, tiny_recipe(epochs=1, model=lambda n: trainings.Net(n, normalises=False)))


def test_a_lock_goes_with_the_process_that_took_it(tmp_path: Path) -> None:
    """A worker that outlives its run has the run's open files, but not its locks."""
    (hears, says), (waits, ends) = os.pipe(), os.pipe()
    with locked_folder(tmp_path, "vidprep train", "to", tmp_path):
        child = begin_child(lambda: (os.close(ends), os.write(says, b"1"), os.read(waits, 1)))
        os.read(hears, 1)
        with pytest.raises(ShardError), locked_folder(tmp_path, "vidprep train", "to", tmp_path):
            pass
    with locked_folder(tmp_path, "vidprep train", "to", tmp_path):
        assert os.waitpid(child, os.WNOHANG) == (0, 0)  # it still lives
    os.close(ends)
    assert os.waitpid(child, 0) == (child, 0)
    for descriptor in (hears, says, waits):
        os.close(descriptor)
