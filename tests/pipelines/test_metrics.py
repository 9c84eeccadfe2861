"""Measures against scikit-learn, against what the authors' code for Charades computes, and against loops."""

import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as sklearn

from vidprep.pipelines.evaluate_metrics import (
    MEASURES,
    accuracy,
    average_precisions,
    class_accuracies,
    confusion_matrix,
    hits_at_k,
    mean,
    top_k,
)

NUM_CLASSES = 6
RNG = np.random.default_rng(0)
SCORES = RNG.random((50, NUM_CLASSES))
LABELS = RNG.choice([0, 1, 2, 3, 5], 50)  # none of class 4
TARGETS = (RNG.random((50, NUM_CLASSES)) > 0.7).astype(np.uint8)
TIED = np.round(3 * SCORES) / 3


class TestOfOneLabel:
    @pytest.mark.parametrize("k", [1, 2, 5, 6, 9])
    def test_top_k(self, k: int) -> None:
        if k < NUM_CLASSES:
            wanted = sklearn.top_k_accuracy_score(LABELS, SCORES, k=k, labels=range(NUM_CLASSES))
        else:
            wanted = 1.0
        assert top_k(SCORES, LABELS, k) == pytest.approx(wanted, abs=1e-12)

    @pytest.mark.parametrize("scores", [SCORES, TIED])
    def test_confusions(self, scores: NDArray[np.float64]) -> None:
        found = confusion_matrix(scores, LABELS)
        np.testing.assert_array_equal(
            found, sklearn.confusion_matrix(LABELS, scores.argmax(1), labels=range(NUM_CLASSES))
        )
        assert found.trace() / len(LABELS) == top_k(scores, LABELS, 1)

    def test_mean_class_accuracy(self) -> None:
        found = class_accuracies(confusion_matrix(SCORES, LABELS))
        assert np.isnan(found[4])
        with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
            wanted = sklearn.balanced_accuracy_score(LABELS, SCORES.argmax(1))
        assert mean(found) == pytest.approx(wanted, abs=1e-12)

    def test_of_equal_scores_the_first_class_is_best(self) -> None:
        constant = np.ones((NUM_CLASSES, NUM_CLASSES))
        everything = np.arange(NUM_CLASSES)
        for k in range(1, NUM_CLASSES + 1):
            assert top_k(constant, everything, k) == k / NUM_CLASSES
        assert top_k(np.array([[0.0, 1, 1]]), np.array([1]), 1) == 1
        assert top_k(np.array([[0.0, 1, 1]]), np.array([2]), 1) == 0
        assert top_k(np.array([[0.0, 1, 1]]), np.array([2]), 2) == 1


class TestOfSeveralLabels:
    @pytest.mark.parametrize("scores", [SCORES, TIED])
    def test_average_precision(self, scores: NDArray[np.float64]) -> None:
        np.testing.assert_allclose(
            average_precisions(scores, TARGETS),
            [sklearn.average_precision_score(TARGETS[:, c], scores[:, c]) for c in range(NUM_CLASSES)],
            rtol=0,
            atol=1e-12,
        )

    @given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=12))
    def test_average_precision_threshold_by_threshold(self, videos: list[tuple[int, bool]]) -> None:
        scores = np.array([[score] for score, _ in videos], np.float64)
        targets = np.array([[hit] for _, hit in videos], np.uint8)
        (found,) = average_precisions(scores, targets)
        if not targets.any():
            assert np.isnan(found)
            return
        total = recall = 0.0
        for threshold in sorted({score for score, _ in videos}, reverse=True):
            chosen = [hit for score, hit in videos if score >= threshold]
            total += (sum(chosen) / targets.sum() - recall) * sum(chosen) / len(chosen)
            recall = sum(chosen) / targets.sum()
        assert found == pytest.approx(total, abs=1e-12)

    def test_the_order_of_videos_counts_for_nothing_among_ties(self) -> None:
        scores, targets = np.array([[1.0], [1], [1], [0]]), np.array([[1], [0], [0], [1]], np.uint8)
        found = {
            average_precisions(scores[list(order)], targets[list(order)]).item()
            for order in itertools.permutations(range(4))
        }
        assert len(found) == 1
        assert found.pop() == pytest.approx((1 / 3 + 2 / 4) / 2)


def stream(name: str) -> np.random.Generator:
    """As the oracles' recipes for inputs say: a generator for each name."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(f"input:{name}".encode()).digest()[:8], "little"))


def normal(name: str, shape: Sequence[int]) -> NDArray[np.float64]:
    return stream(name).standard_normal(shape).astype(np.float32).astype(np.float64)


def uniform(name: str, shape: Sequence[int]) -> NDArray[np.float32]:
    return stream(name).random(shape).astype(np.float32)


@pytest.fixture(scope="module")
def official(shared: Path) -> dict[str, NDArray[Any]]:
    with np.load(shared / "golden" / "official" / "charades_map.npz") as file:
        return {name: file[name] for name in file.files if file[name].dtype.kind == "f"}


class TestCharades:
    """What PyVideoResearch's and spatial_focus' code computes (``golden/official/charades_map.npz``)."""

    scores = normal("chmap.scores", (40, 12))
    labels = (uniform("chmap.labels", (40, 12)) > 0.8).astype(np.uint8)
    labels[[3, 11, 19, 27, 38]] = 0
    labels[:, 7] = 0

    def test_videos_without_label_are_left_out(self, official: dict[str, NDArray[Any]]) -> None:
        found = accuracy(self.scores, self.labels)
        assert found["num_labelled"] == 32
        assert found["map"] == pytest.approx(float(official["mAP"]), abs=1e-9)
        precisions = [np.nan if value is None else value for value in found["average_precisions"]]
        np.testing.assert_allclose(precisions, official["ap"], rtol=0, atol=1e-9)
        assert np.isnan(precisions[7])

    def test_as_the_official_rule_says_it(self, official: dict[str, NDArray[Any]]) -> None:
        pushed = np.where(self.labels.any(1, keepdims=True), self.scores, -np.inf)
        found = average_precisions(pushed, self.labels)
        np.testing.assert_allclose(found, official["ap"], rtol=0, atol=1e-9)

    def test_without_that_rule(self, official: dict[str, NDArray[Any]]) -> None:
        found = average_precisions(self.scores, self.labels)
        np.testing.assert_allclose(found, official["plain.ap"], rtol=0, atol=1e-9)
        assert mean(found) == pytest.approx(float(official["plain.mAP"]), abs=1e-9)

    def test_most_of_all_clips(self, official: dict[str, NDArray[Any]]) -> None:
        clips = normal("chmap.clips", (6, 10, 12)).max(1)
        targets = (uniform("chmap.cliptgt", (6, 10, 12)) > 0.7).max(1).astype(np.uint8)
        assert accuracy(clips, targets)["map"] == pytest.approx(float(official["clips.mAP"]), abs=1e-9)

    def test_hits(self, official: dict[str, NDArray[Any]]) -> None:
        found = [hits_at_k(self.scores, self.labels, k) for k in (1, 5)]
        np.testing.assert_allclose(found, official["top1_5"], rtol=0, atol=1e-9)


class TestAll:
    def test_of_one_label(self) -> None:
        found = accuracy(np.concatenate([SCORES, SCORES[:3]]), np.concatenate([LABELS, [-1, -1, -1]]))
        assert found["num_labelled"] == 50
        assert found["top1"] == top_k(SCORES, LABELS, 1) < found["top5"] == top_k(SCORES, LABELS, 5) < 1
        assert np.sum(found["confusions"]) == 50
        assert found["class_accuracies"][4] is None and found["average_precisions"][4] is None
        wanted = [sklearn.average_precision_score(c == LABELS, SCORES[:, c]) for c in (0, 1, 2, 3, 5)]
        assert found["map"] == pytest.approx(np.mean(wanted), abs=1e-12)
        assert found["hits_at_1"] is None

    def test_of_several_labels(self) -> None:
        found = accuracy(SCORES, TARGETS)
        assert found["hits_at_5"] > 1
        assert {name for name in MEASURES if found[name] is None} == {
            *("top1", "top5", "mean_class_accuracy", "class_accuracies", "confusions")
        }

    @pytest.mark.parametrize("labels", [np.full(50, -1), np.zeros((50, NUM_CLASSES), np.uint8)])
    def test_without_labels_nothing_is_known(self, labels: NDArray[Any]) -> None:
        assert accuracy(SCORES, labels) == {"num_labelled": 0, **dict.fromkeys(MEASURES)}

    def test_a_perfect_and_a_hopeless_network(self) -> None:
        perfect = np.eye(NUM_CLASSES)[LABELS]
        assert [accuracy(perfect, LABELS)[name] for name in MEASURES[:4]] == [1, 1, 1, 1]
        assert [accuracy(-perfect, LABELS)[name] for name in MEASURES[:3]] == [0, 0, 0]
