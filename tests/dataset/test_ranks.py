"""Ranks: under torchrun with two processes, in worker processes, and as told."""

import copy
import json
import os
import pickle
import subprocess
import sys
import warnings
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from dataset import ranks_script
from dataset.test_shards import keys_of
from dataset.tiny import Numbers, flat
from vidprep.errors import UsageError


@pytest.fixture(scope="module")
def seen(made: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two ranks saw."""
    out = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    subprocess.run([*command, ranks_script.__file__, str(made), str(out)], check=True, timeout=240, env=environment)
    return [json.loads((out / f"{rank}.json").read_text()) for rank in range(2)]


class TestTorchrun:
    def test_each_sample_comes_once_an_epoch_over_all_ranks(self, seen: list[dict[str, Any]], made: Path) -> None:
        """17 samples over two ranks: one comes twice, the first of the order."""
        for epoch in range(2):
            shares = [list(chain(*rank["epochs"][epoch])) for rank in seen]
            assert [len(share) for share in shares] == [9, 9]
            counts = Counter(chain(*shares))
            assert sorted(counts) == sorted(keys_of(made))
            assert counts[shares[0][0]] == 2
        assert seen[0]["epochs"][0] != seen[0]["epochs"][1]

    def test_ranks_make_equally_many_batches(self, seen: list[dict[str, Any]]) -> None:
        assert [[list(map(len, epoch)) for epoch in rank["epochs"]] for rank in seen] == [[[4, 4, 1]] * 2] * 2

    def test_all_go_on_from_one_rank_s_state(self, seen: list[dict[str, Any]]) -> None:
        for rank in seen:
            assert rank["states"][0] == rank["states"][1]
            assert rank["rest"] == rank["epochs"][0][1:]

    def test_evaluation_sees_each_sample_exactly_once(self, seen: list[dict[str, Any]], made: Path) -> None:
        assert sorted(seen[0]["tested"] + seen[1]["tested"]) == sorted(keys_of(made))
        assert {rank["num_tested"] for rank in seen} == {17}


class TestWhoAmI:
    def test_the_environment_says_it_before_the_group_is_made(self, monkeypatch: pytest.MonkeyPatch) -> None:
        dataset = Numbers(10, ranks=None)
        assert dataset.ranks == (0, 1)
        monkeypatch.setenv("RANK", "1")
        monkeypatch.setenv("WORLD_SIZE", "2")
        assert dataset.ranks == (1, 2)
        assert Numbers(10, ranks=(0, 3)).ranks == (0, 3)
        pickled = pickle.dumps(dataset)
        monkeypatch.setenv("RANK", "0")
        assert pickle.loads(pickled).ranks == (0, 2)  # another process may be another rank

    def test_forked_workers_of_any_loader_hear_it_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WORLD_SIZE", "2")
        seen = []
        for rank in ("0", "1"):
            monkeypatch.setenv("RANK", rank)
            dataset = Numbers(10, ranks=None, shuffle=False, uneven="keep")
            seen += flat(DataLoader(dataset, batch_size=2, num_workers=2, multiprocessing_context="fork"))
        assert sorted(seen) == sorted(map(str, range(10)))

    def test_the_group_says_it_and_copies_made_before_listen(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Stages copy a dataset, and torch.multiprocessing pickles it, both before there is a group."""
        dataset = Numbers(10, ranks=None, shuffle=False)
        early = [dataset.map(dict), copy.copy(dataset), pickle.loads(pickle.dumps(dataset))]
        monkeypatch.setenv("RANK", "0")
        store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
        torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
        try:
            monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
            monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 3)
            for each in early:
                assert [item["key"] for item in each] == ["1", "4", "7", "0"]
        finally:
            torch.distributed.destroy_process_group()

    def test_ranks_that_are_forked_with_a_dataset_do_not_push_each_other_on(self) -> None:
        """Its epoch lies in memory that workers share."""
        dataset = Numbers(10)
        staged = dataset.map(dict)
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            try:
                for _ in range(3):
                    next(iter(staged.loader(4)))
                os.write(writing, bytes([dataset.epoch]))
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert os.read(reading, 1) == b"\3"
        os.close(reading)
        os.close(writing)
        assert dataset.epoch == 0
        dataset.set_epoch(1)
        assert copy.deepcopy(dataset).epoch == pickle.loads(pickle.dumps(dataset)).epoch == staged.epoch == 1

    def test_workers_of_a_copy_share_with_it(self) -> None:
        dataset = copy.deepcopy(Numbers(4, broken=(1,), uneven="keep", on_error="skip", shuffle=False))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert flat(dataset.loader(4, 1)) == ["0", "2", "3"]
        assert dataset.num_skipped == 1

    @pytest.mark.filterwarnings("ignore:This DataLoader will create")
    def test_a_worker_that_is_spawned_knows_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        dataset = Numbers(10, ranks=None, shuffle=False)
        with monkeypatch.context() as patch:
            patch.setattr(Numbers, "ranks", (1, 2))  # as a process group would say here, but not there
            batches = iter(DataLoader(dataset, batch_size=5, num_workers=1, multiprocessing_context="spawn"))
        assert flat(batches) == ["1", "3", "5", "7", "9"]

    def test_fewer_samples_than_ranks(self) -> None:
        shares = [flat(Numbers(2, ranks=(rank, 5), shuffle=False).loader(4)) for rank in range(5)]
        assert shares == [["0"], ["1"], ["0"], ["1"], ["0"]]
        shares = [flat(Numbers(2, ranks=(rank, 5), uneven="keep", shuffle=False).loader(4)) for rank in range(5)]
        assert shares == [["0"], ["1"], [], [], []]

    def test_a_group_that_came_later_is_checked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        dataset = Numbers(2, ranks=None, uneven="drop")
        monkeypatch.setenv("WORLD_SIZE", "3")
        with pytest.raises(UsageError, match="fewer than the 3 ranks"):
            list(dataset.loader(1))
