"""Who reads what in an epoch: pure functions of the seed, the epoch, the rank and the worker.

The rules
---------
An epoch's order is a permutation by (seed, epoch) of all samples, or their own order where nothing is shuffled. It
does not depend on ranks, workers or batches. Rank r of R takes every R-th sample from r on, and cuts them into
batches; worker w of W makes every W-th batch from w on. So a rank's batches are the same with any number of workers.

Where R doesn't divide the number of samples, ``pad`` (training) lets the ranks that are one short take samples from
the beginning of the order, so that each sample comes at least once and ranks have equal numbers of batches; ``drop``
leaves the last samples of the order out, so that each comes at most once; ``keep`` (evaluation) does neither: each
comes exactly once, and ranks may differ by one sample.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Uneven = Literal["pad", "drop", "keep"]


def epoch_order(num_samples: int, seed: int, epoch: int, *, shuffle: bool) -> NDArray[np.int64]:
    """Return the order of all samples in an epoch [shape=(num_samples,), dtype=int64]."""
    if not shuffle:
        return np.arange(num_samples)
    return np.random.default_rng((seed, epoch)).permutation(num_samples)


def rank_share(order: NDArray[Any], rank: int, num_ranks: int, uneven: Uneven) -> NDArray[Any]:
    """Return the part of an order that one rank reads."""
    rest = len(order) % num_ranks
    if rest and uneven == "drop":
        order = order[: len(order) - rest]
    elif rest and uneven == "pad":
        order = np.concatenate([order, np.resize(order, num_ranks - rest)])
    return order[rank::num_ranks]


def num_batches(num_items: int, batch_size: int, *, drop_last: bool) -> int:
    """Return how many batches a number of items makes."""
    return num_items // batch_size if drop_last else -(-num_items // batch_size)
