"""Stored pictures: in order, as any JPEG decoder reads them, within a bound of what was decoded."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from modalities.conftest import moving_frames
from vidprep.codec.video import Video
from vidprep.codec.writer import write_video
from vidprep.errors import UsageError
from vidprep.modalities import MODALITIES, rgb
from vidprep.modalities.base import Modality, Settings, numbered
from vidprep.modalities.motion import Motion


def psnr(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    return float(10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2)))


@pytest.mark.parametrize("name", ["p.avi", "odd.avi"])
def test_round_trip(stream: Callable[[str], Path], name: str) -> None:
    modality, entries, pictures = rgb.Rgb(Settings()), {}, []
    for frame in Video(stream(name)).frames():
        stored = frame.index % 2 == 0
        if stored:
            pictures.append(frame.rgb().copy())
        entries |= dict(modality.add(frame, frame.index // 2 if stored else None))
    assert list(entries) == [f"rgb.{i:06d}.jpg" for i in range(10)]
    decoded = rgb.Rgb.decode(entries, {})
    assert decoded is not None
    assert decoded.shape == (10, *pictures[0].shape)
    assert decoded.dtype == np.uint8
    # Measured: 38.6 dB at the least, and 27.9 dB at the most for the next stored picture.
    assert min(map(psnr, pictures, decoded)) > 36
    assert max(map(psnr, pictures[1:], decoded)) < 32
    assert np.abs(decoded.mean((0, 1, 2)) - np.mean(pictures, (0, 1, 2))).max() < 0.5  # channels stand in order


def test_pillow_reads_the_same(stream: Callable[[str], Path]) -> None:
    frame = next(iter(Video(stream("odd.avi")).frames()))
    data = rgb.encode(rgb.extract(frame))
    theirs = np.asarray(Image.open(io.BytesIO(data)))
    assert np.abs(theirs.astype(int) - rgb.decode(data)).max() <= 2  # two inverse transforms of one library family


def test_it_is_what_the_facts_say(stream: Callable[[str], Path]) -> None:
    frame = next(iter(Video(stream("p.avi")).frames()))
    data = rgb.encode(frame.rgb())
    assert rgb.Rgb(Settings()).facts() == {"format": "jpeg", "quality": 95, "subsampling": "4:2:0"}
    assert simplejpeg.decode_jpeg_header(data) == (64, 80, "YCbCr", "420")
    reference = io.BytesIO()
    Image.fromarray(frame.rgb()).save(reference, "JPEG", quality=95, subsampling="4:2:0")
    tables = [Image.open(io.BytesIO(one)).quantization for one in (data, reference.getvalue())]
    assert tables[0] == tables[1]


def test_padded_rows_are_no_part_of_the_picture(stream: Callable[[str], Path]) -> None:
    frame = next(iter(Video(stream("odd.avi")).frames()))
    assert not frame.rgb().flags.c_contiguous  # libswscale pads the rows of a picture 67 pixels wide
    assert rgb.encode(frame.rgb()) == rgb.encode(frame.rgb().copy())


def test_no_entries_no_array() -> None:
    assert rgb.Rgb.decode({}, {}) is None
    assert rgb.Rgb.decode({"rgb112.000000.jpg": b"", "json": b"{}"}, {}) is None


def test_entries_are_read_by_number() -> None:
    entries = {f"rgb.{i:06d}.jpg": bytes([i]) for i in (3, 0, 11, 2, 10, 1)} | {"rgb112.000000.jpg": b"x", "cls": b"1"}
    assert numbered(entries, "rgb") == [bytes([i]) for i in (0, 1, 2, 3, 10, 11)]
    assert numbered(entries, "rgb112") == [b"x"]


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (1, 1), (9, 5)])
def test_any_size(tmp_path: Path, size: tuple[int, int]) -> None:
    write_video(tmp_path / "v.mkv", [moving_frames(1)[0][: size[1], : size[0]]], codec="ffv1", quantiser=None)
    [frame] = Video(tmp_path / "v.mkv").frames(vectors=False)
    decoded = rgb.decode(rgb.encode(rgb.extract(frame)))
    assert decoded.shape == (size[1], size[0], 3)
    assert psnr(decoded, frame.rgb()) > 30


def test_the_table_of_modalities() -> None:
    assert list(MODALITIES) == ["rgb", "motion", "residual", "spectrogram", "pyramid"]
    assert all(name == modality.name for name, modality in MODALITIES.items())
    assert {name for name, modality in MODALITIES.items() if modality(Settings()).track == "picture"} == {"residual"}
    assert all(issubclass(modality, Modality) for modality in MODALITIES.values())
    assert Motion.track == "none"  # fields are rebuilt on load, so nothing needs to be tracked


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"residual_format": "gif"}, "residual_format=gif: must be jpeg or png"),
        ({"spectrogram_recipe": "cqt"}, "spectrogram_recipe=cqt: must be mel or tbn"),
        ({"levels": ()}, r"levels=\(\): must be"),
        ({"levels": (56, 56)}, r"levels=\(56, 56\): must be different"),
        ({"levels": (7,)}, r"levels=\(7,\): .* 8 to 4096"),
    ],
)
def test_bad_settings(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Settings(**settings)  # type: ignore[arg-type]
