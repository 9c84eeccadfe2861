"""Stored residuals: PNG is exact within the clipping, JPEG within a bound, and the json counts what was clipped."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from modalities.conftest import STREAMS
from vidprep.codec.video import Video
from vidprep.codec.writer import write_video
from vidprep.errors import UnsupportedError
from vidprep.modalities import images, residual
from vidprep.modalities.base import Settings

VECTOR_STREAMS = [name for name in STREAMS if name != "mpeg2.mkv"]


def extract(
    path: Path, image_format: str, step: int = 1
) -> tuple[dict[str, bytes], dict[str, object], NDArray[np.int16]]:
    """All entries, the facts, and the residuals of the stored frames as the decoding pass computes them."""
    modality, entries, own = residual.Residual(Settings(residual_format=image_format)), {}, []
    for frame in Video(path).frames(track="residual"):
        stored = frame.index % step == 0
        if stored:
            own.append(frame.accumulated_residual().copy())
        entries |= dict(modality.add(frame, len(own) - 1 if stored else None))
    return entries, modality.facts(), np.stack(own)


@pytest.mark.parametrize("name", VECTOR_STREAMS)
def test_png_is_exact_within_clipping(stream: Callable[[str], Path], name: str) -> None:
    entries, facts, own = extract(stream(name), "png", step=3)
    assert list(entries) == [f"residual.{i:06d}.png" for i in range(7)]
    decoded = residual.Residual.decode(entries, {"residual": facts})
    assert decoded is not None
    assert decoded.dtype == np.int16
    np.testing.assert_array_equal(decoded, np.clip(own, -128, 127))
    assert facts["exact_within_clipping"] is True
    assert own.any()


@pytest.mark.parametrize("name", ["p.avi", "b.avi", "odd.avi"])
def test_jpeg_is_near(stream: Callable[[str], Path], name: str) -> None:
    entries, facts, own = extract(stream(name), "jpeg")
    assert list(entries) == [f"residual.{i:06d}.jpg" for i in range(20)]
    decoded = residual.Residual.decode(entries, {"residual": facts})
    assert decoded is not None
    error = decoded - np.clip(own, -128, 127)
    # Measured: at most 24, rms at most 2.1, where the residual's own rms is 6.9 and more.
    assert np.abs(error).max() <= 30
    assert np.sqrt(np.mean(error.astype(float) ** 2)) < 2.5 < np.sqrt(np.mean(own.astype(float) ** 2)) / 2
    assert facts["exact_within_clipping"] is False


def test_jpeg_keeps_the_full_colour_resolution(stream: Callable[[str], Path]) -> None:
    entries, facts, _ = extract(stream("p.avi"), "jpeg", step=10)
    assert {simplejpeg.decode_jpeg_header(data)[3] for data in entries.values()} == {"444"}
    assert (facts["format"], facts["quality"], facts["subsampling"]) == ("jpeg", 95, "4:4:4")


@pytest.mark.parametrize("image_format", ["jpeg", "png"])
def test_i_frames_hold_exact_zeros(stream: Callable[[str], Path], image_format: str) -> None:
    entries, facts, own = extract(stream("p.avi"), image_format)
    decoded = residual.Residual.decode(entries, {"residual": facts})
    assert decoded is not None
    assert [bool(picture.any()) for picture in decoded] == [k % 6 > 0 for k in range(20)]
    assert [bool(picture.any()) for picture in own] == [k % 6 > 0 for k in range(20)]


def test_the_clipped_share_is_counted(tmp_path: Path) -> None:
    """Black, white, black and so on: a P-frame differs by 255 wherever the encoder finds no better source."""
    frames = [np.full((32, 48, 3), 255 * (k % 2), np.uint8) for k in range(4)]
    write_video(tmp_path / "v.avi", frames, gop=4, quantiser=1)
    entries, facts, own = extract(tmp_path / "v.avi", "png")
    expected = int(np.sum((own > 127) | (own < -128)))
    assert 0.4 < expected / own.size < 0.6
    assert facts["num_clipped"] == expected
    assert facts["clipped_share"] == expected / own.size
    decoded = residual.Residual.decode(entries, {"residual": facts})
    assert decoded is not None
    assert decoded.max() == 127
    assert (own - decoded).max() >= 120


def test_only_stored_frames_are_counted(stream: Callable[[str], Path]) -> None:
    _, facts, own = extract(stream("p.avi"), "png", step=5)
    assert facts["num_clipped"] == int(np.sum((own > 127) | (own < -128)))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_png_of_any_values(height: int, width: int, seed: int) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    data = residual.encode(picture, "png")
    np.testing.assert_array_equal(residual.decode(data), picture.astype(int) - 128)
    assert data[:4] == b"\x89PNG"


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.sampled_from([np.uint8, np.uint16]))
def test_png_of_one_channel(height: int, width: int, seed: int, dtype: type[np.unsignedinteger]) -> None:
    picture = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (height, width, 1), dtype, endpoint=True)
    decoded = images.decode(images.encode_png(picture))
    assert decoded.dtype == dtype
    np.testing.assert_array_equal(decoded, picture)


def test_grey_jpeg_stays_grey() -> None:
    picture = np.add.outer(np.arange(32), 3 * np.arange(48)).astype(np.uint8)[..., np.newaxis]
    decoded = images.decode(images.encode_jpeg(picture, "444"))
    assert decoded.shape == (32, 48, 1)
    assert np.abs(decoded.astype(int) - picture).max() <= 4


class TestCoded:
    """The codec's own residual, stored."""

    def test_png_is_exact_within_clipping(self, stream: Callable[[str], Path]) -> None:
        modality, entries, own = residual.Residual(Settings(residual_form="coded", residual_format="png")), {}, []
        for frame in Video(stream("b.avi")).frames(coded=True):
            own.append(frame.coded_residual().copy())
            entries |= dict(modality.add(frame, frame.index))
        decoded = residual.Residual.decode(entries, {"residual": modality.facts()})
        assert decoded is not None
        assert decoded.shape == (20, 64, 80, 1)
        expected = np.stack(own)[..., np.newaxis]
        np.testing.assert_array_equal(decoded, np.clip(expected, -128, 127))
        assert modality.facts()["num_clipped"] == np.count_nonzero(decoded != expected)
        assert (modality.coded, modality.track) == (True, "none")

    def test_what_is_clipped_is_counted(self, tmp_path: Path) -> None:
        """Halves that swap black and white at once: what moves nowhere is coded as it changes."""
        frames = [np.full((32, 96, 3), 255 * (k % 2), np.uint8) for k in range(4)]
        for k, frame in enumerate(frames):
            frame[:, ::2] = 255 * ((k + 1) % 2)
        write_video(tmp_path / "v.avi", frames, gop=4, quantiser=1)
        modality = residual.Residual(Settings(residual_form="coded", residual_format="png"))
        clipped = 0
        for frame in Video(tmp_path / "v.avi").frames(coded=True):
            dict(modality.add(frame, frame.index))
            clipped += int(np.count_nonzero(np.abs(frame.coded_residual() + 0.5) > 128))
        assert modality.facts()["num_clipped"] == clipped > 0


class TestMagnitude:
    """The accumulated residual's norm at a quarter of the size."""

    @pytest.mark.parametrize("name", ["p.avi", "odd.avi"])
    def test_is_stored_in_steps_of_a_64th(self, stream: Callable[[str], Path], name: str) -> None:
        modality, entries, own = residual.Residual(Settings(residual_form="magnitude")), {}, []
        for frame in Video(stream(name)).frames(track="residual"):
            norm = np.sqrt(np.square(frame.accumulated_residual().astype(float)).sum(axis=2))
            own.append(quarter(norm))
            entries |= dict(modality.add(frame, frame.index))
        assert all(entry.endswith(".png") for entry in entries)
        decoded = residual.Residual.decode(entries, {"residual": modality.facts()})
        assert decoded is not None
        assert decoded.dtype == np.float32
        np.testing.assert_allclose(decoded[..., 0], np.stack(own), atol=0.51 / 64, rtol=0)
        assert decoded.max() > 1


def quarter(norm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over blocks of 4 by 4 pixels; those at the right and at the bottom may be smaller."""
    height, width = norm.shape
    rows = range(0, height, 4)
    return np.array([[norm[y : y + 4, x : x + 4].mean() for x in range(0, width, 4)] for y in rows])


def test_the_largest_magnitude_fits() -> None:
    largest = np.full((1, 1, 1), 255 * np.sqrt(3), np.float32)
    assert np.rint(largest * residual.MAGNITUDE_STEPS).max() < 2**16


def test_pillow_reads_the_png(stream: Callable[[str], Path], tmp_path: Path) -> None:
    entries, _, own = extract(stream("p.avi"), "png", step=2)
    (tmp_path / "r.png").write_bytes(entries["residual.000001.png"])
    theirs = np.asarray(Image.open(tmp_path / "r.png")).astype(int) - 128
    np.testing.assert_array_equal(theirs, np.clip(own[1], -128, 127))


def test_frames_must_be_tracked(stream: Callable[[str], Path]) -> None:
    frame = next(iter(Video(stream("p.avi")).frames()))
    with pytest.raises(UnsupportedError, match='track="residual"'):
        residual.extract(frame)


def test_no_entries_no_array() -> None:
    assert residual.Residual.decode({"rgb.000000.jpg": b""}, {}) is None
    assert residual.Residual(Settings()).facts()["clipped_share"] == 0
