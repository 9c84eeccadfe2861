"""``inspect``: the facts and the sheet of a video and of shards, against independent counts and full decodings."""

import errno
import io
import json
import re
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import PictureType
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from runs import extract_here

from vidprep.codec.blocks import BLOCK_DTYPE
from vidprep.codec.video import Video
from vidprep.codec.writer import write_video
from vidprep.errors import DecodeError, ShardError, TranscodeError, UsageError, VidprepError
from vidprep.modalities import images, motion, spectrogram
from vidprep.pipelines import inspect as inspect_module
from vidprep.pipelines import inspect_arrays, inspect_draw, inspect_shards
from vidprep.pipelines.extract import Options
from vidprep.pipelines.inspect import CELL, inspect_source
from vidprep.pipelines.inspect_cells import cell_size
from vidprep.pipelines.inspect_draw import GAP, GUTTER, MARGIN, Panel
from vidprep.pipelines.inspect_survey import Survey, aligned, choose_frames, exactness, sizes
from vidprep.shards.index import load_index
from vidprep.shards.reader import read_samples

SIZE, SIDE = (160, 128), 48
START, STEP = (24, 64), (3, -2)  # a square's corner in the first frame, and how far it moves in each
RATE_HZ = 22050


def square_frames(num_frames: int = 14) -> Iterator[NDArray[np.uint8]]:
    """A textured square that moves by STEP over a textured background that stands still."""
    rng = np.random.default_rng(0)
    background = rng.integers(90, 130, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    square = rng.integers(0, 256, (SIDE // 4, SIDE // 4, 3), dtype=np.uint8).repeat(4, axis=0).repeat(4, axis=1)
    for i in range(num_frames):
        frame = background.copy()
        x, y = START[0] + STEP[0] * i, START[1] + STEP[1] * i
        frame[y : y + SIDE, x : x + SIDE] = square
        yield frame


def tone(seconds: float, hz: float = 440.0) -> NDArray[np.float32]:
    return 0.3 * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE_HZ)) / RATE_HZ, dtype=np.float32)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of two classes: plain, with B-frames, with sound, without vectors, and one that is no video."""
    root = tmp_path_factory.mktemp("inspect") / "clips"
    for name in ("left", "right"):
        (root / name).mkdir(parents=True)
    write_video(root / "left/plain.avi", square_frames(), gop=6)
    write_video(root / "left/b_frames.mkv", square_frames(), codec="mpeg2video", gop=6, num_b_frames=2)
    write_video(root / "right/sound.avi", square_frames(10), audio=tone(0.4), sample_rate_hz=RATE_HZ)
    write_video(root / "right/lossless.mkv", square_frames(7), codec="ffv1", quantiser=None)
    (root / "right/text.mp4").write_text("this is no video")
    return root


@pytest.fixture(scope="module")
def shards(clips: Path) -> Path:
    out = clips.parent / "shards"
    extract_here(clips, out, Options(num_workers=1))
    return out


@pytest.fixture(scope="module")
def copied(clips: Path) -> Path:
    """Shards of every second frame of one stream as it is; it has B-frames and begins after two seconds."""
    source, out = clips.parent / "with_b", clips.parent / "copied"
    (source / "only").mkdir(parents=True)
    pts = [2000 + 40 * i for i in range(14)]
    path = source / "only/b_frames.mkv"
    write_video(path, square_frames(), codec="h264", gop=6, num_b_frames=2, pts=pts)
    extract_here(source, out, Options(codec="copy", num_workers=1, frames="stride:2"))
    return out


def facts_of(text: str) -> dict[str, str]:
    pairs = (line.split(":", 1) for line in text.splitlines())
    return {name: value.strip() for name, value in pairs}


def inspected(source: Path, tmp_path: Path, **options: Any) -> tuple[dict[str, str], NDArray[np.uint8]]:
    found = inspect_source(source, tmp_path / "sheet.png", **options)
    with Image.open(found.image) as image:
        assert image.format == "PNG"
        return facts_of(found.facts), np.asarray(image.convert("RGB"))


def decoded(path: Path) -> list[Any]:
    """The frames in display order, by PyAV alone."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.flags2 |= av.codec.context.Flags2.export_mvs
        return list(container.decode(stream))


def letter(frame: Any) -> str:
    return str(PictureType(frame.pict_type).name)


def panel_of(source: Path, num_frames: int = 6) -> Panel:
    return inspect_module._inspect_video(source, num_frames)[1]


# The facts of a video


@pytest.mark.parametrize("name", ["left/plain.avi", "left/b_frames.mkv", "right/sound.avi"])
def test_counts_agree_with_a_plain_decoding(clips: Path, tmp_path: Path, name: str) -> None:
    facts, _ = inspected(clips / name, tmp_path)
    types = "".join(letter(frame) for frame in decoded(clips / name))
    counts = Counter(types)
    lengths = sorted(len(group) + 1 for group in types.split("I")[1:])
    assert facts["frames"] == f"{len(types)}, counted by decoding"
    assert facts["picture types"] == f"{counts['I']} I, {counts['P']} P, {counts['B']} B"
    assert facts["GOPs"].split()[0] == str(len(lengths)) == str(counts["I"])
    extent = f"{lengths[0]}" if lengths[0] == lengths[-1] else f"{lengths[0]} to {lengths[-1]}"
    assert facts["GOPs"].startswith(f"{counts['I']} of {extent} frames")


def test_facts_of_the_container(clips: Path, tmp_path: Path) -> None:
    facts, _ = inspected(clips / "left/plain.avi", tmp_path)
    assert facts["video"] == str(clips / "left/plain.avi")
    assert (facts["container"], facts["codec"], facts["pixel format"]) == ("avi", "mpeg4", "yuv420p")
    assert (facts["size"], facts["rotation"]) == ("160x128 pixels", "0 degrees")
    assert facts["fps"] == "25.00 (25.00 by the container)"
    assert facts["duration"] == "0.56 s (0.56 s by the container)"
    assert (facts["audio"], facts["read"], facts["motion exact"]) == ("none", "as it is", "yes")
    assert (facts["dropped frames"], facts["repaired times"]) == ("0", "0")


def test_fps_is_measured_on_a_variable_rate(tmp_path: Path) -> None:
    times = [0, 40, 80, 400, 440, 500]
    write_video(tmp_path / "a.mkv", square_frames(6), pts=times, gop=3)
    facts, _ = inspected(tmp_path / "a.mkv", tmp_path)
    assert facts["fps"].startswith("10.00 ")
    assert facts["duration"].startswith("0.60 s")


def painted(path: Path) -> tuple[int, int, int, float]:
    """Pixels of P-frames: all, in a block, in a moving block, and summed lengths; painted block by block."""
    covered = moving = total = 0
    length = 0.0
    for frame in decoded(path):
        if letter(frame) != "P":
            continue
        lengths = np.full((frame.height, frame.width), -1.0)
        for block in frame.side_data.get("MOTION_VECTORS"):
            x, y = block.dst_x - block.w // 2, block.dst_y - block.h // 2
            of_block = np.hypot(block.motion_x, block.motion_y) / block.motion_scale
            lengths[max(y, 0) : y + block.h, max(x, 0) : x + block.w] = of_block
        total += lengths.size
        covered += int((lengths >= 0).sum())
        moving += int((lengths > 0).sum())
        length += float(lengths[lengths > 0].sum())
    return total, covered, moving, length


@pytest.mark.parametrize("size", [(160, 128), (150, 101)])  # the second with blocks that reach beyond the frame
def test_shares_of_the_area_agree_with_painted_blocks(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "a.mp4"
    frames = [frame[: size[1], : size[0]] for frame in square_frames(8)]
    write_video(path, frames, codec="mpeg2video" if size[0] % 2 else "mpeg4", pixel_format="yuv420p", gop=4)
    total, covered, moving, length = painted(path)
    facts, _ = inspected(path, tmp_path)
    assert 0 < moving < covered
    expected = [100 * n / total for n in (total - covered, covered - moving, moving)]
    assert [float(n) for n in re.findall(r"[\d.]+", facts["P-frame area"])] == pytest.approx(expected, abs=0.051)
    assert float(facts["mean vector"].split()[0]) == pytest.approx(length / moving, abs=0.0051)


def test_a_video_of_one_frame_has_no_motion_to_speak_of(tmp_path: Path) -> None:
    write_video(tmp_path / "one.avi", square_frames(1))
    facts, sheet = inspected(tmp_path / "one.avi", tmp_path)
    assert facts["frames"].startswith("1,")
    assert facts["GOPs"] == "1 of 1 frames"
    assert facts["P-frame area"].startswith("- ")
    assert facts["mean vector"].startswith("- ")
    assert facts["duration"].startswith("0.04 s")
    assert sheet.shape[1] == inspect_draw.MIN_WIDTH + 2 * MARGIN


def test_a_codec_without_vectors_is_transcoded_and_the_facts_say_so(clips: Path, tmp_path: Path) -> None:
    facts, _ = inspected(clips / "right/lossless.mkv", tmp_path)
    assert facts["codec"] == "ffv1"
    assert facts["size"] == "160x128 pixels"
    assert facts["read"].startswith("transcoded to mpeg4 340x256, GOP 12, because ffv1 has no")
    assert facts["picture types"] == "1 I, 6 P, 0 B"
    panel = panel_of(clips / "right/lossless.mkv")
    assert panel.cell == cell_size(340, 256, CELL)
    assert panel.notes.endswith(", ffv1, transcoded")


def test_a_rotated_video_is_turned_upright(shared: Path, tmp_path: Path) -> None:
    path = shared / "data/codecs/video_90.mov"
    facts, _ = inspected(path, tmp_path)
    assert facts["rotation"] == "-90 degrees"
    assert facts["read"].endswith("because it is stored rotated")


def test_rotation_is_a_reason_to_transcode(clips: Path) -> None:
    with Video(clips / "left/plain.avi") as source:
        with inspect_module._stream(source) as (stream, how):
            assert stream is source
            assert how == "as it is"
        source.metadata = replace(source.metadata, rotation_degrees=90)
        with inspect_module._stream(source) as (stream, how):
            assert (stream.metadata.width, stream.metadata.height) == (340, 256)
            assert how.endswith("because it is stored rotated")


def test_a_packed_stream_with_b_frames(shared: Path, tmp_path: Path) -> None:
    facts, _ = inspected(shared / "data/UCF101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi", tmp_path)
    assert facts["picture types"] == "1 I, 55 P, 108 B"
    assert facts["GOPs"] == "1 of 164 frames"
    assert facts["audio"].startswith("from 0.0")
    assert facts["repaired times"] != "0"


def test_vectors_of_unknown_reference_are_pointed_out(shared: Path, tmp_path: Path) -> None:
    facts, _ = inspected(shared / "data/codecs/h264_sample.mp4", tmp_path, num_frames=2)
    assert facts["motion exact"] == exactness(False)
    assert "--codec mpeg4" in facts["motion exact"]


def test_lines_are_aligned() -> None:
    assert aligned({"a": "1", "long name": "2: 3"}) == "a:         1\nlong name: 2: 3"
    assert aligned({}) == ""


# The survey and the choice of frames


def blocks_of(*rows: tuple[int, int, int, int, int, int]) -> NDArray[np.void]:
    """Blocks from w, h, dst_x, dst_y, motion_x, motion_y, in half pixels."""
    blocks = np.zeros(len(rows), BLOCK_DTYPE)
    for block, row in zip(blocks, rows, strict=True):
        for name, value in zip(("w", "h", "dst_x", "dst_y", "motion_x", "motion_y"), row, strict=True):
            block[name] = value
        block["source"], block["motion_scale"] = -1, 2
    return blocks


def test_a_survey_weighs_blocks_by_the_pixels_inside_the_frame() -> None:
    survey = Survey(24, 16)
    survey.add("I", blocks_of())
    survey.add("P", blocks_of((16, 16, 8, 8, 6, 8), (16, 16, 24, 8, 0, 0)))  # the second is half outside
    facts = survey.facts()
    assert facts["P-frame area"] == "0.0 % intra, 33.3 % still, 66.7 % moving"
    assert facts["mean vector"].startswith("5.00 pixels")
    survey.add("P", blocks_of())
    assert survey.facts()["P-frame area"] == "50.0 % intra, 16.7 % still, 33.3 % moving"
    assert survey.picture_types == "IPP"


def test_a_survey_leaves_the_vectors_of_b_frames_alone() -> None:
    survey = Survey(16, 16)
    survey.add("I", blocks_of())
    survey.add("B", blocks_of((16, 16, 8, 8, 6, 8)))
    assert survey.facts()["P-frame area"] == "- (no P-frames)"
    assert survey.facts()["picture types"] == "1 I, 0 P, 1 B"


@pytest.mark.parametrize(
    ("types", "text"),
    [
        ("IPPIPPIPP", "3 of 3 frames"),
        ("IPPPIPI", "3 of 1 to 4 frames, median 2"),
        ("IPIPPP", "2 of 2 to 4 frames, median 3"),
        ("III", "3 of 1 frames"),
    ],
)
def test_groups_are_summed_up(types: str, text: str) -> None:
    survey = Survey(16, 16)
    for letter in types:
        survey.add(letter, blocks_of())
    assert survey.facts()["GOPs"] == text


@given(st.text("IPB", min_size=1, max_size=300).map(lambda rest: f"I{rest}"), st.integers(1, 32))
def test_frames_are_chosen_evenly_and_deep_in_their_group(types: str, num_frames: int) -> None:
    chosen = choose_frames(types, num_frames)
    count = min(num_frames, len(types))
    assert len(chosen) == len(set(chosen)) == count
    assert chosen == sorted(chosen)
    depths = [len(types[: i + 1]) - 1 - types[: i + 1].rindex("I") for i in range(len(types))]
    for i, frame in enumerate(chosen):
        start, end = i * len(types) // count, (i + 1) * len(types) // count
        middle_half = range(start + (end - start) // 4, end - (end - start) // 4)
        assert frame in middle_half
        assert depths[frame] == max(depths[j] for j in middle_half)


def test_of_equal_frames_the_middle_one_is_chosen() -> None:
    assert choose_frames("I" * 15, 3) == [2, 7, 12]
    assert choose_frames("I", 6) == [0]


def test_an_i_frame_gives_way() -> None:
    types = "IPPPPPPPPPPP" * 12  # the middles of six parts would all be I-frames
    assert all(types[i] != "I" for i in choose_frames(types, 6))


def test_stored_frames_are_chosen_by_their_place_in_the_stream() -> None:
    types = "IPPIPPIPPIPP"
    assert choose_frames(types, 2, stored=[0, 2, 3, 5, 6, 9]) == [1, 3]
    assert choose_frames(types, 9, stored=[3, 9]) == [0, 1]


def test_sizes_are_listed_from_the_largest_on() -> None:
    assert sizes({"cls": 3, "rgb": 2_340_000, "json": 1234, "a": 3}) == "rgb 2.3 MB, json 1.2 kB, a 3 B, cls 3 B"


# The sheet of a video


def cell_at(sheet: NDArray[np.uint8], row: int, column: int, cell: tuple[int, int]) -> NDArray[np.int64]:
    top = MARGIN + inspect_draw._TITLE_HEIGHT + inspect_draw._CAPTION_HEIGHT + row * (cell[1] + GAP)
    left = MARGIN + GUTTER + column * (cell[0] + GAP)
    return sheet[top : top + cell[1], left : left + cell[0]].astype(int)


@pytest.mark.parametrize("num_frames", [1, 4, 32])
def test_the_sheet_has_a_column_for_each_frame(clips: Path, tmp_path: Path, num_frames: int) -> None:
    _, sheet = inspected(clips / "left/plain.avi", tmp_path, num_frames=num_frames)
    cell = cell_size(*SIZE, CELL)
    width = GUTTER + min(num_frames, 14) * (cell[0] + GAP) - GAP
    height = inspect_draw._TITLE_HEIGHT + inspect_draw._CAPTION_HEIGHT + 3 * (cell[1] + GAP)
    assert sheet.shape == (height + 2 * MARGIN, max(width, inspect_draw.MIN_WIDTH) + 2 * MARGIN, 3)


@pytest.mark.parametrize("name", ["plain.avi", "b_frames.mkv"])
def test_a_moving_square_is_coloured_in_the_motion_row(clips: Path, tmp_path: Path, name: str) -> None:
    path = clips / "left" / name
    types = "".join(letter(frame) for frame in decoded(path))
    _, sheet = inspected(path, tmp_path, num_frames=2)
    cell = cell_size(*SIZE, CELL)
    for column, index in enumerate(choose_frames(types, 2)):
        picture = cell_at(sheet, 1, column, cell)
        scale = cell[0] / SIZE[0]
        x, y = (round(scale * (START[k] + STEP[k] * index + SIDE / 2)) for k in (0, 1))
        inside = picture[y - 14 : y + 14, x - 14 : x + 14].reshape(-1, 3)
        red, green, blue = np.median(inside, axis=0)
        assert red > 90, "right"
        assert red > blue > green + 30, "and up, by less"
        far = np.concatenate([picture[:10].reshape(-1, 3), picture[:, -20:].reshape(-1, 3)])
        assert np.median(far.max(axis=-1)) < 10


def test_the_sheet_shows_the_arrays_of_the_chosen_frames(clips: Path) -> None:
    path = clips / "left/b_frames.mkv"
    panel = panel_of(path, 3)
    shots = {int(shot.caption.split()[0]): shot for shot in panel.shots}
    assert len(shots) == 3
    for frame in Video(path).frames(track="residual"):
        if frame.index in shots:
            shot = shots[frame.index]
            assert shot.motion is not None
            assert shot.caption.split()[1:] == [frame.picture_type, f"{frame.pts_seconds:.2f}", "s"]
            assert np.array_equal(shot.rgb, inspect_module.shrink(frame.rgb(), panel.cell))
            full = frame.accumulated_motion()
            y = (np.arange(panel.cell[1]) + 0.5) * SIZE[1] / panel.cell[1]
            x = (np.arange(panel.cell[0]) + 0.5) * SIZE[0] / panel.cell[0]
            assert np.array_equal(shot.motion, full[y.astype(int)[:, None], x.astype(int)])
            residual = np.clip(frame.accumulated_residual() + 128, 0, 255).astype(np.uint8)
            assert np.array_equal(shot.residual, inspect_module.shrink(residual, panel.cell))


def test_sound_is_drawn_on_the_time_of_the_picture(clips: Path, tmp_path: Path) -> None:
    silent, _ = inspected(clips / "left/plain.avi", tmp_path)
    facts, _ = inspected(clips / "right/sound.avi", tmp_path)
    assert (silent["audio"], facts["audio"].split()[0]) == ("none", "from")
    panel = panel_of(clips / "right/sound.avi")
    (sound,) = panel.sounds
    assert (panel.start_seconds, panel.end_seconds) == (0.0, pytest.approx(0.4))
    assert 0 <= sound.start_seconds < 0.06  # MP3 begins late by the encoder's delay
    assert sound.end_seconds == pytest.approx(0.4, abs=0.03)
    assert sound.decibels.shape[0] == 128


def test_long_sound_is_read_in_pieces_of_bounded_size(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "long.avi"
    pictures = (frame for _ in range(10) for frame in square_frames(10))
    write_video(path, pictures, audio=tone(4.0), sample_rate_hz=RATE_HZ)
    whole = panel_of(path)
    monkeypatch.setattr(inspect_module, "_PIECE_SECONDS", 1.0)
    monkeypatch.setattr(inspect_module, "_PIECE_COLUMNS", 16)
    panel = panel_of(path)
    assert len(whole.sounds) == 1
    assert len(panel.sounds) == 4
    assert all(16 <= sound.decibels.shape[1] <= 32 for sound in panel.sounds)
    for one, two in pairwise(panel.sounds):
        assert two.start_seconds == pytest.approx(one.end_seconds, abs=0.002)
    assert panel.sounds[-1].end_seconds == pytest.approx(whole.sounds[-1].end_seconds, abs=0.01)


def test_a_damaged_sound_is_said_and_does_not_hide_the_picture(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise DecodeError("the audio of it is damaged")

    monkeypatch.setattr(Video, "audio", broken)
    facts, _ = inspected(clips / "right/sound.avi", tmp_path)
    assert facts["audio"] == "can't be read: the audio of it is damaged"
    assert list(panel_of(clips / "right/sound.avi").sounds) == []


def test_a_very_short_sound_gives_no_warning(tmp_path: Path) -> None:
    write_video(tmp_path / "a.avi", square_frames(1), audio=tone(0.2), sample_rate_hz=RATE_HZ)
    facts, _ = inspected(tmp_path / "a.avi", tmp_path)  # warnings are errors here
    assert facts["audio"] != "none"


def test_times_count_from_the_start_of_the_video(tmp_path: Path) -> None:
    write_video(tmp_path / "late.mkv", square_frames(8), pts=[2000 + 40 * i for i in range(8)])
    panel = panel_of(tmp_path / "late.mkv", 2)
    assert panel.start_seconds == pytest.approx(0.0)
    assert panel.end_seconds == pytest.approx(0.32)
    assert all(0 <= shot.seconds < 0.32 for shot in panel.shots)


def test_no_more_frames_are_decoded_than_needed(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    frames = Video.frames

    def counted(self: Video, **options: Any) -> Iterator[Any]:
        for frame in frames(self, **options):
            seen.append(options.get("track", "none"))
            yield frame

    monkeypatch.setattr(Video, "frames", counted)
    last = int(panel_of(clips / "left/plain.avi", 3).shots[-1].caption.split()[0])
    assert Counter(seen) == {"none": 1 + 14, "residual": last + 1}  # one tells whether the vectors can be read at all
    assert last < 13


def test_equal_videos_give_equal_bytes(clips: Path, tmp_path: Path) -> None:
    results = [inspect_source(clips / "right/sound.avi", tmp_path / f"{i}.png") for i in range(2)]
    assert results[0].image.read_bytes() == results[1].image.read_bytes()
    assert results[0].facts == results[1].facts


# Shards


def test_a_folder_is_summed_up(shards: Path, tmp_path: Path) -> None:
    facts, _ = inspected(shards, tmp_path)
    counted: Counter[str] = Counter()
    for tar_path in shards.glob("*.tar"):
        with tarfile.open(tar_path) as tar:
            for member in tar:
                counted[member.name.rpartition("/")[2].split(".")[1]] += member.size
    entries = load_index(shards).shards.values()
    assert facts["samples"] == str(sum(entry.num_samples for entry in entries)) == "4"
    assert facts["frames"] == str(sum(entry.num_frames for entry in entries)) == "45"
    assert facts["failed"] == "1"
    assert facts["bytes"] == sizes(counted)
    assert {name for name in facts if name.startswith("sample ")} == {f"sample {i}" for i in (1, 2, 3, 4)}


def test_a_single_shard_gives_the_same_as_its_folder(shards: Path, tmp_path: Path) -> None:
    (tar_path,) = shards.glob("*.tar")
    folder, folder_sheet = inspected(shards, tmp_path)
    alone, alone_sheet = inspected(tar_path, tmp_path)
    assert "failed" not in alone
    assert {**alone, "shards": "", "failed": "1"} == {**folder, "shards": ""}
    assert np.array_equal(folder_sheet, alone_sheet)


def samples_of(folder: Path) -> list[Any]:
    return [sample for tar_path in sorted(folder.glob("*.tar")) for sample in read_samples(tar_path)]


def test_a_sample_by_its_key_or_its_path(shards: Path, tmp_path: Path) -> None:
    sample = next(sample for sample in samples_of(shards) if sample.facts["path"] == "right/sound.avi")
    facts, sheet = inspected(shards, tmp_path, key=sample.key)
    by_path, same_sheet = inspected(shards, tmp_path, key="right/sound.avi")
    assert facts == by_path
    assert np.array_equal(sheet, same_sheet)
    assert facts["key"] == sample.key
    assert facts["path"] == "right/sound.avi"
    assert facts["label"] == "right (1)"
    assert facts["stored frames"] == "10 of 10"
    assert facts["source"] == "mpeg4 in avi, 160x128, 25.00 fps"
    assert facts["encoded"] == "mpeg4 340x256, GOP 12"
    assert facts["size"] == "340x256 pixels"
    assert facts["audio"] == "yes"
    assert facts["part"] == "the whole video"
    assert facts["sha256"] == sample.facts["sha256"]
    assert facts["picture types"] == "1 I, 9 P, 0 B"


def shots_of(folder: Path, path: str, num_frames: int = 32) -> tuple[Any, Panel]:
    sample = next(sample for sample in samples_of(folder) if sample.facts["path"] == path)
    return sample, inspect_shards._inspect_sample(sample, num_frames, CELL)[1]


def test_a_samples_rows_are_its_stored_arrays(shards: Path) -> None:
    sample, panel = shots_of(shards, "right/sound.avi")
    rgb = inspect_module.shrink(images.decode(sample.entries["rgb.000003.jpg"]), panel.cell)
    residual = images.decode(sample.entries["residual.000003.jpg"])
    assert len(panel.shots) == 10
    assert np.array_equal(panel.shots[3].rgb, rgb)
    assert np.array_equal(panel.shots[3].residual, inspect_module.shrink(residual, panel.cell))
    (sound,) = panel.sounds
    assert np.array_equal(sound.decibels, spectrogram.decode(sample.entries["spectrogram.npy"]))
    assert sound.start_seconds == sample.facts["spectrogram"]["audio_start_seconds"]
    columns, hop = sound.decibels.shape[1], sample.facts["spectrogram"]["hop_seconds"]
    assert sound.end_seconds == pytest.approx(sound.start_seconds + columns * hop)


@pytest.mark.parametrize("folder", ["shards", "copied"])
def test_a_samples_motion_is_that_of_the_whole_stream(request: pytest.FixtureRequest, folder: str) -> None:
    """Each frame's motion is built from its own GOP alone; it must equal the field of all frames at once."""
    path = "left/plain.avi" if folder == "shards" else "only/b_frames.mkv"
    sample, panel = shots_of(request.getfixturevalue(folder), path)
    known = sample.facts
    blocks = motion.decode(sample.entries["motion.npz"])
    expected = motion.accumulated(blocks, known["picture_types"], known["height"], known["width"])
    assert len(panel.shots) == len(known["frame_indices"])
    assert ("B" in known["picture_types"]) == (folder == "copied")
    for index, shot in zip(known["frame_indices"], panel.shots, strict=True):
        assert shot.caption.startswith(f"{index}   {known['picture_types'][index]}   ")
        assert np.array_equal(shot.motion, inspect_shards.shrink_field(expected[index], panel.cell))
    assert sum(bool(shot.motion is not None and shot.motion.any()) for shot in panel.shots) > 2


def test_a_copied_stream_is_said_to_be_one(copied: Path, tmp_path: Path) -> None:
    facts, _ = inspected(copied, tmp_path)  # one sample: all its facts
    assert facts["encoded"] == "as it was"
    assert facts["stored frames"] == "7 of 13"
    assert facts["size"] == "160x128 pixels"


def test_a_samples_times_count_from_the_start_of_its_video(copied: Path) -> None:
    sample, panel = shots_of(copied, "only/b_frames.mkv")
    assert sample.facts["pts_seconds"][0] == pytest.approx(2.0)
    assert panel.start_seconds == pytest.approx(0.0)
    assert panel.end_seconds == pytest.approx(0.52)
    assert [shot.seconds for shot in panel.shots] == pytest.approx([0.08 * i for i in range(7)])


def test_natural_logarithms_become_decibels() -> None:
    levels = np.log(np.array([[1e-6, 1.0, 100.0]], np.float32))
    facts = {"spectrogram": {"recipe": "tbn", "audio_start_seconds": 0.5, "hop_seconds": 0.005}}
    (sound,) = inspect_shards._sounds({"spectrogram.npy": spectrogram.encode(levels)}, facts)
    assert np.allclose(sound.decibels, [[-60, 0, 20]], atol=1e-4)
    assert (sound.start_seconds, sound.end_seconds) == (0.5, pytest.approx(0.515))


def rewritten(shards: Path, tmp_path: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """Copy a folder's only shard entry by entry; the change returns new data, or None to leave an entry out."""
    (source,) = shards.glob("*.tar")
    path = tmp_path / "changed.tar"
    with tarfile.open(source) as old, tarfile.open(path, "w") as new:
        for member in old:
            file = old.extractfile(member)
            assert file is not None
            data = change(member.name.rpartition("/")[2].partition(".")[2], file.read())
            if data is not None:
                member.size = len(data)
                new.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize("missing", ["rgb", "motion", "residual", "spectrogram"])
def test_an_absent_modality_is_not_drawn(shards: Path, tmp_path: Path, missing: str) -> None:
    path = rewritten(shards, tmp_path, lambda name, data: None if name.startswith(missing) else data)
    facts, sheet = inspected(path, tmp_path, key="right/sound.avi")
    _, full = inspected(shards, tmp_path, key="right/sound.avi")
    row = inspect_draw.SOUND_HEIGHT + inspect_draw._AXIS_HEIGHT
    row = row if missing == "spectrogram" else cell_size(340, 256, CELL)[1] + GAP
    assert sheet.shape == (full.shape[0] - row, full.shape[1], 3)
    assert missing not in facts["entries"]
    assert ("mean vector" in facts) == (missing != "motion")
    assert facts["picture types"] == "1 I, 9 P, 0 B"


def test_a_level_of_the_pyramid_stands_in_for_absent_frames(shards: Path, tmp_path: Path) -> None:
    path = rewritten(shards, tmp_path, lambda name, data: None if name.startswith("rgb.") else data)
    folder = tmp_path / "only"
    folder.mkdir()
    path.rename(folder / "changed.tar")
    sample, panel = shots_of(folder, "left/plain.avi")
    level = images.decode(sample.entries["rgb112.000000.jpg"])
    assert np.array_equal(panel.shots[0].rgb, inspect_module.shrink(level, panel.cell))


def test_the_largest_level_is_taken() -> None:
    names = ("rgb56.000000.jpg", "rgb112.000000.jpg", "motion.npz")
    assert inspect_arrays._largest(dict.fromkeys(names, b"")) == "rgb112"
    assert inspect_arrays._largest(dict.fromkeys((*names, "rgb.000000.jpg"), b"")) == "rgb"
    assert inspect_arrays._largest({}) == "rgb"


def test_of_many_samples_the_first_few_are_drawn(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspect_shards, "MAX_SAMPLES", 2)
    facts, sheet = inspected(shards, tmp_path)
    first, second = (sample.key for sample in samples_of(shards)[:2])
    assert facts["samples"] == "4"
    assert facts["sample 1"].startswith(f"{first}: ")
    assert facts["sample 2"].startswith(f"{second}: ")
    assert "sample 3" not in facts
    cell = cell_size(340, 256, inspect_shards.SMALL_CELL)
    assert sheet.shape[1] == GUTTER + 6 * (cell[0] + GAP) - GAP + 2 * MARGIN


def test_a_segment_is_named_with_its_times() -> None:
    assert inspect_shards._part({"start_seconds": 2.0, "end_seconds": 4.5}) == "2 s to 4.5 s"
    assert inspect_shards._part({"start_seconds": 2.0, "end_seconds": None}) == "2 s to the end"
    assert inspect_shards._part({"start_seconds": None, "end_seconds": 4.0}) == "0 s to 4 s"


def test_segments_lie_on_the_time_of_their_video(tmp_path: Path) -> None:
    (tmp_path / "clips/a").mkdir(parents=True)
    pictures = (frame for _ in range(5) for frame in square_frames(10))
    write_video(tmp_path / "clips/a/b.avi", pictures, audio=tone(2.0), sample_rate_hz=RATE_HZ)
    options = Options(num_workers=1, segment_seconds=1.0, modalities=("rgb", "spectrogram"))
    extract_here(tmp_path / "clips", tmp_path / "out", options)
    facts, _ = inspected(tmp_path / "out", tmp_path)
    assert facts["samples"] == "2"
    late = next(sample for sample in samples_of(tmp_path / "out") if sample.facts["start_seconds"])
    panel = inspect_shards._inspect_sample(late, 4, CELL)[1]
    assert panel.title == "a/b.avi, 1 s to the end"
    assert panel.start_seconds == pytest.approx(1.0, abs=0.05)
    assert panel.end_seconds == pytest.approx(2.0, abs=0.05)
    assert panel.sounds[0].start_seconds == pytest.approx(1.0, abs=0.05)
    assert all(1.0 <= shot.seconds < 2.0 for shot in panel.shots)


# Errors


def refused(kind: type[VidprepError], source: Path, tmp_path: Path, **options: Any) -> str:
    """The message; nothing may be left behind."""
    folder = tmp_path / "empty"
    folder.mkdir()
    with pytest.raises(kind) as caught:
        inspect_source(source, options.pop("out", folder / "sheet.png"), **options)
    assert list(folder.iterdir()) == []
    return str(caught.value)


@pytest.mark.parametrize("content", [b"", b"this is no video", b"#EXTM3U\nhttp://example.com/a.ts\n"])
def test_a_file_that_is_no_video(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    assert str(path) in refused(DecodeError, path, tmp_path)


def test_a_missing_file(tmp_path: Path) -> None:
    assert "No such file" in refused(DecodeError, tmp_path / "none.mp4", tmp_path)


def test_a_missing_shard(tmp_path: Path) -> None:
    assert "none.tar" in refused(ShardError, tmp_path / "none.tar", tmp_path)


def test_a_folder_without_shards(clips: Path, tmp_path: Path) -> None:
    message = refused(UsageError, clips, tmp_path)
    assert message.startswith(f"source={clips}: ")
    assert "give a video, a shard (.tar) or a folder of shards" in message


@pytest.mark.parametrize("content", [b"", b"x" * 3000])
def test_a_file_that_is_no_tar(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    assert str(path) in refused(ShardError, path, tmp_path)


def test_a_tar_without_samples(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w"):
        pass
    assert refused(ShardError, tmp_path / "a.tar", tmp_path).startswith("num_samples=0 ")


@pytest.mark.parametrize("entries", [{"a.jpg": b"x"}, {"a.json": b"{}"}, {"a.json": b"not json"}, {"a.json": b"[]"}])
def test_a_tar_of_others(tmp_path: Path, entries: dict[str, bytes]) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, data in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    assert "run vidprep verify" in refused(ShardError, tmp_path / "a.tar", tmp_path)


@pytest.mark.parametrize("name", ["motion.npz", "rgb.000000.jpg", "residual.000000.jpg", "spectrogram.npy", "json"])
@pytest.mark.parametrize("damage", ["cut", "empty", "noise"])
def test_damaged_entries(shards: Path, tmp_path: Path, name: str, damage: str) -> None:
    new = {"cut": lambda data: data[: len(data) // 2], "empty": lambda data: b"", "noise": lambda data: b"\x93" * 99}
    path = rewritten(shards, tmp_path, lambda entry, data: new[damage](data) if entry == name else data)
    assert "run vidprep verify" in refused(ShardError, path, tmp_path, key="right/sound.avi", num_frames=32)


def test_a_json_without_its_facts(shards: Path, tmp_path: Path) -> None:
    def without_width(name: str, data: bytes) -> bytes:
        if name != "json":
            return data
        return json.dumps({key: value for key, value in json.loads(data).items() if key != "width"}).encode()

    message = refused(ShardError, rewritten(shards, tmp_path, without_width), tmp_path)
    assert "'width'" in message


def test_an_unknown_key_lists_keys_that_are_near(shards: Path, tmp_path: Path) -> None:
    message = refused(UsageError, shards, tmp_path, key="left/plane.avi")
    assert message.startswith("key=left/plane.avi: ")
    assert "4 keys" in message
    assert "left/plain%2Eavi" in message


def test_the_key_of_a_failed_video_gives_the_reason(shards: Path, tmp_path: Path) -> None:
    message = refused(ShardError, shards, tmp_path, key="right/text.mp4")
    assert "extraction failed (" in message
    assert "text.mp4" in message
    assert "--retry-failed" in message


def test_a_folder_of_failures_gives_a_reason(tmp_path: Path) -> None:
    (tmp_path / "clips/a").mkdir(parents=True)
    (tmp_path / "clips/a/b.mp4").write_text("this is no video")
    extract_here(tmp_path / "clips", tmp_path / "out", Options(num_workers=1, modalities=("motion",)))
    message = refused(ShardError, tmp_path / "out", tmp_path)
    assert message.startswith("num_samples=0 ")
    assert "b.mp4" in message


def test_a_shard_that_lacks_what_its_index_says(shards: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(shards, copy)
    (tar_path,) = copy.glob("*.tar")
    with tarfile.open(tar_path, "w"):
        pass
    assert "run vidprep verify" in refused(ShardError, copy, tmp_path)


def test_a_key_for_a_video(clips: Path, tmp_path: Path) -> None:
    assert "leave it out" in refused(UsageError, clips / "left/plain.avi", tmp_path, key="left/plain.avi")


@pytest.mark.parametrize("num_frames", [0, -1, 33])
def test_a_number_of_frames_that_fits_no_sheet(clips: Path, tmp_path: Path, num_frames: int) -> None:
    message = refused(UsageError, clips / "left/plain.avi", tmp_path, num_frames=num_frames)
    assert message.startswith(f"num_frames={num_frames}: ")


def test_the_sheet_never_replaces_a_video(clips: Path, tmp_path: Path) -> None:
    source = tmp_path / "a.avi"
    shutil.copy(clips / "left/plain.avi", source)
    before = source.read_bytes()
    assert "ends in .png" in refused(UsageError, source, tmp_path, out=source)
    assert source.read_bytes() == before


def test_an_output_folder_that_does_not_exist(clips: Path, tmp_path: Path) -> None:
    message = refused(UsageError, clips / "left/plain.avi", tmp_path, out=tmp_path / "none/sheet.png")
    assert message.startswith(f"out={tmp_path / 'none/sheet.png'}: ")
    assert not (tmp_path / "none").exists()


def test_a_full_disk_leaves_the_old_sheet(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Image.Image, file: Any, *_: Any, **__: Any) -> None:
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "sheet.png").write_bytes(b"the old one")
    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(UsageError, match="No space left on device"):
        inspect_source(clips / "left/plain.avi", tmp_path / "sheet.png")
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]
    assert (tmp_path / "sheet.png").read_bytes() == b"the old one"


def test_a_full_disk_while_transcoding(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(inspect_module, "transcode", full)
    message = refused(TranscodeError, clips / "right/lossless.mkv", tmp_path)
    assert "TMPDIR" in message


def test_the_corrupt_clip(shared: Path, tmp_path: Path) -> None:
    assert "damaged" in refused(DecodeError, shared / "data/codecs/corrupted.mp4", tmp_path)


# Where the sheet goes


def test_the_sheet_is_named_after_the_source(
    clips: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert inspect_source(clips / "left/plain.avi", num_frames=1).image == Path("plain-sheet.png")
    assert inspect_source(shards, num_frames=1).image == Path("shards-sheet.png")
    monkeypatch.chdir(shards)
    found = inspect_source(Path("."), tmp_path / "b.PNG", num_frames=1)
    assert found.image == tmp_path / "b.PNG"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.PNG", "plain-sheet.png", "shards-sheet.png"]


def test_a_video_at_another_rate_is_timed_by_it(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", square_frames(6), fps=Fraction(30000, 1001))
    facts, _ = inspected(tmp_path / "a.mp4", tmp_path)
    assert facts["fps"] == "29.97 (29.97 by the container)"
    panel = panel_of(tmp_path / "a.mp4", 6)
    assert [shot.seconds for shot in panel.shots] == pytest.approx([i * 1001 / 30000 for i in range(6)], abs=1e-4)
