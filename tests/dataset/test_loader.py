"""The loader: batches that don't depend on workers, epochs, states to go on from, stages, skipped samples."""

import copy
import pickle
import warnings
from collections import Counter
from itertools import chain, islice
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from webdataset import WebLoader

from dataset.tiny import Numbers, flat, keys, same
from vidprep.dataset.epochs import UNEVEN, Uneven, share_size
from vidprep.dataset.loader import Loader, collate
from vidprep.errors import ShardError, UsageError

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores


class TestEpochs:
    def test_each_iteration_is_the_next_epoch_and_comes_back(self) -> None:
        loader = Numbers(10).loader(4)
        first, second = keys(loader), keys(loader)
        assert sorted(chain(*first)) == sorted(chain(*second)) == sorted(map(str, range(10)))
        assert first != second
        loader.dataset.set_epoch(0)
        assert keys(loader) == first
        again = Numbers(10).loader(4)
        assert [keys(again), keys(again)] == [first, second]

    def test_the_seed_changes_order_and_numbers(self) -> None:
        one, other = (next(iter(Numbers(10, seed=seed).loader(10))) for seed in (0, 1))
        assert one["key"] != other["key"]
        assert not torch.equal(one["rgb"].sort(dim=0)[0], other["rgb"].sort(dim=0)[0])

    def test_a_sample_draws_anew_in_each_epoch_and_view(self) -> None:
        loader = Numbers(3, num_views=2, shuffle=False).loader(6)
        drawn = torch.cat([next(iter(loader))["rgb"] for _ in range(2)]).flatten(1)
        assert len({tuple(row.tolist()) for row in drawn}) == 12

    def test_what_was_broken_off_does_not_shorten_the_next(self) -> None:
        whole = Numbers(10).loader(4)
        wanted = [keys(whole) for _ in range(3)]
        loader = Numbers(10).loader(4)
        for _ in loader:
            break
        assert keys(loader) == wanted[1]
        next(iter(loader))
        assert loader.dataset.epoch == 3

    def test_two_at_once_are_two_epochs(self) -> None:
        whole = Numbers(10).loader(4)
        wanted = [keys(whole), keys(whole)]
        loader = Numbers(10).loader(4)
        pairs = list(zip(iter(loader), iter(loader), strict=True))
        assert [keys(batches) for batches in zip(*pairs, strict=True)] == wanted

    @given(
        st.integers(1, 30),
        st.integers(1, 6),
        st.integers(1, 40),
        st.integers(1, 3),
        st.sampled_from(UNEVEN),
        st.booleans(),
    )
    def test_the_length_is_what_comes(
        self, num_samples: int, num_ranks: int, batch_size: int, num_views: int, uneven: Uneven, drop_last: bool
    ) -> None:
        least = share_size(num_samples, num_ranks - 1, num_ranks, uneven)
        if (uneven == "drop" and not least) or (drop_last and 0 < least * num_views < batch_size):
            return  # refused
        lengths, read = [], Counter[tuple[int, int]]()
        for rank in range(num_ranks):
            dataset = Numbers(num_samples, num_views, ranks=(rank, num_ranks), uneven=uneven)
            loader = dataset.loader(batch_size, drop_last=drop_last)
            batches = list(loader)
            assert len(loader) == len(batches)
            assert all(len(batch["key"]) == batch_size for batch in batches[: None if drop_last else -1])
            read += Counter(
                zip(
                    (int(i) for b in batches for i in b["sample"]),
                    (int(i) for b in batches for i in b["view"]),
                    strict=True,
                )
            )
            lengths.append(len(batches))
        assert uneven == "keep" or len(set(lengths)) == 1
        if uneven == "keep" and not drop_last:
            assert read == Counter((sample, view) for sample in range(num_samples) for view in range(num_views))
        if uneven == "pad" and not drop_last:
            assert len(read) == num_samples * num_views

    def test_views_of_a_sample_follow_each_other(self) -> None:
        batches = list(Numbers(5, num_views=3).loader(4))
        samples = [int(i) for batch in batches for i in batch["sample"]]
        assert samples == [sample for sample in samples[::3] for _ in range(3)]
        assert [int(i) for batch in batches for i in batch["view"]] == [0, 1, 2] * 5


class TestWorkers:
    """With processes: few tests, since each begins some."""

    @pytest.mark.parametrize("num_workers", [1, 3])
    def test_batches_are_the_same(self, num_workers: int) -> None:
        """Three workers make one batch each, or none: fewer batches than workers is no trouble either."""
        wanted = list(Numbers(10, shuffle=True).loader(5))
        found = list(Numbers(10).loader(5, num_workers, prefetch_factor=3))
        assert len(found) == len(wanted) == 2
        assert all(map(same, found, wanted))

    def test_persistent_workers_follow_the_epochs(self) -> None:
        whole = Numbers(10).loader(3)
        wanted = [list(whole) for _ in range(4)]
        loader = Numbers(10).loader(3, 2, persistent_workers=True)
        assert all(map(same, loader, wanted[0]))
        assert same(next(iter(loader)), wanted[1][0])  # broken off, while the workers read ahead
        assert all(map(same, loader, wanted[2]))
        loader.load_state_dict(loader.state_dict() | {"epoch": 3, "num_batches": 2})
        assert all(map(same, loader, wanted[3][2:]))
        first, second = iter(loader), iter(loader)
        with pytest.raises(UsageError, match="one iteration at a time"):
            next(first)
        next(second)
        third = iter(loader)
        with pytest.raises(UsageError, match="one iteration at a time"):
            next(second)
        assert len(list(third)) == 4

    @pytest.mark.parametrize("context", ["spawn", "forkserver"])
    def test_workers_may_be_started_in_any_way(self, context: str) -> None:
        dataset = Numbers(10, broken=(3,), on_error="skip", uneven="keep").select(not_seven)
        with pytest.warns(UserWarning, match="skipped: tar1"):
            wanted = list(dataset.loader(4))
        dataset.set_epoch(0)
        found = list(dataset.loader(4, 1, multiprocessing_context=context))
        assert len(found) == len(wanted)
        assert all(map(same, found, wanted))
        assert dataset.num_skipped == 2  # one here, one there

    def test_an_error_in_a_worker_keeps_its_class_and_message(self) -> None:
        with pytest.raises(ShardError, match="tar1: damaged"):
            list(Numbers(10, broken=(3,)).loader(4, 1))

    def test_a_worker_that_dies_is_an_error(self) -> None:
        dataset = Numbers(10).map(die)
        with pytest.raises(RuntimeError, match="exited unexpectedly"):
            list(dataset.loader(4, 1))


def not_seven(item: dict[str, Any]) -> bool:
    return bool(item["sample"] != 7)


def die(item: dict[str, Any]) -> None:
    import os

    os._exit(3)


class TestState:
    @settings(max_examples=30)
    @given(st.integers(1, 20), st.integers(1, 5), st.integers(0, 12), st.sampled_from(UNEVEN))
    def test_what_comes_is_what_would_have_come(
        self, num_samples: int, batch_size: int, num_done: int, uneven: Uneven
    ) -> None:
        options: dict[str, Any] = {"num_samples": num_samples, "uneven": uneven}
        whole = Numbers(**options).loader(batch_size)
        wanted = [batch for _ in range(3) for batch in whole]
        broken_off = Numbers(**options).loader(batch_size)
        taken = (batch for _ in range(3) for batch in broken_off)
        num_done = len(list(islice(taken, num_done)))
        resumed = Numbers(**options).loader(batch_size)
        resumed.load_state_dict(broken_off.state_dict())
        assert resumed.state_dict() == broken_off.state_dict()
        rest = [batch for _ in range(resumed.dataset.epoch, 3) for batch in resumed]
        assert len(rest) == len(wanted) - num_done
        assert all(map(same, rest, wanted[num_done:]))

    def test_it_says_where_the_iteration_stands(self) -> None:
        loader = Numbers(10).loader(4)

        def place() -> tuple[int, int]:
            state = loader.state_dict()
            return state["epoch"], state["num_batches"]

        assert place() == (0, 0)
        assert [place() for _ in loader] == [(0, 1), (0, 2), (0, 3)]
        assert place() == (1, 0)
        next(iter(loader))
        assert place() == (1, 1)
        loader.load_state_dict(loader.state_dict())
        assert place() == (1, 1)
        assert [place() for _ in loader] == [(1, 2), (1, 3)]
        assert [place() for _ in loader] == [(2, 1), (2, 2), (2, 3)]

    def test_workers_that_read_ahead_do_not_count(self) -> None:
        wanted = list(Numbers(20).loader(2))
        loader = Numbers(20).loader(2, 1, prefetch_factor=4)
        taken = list(islice(loader, 2))
        resumed = Numbers(20).loader(2)
        resumed.load_state_dict(loader.state_dict())
        assert all(map(same, [*taken, *resumed], wanted))

    def test_another_epoch_begins_as_a_whole(self) -> None:
        loader = Numbers(10).loader(4)
        next(iter(loader))
        loader.load_state_dict(loader.state_dict())
        loader.dataset.set_epoch(5)
        assert len(list(loader)) == 3
        assert loader.dataset.epoch == 6

    def test_it_is_numbers_and_strings(self) -> None:
        state = Numbers(10).loader(4).state_dict()
        assert {type(value) for value in state.values()} <= {int, str, bool}

    @pytest.mark.parametrize(
        ("other", "batch_size", "name"),
        [
            ({"num_samples": 11}, 4, "num_samples=11: the state was taken with 10"),
            ({"seed": 1}, 4, "seed=1: the state was taken with 0"),
            ({"ranks": (0, 2)}, 4, "num_ranks=2: the state was taken with 1"),
            ({"num_views": 2}, 4, "num_views=2"),
            ({"shuffle": False}, 4, "shuffle=False"),
            ({"uneven": "drop"}, 4, "uneven=drop"),
            ({}, 5, "batch_size=5: the state was taken with 4"),
        ],
    )
    def test_that_of_another_run_is_refused(self, other: dict[str, Any], batch_size: int, name: str) -> None:
        state = Numbers(10).loader(4).state_dict()
        with pytest.raises(UsageError, match=f"{name}.*; use the same"):
            Numbers(**{"num_samples": 10} | other).loader(batch_size).load_state_dict(state)

    @pytest.mark.parametrize("wrong", [{"num_batches": 4}, {"num_batches": -1}, {"epoch": -1}])
    def test_one_that_can_not_be_is_refused(self, wrong: dict[str, Any]) -> None:
        loader = Numbers(10).loader(4)
        with pytest.raises(UsageError, match="must not be negative, nor more than the 3 batches"):
            loader.load_state_dict(loader.state_dict() | wrong)
        with pytest.raises(UsageError):
            loader.load_state_dict({})

    def test_any_rank_s_serves_all(self) -> None:
        state = Numbers(10, ranks=(0, 2)).loader(2).state_dict()
        Numbers(10, ranks=(1, 2)).loader(2).load_state_dict(state)


class TestPlainLoaders:
    @pytest.mark.parametrize("num_workers", [0, 3])
    def test_each_sample_comes_once_with_torch_s_own(self, num_workers: int) -> None:
        dataset = Numbers(10, num_views=2)
        batches = list(DataLoader(dataset, batch_size=4, num_workers=num_workers))
        assert Counter(flat(batches)) == {str(i): 2 for i in range(10)}
        assert {batch["rgb"].shape[1:] for batch in batches} == {(3, 2, 2, 2)}
        assert dataset.epoch == 0

    def test_persistent_workers_see_the_epoch(self) -> None:
        dataset = Numbers(10)
        loader = DataLoader(dataset, batch_size=10, num_workers=1, persistent_workers=True, collate_fn=collate)
        found = []
        for epoch in (0, 1, 0):
            dataset.set_epoch(epoch)
            found.append(next(iter(loader)))
        assert same(found[0], found[2])
        assert found[0]["key"] != found[1]["key"]

    def test_webdataset_s_own(self) -> None:
        loader = WebLoader(Numbers(10).to_tuple("key", "rgb"), batch_size=4, num_workers=1).unbatched().batched(10)
        ((found, rgb),) = loader
        assert Counter(found) == {str(i): 1 for i in range(10)}
        assert rgb.shape == (10, 3, 2, 2, 2)

    def test_fewer_samples_than_workers(self) -> None:
        assert sorted(flat(DataLoader(Numbers(2), batch_size=4, num_workers=3))) == ["0", "1"]


class TestStages:
    def test_they_compose(self) -> None:
        dataset = Numbers(10, shuffle=False).map(dict).select(not_seven).to_tuple("sample", "key").batched(3)
        batches = list(dataset)
        assert [list(batch[0]) for batch in batches] == [[0, 1, 2], [3, 4, 5], [6, 8, 9]]
        shuffled = [item["sample"] for item in Numbers(10, shuffle=False).shuffle(10, seed=1)]
        assert sorted(shuffled) == list(range(10))

    def test_the_dataset_they_are_added_to_stays_as_it_was(self) -> None:
        dataset = Numbers(10)
        staged = dataset.select(not_seven)
        assert len(list(dataset)) == 10
        assert len(list(staged)) == 9
        staged.set_epoch(3)
        assert dataset.epoch == 3

    def test_in_a_loader_they_run_on_each_batch(self) -> None:
        dataset = Numbers(10, shuffle=False).select(not_seven)
        assert [len(batch["key"]) for batch in dataset.loader(4)] == [4, 3, 2]
        tuples = Numbers(10, shuffle=False).to_tuple("key", "sample", "rgb").loader(4)
        key, sample, rgb = next(iter(tuples))
        assert (key, sample.tolist(), rgb.shape) == (["0", "1", "2", "3"], [0, 1, 2, 3], (4, 3, 2, 2, 2))

    def test_a_batch_that_they_empty_is_refused_where_ranks_keep_step(self) -> None:
        with pytest.raises(UsageError, match="uneven=pad: the stages left no item of a batch"):
            list(Numbers(10, shuffle=False, ranks=(1, 2)).select(not_seven).loader(1))

    def test_a_rank_alone_has_nobody_to_keep_step_with(self) -> None:
        loader = Numbers(10, shuffle=False, ranks=(0, 1)).select(not_seven).loader(1)
        assert flat(loader) == list("012345689")

    def test_and_left_out_elsewhere(self) -> None:
        loader = Numbers(10, shuffle=False, uneven="keep").select(not_seven).loader(1)
        assert flat(loader) == list("01234568 9".replace(" ", ""))
        assert loader.dataset.epoch == 1

    def test_but_not_all_of_them(self) -> None:
        loader = Numbers(10, uneven="keep").select(nothing).loader(4)
        with pytest.raises(UsageError, match="batches=0: the stages left no item of the whole epoch"):
            list(loader)

    def test_repeating_goes_on_with_the_epochs(self) -> None:
        loader = Numbers(4).loader(4)
        wanted = flat(loader) + flat(loader)
        assert [item["key"] for item in Numbers(4).repeat(2)] == wanted
        assert [item["key"] for item in Numbers(4).with_epoch(7)] == wanted[:7]
        assert list(Numbers(4).select(nothing).repeat()) == []

    def test_the_loader_takes_a_collate_function(self) -> None:
        assert [len(batch) for batch in Numbers(10).loader(4, collate_fn=list)] == [4, 4, 2]


def nothing(item: dict[str, Any]) -> bool:
    return False


class TestSkipping:
    def test_raising_is_the_rule(self) -> None:
        with pytest.raises(ShardError, match="tar1: damaged"):
            list(Numbers(10, broken=(3,)).loader(4))

    @pytest.mark.parametrize("uneven", ["pad", "drop"])
    def test_training_replaces(self, uneven: Uneven) -> None:
        """The same number of batches, the same others in their places, and a sample of another number."""
        sound = list(Numbers(10, uneven=uneven).loader(4))
        dataset = Numbers(10, broken=(3, 6), uneven=uneven, on_error="skip")
        with pytest.warns(UserWarning, match="skipped: tar") as caught:
            found = list(dataset.loader(4))
        assert sorted(str(warning.message) for warning in caught) == [
            "skipped: tar1: damaged",
            "skipped: tar3: damaged",
        ]
        assert dataset.num_skipped == 2
        assert [len(batch["key"]) for batch in found] == [4, 4, 2]
        for was, now in zip(flat(sound), flat(found), strict=True):
            assert now == was if was not in ("3", "6") else now not in ("3", "6")
        dataset.set_epoch(0)
        assert all(map(same, dataset.loader(4), found))

    def test_all_views_are_replaced_by_one_sample_and_it_changes_with_the_epoch(self) -> None:
        dataset = Numbers(20, num_views=3, broken=(0,), on_error="skip", shuffle=False)
        loader = dataset.loader(60)
        with pytest.warns(UserWarning, match="tar0"):
            replacements = [tuple(batch["key"][:3]) for _ in range(8) for batch in loader]
        assert all(len(set(three)) == 1 for three in replacements)
        assert len(set(replacements)) > 3

    def test_a_replacement_is_no_copy(self) -> None:
        dataset = Numbers(2, broken=(0,), on_error="skip", shuffle=False)
        with pytest.warns(UserWarning, match="tar0"):
            batch = next(iter(dataset.loader(2)))
        assert batch["key"] == ["1", "1"]
        assert not torch.equal(batch["rgb"][0], batch["rgb"][1])

    def test_evaluation_leaves_out(self) -> None:
        """Also where a batch holds nothing else; the state counts it."""
        dataset = Numbers(10, broken=(2, 3, 6), uneven="keep", on_error="skip", shuffle=False)
        loader = dataset.loader(2)
        with pytest.warns(UserWarning, match="tar"):
            found = [(batch["key"], loader.state_dict()["num_batches"]) for batch in loader]
        assert found == [(["0", "1"], 1), (["4", "5"], 3), (["7"], 4), (["8", "9"], 5)]
        assert dataset.num_skipped == 3

    def test_a_tar_is_named_once(self) -> None:
        dataset = Numbers(10, broken=(2, 3), uneven="keep", on_error="skip")
        loader = dataset.loader(4)
        with pytest.warns(UserWarning, match="tar1") as caught:
            assert [len(flat(loader)) for _ in range(3)] == [8, 8, 8]
        assert len(caught) == 1
        assert dataset.num_skipped == 6

    @pytest.mark.parametrize("uneven", UNEVEN)
    def test_where_all_are_broken_it_is_an_error(self, uneven: Uneven) -> None:
        dataset = Numbers(3, broken=(0, 1, 2), uneven=uneven, on_error="skip")
        for loader in (dataset.loader(2), DataLoader(dataset, batch_size=2)):
            with warnings.catch_warnings(), pytest.raises(ShardError, match="none of 2 other samples can be read"):
                warnings.simplefilter("ignore")
                list(loader)

    def test_a_worker_without_a_sound_sample_is_none(self) -> None:
        dataset = Numbers(4, broken=(0, 2), uneven="keep", on_error="skip", shuffle=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = flat(DataLoader(dataset, batch_size=4, num_workers=2))
        assert sorted(found) == ["1", "3"]
        assert dataset.num_skipped == 2

    def test_what_the_user_s_own_code_raises_is_not_skipped(self) -> None:
        with pytest.raises(KeyError):
            list(Numbers(4, on_error="skip").map(lambda item: item["no such"]).loader(2))


class TestCollating:
    def test_unequal_sizes_are_named(self) -> None:
        items = [{"key": "a", "rgb": torch.zeros(3, 2, 4, 4)}, {"key": "b", "rgb": torch.zeros(3, 2, 4, 5)}]
        with pytest.raises(
            UsageError, match=r"rgb: shapes \(3, 2, 4, 4\), \(3, 2, 4, 5\) in a batch of a, b: .*transform"
        ):
            collate(items)

    def test_unequal_names_too(self) -> None:
        items = [{"key": "a", "rgb": torch.zeros(1)}, {"key": "b"}]
        with pytest.raises(UsageError, match="a, b: hold key and key, rgb"):
            collate(items)


class TestUsage:
    @pytest.mark.parametrize(
        "options", [{"batch_size": 0}, {"batch_size": 2.0}, {"batch_size": 2, "num_workers": -1}, {"batch_size": True}]
    )
    def test_nonsense_is_refused(self, options: dict[str, Any]) -> None:
        with pytest.raises(UsageError, match=r"(batch_size|num_workers)=.*: must be"):
            Numbers(10).loader(**options)

    @pytest.mark.parametrize("name", ["shuffle", "sampler", "batch_sampler", "in_order"])
    def test_what_would_change_the_order_is_refused(self, name: str) -> None:
        with pytest.raises(UsageError, match=f"{name}: the dataset says"):
            Numbers(10).loader(2, **{name: True})

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"num_samples": 0}, "num_samples=0: must be positive"),
            ({"seed": -1}, "seed=-1"),
            ({"seed": 0.5}, "seed=0.5"),
            ({"uneven": "cut"}, "uneven=cut"),
            ({"on_error": "pass"}, "on_error=pass"),
            ({"ranks": (2, 2)}, r"ranks=\(2, 2\)"),
            ({"ranks": (0, 0)}, r"ranks=\(0, 0\)"),
            (
                {"num_samples": 2, "ranks": (0, 3), "uneven": "drop"},
                "num_samples=2: must not be fewer than the 3 ranks",
            ),
        ],
    )
    def test_so_are_datasets_that_can_not_be(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(UsageError, match=message):
            Numbers(**options)

    def test_an_epoch_that_drop_last_would_empty_is_refused(self) -> None:
        loader = Numbers(3).loader(4, drop_last=True)
        with pytest.raises(UsageError, match="batch_size=4: must not be more than the 3 items"):
            list(loader)
        assert list(Numbers(1, uneven="keep", ranks=(1, 2)).loader(4, drop_last=True)) == []

    def test_an_epoch_is_not_negative(self) -> None:
        with pytest.raises(UsageError, match="epoch=-1"):
            Numbers(10).set_epoch(-1)

    def test_a_dataset_can_be_copied_and_pickled(self) -> None:
        dataset = Numbers(10)
        dataset.set_epoch(2)
        wanted = [item["key"] for item in dataset]
        for other in (copy.copy(dataset), copy.deepcopy(dataset), pickle.loads(pickle.dumps(dataset))):
            assert [item["key"] for item in other] == wanted

    def test_a_loader_is_one_of_this_module(self) -> None:
        assert isinstance(Numbers(3).loader(1), Loader)
