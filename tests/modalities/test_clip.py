"""Clips from both layouts: the same frames, cropped, from pictures that were stored or from the stream itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from modalities.conftest import STREAMS
from vidprep.codec.packed import pack
from vidprep.codec.video import Video
from vidprep.errors import ShardError, UnsupportedError, UsageError
from vidprep.modalities import MODALITIES, images, pyramid, residual
from vidprep.modalities.base import Settings
from vidprep.modalities.clip import read_clip
from vidprep.modalities.packed import is_packed

Sample = tuple[dict[str, bytes], dict[str, Any]]
STEP = 3
NAMES = sorted(STREAMS)
KINDS = ("rgb", "motion", "accumulated_motion", "residual")  # those of every codec with vectors


def decoded_sample(path: Path, step: int = STEP) -> Sample:
    """What extraction writes of a video, with lossless residuals; every third frame is stored."""
    modalities = [
        MODALITIES[name](Settings(residual_format="png")) for name in ("rgb", "motion", "residual", "pyramid")
    ]
    entries: dict[str, bytes] = {}
    facts: dict[str, Any] = {"picture_types": "", "frame_indices": [], "width": 0, "height": 0}
    for frame in Video(path).frames(track="residual"):
        stored = frame.index % step == 0
        for modality in modalities:
            entries |= dict(modality.add(frame, len(facts["frame_indices"]) if stored else None))
        facts["frame_indices"] += [frame.index] if stored else []
        facts["picture_types"] += frame.picture_type
        facts["width"], facts["height"] = frame.width, frame.height
    for modality in modalities:
        entries |= dict(modality.finish(None, None))  # type: ignore[arg-type]
        facts[modality.name] = modality.facts()
    return entries, facts


def packed_sample(path: Path, step: int = STEP) -> Sample:
    """What the bitstream layout holds of the same video."""
    stream = pack(Video(path))
    facts = {
        "packets": stream.facts(),
        "picture_types": stream.picture_types,
        "pts_seconds": list(stream.pts_seconds),
        "frame_indices": list(range(0, len(stream.pts_seconds), step)),
        "width": stream.width,
        "height": stream.height,
        "recipe": {"levels": [32, 16], "residual_form": "accumulated"},
    }
    return {stream.entry: stream.data}, facts


def sequential(path: Path, step: int = STEP) -> dict[str, NDArray[Any]]:
    """The arrays of the stored frames, from one pass."""
    frames = [
        (frame.rgb(), frame.motion(), frame.accumulated_motion(), frame.accumulated_residual())
        for frame in Video(path).frames(track="residual")
    ]
    return dict(zip(KINDS, map(np.stack, zip(*frames[::step], strict=True)), strict=True))


@pytest.fixture(scope="module")
def samples(stream: Callable[[str], Path]) -> Callable[[str], tuple[Sample, Sample, dict[str, NDArray[Any]]]]:
    known: dict[str, Any] = {}

    def read(name: str) -> tuple[Sample, Sample, dict[str, NDArray[Any]]]:
        if name not in known:
            known[name] = decoded_sample(stream(name)), packed_sample(stream(name)), sequential(stream(name))
        return known[name]

    return read


Samples = Callable[[str], tuple[Sample, Sample, dict[str, NDArray[Any]]]]


@pytest.mark.parametrize("crop", [None, (3, 5, 21, 11)])
@pytest.mark.parametrize("name", NAMES)
def test_the_stream_gives_exact_arrays(samples: Samples, name: str, crop: tuple[int, int, int, int] | None) -> None:
    _, packed, exact = samples(name)
    x, y, width, height = crop or (0, 0, packed[1]["width"], packed[1]["height"])
    for start, stop in ((0, 7), (2, 4), (5, 7), (6, 7)):
        arrays = read_clip(*packed, range(start, stop), KINDS, crop=crop)
        assert list(arrays) == list(KINDS)
        for kind, array in arrays.items():
            assert array.dtype == exact[kind].dtype
            assert array.flags.c_contiguous
            np.testing.assert_array_equal(array, exact[kind][start:stop, y : y + height, x : x + width], kind)


@pytest.mark.parametrize("crop", [None, (3, 5, 21, 11)])
@pytest.mark.parametrize("name", NAMES)
def test_stored_arrays(samples: Samples, name: str, crop: tuple[int, int, int, int] | None) -> None:
    """Motion is that of the stream; pictures are the JPEG's; residuals are exact within their clipping."""
    (entries, facts), _, exact = samples(name)
    x, y, width, height = crop or (0, 0, facts["width"], facts["height"])
    for start, stop in ((0, 7), (2, 4), (5, 7), (6, 7)):
        arrays = read_clip(entries, facts, range(start, stop), KINDS, crop=crop)
        part = slice(start, stop), slice(y, y + height), slice(x, x + width)
        np.testing.assert_array_equal(arrays["motion"], exact["motion"][part])
        np.testing.assert_array_equal(arrays["accumulated_motion"], exact["accumulated_motion"][part])
        np.testing.assert_array_equal(arrays["residual"], np.clip(exact["residual"], -128, 127)[part])
        stored = np.stack([images.decode(entries[f"rgb.{i:06d}.jpg"]) for i in range(7)])
        np.testing.assert_array_equal(arrays["rgb"], stored[part])
        assert np.abs(arrays["rgb"].astype(int) - exact["rgb"][part]).mean() < 6


@settings(max_examples=60)
@given(data=st.data())
def test_any_clip_is_the_same_from_both(samples: Samples, data: st.DataObject) -> None:
    stored, packed, _ = samples(data.draw(st.sampled_from(NAMES)))
    width, height = packed[1]["width"], packed[1]["height"]
    positions = sorted(data.draw(st.sets(st.integers(0, 6), min_size=1)))
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    crop = x, y, data.draw(st.integers(1, width - x)), data.draw(st.integers(1, height - y))
    kinds = data.draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=4, unique=True))
    one, two = (read_clip(*sample, positions, kinds, crop=crop) for sample in (stored, packed))
    assert list(one) == list(two) == kinds
    for kind in kinds:
        assert one[kind].shape == two[kind].shape == (len(positions), crop[3], crop[2], one[kind].shape[3])
        if "motion" in kind:
            np.testing.assert_array_equal(one[kind], two[kind])
        elif kind == "residual":
            np.testing.assert_array_equal(one[kind], np.clip(two[kind], -128, 127))


@pytest.mark.parametrize("name", NAMES)
def test_modalities_decode_the_stream(samples: Samples, name: str) -> None:
    (stored_entries, stored_facts), (entries, facts), exact = samples(name)
    assert is_packed(entries)
    assert not is_packed(stored_entries)
    for kind in ("rgb", "motion", "residual"):
        decoded = MODALITIES[kind].decode(entries, facts)
        np.testing.assert_array_equal(decoded, exact[kind])
    np.testing.assert_array_equal(
        MODALITIES["motion"].decode(stored_entries, stored_facts), MODALITIES["motion"].decode(entries, facts)
    )


@pytest.mark.parametrize("name", ["b.avi", "qpel.avi", "four_mv.avi", "odd.avi"])
def test_other_forms_of_residual_come_from_the_stream(
    samples: Samples, stream: Callable[[str], Path], name: str
) -> None:
    _, (entries, facts), exact = samples(name)
    coded = [frame.coded_residual() for frame in Video(stream(name)).frames(coded=True)][::STEP]
    norms = [frame.accumulated_residual_magnitude() for frame in Video(stream(name)).frames(track="residual")][::STEP]
    arrays = read_clip(entries, facts, range(7), ("residual_magnitude", "rgb", "coded_residual"))
    assert list(arrays) == ["residual_magnitude", "rgb", "coded_residual"]
    np.testing.assert_array_equal(arrays["coded_residual"][..., 0], coded)
    np.testing.assert_array_equal(arrays["residual_magnitude"][..., 0], norms)
    np.testing.assert_array_equal(arrays["rgb"], exact["rgb"])  # not of the coded residual's arithmetic
    cut = read_clip(entries, facts, range(2, 4), ("coded_residual",), crop=(5, 3, 20, 10))["coded_residual"]
    np.testing.assert_array_equal(cut, arrays["coded_residual"][2:4, 3:13, 5:25])
    both = read_clip(entries, facts, range(2, 4), ("residual_magnitude", "rgb"), crop=(5, 3, 20, 10))
    np.testing.assert_array_equal(both["residual_magnitude"], arrays["residual_magnitude"][2:4])  # comes whole
    np.testing.assert_array_equal(both["rgb"], exact["rgb"][2:4, 3:13, 5:25])
    for form, kind in (("coded", "coded_residual"), ("magnitude", "residual_magnitude")):
        decoded = MODALITIES["residual"].decode(entries, {**facts, "recipe": {"residual_form": form}})
        np.testing.assert_array_equal(decoded, arrays[kind])


@pytest.mark.parametrize("form", ["coded", "magnitude"])
def test_other_forms_of_residual_that_were_stored(stream: Callable[[str], Path], form: str) -> None:
    modality, entries = residual.Residual(Settings("png", residual_form=form)), {}
    for frame in Video(stream("b.avi")).frames(track="residual", coded=True):
        entries |= dict(modality.add(frame, frame.index))
    facts = {"frame_indices": list(range(20)), "width": 80, "height": 64, "residual": modality.facts()}
    kind = residual.FORMS[form].kind
    arrays = read_clip(entries, facts, range(3, 9), (kind,))
    decoded = residual.Residual.decode(entries, facts)
    assert decoded is not None
    np.testing.assert_array_equal(arrays[kind], decoded[3:9])
    part = read_clip(entries, facts, range(3, 9), (kind,), crop=(5, 3, 20, 10))[kind]
    np.testing.assert_array_equal(part, decoded[3:9] if form == "magnitude" else decoded[3:9, 3:13, 5:25])
    with pytest.raises(ShardError, match=rf"residual_form={form}: .*extract with --residual-form accumulated"):
        read_clip(entries, facts, range(3, 9), ("residual",))


def test_what_a_codec_cannot_give(samples: Samples) -> None:
    _, (entries, facts), _ = samples("h264.mp4")
    with pytest.raises(UnsupportedError, match=r"codec=h264: .* MPEG-4 Part 2 alone"):
        read_clip(entries, facts, range(2), ("coded_residual",))


def test_levels_are_scaled_from_the_stream(samples: Samples, stream: Callable[[str], Path]) -> None:
    stored, (entries, facts), _ = samples("b.avi")
    frames = list(Video(stream("b.avi")).frames(vectors=False))[::STEP]
    for level in (32, 16):
        expected = np.stack([pyramid.extract(frame, level) for frame in frames])
        np.testing.assert_array_equal(pyramid.decode_level(entries, level, facts), expected)
        np.testing.assert_array_equal(pyramid.decode_level(entries, level, facts, [1, 4]), expected[[1, 4]])
    whole = pyramid.decode_level(stored[0], 112)
    assert whole is not None
    np.testing.assert_array_equal(pyramid.decode_level(stored[0], 112, stored[1], [1, 4]), whole[[1, 4]])
    assert pyramid.decode_level(stored[0], 16, stored[1], [1, 4]) is None
    np.testing.assert_array_equal(pyramid.Pyramid.decode(entries, facts), pyramid.decode_level(entries, 32, facts))


def test_a_spectrogram_is_an_entry_of_its_own(samples: Samples) -> None:
    _, (entries, facts), _ = samples("p.avi")
    assert MODALITIES["spectrogram"].decode(entries, facts) is None


@pytest.mark.parametrize(
    ("kind", "entry", "modality"),
    [
        ("rgb", "rgb.000006.jpg", "rgb"),
        ("residual", "residual.000005.png", "residual"),
        ("motion", "motion.npz", "motion"),
        ("accumulated_motion", "motion.npz", "motion"),
    ],
)
def test_a_missing_entry(samples: Samples, kind: str, entry: str, modality: str) -> None:
    (entries, facts), _, _ = samples("p.avi")
    assert entry in entries
    left = {name: data for name, data in entries.items() if name != entry}
    message = rf"modality={modality}: the sample doesn't hold it; extract with --modalities {modality}"
    with pytest.raises(ShardError, match=message):
        read_clip(left, facts, range(2, 4), (kind,))


@pytest.mark.parametrize("layout", [0, 1])
def test_usage(samples: Samples, layout: int) -> None:
    entries, facts = samples("p.avi")[layout]
    for positions in ((-1, 3), (3, 3), (5, 4), range(8), (), (0, 1.5), (0, None)):
        with pytest.raises(UsageError, match=r"positions=.*: must increase from 0 to num_frames=7, exclusive"):
            read_clip(entries, facts, positions)  # type: ignore[arg-type]
    for kinds in (("flow",), (), "rgb"):
        with pytest.raises(UsageError, match=r"modalities=.*: must be a sequence of rgb, motion, accumulated_motion"):
            read_clip(entries, facts, range(3), kinds)
    for crop in ((1, 2, 3), 5, (0.0, 0.0, 10.0, 10.0)):
        with pytest.raises(UsageError, match=r"crop=.*: must be x, y, width and height"):
            read_clip(entries, facts, range(3), crop=crop)  # type: ignore[arg-type]
    with pytest.raises(ShardError, match="clip: KeyError"):
        read_clip(entries, {}, range(3))
    with pytest.raises(UsageError, match=r"crop=\(70, 0, 20, 4\): .*must lie within the picture, 80x64"):
        read_clip(entries, facts, range(3), crop=(70, 0, 20, 4))
