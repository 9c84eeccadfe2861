"""The demo dataset: its names, its bytes, and what tells its classes apart."""

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from vidprep.errors import UsageError
from vidprep.pipelines import demo_clip, demo_data
from vidprep.pipelines.demo_clip import CLASSES, DemoClip, DemoSettings, draw_clip
from vidprep.pipelines.demo_data import make_demo_data, write_demo_data

SMALL = DemoSettings(num_groups=2, num_frames=14, size=(96, 64))
TEMPORAL = [item for item in CLASSES if item.kind == "temporal"]
STATIC = [item for item in CLASSES if item.kind == "static"]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    root = tmp_path_factory.mktemp("demo") / "data"
    return root, make_demo_data(root, SMALL)


def draw_many(name: str, num_groups: int = 99, **changes: Any) -> list[DemoClip]:
    """Many clips of a class; drawing is quick, nothing is rendered."""
    item = next(item for item in CLASSES if item.name == name)
    return [draw_clip(DemoSettings(**changes), item, group, 1) for group in range(1, num_groups + 1)]


def hashes(root: Path) -> dict[str, str]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def scene_motion(clip: DemoClip, size: tuple[int, int] = (320, 240)) -> NDArray[np.float64]:
    """Give the disc's steps through the scene [shape=(T - 1, 2)]: the camera and the wrap taken out."""
    steps = np.diff(clip.position, axis=0) + np.diff(clip.camera, axis=0)
    return (steps + np.array(size) / 2) % size - np.array(size) / 2


# Names, containers, shares


def test_layout_and_names_are_those_of_ucf101(small: tuple[Path, list[Path]]) -> None:
    root, paths = small
    expected = {f"{item.name}/v_{item.name}_g{g:02}_c01.avi" for item in CLASSES for g in (1, 2)}
    assert {str(path.relative_to(root)) for path in paths} == expected == set(hashes(root))
    assert len(paths) == SMALL.num_clips == 16


def test_group_and_clip_numbers() -> None:
    settings = DemoSettings(num_groups=25, clips_per_group=3)
    paths = [path for group in range(1, 26) for _, _, path in demo_data._clip_paths(settings, group)]
    assert len(paths) == len(set(paths)) == settings.num_clips == 600
    numbers = {tuple(int(part[1:]) for part in path.stem.split("_")[2:]) for path in paths}
    assert numbers == set(itertools.product(range(1, 26), range(1, 4)))


def test_class_names_are_safe_and_say_what_they_are() -> None:
    names = [item.name for item in CLASSES]
    assert len(set(names)) == len(names) == 8
    assert len(TEMPORAL) == len(STATIC) == 4
    assert all(name.isalpha() and name[0].isupper() for name in names)  # an underscore would end UCF101's class
    assert all(item.name.startswith("Shows") for item in STATIC)


@pytest.mark.parametrize("num_classes", [2, 4, 6, 8])
def test_half_of_the_classes_are_temporal(num_classes: int) -> None:
    classes = DemoSettings(num_classes=num_classes).classes
    assert [item.kind for item in classes] == ["temporal"] * (num_classes // 2) + ["static"] * (num_classes // 2)


def test_what_is_in_the_files(small: tuple[Path, list[Path]]) -> None:
    for path in small[1]:
        item = next(item for item in CLASSES if item.name == path.parent.name)
        clip = draw_clip(SMALL, item, int(path.stem.split("_g")[1][:2]), 1)
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.average_rate) == ("mpeg4", 25)
            assert (stream.width, stream.height) == SMALL.size
            assert bool(container.streams.audio) == clip.has_audio
            decoded = list(container.decode(video=0))
        letters = "".join("?IPB"[frame.pict_type] for frame in decoded)
        assert letters == ("IBBPBBPBBPBBIP" if clip.has_b_frames else "IPPPPPPPPPPPIP")


def test_shares_of_b_frames_and_sound() -> None:
    """Over the default dataset, which is what `demo-data` writes."""
    clips = [draw_clip(DemoSettings(), item, g, 1) for item in CLASSES for g in range(1, 26)]
    assert np.mean([clip.has_b_frames for clip in clips]) == pytest.approx(0.25, abs=0.06)
    assert np.mean([clip.has_audio for clip in clips]) == pytest.approx(0.5, abs=0.07)
    for item in CLASSES:  # every class has each of the four kinds: storage tells nothing
        kinds = {(clip.has_b_frames, clip.has_audio) for clip in clips if clip.demo_class is item}
        assert len(kinds) >= 3


# Bytes


def test_equal_settings_give_equal_bytes(small: tuple[Path, list[Path]], tmp_path: Path) -> None:
    make_demo_data(tmp_path, SMALL)
    assert hashes(tmp_path) == hashes(small[0])


def test_another_seed_gives_other_bytes(small: tuple[Path, list[Path]], tmp_path: Path) -> None:
    make_demo_data(tmp_path, replace(SMALL, seed=1))
    assert not set(hashes(tmp_path).values()) & set(hashes(small[0]).values())


def test_a_clip_does_not_depend_on_how_many_others_there_are(small: tuple[Path, list[Path]], tmp_path: Path) -> None:
    make_demo_data(tmp_path, replace(SMALL, num_classes=4, num_groups=1, clips_per_group=2))
    large, few = hashes(small[0]), hashes(tmp_path)
    shared = large.keys() & few.keys()
    assert len(shared) == 4
    assert all(large[name] == few[name] for name in shared)
    assert len(set(few.values())) == len(few) == 8


def test_an_interrupted_run_can_be_repeated(small: tuple[Path, list[Path]], tmp_path: Path) -> None:
    clips = write_demo_data(tmp_path, SMALL)
    done = [next(clips) for _ in range(5)]
    clips.close()  # type: ignore[attr-defined]
    assert sorted(hashes(tmp_path)) == sorted(str(path.relative_to(tmp_path)) for path in done)
    left_over = tmp_path / "ShowsRings" / "v_ShowsRings_g02_c01.avi.part"
    left_over.parent.mkdir(exist_ok=True)
    left_over.write_bytes(b"half a video")
    make_demo_data(tmp_path, SMALL)
    assert hashes(tmp_path) == hashes(small[0])


def test_an_error_in_the_middle_leaves_only_whole_clips(
    small: tuple[Path, list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames_drawn = itertools.count()
    draw_disc = demo_clip._draw_disc

    def stop_in_the_third_clip(frame: Any, clip: Any, position: Any) -> None:
        if next(frames_drawn) == 2 * SMALL.num_frames + 7:
            raise KeyboardInterrupt
        draw_disc(frame, clip, position)

    monkeypatch.setattr(demo_clip, "_draw_disc", stop_in_the_third_clip)
    with pytest.raises(KeyboardInterrupt):
        make_demo_data(tmp_path, SMALL)
    whole, written = hashes(small[0]), hashes(tmp_path)
    assert len(written) == 2
    assert written.items() <= whole.items()


# What tells the classes apart


@pytest.mark.parametrize(("name", "sign"), [("MovesUp", -1), ("MovesDown", 1)])
def test_vertical_classes_move_as_their_names_say(name: str, sign: int) -> None:
    for clip in draw_many(name):
        steps = scene_motion(clip)
        np.testing.assert_allclose(steps[:, 0], 0, atol=1e-9)
        assert (sign * steps[:, 1] > 2.5).all()
        assert (sign * steps[:, 1] < 5).all()


def test_swings_go_to_and_fro_on_a_level() -> None:
    for clip in draw_many("SwingsSideways"):
        steps = scene_motion(clip)
        np.testing.assert_allclose(steps[:, 1], 0, atol=1e-9)
        turns = np.count_nonzero(np.diff(np.sign(steps[:, 0])))
        assert 2 <= turns <= 4  # more than a whole period in a clip
        assert 60 < np.ptp(np.cumsum(steps[:, 0])) < 100


def test_circles_are_round_and_go_either_way() -> None:
    directions = []
    for clip in draw_many("RunsInCircles"):
        steps = scene_motion(clip)
        turn = steps[:-1, 0] * steps[1:, 1] - steps[:-1, 1] * steps[1:, 0]
        assert (turn > 0).all() or (turn < 0).all()
        np.testing.assert_allclose(np.hypot(*steps.T), np.hypot(*steps[0]))
        directions.append(turn[0] > 0)
    assert 0.3 < np.mean(directions) < 0.7


def test_a_mirrored_clip_keeps_its_class() -> None:
    """Training recipes mirror at random: the mean step to the right must be none in every temporal class."""
    for item in TEMPORAL:
        sideways = [np.diff(clip.position[:, 0]) for clip in draw_many(item.name)]
        right = np.mean([np.median(step) > 0 for step in sideways])
        assert 0.25 < right < 0.75


@pytest.mark.parametrize("frame", [0, 20, 47])
@pytest.mark.parametrize("item", CLASSES, ids=lambda item: item.name)
def test_one_frames_position_says_nothing(item: demo_clip.DemoClass, frame: int) -> None:
    """Uniform over the frame at any moment, so a first or last frame doesn't give the direction away."""
    at = np.array([clip.position[frame] for seed in range(4) for clip in draw_many(item.name, seed=seed)])
    for coordinate, side in zip(at.T, (320, 240), strict=True):
        assert ((coordinate >= 0) & (coordinate < side)).all()
        gap = np.abs(np.sort(coordinate) / side - (np.arange(len(at)) + 0.5) / len(at)).max()
        assert gap < 1.95 / np.sqrt(len(at))  # Kolmogorov-Smirnov at 0.1 %


def test_temporal_classes_look_alike_and_static_ones_move_alike() -> None:
    assert len({item.texture for item in TEMPORAL}) == len({item.motion for item in STATIC}) == 1
    assert len({item.motion for item in TEMPORAL}) == len({item.texture for item in STATIC}) == 4


def same_distribution(samples: Sequence[NDArray[np.float64]]) -> bool:
    """Two-sample Kolmogorov-Smirnov of each against the first, at 0.1 %."""
    first = np.sort(samples[0])
    for other in map(np.sort, samples[1:]):
        both = np.concatenate((first, other))
        first_share = np.searchsorted(first, both, side="right") / len(first)
        other_share = np.searchsorted(other, both, side="right") / len(other)
        if np.abs(first_share - other_share).max() > 1.95 * np.sqrt(1 / len(first) + 1 / len(other)):
            return False
    return True


@pytest.mark.parametrize(
    "fact",
    [
        lambda clip: clip.radius,
        lambda clip: clip.bar_width / clip.radius,
        lambda clip: clip.angle,
        lambda clip: clip.colours[0].sum(),
        lambda clip: np.ptp(clip.camera[:, 0]),
        lambda clip: np.hypot(*np.diff(clip.camera, axis=0).T).mean(),
    ],
    ids=["radius", "bars", "angle", "colour", "pan", "camera speed"],
)
def test_what_is_no_class_is_drawn_alike(fact: Any) -> None:
    assert same_distribution([np.array([fact(clip) for clip in draw_many(item.name)]) for item in CLASSES])


def test_static_classes_share_their_motion_and_temporal_ones_do_not() -> None:
    def speeds(items: list[demo_clip.DemoClass]) -> list[NDArray[np.float64]]:
        clips = [draw_many(item.name) for item in items]
        return [np.array([np.median(scene_motion(clip)[:, 1]) for clip in of_class]) for of_class in clips]

    assert same_distribution(speeds(STATIC))
    assert not same_distribution(speeds(TEMPORAL))


@pytest.mark.parametrize("item", CLASSES, ids=lambda item: item.name)
def test_textures_are_half_light_half_dark(item: demo_clip.DemoClass) -> None:
    """The mean colour would tell the classes apart without a look at the texture."""
    y, x = np.mgrid[-4.5:4.5:181j, -4.5:4.5:181j]
    light = (item.texture(x, y) > 0)[np.hypot(x, y) < 4.5]
    assert 0.42 < light.mean() < 0.58


# Pictures


def render(clip: DemoClip, settings: DemoSettings, group: int = 1) -> NDArray[np.uint8]:
    return np.stack(list(demo_clip.render(clip, demo_clip.scene(settings, group), settings.size)))


def test_the_disc_is_where_the_position_says_and_nowhere_else() -> None:
    settings = DemoSettings(num_frames=10)
    clip = draw_clip(settings, CLASSES[4], 1, 1)
    with_disc = render(clip, settings)
    without = render(replace(clip, radius=-10.0), settings)
    y, x = np.mgrid[:240, :320]
    for frame, background, (disc_x, disc_y) in zip(with_disc, without, clip.position, strict=True):
        distance = np.hypot((x - disc_x + 160) % 320 - 160, (y - disc_y + 120) % 240 - 120)
        changed = (frame != background).any(axis=2)
        assert not changed[distance > clip.radius + 1].any()
        assert changed[distance < clip.radius - 1].mean() > 0.95
    assert 40 < 2 * clip.radius < 56  # about a fifth of 240


def test_a_disc_over_the_edge_enters_on_the_other_side() -> None:
    settings = DemoSettings(num_frames=1)
    clip = draw_clip(settings, CLASSES[6], 1, 1)
    scene = np.full_like(demo_clip.scene(settings, 1), 128)
    centre, corner = (
        next(demo_clip.render(replace(clip, position=np.array([at])), scene, settings.size))
        for at in ((160.25, 120.5), (0.25, 0.5))
    )
    np.testing.assert_array_equal(corner, np.roll(centre, (-120, -160), axis=(0, 1)))


def test_the_crop_is_bilinear() -> None:
    scene = np.random.default_rng(0).integers(0, 256, (60, 70, 3), dtype=np.uint8)
    corner = np.array((3.25, 5.6))
    (left, top), (x, y) = (3, 5), (np.rint(corner * 256) / 256 % 1)
    a, b, c, d = (
        scene[top + dy : top + dy + 40, left + dx : left + dx + 50].astype(float)
        for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1))
    )
    expected = (a * (1 - x) + b * x) * (1 - y) + (c * (1 - x) + d * x) * y
    crop = demo_clip._crop(scene, corner, (50, 40))
    assert crop.dtype == np.uint8
    assert np.abs(crop - expected).max() < 2  # rounded down twice


@pytest.mark.parametrize("size", [(320, 240), (64, 200), (200, 64)])
def test_the_camera_never_leaves_the_scene(size: tuple[int, int]) -> None:
    settings = DemoSettings(size=size, num_frames=2000)
    scene = demo_clip.scene(settings, 1)
    for item in CLASSES:
        camera = draw_clip(settings, item, 1, 1).camera
        assert camera.min() >= 0
        assert (np.floor(camera.max(axis=0) + 1 / 512) + size + 1 <= scene.shape[1::-1]).all()


def test_the_camera_moves_but_slower_than_the_disc() -> None:
    clips = [clip for item in TEMPORAL for clip in draw_many(item.name)]
    camera = np.array([np.hypot(*(clip.camera[-1] - clip.camera[0])) / 47 for clip in clips])
    disc = np.array([np.hypot(*scene_motion(clip).T).mean() for clip in clips])
    assert np.median(camera) > 0.3
    assert (camera < disc).mean() > 0.99


def test_groups_differ_in_their_scene_and_classes_share_it() -> None:
    first, second = (demo_clip.scene(DemoSettings(), group) for group in (1, 2))
    assert np.abs(first.astype(int) - second).mean() > 15
    np.testing.assert_array_equal(first, demo_clip.scene(DemoSettings(num_classes=2, clips_per_group=9), 1))
    assert first.std() > 15  # cluttered
    assert np.abs(np.diff(first.astype(int), axis=1)).mean() > 2  # textured: something to match


def test_the_written_picture_is_the_rendered_one(small: tuple[Path, list[Path]]) -> None:
    clip = draw_clip(SMALL, CLASSES[0], 2, 1)
    path = small[0] / CLASSES[0].name / f"v_{CLASSES[0].name}_g02_c01.avi"
    with av.open(str(path)) as container:
        decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    error = decoded.astype(float) - render(clip, SMALL, group=2)
    assert 10 * np.log10(255**2 / np.mean(error**2)) > 24  # a small frame full of colour edges, 4:2:0


# Sound


def loudest_hz(samples: NDArray[np.float32], low_hz: float, high_hz: float) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 44100))
    return low_hz + float(np.argmax(spectrum[int(low_hz) : int(high_hz)]))


@pytest.mark.parametrize(("x", "y"), [(0.5, 0.2), (0.7, 0.5), (0.9, 0.8)])
def test_the_sound_tells_the_place(x: float, y: float) -> None:
    still = replace(draw_many("MovesUp", 1)[0], position=np.tile((320 * x, 240 * y), (48, 1)))
    samples = demo_clip.sound(still, (320, 240))
    assert samples.dtype == np.float32
    assert samples.shape == (48 * 1764,)
    assert np.abs(samples).max() < 1
    assert loudest_hz(samples[:20000], 200, 900) == pytest.approx(220 * 4 ** (1 - y), abs=4)
    assert loudest_hz(samples[:20000], 2800, 4100) == pytest.approx(2000 * 2**x, abs=4)


def test_the_sound_rises_with_the_disc() -> None:
    clip = draw_many("MovesUp", 1)[0]
    rising = replace(clip, position=np.linspace((160, 220), (160, 20), 48))
    samples = demo_clip.sound(rising, (320, 240))
    pitches = [loudest_hz(samples[at : at + 4410], 200, 900) for at in range(0, len(samples) - 4410, 8820)]
    assert pitches == sorted(pitches)
    assert pitches[-1] > 2 * pitches[0]


# What can't be meant


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 0}, "num_classes=0"),
        ({"num_classes": 7}, "num_classes=7"),
        ({"num_classes": 10}, "num_classes=10"),
        ({"num_groups": 0}, "num_groups=0"),
        ({"num_groups": 100}, "num_groups=100"),
        ({"clips_per_group": 0}, "clips_per_group=0"),
        ({"num_frames": 0}, "num_frames=0"),
        ({"size": (32, 240)}, "width=32"),
        ({"size": (320, 5000)}, "height=5000"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_bad_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        DemoSettings(**changes)


@pytest.mark.parametrize("name", ["notes.txt", "Other/v_Other_g01_c01.avi", "MovesUp/v_MovesUp_g03_c01.avi"])
def test_a_folder_that_holds_something_else_is_refused_at_once(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match=r"root=.*new folder"):
        write_demo_data(tmp_path, SMALL)  # before the first clip is asked for
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / name]


def test_clips_of_other_settings_are_refused_and_kept(tmp_path: Path) -> None:
    make_demo_data(tmp_path, SMALL)
    before = hashes(tmp_path)
    with pytest.raises(UsageError, match=r"path=.*other settings"):
        make_demo_data(tmp_path, replace(SMALL, seed=5))
    assert hashes(tmp_path) == before


def test_a_file_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("mine")
    with pytest.raises(UsageError, match="it is a file"):
        make_demo_data(tmp_path / "demo", SMALL)


@pytest.mark.parametrize("changes", [{"num_frames": 1}, {"size": (65, 67)}, {"num_classes": 2}])
def test_the_smallest_settings_work(tmp_path: Path, changes: dict[str, Any]) -> None:
    settings = replace(SMALL, num_groups=1, **changes)
    paths = make_demo_data(tmp_path, settings)
    assert len(paths) == settings.num_clips
    for path in paths:
        with av.open(str(path)) as container:
            assert sum(1 for _ in container.decode(video=0)) == settings.num_frames
