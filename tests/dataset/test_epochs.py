"""Who reads what: over all ranks, batches and views each sample comes as often as the rule says."""

from collections import Counter
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidprep.dataset.epochs import (
    UNEVEN,
    Uneven,
    epoch_order,
    num_batches,
    places,
    random_numbers,
    rank_share,
    share_size,
)

counts = st.integers(1, 40)


class TestOrder:
    @given(num_samples=counts, seed=st.integers(0, 2**40), epoch=st.integers(0, 1000))
    def test_it_holds_each_sample_once_and_comes_back(self, num_samples: int, seed: int, epoch: int) -> None:
        order = epoch_order(num_samples, seed, epoch, shuffle=True)
        assert sorted(order.tolist()) == list(range(num_samples))
        assert np.array_equal(order, epoch_order(num_samples, seed, epoch, shuffle=True))

    def test_epochs_and_seeds_differ_all(self) -> None:
        orders = [tuple(epoch_order(50, seed, epoch, shuffle=True)) for seed in range(5) for epoch in range(5)]
        assert len(set(orders)) == 25

    def test_every_sample_comes_everywhere(self) -> None:
        """A shuffle of shards or of a buffer would keep samples near their place."""
        where = [int(np.flatnonzero(epoch_order(100, 0, epoch, shuffle=True) == 0)[0]) for epoch in range(1000)]
        assert 45 < np.mean(where) < 54
        assert min(where) < 3
        assert max(where) > 96

    def test_without_shuffle_it_is_the_samples_own(self) -> None:
        assert epoch_order(5, 3, 7, shuffle=False).tolist() == [0, 1, 2, 3, 4]


class TestRanks:
    @given(num_samples=counts, num_ranks=counts, epoch=st.integers(0, 3))
    def test_padding_repeats_the_beginning_of_the_order(self, num_samples: int, num_ranks: int, epoch: int) -> None:
        order = epoch_order(num_samples, 0, epoch, shuffle=True).tolist()
        shares = [rank_share(np.array(order), rank, num_ranks, "pad").tolist() for rank in range(num_ranks)]
        length = -(-num_samples // num_ranks)
        assert {len(share) for share in shares} == {length}
        dealt = [share[i] for i in range(length) for share in shares]  # as cards are
        endless = order * (num_ranks + 1)
        assert dealt == endless[: length * num_ranks]

    @given(num_samples=counts, num_ranks=counts)
    def test_dropping_leaves_the_last_out(self, num_samples: int, num_ranks: int) -> None:
        shares = [rank_share(np.arange(num_samples), rank, num_ranks, "drop").tolist() for rank in range(num_ranks)]
        assert {len(share) for share in shares} == {num_samples // num_ranks}
        assert sorted(chain(*shares)) == list(range(num_samples // num_ranks * num_ranks))

    @given(num_samples=counts, num_ranks=counts)
    def test_keeping_gives_each_to_one_rank(self, num_samples: int, num_ranks: int) -> None:
        shares = [rank_share(np.arange(num_samples), rank, num_ranks, "keep").tolist() for rank in range(num_ranks)]
        assert sorted(chain(*shares)) == list(range(num_samples))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1

    @given(num_samples=counts, num_ranks=counts, uneven=st.sampled_from(UNEVEN))
    def test_the_size_is_known_without_the_order(self, num_samples: int, num_ranks: int, uneven: Uneven) -> None:
        for rank in range(num_ranks):
            share = rank_share(np.arange(num_samples), rank, num_ranks, uneven)
            assert share_size(num_samples, rank, num_ranks, uneven) == len(share)

    def test_what_is_dropped_changes_with_the_epoch(self) -> None:
        dropped = [int(epoch_order(9, 0, epoch, shuffle=True)[-1]) for epoch in range(40)]
        assert len(set(dropped)) == 9


class TestBatches:
    @given(share=st.lists(st.integers(0, 99), max_size=20), num_views=st.integers(1, 4), batch_size=st.integers(1, 30))
    def test_they_hold_all_views_one_after_the_other(self, share: list[int], num_views: int, batch_size: int) -> None:
        total = num_batches(len(share) * num_views, batch_size, drop_last=False)
        batches = [
            places(np.array(share, np.int64), num_views, slice(i * batch_size, (i + 1) * batch_size)).tolist()
            for i in range(total)
        ]
        assert list(chain(*batches)) == [[sample, view] for sample in share for view in range(num_views)]
        assert all(len(batch) == batch_size for batch in batches[:-1])
        assert all(batches)

    @given(share=st.lists(st.integers(0, 99), max_size=20), num_views=st.integers(1, 4), num_workers=st.integers(1, 9))
    def test_workers_that_take_turns_miss_nothing(self, share: list[int], num_views: int, num_workers: int) -> None:
        read = [
            place
            for worker in range(num_workers)
            for place in places(np.array(share, np.int64), num_views, slice(worker, None, num_workers)).tolist()
        ]
        wanted = Counter((sample, view) for sample in share for view in range(num_views))
        assert Counter(map(tuple, read)) == wanted

    @pytest.mark.parametrize(("num_items", "whole", "all_of_them"), [(0, 0, 0), (3, 0, 1), (4, 1, 1), (9, 2, 3)])
    def test_counts(self, num_items: int, whole: int, all_of_them: int) -> None:
        assert num_batches(num_items, 4, drop_last=True) == whole
        assert num_batches(num_items, 4, drop_last=False) == all_of_them


def test_no_two_places_share_random_numbers() -> None:
    """NumPy alone takes (1, 2) and (1, 2, 0) for one seed."""
    places = [("order", 0, 1), ("item", 0, 1, 0, 0), ("item", 1, 0, 0, 0), ("item", 0, 1, 1, 0), ("item", 0, 1, 0, 1)]
    places += [("replacement", 0, 1, 0), ("replacement", 1, 0, 0), ("order", 1, 0), ("order", 0, 0)]
    drawn = [tuple(random_numbers(*place).integers(1 << 30, size=4)) for place in places]
    assert len(set(drawn)) == len(places)
    assert tuple(random_numbers(*places[0]).integers(1 << 30, size=4)) == drawn[0]
