"""Who reads what in an epoch: pure functions of the seed, the epoch and the rank.

The rules
---------
An epoch's order is a permutation by (seed, epoch) of all samples, or their own order where nothing is shuffled. It
does not depend on ranks, workers or batches. Rank r of R takes every R-th sample from r on, and cuts them, each with
all its views, into batches. So a rank's batches are the same with any number of workers.

Where R doesn't divide the number of samples N, there are three rules:

``pad``
    Ranks that are one short take samples from the beginning of the order, which is begun again as often as it takes.
    Each sample comes at least once, each rank reads ceil(N / R), all make equally many batches. For training.
``drop``
    The last N mod R samples of the order are left out, others in each epoch that shuffles. Each sample comes at most
    once, each rank reads floor(N / R), all make equally many batches. Fewer samples than ranks are refused.
``keep``
    Each sample comes exactly once; ranks may differ by one sample, and with fewer samples than ranks some read
    nothing. For evaluation.

A sample that can't be read, where such samples are to be skipped, is replaced under ``pad`` and ``drop``: by the first
that can be read in a sequence of samples drawn by (seed, epoch, sample), the same for all its views. Ranks go on making
equally many batches. Under ``keep`` it is left out.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Uneven = Literal["pad", "drop", "keep"]
UNEVEN = ("pad", "drop", "keep")
MAX_SEED = 1 << 32
_PURPOSES = ("order", "item", "replacement")


def epoch_order(num_samples: int, seed: int, epoch: int, *, shuffle: bool) -> NDArray[np.int64]:
    """Return the order of all samples in an epoch [shape=(num_samples,), dtype=int64]."""
    if not shuffle:
        return np.arange(num_samples)
    return random_numbers("order", seed, epoch).permutation(num_samples)


def random_numbers(purpose: str, seed: int, *place: int) -> np.random.Generator:
    """Return the random numbers of one place in an epoch; no two purposes, and no two places, share any.

    NumPy pads seeds with zeros and cuts them into 32 bits: the purpose's number stands in front, places of a purpose
    are equally long, and a seed is below ``MAX_SEED``.
    """
    return np.random.default_rng((_PURPOSES.index(purpose), seed, *place))


def rank_share(order: NDArray[Any], rank: int, num_ranks: int, uneven: Uneven) -> NDArray[Any]:
    """Return the part of an order that one rank reads."""
    rest = len(order) % num_ranks
    if rest and uneven == "drop":
        order = order[: len(order) - rest]
    elif rest and uneven == "pad":
        order = np.concatenate([order, np.resize(order, num_ranks - rest)])
    return order[rank::num_ranks]


def share_size(num_samples: int, rank: int, num_ranks: int, uneven: Uneven) -> int:
    """Return how many samples :func:`rank_share` gives a rank."""
    if uneven == "keep":
        return len(range(rank, num_samples, num_ranks))
    return num_samples // num_ranks if uneven == "drop" else -(-num_samples // num_ranks)


def places(share: NDArray[np.int64], num_views: int, part: slice) -> NDArray[np.int64]:
    """Return sample and view of some of the items that a share makes [shape=(num_items, 2), dtype=int64].

    A sample's views follow each other.
    """
    sample, view = np.divmod(np.arange(*part.indices(len(share) * num_views)), num_views)
    return np.stack([share[sample], view], axis=1)


def num_batches(num_items: int, batch_size: int, *, drop_last: bool) -> int:
    """Return how many batches a number of items makes."""
    return num_items // batch_size if drop_last else -(-num_items // batch_size)
