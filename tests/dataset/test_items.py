"""What one sample becomes: names and shapes, labels, labels of frames, and arrays at smaller scales in their place."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_shards import (
    FPS,
    LEVEL,
    OPTIONS,
    SIZE,
    STEP_SECONDS,
    WITH_SOUND,
    Cut,
    Fixed,
    click,
    extract_rows,
    read_item,
    sample_of,
    write_view,
)

from vidprep.dataset import Flip, RandomCrop, ShardDataset, ShortSide, Windows
from vidprep.dataset.arrays import to_tensor
from vidprep.dataset.items import ItemReader
from vidprep.dataset.kinds import KINDS, Part, check_kinds
from vidprep.dataset.labels import LabelReader
from vidprep.dataset.views import Step, View
from vidprep.errors import ShardError, UsageError
from vidprep.manifest import Row
from vidprep.modalities.base import Settings
from vidprep.modalities.clip import read_clip
from vidprep.modalities.pyramid import decode_level
from vidprep.sampling import Clips, Segments


def stored(folder: Path, key: str, *kinds: str, frames: Sequence[int] = Fixed().frames) -> dict[str, Any]:
    entries = sample_of(folder, key)
    return read_clip(entries, json.loads(entries["json"]), sorted(set(frames)), kinds)


def array(tensor: torch.Tensor) -> Any:
    """A clip with its channels last, as the readers of modalities have it."""
    return tensor.permute(1, 2, 3, 0).numpy()


SOUND, SILENT = "sound%2Eavi", "silent%2Eavi"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two clips, one with sound and both with further labels: pictures, and the stream with the sound."""
    root = tmp_path_factory.mktemp("items")
    write_view(root / "in/sound.avi", **click(0.4, 0.8))
    write_view(root / "in/silent.avi", seed=1)
    rows = [Row("silent.avi", (1,), targets=(("noun", 2),)), Row("sound.avi", (0,), targets=(("noun", 0), ("verb", 1)))]
    targets = {"noun": ("a", "b", "c"), "verb": ("d", "e")}
    decoded = extract_rows(root / "in", rows, root / "decoded", targets=targets)
    packed = replace(WITH_SOUND, layout="bitstream")
    return decoded, extract_rows(root / "in", rows, root / "packed", packed, targets=targets)


@pytest.fixture(scope="module")
def magnitudes(folders: tuple[Path, Path]) -> tuple[Path, Path]:
    """The same clips with the magnitude of their residuals."""
    root = folders[0].parent
    options = replace(OPTIONS, settings=Settings(residual_form="magnitude", levels=(LEVEL,)))
    return extract_rows(root / "in", [Row("sound.avi", (0,))], root / "magnitudes", options), folders[1]


class TestItems:
    ALL = ("rgb", "motion", "accumulated_motion", "residual", f"rgb{LEVEL}", "times")

    @pytest.mark.parametrize("layout", [0, 1])
    def test_names_shapes_and_types_of_a_batch(self, folders: tuple[Path, Path], layout: int) -> None:
        streamed = ("spectrogram", "residual_magnitude", "coded_residual") if layout else ()
        (batch,) = ShardDataset(folders[layout], None, (*self.ALL, *streamed), clips=Fixed()).loader(2)
        height, width = SIZE[1], SIZE[0]
        found = {name: (tuple(value.shape), value.dtype) for name, value in batch.items() if name != "key"}
        of_the_stream = {
            "spectrogram": ((2, 1, 256, 256), torch.float32),
            "has_audio": ((2,), torch.bool),
            "coded_residual": ((2, 1, 4, height, width), torch.int16),
            "residual_magnitude": ((2, 1, 4, 13, 20), torch.float32),
        }
        assert found == (of_the_stream if layout else {}) | {
            "sample": ((2,), torch.int64),
            "label": ((2,), torch.int64),
            "noun": ((2,), torch.int64),
            "verb": ((2,), torch.int64),
            "rgb": ((2, 3, 4, height, width), torch.uint8),
            "motion": ((2, 2, 4, height, width), torch.int16),
            "accumulated_motion": ((2, 2, 4, height, width), torch.int16),
            "residual": ((2, 3, 4, height, width), torch.int16),
            f"rgb{LEVEL}": ((2, 3, 4, LEVEL, 38), torch.uint8),
            "times": ((2, 4), torch.float64),
        }
        assert sorted(batch["key"]) == [SILENT, SOUND]
        in_order = np.argsort(batch["key"])
        assert batch["label"][in_order].tolist() == [1, 0]
        assert batch["noun"][in_order].tolist() == [2, 0]
        assert batch["verb"][in_order].tolist() == [-1, 1]
        assert not layout or batch["has_audio"][in_order].tolist() == [False, True]
        np.testing.assert_allclose(batch["times"][0], np.array(Fixed().frames) * STEP_SECONDS)

    @pytest.mark.parametrize("layout", [0, 1])
    def test_arrays_are_those_of_the_readers(self, folders: tuple[Path, Path], layout: int) -> None:
        folder = folders[layout]
        kinds = ("rgb", "motion", "accumulated_motion", "residual")
        item, whole = read_item(folder, SOUND, *kinds, f"rgb{LEVEL}"), stored(folder, SOUND, *kinds)
        for kind in kinds:
            np.testing.assert_array_equal(array(item[kind]), whole[kind], kind)
        entries = sample_of(folder, SOUND)
        level = decode_level(entries, LEVEL, json.loads(entries["json"]))
        assert level is not None
        np.testing.assert_array_equal(array(item[f"rgb{LEVEL}"]), level[list(Fixed().frames)])

    @pytest.mark.parametrize("layout", [0, 1])
    def test_frames_come_in_the_clips_order_and_again(self, folders: tuple[Path, Path], layout: int) -> None:
        """A short video that is read again from its start: all arrays follow."""
        names = ("rgb", f"rgb{LEVEL}", "times")
        straight = read_item(folders[layout], SOUND, *names, clips=Fixed((0, 18, 19)))
        again = read_item(folders[layout], SOUND, *names, clips=Fixed((18, 19, 0, 18)))
        for name in names:
            in_time = 0 if name == "times" else 1
            torch.testing.assert_close(again[name], straight[name].index_select(in_time, torch.tensor([1, 2, 0, 1])))

    def test_views_are_numbered_where_there_are_several(self, folders: tuple[Path, Path]) -> None:
        assert "view" not in read_item(folders[1], SOUND, "rgb")
        items = list(ShardDataset(folders[1], None, ("times",), clips=Fixed((0, 3), num_clips=3)))
        assert [item["view"] for item in items] == [0, 1, 2, 0, 1, 2]
        assert [round(float(item["times"][1]) * FPS) for item in items] == [3, 4, 5, 3, 4, 5]

    def test_a_wrong_index_is_an_error_of_the_sample(self, folders: tuple[Path, Path]) -> None:
        dataset = ShardDataset(folders[1])
        dataset.items_of = replace(dataset.items_of, labels=LabelReader(1))
        with pytest.raises(ShardError, match=rf"key={SILENT}: label=1: must be 0 to num_classes=1, exclusive"):
            list(dataset)

    def test_names_that_are_none(self, folders: tuple[Path, Path]) -> None:
        for name in ("flow", "rgb0", "rgb024", "rgb-1", "pyramid", "json"):
            with pytest.raises(UsageError, match=rf"modalities={name}: must be among rgb, motion, .*such as rgb112"):
                ShardDataset(folders[1], None, (name,))
        with pytest.raises(UsageError, match=r"modalities=rgb,rgb: rgb must stand for one thing .* noun, verb; leave"):
            ShardDataset(folders[1], None, ("rgb", "rgb"))
        for target in ("rgb", "view"):
            with pytest.raises(UsageError, match=f"{target} must stand for one thing .*rename the target"):
                ItemReader(("rgb",), Fixed(), (), LabelReader(2, {target: 2}))

    @pytest.mark.parametrize(
        ("name", "layout", "message"),
        [
            ("coded_residual", 0, r"with residual_form=accumulated; extract again with --residual-form coded"),
            ("residual_magnitude", 0, r"with residual_form=accumulated; extract again with --residual-form magnitude"),
            ("rgb48", 0, r"with levels=24; extract again with --levels 48"),
            ("spectrogram", 2, r"with modalities=rgb,motion; extract again with --modalities spectrogram"),
            ("spectrogram", 3, r"with modalities=rgb,motion; extract again with --modalities spectrogram"),
            ("residual", 2, r"with modalities=rgb,motion; extract again with --modalities residual"),
            ("rgb24", 2, r"with modalities=rgb,motion; extract again with --modalities pyramid"),
        ],
    )
    def test_what_shards_lack_is_said_before_they_are_read(self, name: str, layout: int, message: str) -> None:
        recipe = {
            "layout": ("decoded", "bitstream")[layout % 2],
            "modalities": ["rgb", "motion"] if layout > 1 else list(WITH_SOUND.modalities),
            "residual_form": "accumulated",
            "levels": [LEVEL],
        }
        with pytest.raises(ShardError, match=rf"modality={name}: the shards hold none, they were extracted {message}"):
            check_kinds([name], recipe)
        if layout < 2:  # all that the stream itself can give
            check_kinds(KINDS, {**recipe, "layout": "bitstream"})

    def test_the_check_stands_before_the_first_sample(self, folders: tuple[Path, Path]) -> None:
        with pytest.raises(ShardError, match=r"modality=rgb48: .*--levels 48"):
            ShardDataset(folders[0], None, ("rgb48",))
        assert read_item(folders[1], SOUND, "rgb17")["rgb17"].shape == (3, 4, 17, 27)


class TestSmallScales:
    """Levels and magnitudes: whole, cut where the view is, flipped and resized with it."""

    @pytest.mark.parametrize("layout", [0, 1])
    def test_whole_crops_flips_and_sizes(self, magnitudes: tuple[Path, Path], layout: int) -> None:
        whole = stored(magnitudes[layout], SOUND, "residual_magnitude")["residual_magnitude"]
        assert whole.shape == (4, 13, 20, 1)  # of 80x51
        assert whole.any()

        def seen(*steps: Step) -> Any:
            item = read_item(magnitudes[layout], SOUND, "rgb", "residual_magnitude", steps=steps)
            return array(item["residual_magnitude"])

        np.testing.assert_array_equal(seen(), whole)
        np.testing.assert_array_equal(seen(Cut((8, 4, 40, 24))), whole[:, 1:7, 2:12])
        np.testing.assert_array_equal(seen(Cut((8, 4, 40, 24), is_flipped=True)), whole[:, 1:7, 11:1:-1])
        np.testing.assert_array_equal(seen(Cut((9, 5, 40, 24))), whole[:, 1:7, 2:12])  # the nearest pixels
        np.testing.assert_array_equal(seen(Cut((10, 7, 40, 24))), whole[:, 2:8, 3:13])
        np.testing.assert_array_equal(seen(Cut((49, 28, 31, 23))), whole[:, 7:13, 12:20])  # to the last pixel
        np.testing.assert_array_equal(seen(Cut((79, 50, 1, 1))), whole[:, 12:, 19:])
        half = seen(Cut((8, 4, 40, 24), size=(20, 12)))
        assert half.shape == (4, 3, 5, 1)
        pooled = whole[:, 1:7, 2:12].reshape(4, 3, 2, 5, 2).mean(axis=(2, 4))
        assert np.corrcoef(half.ravel(), pooled.ravel())[0, 1] > 0.95

    def test_stored_magnitudes_are_half_a_step_off_at_most(self, magnitudes: tuple[Path, Path]) -> None:
        steps = [Cut((8, 4, 40, 24), is_flipped=True, size=(30, 20))]
        one, other = (read_item(folder, SOUND, "residual_magnitude", steps=steps) for folder in magnitudes)
        far = (one["residual_magnitude"] - other["residual_magnitude"]).abs()
        assert 0 < far.max() <= 1 / 128 + 1e-4

    def test_the_picture_beside_it_is_cut_where_it_was(self, folders: tuple[Path, Path]) -> None:
        item = read_item(folders[1], SOUND, "residual_magnitude", "rgb", steps=[Cut((9, 5, 40, 24))])
        np.testing.assert_array_equal(array(item["rgb"]), stored(folders[1], SOUND, "rgb")["rgb"][:, 5:29, 9:49])

    @pytest.mark.parametrize("layout", [0, 1])
    def test_levels_show_the_view_with_their_short_side(self, folders: tuple[Path, Path], layout: int) -> None:
        entries = sample_of(folders[layout], SOUND)
        level = decode_level(entries, LEVEL, json.loads(entries["json"]))
        assert level is not None
        whole = level[list(Fixed().frames)]  # 38x24 of 80x51: eight seventeenths

        def seen(*steps: Step) -> Any:
            return array(read_item(folders[layout], SOUND, f"rgb{LEVEL}", steps=steps)[f"rgb{LEVEL}"])

        np.testing.assert_array_equal(seen(), whole)
        np.testing.assert_array_equal(seen(Cut((17, 17, 51, 34), size=(24, 16))), whole[:, 8:24, 8:32])
        np.testing.assert_array_equal(seen(Cut((17, 17, 51, 34), True, (24, 16))), whole[:, 8:24, 31:7:-1])
        larger = to_tensor("rgb", whole[:, 8:24, 8:32].copy(), View(0, 0, 24, 16, 36, 24), resizes=True)
        np.testing.assert_array_equal(seen(Cut((17, 17, 51, 34))), array(larger))  # 51x34 with its short side at 24
        assert seen(Cut((17, 17, 51, 34), size=(34, 17))).shape == (4, 17, 34, 3)  # never larger than the view
        assert seen(ShortSide(34), RandomCrop(30), Flip()).shape == (4, 24, 24, 3)

    @given(data=st.data(), scale=st.fractions(Fraction(1, 8), 1, max_denominator=99))
    def test_a_cut_lies_where_the_box_does(self, data: st.DataObject, scale: Fraction) -> None:
        """Of a ramp, whose values are places: it begins half a pixel from the box at most, but for the far edges."""
        width, height = data.draw(st.integers(8, 300)), data.draw(st.integers(8, 300))
        x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
        box = x, y, data.draw(st.integers(1, width - x)), data.draw(st.integers(1, height - y))
        whole = data.draw(st.sampled_from([math.ceil, round]))
        columns, rows = (max(whole(side * scale), 1) for side in (width, height))
        ramp = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1)[np.newaxis].astype(np.float32)
        part = Part({}, {}, [0], View.whole(width, height).cropped(*box), False, Fixed(), LabelReader(0), Windows())
        size = max(whole(box[2] * scale), 1), max(whole(box[3] * scale), 1)
        cut = array(part.small("ramp", ramp, scale, whole, size))[0]
        assert cut.shape == (max(whole(box[3] * scale), 1), max(whole(box[2] * scale), 1), 2)
        for axis, (start, total) in enumerate(((box[0], columns), (box[1], rows))):
            first, last = int(cut[..., axis].min()), int(cut[..., axis].max())
            assert last - first + 1 == cut.shape[1 - axis]
            assert abs(first - start * scale) <= (Fraction(1, 2) if last < total - 1 else Fraction(3, 2))


class TestSound:
    def test_windows_around_the_clip_and_around_frames(self, folders: tuple[Path, Path]) -> None:
        """The click at 0.4 s, frame 10: its place in a window of 0.2 s tells the window's middle."""

        def columns(around: Any, clips: Clips) -> list[int]:
            item = read_item(folders[1], SOUND, "spectrogram", clips=clips, windows=Windows(0.2, around))
            assert item["spectrogram"].shape[1:] == (256, 41)
            return item["spectrogram"].sum(dim=1).argmax(dim=1).tolist()  # type: ignore[no-any-return]

        assert columns("clip", Fixed(range(8, 13))) == [20]
        assert columns(None, Fixed([6, 12])) == [28]  # around 0.36 s, 8 columns of 5 ms before the click
        assert columns(None, Fixed([12, 6])) == [28]
        assert columns("frames", Fixed([8, 10, 11])) == [36, 20, 12]
        of_segments = columns(None, Segments(10))  # frames 1, 3, ...: 9 and 11 are nearest to the click
        assert (len(of_segments), of_segments[4:6]) == (10, [28, 12])
        assert columns("clip", Segments(10)) == [20]

    def test_silence_where_there_is_no_sound(self, folders: tuple[Path, Path]) -> None:
        item = read_item(folders[1], SILENT, "spectrogram")
        assert item["has_audio"] is False
        assert item["spectrogram"].unique().tolist() == [np.float32(np.log(1e-6))]
        assert read_item(folders[1], SOUND, "spectrogram")["has_audio"] is True

    def test_windows_that_cannot_be(self) -> None:
        with pytest.raises(UsageError, match=r"window_seconds=0: must be above 0"):
            Windows(0)
        with pytest.raises(UsageError, match=r"around=video: must be clip or frames, or left out"):
            Windows(1.0, "video")  # type: ignore[arg-type]
