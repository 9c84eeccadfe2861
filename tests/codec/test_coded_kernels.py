"""Motion compensation against a slow oracle: all fractions, both roundings, vectors far outside, odd sizes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import pytest
import reference_coded as oracle
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vidprep.codec import _coded_kernels as kernels
from vidprep.codec.macroblocks import MACROBLOCK_DTYPE

ROWS, COLUMNS = 3, 4
PADDING = 9


@st.composite
def macroblocks(draw: st.DrawFn) -> NDArray[np.void]:
    """Random macroblocks of all kinds; a plain one has four equal vectors."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    reach = draw(st.sampled_from([3, 20, 90, 700]))
    result = np.zeros((ROWS, COLUMNS), MACROBLOCK_DTYPE)
    result["cbp"] = rng.integers(0, 64, result.shape)
    kind = rng.integers(0, 7, result.shape)
    result["intra"] = kind == 0
    result["past"] = np.isin(kind, (1, 2, 5, 6))
    result["future"] = np.isin(kind, (3, 4, 5, 6))
    result["four"] = np.isin(kind, (2, 4, 6))
    for direction in ("past", "future"):
        for axis in "xy":
            vectors = rng.integers(-reach, reach + 1, (ROWS, COLUMNS, 4))
            vectors[result["four"] == 0] = vectors[result["four"] == 0][:, :1]
            result[f"{direction}_{axis}"] = vectors * result[direction][..., None]
    return result


@st.composite
def planes(draw: st.DrawFn, block: int) -> list[NDArray[np.uint8]]:
    """The picture and both references, with noise in the padding; smooth, rough or black and white."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = (3, ROWS * block, COLUMNS * block + PADDING)
    low, high = draw(st.sampled_from([(0, 256), (0, 3), (120, 130)]))
    noise = rng.integers(low, high, shape)
    if draw(st.booleans()):
        noise = np.where(noise % 2, 0, 255)
    return list(noise.astype(np.uint8))


class Rules(NamedTuple):
    """What one test run is about; a reference ends with its macroblocks, or with the picture's size."""

    plane: int
    quarter: bool
    rounding: int
    size: tuple[int, int]
    ends_at_size: bool = False

    @property
    def block(self) -> int:
        """Size of a macroblock in the plane."""
        return 8 if self.plane else 16

    @property
    def ends(self) -> tuple[int, int]:
        return self.size if self.ends_at_size else (16 * ROWS, 16 * COLUMNS)


sizes = st.tuples(st.integers(16 * ROWS - 15, 16 * ROWS), st.integers(16 * COLUMNS - 15, 16 * COLUMNS))
all_rules = st.builds(Rules, st.integers(0, 2), st.booleans(), st.integers(0, 1), sizes, st.booleans())


@contextmanager
def all_python(enabled: bool) -> Iterator[None]:
    """Run kernels as plain Python, with all that they call."""
    with pytest.MonkeyPatch.context() as patch:
        for name, function in list(vars(kernels).items()) if enabled else []:
            if hasattr(function, "py_func"):
                patch.setattr(kernels, name, function.py_func)
        yield


Pictures = list[NDArray[np.uint8]]


def expected(rules: Rules, found: NDArray[np.void], pictures: Pictures) -> NDArray[np.int64]:
    """The oracle's prediction."""
    predict = oracle.predict_chroma if rules.plane else oracle.predict_luma
    height, width = (n // 2 if rules.plane else n for n in rules.ends)
    past, future = (plane[:height, :width].astype(np.int64) for plane in pictures[1:])
    context = ({"past": past, "future": future}, rules.quarter, rules.rounding, rules.size)
    return np.block([[predict(found[y, x], y, x, *context) for x in range(COLUMNS)] for y in range(ROWS)])


def uncoded_faults(found: NDArray[np.void], residual: NDArray[np.bool_], block: int, bits: list[int]) -> list[int]:
    """Numbers of the macroblocks that have a residual in a block which they don't code."""
    faults = []
    for number in range(ROWS * COLUMNS):
        y, x = divmod(number, COLUMNS)
        step = block if len(bits) == 1 else block // 2
        for i, bit in enumerate(bits):
            top, left = block * y + i // 2 * step, block * x + i % 2 * step
            of_block = residual[top : top + step, left : left + step]
            if not found[y, x]["intra"] and not found[y, x]["cbp"] >> bit & 1 and of_block.any():
                faults.append(number)
    return faults


def run(rules: Rules, found: NDArray[np.void], pictures: Pictures) -> tuple[int, NDArray[np.uint8]]:
    """Return the fault that kernels find and the prediction that they write."""
    found = found.view(np.recarray)
    prediction = np.empty((ROWS * rules.block, COLUMNS * rules.block), np.uint8)
    scratch = np.empty(kernels.NUM_SCRATCH_BYTES, np.uint8)
    numbers = (int(rules.quarter), rules.rounding, *rules.size, *rules.ends)
    kernels.predict(found, numbers, rules.plane > 0, *pictures[1:], scratch, prediction)
    return kernels.find_fault(found, rules.plane, pictures[0], prediction), prediction


@pytest.mark.parametrize("python", [False, True])
@given(data=st.data(), found=macroblocks(), rules=all_rules)
@settings(max_examples=50, deadline=None)
def test_against_the_oracle(python: bool, data: st.DataObject, found: NDArray[np.void], rules: Rules) -> None:
    pictures = data.draw(planes(rules.block))
    wanted = expected(rules, found, pictures)
    chance = data.draw(st.sampled_from([0, 1e-4, 1e-2]))
    noise = np.random.default_rng(0).random(wanted.shape) < chance
    pictures[0][:, : wanted.shape[1]] = wanted + noise * np.where(wanted < 255, 1, -1)
    with all_python(python):
        fault, prediction = run(rules, found, pictures)
    np.testing.assert_array_equal(prediction, wanted)
    bits = [2 - rules.plane] if rules.plane else [5, 4, 3, 2]
    assert fault in (uncoded_faults(found, noise, rules.block, bits) or [-1])


@pytest.mark.parametrize("quarter", [False, True])
@pytest.mark.parametrize("block", range(6))
def test_one_uncoded_block_with_a_residual(quarter: bool, block: int) -> None:
    """All is zero but for one sample in one block: a fault exactly if the block's bit is not set."""
    rules = Rules(max(block - 3, 0), quarter, 1, (16 * ROWS, 16 * COLUMNS))
    size = rules.block
    found = np.zeros((ROWS, COLUMNS), MACROBLOCK_DTYPE)
    found["past"] = 1
    past = np.full((size * ROWS, size * COLUMNS), 77, np.uint8)
    picture = past.copy()
    below, right = (block // 2 % 2 * 8, block % 2 * 8) if block < 4 else (0, 0)
    picture[size + below + 7, 2 * size + right] += 1
    for cbp, fault in ((0, COLUMNS + 2), (63 - (32 >> block), COLUMNS + 2), (32 >> block, -1)):
        found["cbp"] = cbp
        assert run(rules, found, [picture, past, past])[0] == fault


def test_the_oracle_by_hand() -> None:
    """Numbers worked out on paper, so that kernel and oracle can't share a mistake about the standard."""
    rows = np.array([[10, 20, 40, 80, 160, 0, 0, 0, 255]] * 9)
    assert oracle.quarter_shift(rows, 2, 0)[0, 3] == (20 * 240 - 6 * 40 + 3 * 20 - 10 + 16) // 32
    # the left end is mirrored: 20 * (10 + 20) - 6 * (10 + 40) + 3 * (20 + 80) - (40 + 160) = 400
    assert oracle.quarter_shift(rows, 2, 0)[0, 0] == 13  # 416 / 32
    assert oracle.quarter_shift(rows, 2, 1)[0, 0] == 12  # 415 / 32
    assert oracle.quarter_shift(rows, 1, 0)[0, 0] == 12  # (10 + 13 + 1) / 2
    assert oracle.quarter_shift(rows, 3, 1)[0, 0] == 16  # (20 + 12) / 2
    assert oracle.half_sample_block(rows, 1, 0, 8, 0)[0].tolist() == [15, 30, 60, 120, 80, 0, 0, 128]
    assert oracle.half_sample_block(rows, 1, 1, 8, 1)[0, 7] == 127  # (2 * 0 + 2 * 255 + 1) / 4
    vectors = [np.array([v] * 4) for v in (-3, -1, 0, 1, 2, 3, 4)]
    for is_four in (False, True):
        assert [oracle.chroma_vector(v, is_four, False) for v in vectors] == [-1, -1, 0, 1, 1, 1, 2]
    assert oracle.chroma_vector(np.array([1, 1, 0, 0]), True, False) == 0  # an eighth of a sample is none
    assert oracle.chroma_vector(np.array([1, 1, 1, 0]), True, False) == 1
