"""Two ranks under torchrun train as one process does; what ranks agree on, one alone too."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import train_ranks_script
import trainings
from trainings import TEST, TRAIN, checkpoint, same

from vidprep.errors import UsageError
from vidprep.pipelines.evaluate import Options as EvaluateOptions
from vidprep.pipelines.evaluate import evaluate
from vidprep.pipelines.train import train
from vidprep.pipelines.train_checkpoint import load_model
from vidprep.pipelines.train_options import Options
from vidprep.pipelines.train_ranks import join_ranks
from vidprep.pipelines.train_setup import read_batches


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return trainings.extracted(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="module")
def said_and_left(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What two ranks said, and the folder with what they left."""
    folder = tmp_path_factory.mktemp("ranks")
    trainings.recipe_file(folder, epochs=1)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    here = str(Path(__file__).parent)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
        "PYTHONPATH": os.pathsep.join([here, str(Path(here).parent), os.environ.get("PYTHONPATH", "")]),
    }
    ended = subprocess.run(
        [*command, train_ranks_script.__file__, str(shards), str(folder)],
        check=False,
        timeout=240,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout, folder


class TestTwoRanks:
    def test_learn_what_one_process_learns(self, said_and_left: tuple[str, Path], shards: Path, tmp_path: Path) -> None:
        """The batch is the same, each has half of it: gradients, loss and score are means over both."""
        train(train_ranks_script.recipe(), shards, tmp_path, Options(split=TRAIN, validate=TEST))
        one, two = checkpoint(tmp_path), checkpoint(said_and_left[1] / "whole")
        torch.testing.assert_close(dict(two["model"]), dict(one["model"]), atol=1e-6, rtol=1e-5)
        for own, theirs in zip(two["history"], one["history"], strict=True):
            assert own == pytest.approx(theirs, rel=1e-6)

    def test_go_on_exactly(self, said_and_left: tuple[str, Path]) -> None:
        folder = said_and_left[1]
        assert same(checkpoint(folder / "whole"), checkpoint(folder / "killed"))
        assert (folder / "whole" / "metrics.csv").read_text() == (folder / "killed" / "metrics.csv").read_text()
        assert (folder / "0.txt").read_text() == (folder / "1.txt").read_text() == "2 1 1.5"

    def test_draw_other_random_numbers(self, said_and_left: tuple[str, Path]) -> None:
        first, second = checkpoint(said_and_left[1] / "normalised")["random"]
        assert not torch.equal(first["cpu"], second["cpu"])

    def test_validate_the_network_that_is_saved(self, said_and_left: tuple[str, Path], shards: Path) -> None:
        """Each has normalised its own half of the last batch; the scores are all of the first one's network."""
        model, recipe, _ = load_model(said_and_left[1] / "normalised" / "checkpoint.pt", trainings.tiny_recipe())
        found = evaluate(model, recipe, shards, EvaluateOptions(split=TEST))
        scores = np.load(said_and_left[1] / "scores.npy")
        np.testing.assert_allclose(np.sort(scores, 0), np.sort(found.scores, 0), rtol=1e-6)

    def test_the_first_one_speaks(self, said_and_left: tuple[str, Path]) -> None:
        said, folder = said_and_left
        (line,) = said.splitlines()
        assert line.startswith("1 epochs, loss 0.")
        assert line.endswith(f": {folder / 'told' / 'checkpoint.pt'}")

    def test_another_number_of_ranks_is_refused(self, said_and_left: tuple[str, Path], shards: Path) -> None:
        options = Options(split=TRAIN, validate=TEST)
        with pytest.raises(UsageError, match=r"num_ranks=1: .* holds a training with num_ranks=2"):
            train(train_ranks_script.recipe(), shards, said_and_left[1] / "whole", options)


class TestOneRank:
    def test_alone(self) -> None:
        with join_ranks("cpu") as ranks:
            assert (ranks.is_first, ranks.num_ranks, ranks.device) == (True, 1, torch.device("cpu"))
            assert (ranks.mean(3.0), ranks.gather("a"), ranks.from_first("b")) == (3.0, ["a"], "b")
            model = torch.nn.Linear(1, 1)
            assert ranks.together(model) is model

    def test_a_group_that_is_there_serves_and_stays(self, tmp_path: Path) -> None:
        store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
        torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
        try:
            with join_ranks("cpu") as ranks:
                assert (ranks.rank, ranks.num_ranks) == (0, 1)
            assert torch.distributed.is_initialized()
        finally:
            torch.distributed.destroy_process_group()

    def test_torchrun_s_group_is_joined_and_left(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        told = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        for name, value in (told | {"GLOO_SOCKET_IFNAME": "lo"}).items():
            monkeypatch.setenv(name, value)
        with join_ranks("cpu") as ranks:
            assert torch.distributed.get_backend() == "gloo"
            assert (ranks.rank, ranks.num_ranks) == (0, 1)
        assert not torch.distributed.is_initialized()

    def test_fewer_gpus_than_processes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LOCAL_RANK", "2")
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        with pytest.raises(UsageError, match="device=cuda:2: there are 2 GPUs; begin as many processes on a machine"):
            join_ranks("cuda").__enter__()

    def test_a_batch_that_ranks_can_not_share(self, shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WORLD_SIZE", "3")
        with pytest.raises(UsageError, match="batch_size=4: must be a multiple of the 3 ranks, which share it"):
            read_batches(trainings.tiny_recipe(), shards, Options())
