"""The coded residual: uncoded blocks are zero, coded ones are made of quantised levels, and the sum is the picture."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from reference import busy_frames, decode
from reference_coded import coded_blocks, level_errors, of_blocks, whole_blocks

from vidprep.codec.coded import plane_lines
from vidprep.codec.frame import Frame
from vidprep.codec.video import Video
from vidprep.codec.writer import write_video
from vidprep.errors import UnsupportedError

NUM_FRAMES = 26


class Encoding(NamedTuple):
    """How a test stream is made."""

    options: dict[str, str]
    num_b_frames: int = 0
    size: tuple[int, int] = (176, 144)
    quantiser: int = 8
    has_matrices: bool = False


FOUR = {"flags": "+mv4", "mbd": "rd"}
QUARTER = {"flags": "+qpel"}
BOTH = {"flags": "+qpel+mv4", "mbd": "rd"}
ENCODINGS = {
    "plain": Encoding({}),
    "fine": Encoding({}, quantiser=3),
    "odd-quantiser": Encoding({}, quantiser=9),
    "4mv": Encoding(FOUR),
    "qpel": Encoding(QUARTER),
    "qpel-4mv": Encoding(BOTH),
    "b": Encoding({}, 2),
    "4mv-b": Encoding(FOUR, 1),
    "qpel-b": Encoding(QUARTER, 2),
    "qpel-4mv-b": Encoding(BOTH, 2),
    "97x81": Encoding(FOUR, 0, (97, 81)),
    "97x81-qpel-b": Encoding(BOTH, 2, (97, 81)),
    "50x46-b": Encoding(FOUR, 2, (50, 46), quantiser=4),
    "50x46-qpel": Encoding(QUARTER, 0, (50, 46), quantiser=4),
    "video-packets": Encoding({"ps": "200"}),
    "video-packets-b": Encoding({"ps": "200", **FOUR}, 2),
    "matrices": Encoding({"mpeg_quant": "1"}, has_matrices=True),
    "matrices-b": Encoding({"mpeg_quant": "1", **FOUR}, 2, has_matrices=True),
}
"""All kinds of prediction, streams of which the decoder's rows or columns are hidden, and both quantisations."""


Stream = tuple[Path, list[Frame]]


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Stream]:
    """Return a test stream and its frames, made once."""
    made: dict[str, Stream] = {}

    def make(name: str) -> Stream:
        if name not in made:
            path = tmp_path_factory.mktemp("coded") / f"{name}.mkv"
            encoding = ENCODINGS[name]
            write_video(
                path,
                fractional_frames(NUM_FRAMES, *encoding.size),
                num_b_frames=encoding.num_b_frames,
                quantiser=encoding.quantiser,
                options=encoding.options,
            )
            made[name] = path, list(Video(path).frames(coded=True))
        return made[name]

    return make


@cache
def fractional_frames(num_frames: int, width: int, height: int) -> list[NDArray[np.uint8]]:
    """Busy frames four times as large, averaged: what moves by whole pixels there moves by quarters here."""
    frames = []
    for large in busy_frames(num_frames, 4 * width, 4 * height):
        small = large.reshape(height, 4, width, 4, 3).mean((1, 3))
        soft = sum(np.roll(small, (y, x), (0, 1)) for y in range(4) for x in range(4)) / 16
        frames.append((0.6 * soft[..., :1] + 0.4 * soft).astype(np.uint8))
    return frames


def luma_of(path: Path, *, exact: bool) -> list[NDArray[np.uint8]]:
    """Decode with plain PyAV."""
    if not exact:
        return [frame.luma for frame in decode(path)]
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.flags |= av.codec.context.Flags.bitexact
        frames = container.decode(video=0)
        return [plane_lines(frame, 0, frame.height)[:, : frame.width].copy() for frame in frames]


class Blocks(NamedTuple):
    """All whole 8x8 blocks of a frame's plane that are predicted."""

    residual: NDArray[np.int16]  # (N, 8, 8)
    is_coded: NDArray[np.bool_]
    quantiser: NDArray[np.int64]
    is_clipped: NDArray[np.bool_]  # black or white somewhere, so that the sum may have been cut


def predicted_blocks(frame: Frame, plane: int = 0) -> Blocks:
    """Cut the residual of a P- or B-frame into blocks."""
    macroblocks = frame.macroblocks
    assert macroblocks is not None
    residual = frame.coded_residual_chroma()[plane - 1] if plane else frame.coded_residual()
    blocks = whole_blocks(residual)
    picture = whole_blocks(plane_lines(frame._picture, plane, residual.shape[0])[:, : residual.shape[1]])
    place = np.s_[: blocks.shape[0], : blocks.shape[1]]
    is_predicted = of_blocks(macroblocks["intra"] == 0, plane)[place]
    return Blocks(
        blocks[is_predicted],
        coded_blocks(macroblocks, plane)[place][is_predicted],
        of_blocks(macroblocks["quantiser"].astype(np.int64), plane)[place][is_predicted],
        ((picture == 0) | (picture == 255)).any((2, 3))[is_predicted],
    )


def all_blocks(frames: list[Frame], plane: int = 0) -> Blocks:
    """Put together the predicted blocks of all P- and B-frames."""
    found = [predicted_blocks(frame, plane) for frame in frames if frame.picture_type != "I"]
    return Blocks(*(np.concatenate(field) for field in zip(*found, strict=True)))


@pytest.mark.parametrize("plane", range(3))
@pytest.mark.parametrize("name", ENCODINGS)
class TestGenerated:
    def test_uncoded_blocks_are_zero(self, stream: Callable[[str], Stream], name: str, plane: int) -> None:
        blocks = all_blocks(stream(name)[1], plane)
        uncoded = blocks.residual[~blocks.is_coded]
        assert len(uncoded) > (9 if plane else 79)
        assert not uncoded.any()
        coded = blocks.residual[blocks.is_coded]
        assert len(coded) > (9 if plane else 79)
        assert coded.any((1, 2)).mean() > 0.95

    def test_coded_blocks_are_made_of_levels(self, stream: Callable[[str], Stream], name: str, plane: int) -> None:
        """Also of blocks that the self-check can't judge: a prediction that is off leaves noise between the levels."""
        blocks = all_blocks(stream(name)[1], plane)
        chosen = blocks.is_coded & ~blocks.is_clipped
        assert chosen.sum() > (9 if plane else 79)
        errors = level_errors(blocks.residual[chosen], blocks.quantiser[chosen], ENCODINGS[name].has_matrices)
        assert errors.max() <= 1  # libavcodec's transform and this one may round differently
        assert (errors == 0).mean() > 0.7


@pytest.mark.parametrize("name", ENCODINGS)
class TestSum:
    def test_prediction_and_residual_are_the_picture(self, stream: Callable[[str], Stream], name: str) -> None:
        path, frames = stream(name)
        pictures = luma_of(path, exact=ENCODINGS[name].has_matrices)
        assert len(frames) == len(pictures) == NUM_FRAMES
        for frame, picture in zip(frames, pictures, strict=True):
            prediction, residual = frame.prediction(), frame.coded_residual()
            assert prediction.dtype == np.uint8
            assert residual.dtype == np.int16
            np.testing.assert_array_equal(prediction + residual, picture)

    def test_intra_macroblocks_are_predicted_grey(self, stream: Callable[[str], Stream], name: str) -> None:
        for frame in stream(name)[1]:
            macroblocks = frame.macroblocks
            is_intra = np.ones((1, 1), bool) if macroblocks is None else macroblocks["intra"] == 1
            assert (macroblocks is None) == (frame.picture_type == "I")
            is_intra = np.kron(is_intra, np.ones((16, 16), bool))[: frame.height, : frame.width]
            assert (frame.prediction()[: is_intra.shape[0], : is_intra.shape[1]][is_intra] == 128).all()


# One wrong ingredient


def flip_rounding(frames: list[Frame], i: int) -> None:
    coded = frames[i].coded
    assert coded is not None
    coded.vop = replace(coded.vop, rounding_type=1 - coded.vop.rounding_type)


def shift_vectors(frames: list[Frame], i: int) -> None:
    """By half a sample, or a quarter."""
    change_macroblocks(frames[i], lambda macroblocks: macroblocks["past_x"].__iadd__(macroblocks["past"][..., None]))


def merge_blocks(frames: list[Frame], i: int) -> None:
    """Predict 16x16 samples at once where there are four blocks."""
    change_macroblocks(frames[i], lambda macroblocks: macroblocks["four"].fill(0))


def swap_directions(frames: list[Frame], i: int) -> None:
    frames[i].link(next_anchor(frames, i), past_anchor(frames, i))


def take_the_frame_before(frames: list[Frame], i: int) -> None:
    """In display order, be it an anchor or not."""
    frames[i].link(frames[i - 1], next_anchor(frames, i))


def take_the_anchor_before(frames: list[Frame], i: int) -> None:
    """One anchor too early."""
    past = past_anchor(frames, i)
    frames[i].link(past_anchor(frames, past.index), next_anchor(frames, i))


def change_macroblocks(frame: Frame, change: Callable[[NDArray[np.void]], Any]) -> None:
    assert frame.coded is not None
    assert frame.macroblocks is not None
    changed = frame.macroblocks.copy()
    change(changed)
    frame.coded._macroblocks = changed


def past_anchor(frames: list[Frame], i: int) -> Frame:
    return max((f for f in frames[:i] if f.picture_type != "B"), key=lambda f: f.index)


def next_anchor(frames: list[Frame], i: int) -> Frame | None:
    return next((f for f in frames[i + 1 :] if f.picture_type != "B"), None)


CHANGES = [
    ("plain", "P", flip_rounding),
    ("4mv", "P", flip_rounding),
    ("qpel", "P", flip_rounding),
    ("b", "B", flip_rounding),
    ("qpel-b", "B", flip_rounding),
    ("plain", "P", shift_vectors),
    ("qpel-4mv", "P", shift_vectors),
    ("qpel-4mv-b", "B", shift_vectors),
    ("97x81", "P", shift_vectors),
    ("4mv", "P", merge_blocks),
    ("b", "B", swap_directions),
    ("qpel-b", "B", swap_directions),
    ("b", "B", take_the_frame_before),
    ("qpel-4mv-b", "B", take_the_frame_before),
    ("plain", "P", take_the_anchor_before),
]


@pytest.mark.parametrize(("name", "letter", "change"), CHANGES)
def test_the_self_check_finds_what_is_wrong(
    stream: Callable[[str], Stream], name: str, letter: str, change: Callable[[list[Frame], int], None]
) -> None:
    frames = list(Video(stream(name)[0]).frames(coded=True))
    indices = [i for i in range(3, NUM_FRAMES) if frames[i].picture_type == letter]
    if change is take_the_frame_before:
        indices = [i for i in indices if frames[i - 1].picture_type == "B"]
    assert len(indices) >= 7
    for i in indices:
        frames[i].coded_residual()
        change(frames, i)
        with pytest.raises(UnsupportedError, match=r"macroblock=\d+ at pts_seconds=.* must equal .* transcode"):
            frames[i].coded_residual()


def test_the_lattice_finds_a_flipped_rounding(stream: Callable[[str], Stream]) -> None:
    """Also in blocks that the self-check can't judge."""
    frames = list(Video(stream("plain")[0]).frames(coded=True))
    right, macroblocks = frames[5].coded_residual(), frames[5].macroblocks
    assert macroblocks is not None
    flip_rounding(frames, 5)
    change_macroblocks(frames[5], lambda changed: changed["cbp"].fill(63))
    wrong = frames[5].coded_residual()
    changed = coded_blocks(macroblocks, 0) & (whole_blocks(right) != whole_blocks(wrong)).any((2, 3))
    assert changed.sum() > 20
    quantiser = np.full(int(changed.sum()), 8)
    assert (level_errors(whole_blocks(right)[changed], quantiser) == 0).mean() > 0.7
    assert (level_errors(whole_blocks(wrong)[changed], quantiser) == 0).mean() < 0.3


def test_the_lattice_finds_a_wrong_quantiser(stream: Callable[[str], Stream]) -> None:
    blocks = all_blocks(stream("plain")[1])
    residual, quantiser = blocks.residual[blocks.is_coded], blocks.quantiser[blocks.is_coded]
    for step in (-1, 1):
        errors = level_errors(residual, quantiser + step)
        assert errors.max() > 4
        assert (errors == 0).mean() < 0.4
