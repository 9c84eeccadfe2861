"""The loops: compiled, run as plain Python, and against the oracle, on block lists that no encoder would write."""

from collections.abc import Callable, Iterator
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numba.core.dispatcher import Dispatcher
from numpy.typing import NDArray
from reference import (
    Blocks,
    accumulated_motion,
    identity,
    residual_magnitude,
    source_maps,
    texture,
    trace_frame,
    trace_frame_in_blocks,
)
from reference import dense_motion as slow_dense_motion

from vidprep.codec import _kernels
from vidprep.codec._compile import kernel
from vidprep.codec.blocks import BLOCK_DTYPE, dense_motion
from vidprep.codec.motion import Track, accumulate_vectors
from vidprep.codec.residual import (
    MAGNITUDE_SCALES,
    accumulated_residual,
    accumulated_residual_magnitude,
    accumulated_residual_uint8,
    cropped_residual,
)
from vidprep.errors import UnsupportedError

KERNELS = {name: value for name, value in vars(_kernels).items() if isinstance(value, Dispatcher)}
EXAMPLES = settings(max_examples=60)


@pytest.fixture(params=["compiled", "python"], scope="module")
def kernels(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run every kernel compiled, then every kernel as the Python that it is written in."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "python":
            for name, kernel in KERNELS.items():
                patch.setattr(_kernels, name, as_python(kernel))
        yield request.param


def as_python(kernel: Dispatcher) -> Callable[..., Any]:
    """The kernel's own source, run by Python, where only a record array's fields are attributes."""

    def call(*arguments: Any) -> Any:
        return kernel.py_func(*(a.view(np.recarray) if is_blocks(a) else a for a in arguments))

    return call


def is_blocks(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.names is not None


def block_rows(rows: list[tuple[int, int, int, int, int, int, int]]) -> Blocks:
    """Rows of (direction, w, h, x, y, vx, vy): x and y are the centre, v is destination minus source."""
    blocks = np.zeros(len(rows), BLOCK_DTYPE)
    for block, (direction, w, h, x, y, vx, vy) in zip(blocks, rows, strict=True):
        block["source"], block["w"], block["h"], block["dst_x"], block["dst_y"] = direction, w, h, x, y
        block["src_x"], block["src_y"] = x - vx, y - vy
        block["motion_x"], block["motion_y"], block["motion_scale"] = -2 * vx, -2 * vy, 2
    return blocks


vectors = st.one_of(st.just(0), st.integers(-3, 3), st.integers(-60, 60), st.sampled_from([-16000, 16000]))
sides = st.sampled_from([4, 8, 16])
places = st.integers(-12, 52)
rows = st.tuples(st.sampled_from([-1, -1, 1]), sides, sides, places, places, vectors, vectors)
block_lists = st.lists(rows, max_size=12).map(block_rows)
choices = st.lists(
    st.sampled_from([(-1, 0, 0), (-1, 3, -2), (-1, 5, 0), (1, 2, 1), (1, 0, 0)]), min_size=16, max_size=16
)
grids = choices.map(  # as encoders lay them: row by row, none over another
    lambda chosen: block_rows(
        [(d, 16, 16, 8 + 16 * (i % 4), 8 + 16 * (i // 4), *v) for i, (d, *v) in enumerate(chosen)]
    )
)
pictures_sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))


def gops() -> st.SearchStrategy[tuple[str, list[Blocks]]]:
    """Picture types that begin with I, and a block list each."""
    types = st.text("IPPBB", min_size=0, max_size=7).map("I".__add__)
    return types.flatmap(
        lambda letters: st.tuples(
            st.just(letters),
            st.tuples(*(st.just(block_rows([])) if letter == "I" else block_lists for letter in letters)).map(list),
        )
    )


class TestDenseMotion:
    @EXAMPLES
    @given(block_lists, pictures_sizes, st.booleans())
    def test_equals_the_oracle(self, kernels: str, blocks: Blocks, size: tuple[int, int], future: bool) -> None:
        expected = slow_dense_motion(blocks, *size, direction=1 if future else -1)
        assert np.array_equal(dense_motion(blocks, *size, future=future), expected)

    def test_centre_and_sign(self, kernels: str) -> None:
        field = dense_motion(block_rows([(-1, 8, 16, 20, 24, 3, -2)]), 48, 40)
        inside = np.zeros((48, 40), bool)
        inside[16:32, 16:24] = True
        assert (field[inside] == (3, -2)).all()
        assert not field[~inside].any()

    @pytest.mark.parametrize("direction", [-1, 1])
    def test_a_zero_vector_writes_nothing(self, kernels: str, direction: int) -> None:
        blocks = block_rows([(direction, 16, 16, 8, 8, 1, 1), (direction, 16, 16, 8, 8, 0, 0)])
        assert (dense_motion(blocks, 32, 32, future=direction > 0)[1:16, 1:16] == 1).all()

    def test_overwrites_what_out_held(self, kernels: str) -> None:
        out = np.full((16, 16, 2), 99, np.int16)
        assert dense_motion(block_rows([(-1, 8, 8, 4, 4, 1, 1)]), 16, 16, out=out) is out
        assert np.array_equal(out, slow_dense_motion(block_rows([(-1, 8, 8, 4, 4, 1, 1)]), 16, 16))

    @pytest.mark.parametrize(
        "out",
        [
            np.zeros((16, 16, 2), np.int32),
            np.zeros((16, 12, 2), np.int16),
            np.zeros((12, 16, 2), np.int16),
            np.zeros((16, 16, 3), np.int16),
            np.zeros((16, 16), np.int16),
            np.zeros((16, 16, 4), np.int16)[..., :2],
            np.zeros((16, 16, 2), np.int16).swapaxes(0, 1),
        ],
    )
    def test_wrong_out(self, out: NDArray[Any]) -> None:
        with pytest.raises(UnsupportedError, match=r"out\.shape=.*\(16, 16, 2\)"):
            dense_motion(block_rows([]), 16, 16, out=out)


class TestAccumulation:
    @EXAMPLES
    @given(gops(), pictures_sizes)
    @example(("IBPBI", [block_rows([(d, 8, 8, 8, 8, 4, 0)]) for d in (1, 1, -1, 1, 1)]), (24, 24))
    def test_equals_the_oracle(self, kernels: str, gop: tuple[str, list[Blocks]], size: tuple[int, int]) -> None:
        letters, blocks = gop
        out = np.full((len(letters), *size, 2), 77, np.int16)
        accumulate_vectors(blocks, letters, out)
        assert np.array_equal(out, accumulated_motion(source_maps(letters, blocks, *size)))

    @EXAMPLES
    @given(block_lists, block_lists, block_lists, pictures_sizes, st.tuples(st.booleans(), st.booleans()))
    def test_the_picture_moves_along(
        self,
        kernels: str,
        first: Blocks,
        second: Blocks,
        between: Blocks,
        size: tuple[int, int],
        how: tuple[bool, bool],
    ) -> None:
        height, width = size
        same_gop, with_field = how
        intra = texture(height, width)
        past, future, frame = (Track(height, width, with_field=with_field, with_picture=True) for _ in range(3))
        past.picture[...] = intra.reshape(height, -1)
        maps = [trace_frame(first, identity(height, width), None)]
        past.follow(first)
        future.copy_from(past)
        future.follow(second)
        maps.append(trace_frame(second, maps[0], None))
        frame.follow_both(between, past, future if same_gop else None)
        maps.append(trace_frame(between, maps[0], maps[1] if same_gop else None))
        for track, source in zip((past, future, frame), maps, strict=True):
            if with_field:
                assert np.array_equal(track.motion(), identity(height, width) - source)
            warped = intra[source[..., 1], source[..., 0]]
            assert np.array_equal(track.picture.reshape(intra.shape), warped)

    @EXAMPLES
    @given(grids, grids, st.tuples(st.integers(1, 60), st.integers(1, 60)))
    def test_blocks_side_by_side(self, kernels: str, first: Blocks, second: Blocks, size: tuple[int, int]) -> None:
        """Neighbours with one vector move as one, at the frame's edges as well."""
        out = np.full((4, *size, 2), 77, np.int16)
        gop = [block_rows([]), first, second, first]
        accumulate_vectors(gop, "IPBP", out)
        assert np.array_equal(out, accumulated_motion(source_maps("IPBP", gop, *size)))
        for future in (False, True):
            expected = slow_dense_motion(second, *size, direction=1 if future else -1)
            assert np.array_equal(dense_motion(second, *size, future=future), expected)

    @pytest.mark.parametrize(
        "neighbour",
        [
            (-1, 16, 16, 40, 24, 4, -2),  # moves along
            (-1, 8, 16, 36, 24, 4, -2),  # moves along, though narrower
            (-1, 8, 16, 40, 24, 4, -2),  # a gap between
            (-1, 16, 16, 44, 24, 4, -2),  # a gap between
            (-1, 16, 16, 8, 24, 4, -2),  # on the other side
            (-1, 16, 8, 40, 24, 4, -2),  # lower
            (-1, 16, 16, 40, 28, 4, 2),  # further down, from the same rows
            (-1, 16, 16, 40, 24, 5, -2),
            (-1, 16, 16, 40, 24, 4, -1),
            (1, 16, 16, 40, 24, 4, -2),
        ],
    )
    def test_neighbours(self, kernels: str, neighbour: tuple[int, int, int, int, int, int, int]) -> None:
        blocks = block_rows([(-1, 16, 16, 24, 24, 4, -2), neighbour])
        gop = [block_rows([]), blocks, blocks, blocks]
        out = np.zeros((4, 48, 64, 2), np.int16)
        accumulate_vectors(gop, "IPBP", out)
        assert np.array_equal(out, accumulated_motion(source_maps("IPBP", gop, 48, 64)))
        assert np.array_equal(dense_motion(blocks, 48, 64), slow_dense_motion(blocks, 48, 64))

    def test_blocks_that_overlap_need_more_room(self, kernels: str) -> None:
        blocks = block_rows([(-1, 16, 16, 8, 8, vx, 0) for vx in (1, 2, 3, 4)] * 3)
        out = np.zeros((3, 16, 16, 2), np.int16)
        gop = [block_rows([]), blocks, blocks]
        accumulate_vectors(gop, "IPP", out)
        assert np.array_equal(out, accumulated_motion(source_maps("IPP", gop, 16, 16)))
        track = Track(16, 16, with_field=False, with_picture=True)
        track.picture[...] = texture(16, 16).reshape(16, -1)
        track.follow(blocks)
        track.follow(blocks)
        source = source_maps("IPP", gop, 16, 16)[2]
        assert np.array_equal(track.picture.reshape(16, 16, 3), texture(16, 16)[source[..., 1], source[..., 0]])

    @EXAMPLES
    @given(block_lists, block_lists, pictures_sizes)
    def test_both_oracles_agree(self, first: Blocks, between: Blocks, size: tuple[int, int]) -> None:
        past = trace_frame(first, identity(*size), None)
        assert np.array_equal(trace_frame_in_blocks(first, identity(*size), None), past)
        future = past[::-1, ::-1]
        expected = trace_frame(between, past, future)
        assert np.array_equal(trace_frame_in_blocks(between, past, future), expected)

    def test_a_chain_adds_up(self, kernels: str) -> None:
        blocks = block_rows([(-1, 16, 16, 8 + 16 * i, 8 + 16 * j, 2, -1) for i in range(3) for j in range(3)])
        out = np.zeros((4, 48, 48, 2), np.int16)
        accumulate_vectors([block_rows([]), blocks, blocks, blocks], "IPPP", out)
        assert (out[3, 0:45, 6:48] == (6, -3)).all()
        assert (out[2, 0:46, 4:48] == (4, -2)).all()
        assert not out[0].any()

    def test_displacements_of_both_signs_keep_apart(self, kernels: str) -> None:
        for v in ((-1, 1), (1, -1), (-1, -1), (0, -1), (-1, 0), (-100, 80), (100, -80)):
            blocks = block_rows([(-1, 16, 16, 120, 120, *v)])
            out = np.zeros((2, 240, 240, 2), np.int16)
            accumulate_vectors([block_rows([]), blocks], "IP", out)
            assert (out[1, 112:128, 112:128] == v).all()

    def test_numbers_must_agree(self) -> None:
        with pytest.raises(ValueError, match=r"shorter|longer"):
            accumulate_vectors([block_rows([])], "IP", np.zeros((2, 8, 8, 2), np.int16))


class TestBetweenAnchors:
    """The four cases of a B-frame's block, by hand: one block moves by 4 in P, content comes from x - 4."""

    PICTURE = (16, 40)
    TO_P = block_rows([(-1, 16, 16, 8 + 16 * i, 8, 4, 0) for i in range(3)])

    def b_frame(self, *blocks: tuple[int, int, int], closed: bool = True) -> NDArray[np.int16]:
        """The B-frame's displacements in x on its middle row; each block is (direction, left, vx)."""
        between = block_rows([(d, 16, 16, left + 8, 8, vx, 0) for d, left, vx in blocks])
        letters = "IBP" if closed else "IBI"
        out = np.zeros((3, *self.PICTURE, 2), np.int16)
        accumulate_vectors([block_rows([]), between, self.TO_P], letters, out)
        assert not out[1, :, :, 1].any()
        return out[1, 8, :, 0]

    def test_past(self, kernels: str) -> None:
        assert (self.b_frame((-1, 16, 2))[16:32] == 2).all()

    def test_future_composes_with_the_future_anchor(self, kernels: str) -> None:
        row = self.b_frame((1, 16, -2))
        assert (row[16:32] == 4 - 2).all()
        assert not row[:16].any()

    def test_future_zero_is_the_future_anchors_value(self, kernels: str) -> None:
        assert (self.b_frame((1, 16, 0))[16:32] == 4).all()

    def test_both_means_past(self, kernels: str) -> None:
        for blocks in (((-1, 16, 2), (1, 16, -2)), ((1, 16, -2), (-1, 16, 2))):
            assert (self.b_frame(*blocks)[16:32] == 2).all()

    def test_both_with_a_zero_past_means_the_past_anchors_value(self, kernels: str) -> None:
        assert not self.b_frame((1, 16, -2), (-1, 16, 0))[16:32].any()

    def test_future_outside_keeps_the_past_anchors_value(self, kernels: str) -> None:
        row = self.b_frame((1, 24, -4))
        assert (row[24:36] == 0).all()
        assert (row[36:] == 0).all()
        assert (self.b_frame((1, 24, -3))[24:37] == 1).all()

    def test_future_across_the_gops_end_is_ignored(self, kernels: str) -> None:
        assert not self.b_frame((1, 16, -2), (1, 0, 0), closed=False).any()
        assert (self.b_frame((-1, 16, 2), closed=False)[16:32] == 2).all()


class TestResiduals:
    @EXAMPLES
    @given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 5), st.integers(0, 2**32 - 1))
    def test_subtraction(self, kernels: str, height: int, width: int, padding: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        rows = rng.integers(0, 256, (height, 3 * width + padding), np.uint8)
        prediction = rng.choice(np.array([0, 1, 127, 128, 200, 255], np.uint8), (height, 3 * width))
        exact = rows[:, : 3 * width].astype(int) - prediction
        residual = accumulated_residual(rows, prediction)
        assert residual.dtype == np.int16
        assert np.array_equal(residual, exact.reshape(height, width, 3))
        shifted, num_clipped = accumulated_residual_uint8(rows, prediction)
        assert shifted.dtype == np.uint8
        assert np.array_equal(shifted, np.clip(exact + 128, 0, 255).reshape(height, width, 3))
        assert num_clipped == np.count_nonzero((exact < -128) | (exact > 127))
        y, x = height // 2, width // 3
        crop = x, y, width - x, height - y
        start = y * rows.shape[1] + 3 * x
        cropped = cropped_residual(rows.ravel(), start, rows.shape[1], prediction, crop)
        assert np.array_equal(cropped, residual[y:, x:])

    def test_every_value_of_a_long_row_is_clipped(self) -> None:
        rows, prediction = np.zeros((2, 3 * 16384), np.uint8), np.full((2, 3 * 16384), 255, np.uint8)
        assert accumulated_residual_uint8(rows, prediction)[1] == rows.size

    def test_out_is_used(self, kernels: str) -> None:
        rows, prediction = np.full((4, 12), 10, np.uint8), np.full((4, 12), 30, np.uint8)
        signed, shifted = np.ones((4, 4, 3), np.int16), np.ones((4, 4, 3), np.uint8)
        assert accumulated_residual(rows, prediction, out=signed) is signed
        assert accumulated_residual_uint8(rows, prediction, out=shifted)[0] is shifted
        assert (signed == -20).all()
        assert (shifted == 108).all()

    @pytest.mark.parametrize(
        "out",
        [
            np.zeros((4, 4, 3), np.int32),
            np.zeros((4, 5, 3), np.int16),
            np.zeros((3, 4, 3), np.int16),
            np.zeros((4, 12), np.int16),
            np.zeros((8, 4, 3), np.int16)[::2],
        ],
    )
    def test_wrong_out(self, out: NDArray[Any]) -> None:
        rows = np.zeros((4, 12), np.uint8)
        with pytest.raises(UnsupportedError, match=r"out\.shape=.*\(4, 4, 3\)"):
            accumulated_residual(rows, rows, out=out)
        with pytest.raises(UnsupportedError, match=r"out\.shape="):
            accumulated_residual_uint8(rows, rows, out=out)


class TestResidualMagnitude:
    @EXAMPLES
    @given(st.integers(1, 19), st.integers(1, 19), st.integers(0, 5), st.integers(0, 2**32 - 1))
    def test_equals_the_oracle(self, kernels: str, height: int, width: int, padding: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        rows = rng.choice(np.array([0, 1, 100, 254, 255], np.uint8), (height, 3 * width + padding))
        prediction = rng.choice(np.array([0, 1, 101, 254, 255], np.uint8), (height, 3 * width))
        exact = (rows[:, : 3 * width].astype(np.int16) - prediction).reshape(height, width, 3)
        for scale in MAGNITUDE_SCALES:
            magnitude = accumulated_residual_magnitude(rows, prediction, scale)
            assert magnitude.dtype == np.float32
            np.testing.assert_allclose(magnitude, residual_magnitude(exact, scale), rtol=1e-6)

    @EXAMPLES
    @given(st.integers(1, 19), st.integers(1, 19), st.sampled_from(MAGNITUDE_SCALES), st.integers(0, 2**32 - 1))
    def test_sums_run_in_one_order(self, kernels: str, height: int, width: int, scale: int, seed: int) -> None:
        """Down the columns, then over pairs, in float32: the very bits."""
        rng = np.random.default_rng(seed)
        rows, prediction = rng.integers(0, 256, (2, height, 3 * width), np.uint8)
        squares = (rows.astype(np.int64) - prediction).reshape(height, width, 3) ** 2
        norm = np.sqrt(squares.sum(axis=-1).astype(np.float32))
        padded = np.pad(norm, ((0, -height % scale), (0, -width % scale)))
        sums = sum(padded[k::scale] for k in range(scale))
        while sums.shape[1] > -(-width // scale):
            sums = sums[:, ::2] + sums[:, 1::2]
        edges = [np.diff([*range(0, size, scale), size]) for size in (height, width)]
        expected = sums / np.outer(*edges).astype(np.float32)
        assert np.array_equal(accumulated_residual_magnitude(rows, prediction, scale), expected)

    def test_range(self, kernels: str) -> None:
        black, white = np.zeros((9, 27), np.uint8), np.full((9, 27), 255, np.uint8)
        for scale in MAGNITUDE_SCALES:
            for rows, prediction in ((black, white), (white, black)):
                magnitude = accumulated_residual_magnitude(rows, prediction, scale)
                np.testing.assert_allclose(magnitude, 255 * 3**0.5, rtol=1e-6)
            assert not accumulated_residual_magnitude(white, white, scale).any()

    def test_out_is_used(self, kernels: str) -> None:
        rows, prediction = np.full((6, 15), 10, np.uint8), np.full((6, 15), 30, np.uint8)
        out = np.full((2, 2), 9, np.float32)
        assert accumulated_residual_magnitude(rows, prediction, 4, out=out) is out
        np.testing.assert_allclose(out, 20 * 3**0.5, rtol=1e-6)

    @pytest.mark.parametrize(
        "out", [np.zeros((2, 2)), np.zeros((1, 2), np.float32), np.zeros((2, 4), np.float32)[:, ::2]]
    )
    def test_wrong_out(self, out: NDArray[Any]) -> None:
        rows = np.zeros((6, 15), np.uint8)
        with pytest.raises(UnsupportedError, match=r"out\.shape=.*float32, of shape \(2, 2\)"):
            accumulated_residual_magnitude(rows, rows, 4, out=out)

    @pytest.mark.parametrize("scale", [0, -1, 3, 16])
    def test_wrong_scale(self, scale: int) -> None:
        rows = np.zeros((6, 15), np.uint8)
        with pytest.raises(UnsupportedError, match=rf"scale={scale}: must be one of 1, 2, 4, 8"):
            accumulated_residual_magnitude(rows, rows, scale)


def test_every_kernel_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    called = set()

    def watched(name: str) -> Any:
        original = as_python(KERNELS[name])

        def call(*arguments: Any) -> Any:
            called.add(name)
            return original(*arguments)

        return call

    for name in KERNELS:
        monkeypatch.setattr(_kernels, name, watched(name))
    blocks = block_rows([(-1, 8, 8, 4, 4, 1, 0), (1, 8, 8, 12, 4, 1, 0)])
    dense_motion(blocks, 8, 16)
    accumulate_vectors([block_rows([]), blocks, blocks], "IBP", np.zeros((3, 8, 16, 2), np.int16))
    rows = np.zeros((4, 12), np.uint8)
    accumulated_residual(rows, rows)
    accumulated_residual_uint8(rows, rows)
    accumulated_residual_magnitude(rows, rows, 4)
    cropped_residual(rows.ravel(), 0, 12, rows, (1, 1, 2, 2))
    assert called == set(KERNELS)


def test_without_a_place_for_what_is_compiled() -> None:
    """Numba keeps nothing for a function that stands in no file, as for one in a folder that can't be written."""
    namespace: dict[str, Any] = {}
    exec("def twice(x):\n    return 2 * x", namespace)
    with pytest.raises(RuntimeError, match="no locator available"):
        numba.njit(cache=True)(namespace["twice"])
    compiled = kernel(namespace["twice"])
    assert isinstance(compiled, Dispatcher)
    assert compiled(21) == 42
