"""The demo dataset: small generated videos on which motion and zooming in have something to win.

A small textured disc moves over a cluttered scene that a moving camera looks at. Half of the classes are
*temporal*: the same disc, told apart only by how it moves through the scene. Half are *static*: the same
wandering, told apart only by the disc's texture. Scene, camera, colours, size and start are drawn in the same
way for all classes.

The frame has no edges for the disc: what leaves on one side enters on the other. So its place is uniform over
the frame at every moment and in every class, and one frame says nothing about a temporal class.

The layout and the names are UCF101's, its 25 groups included: a group shares its scene, and groups 1-7, 8-14
and 15-21 are the test sets of splits 1, 2 and 3.
"""

from collections.abc import Iterator
from pathlib import Path

from vidprep.codec.writer import write_video
from vidprep.errors import UsageError
from vidprep.pipelines.demo_clip import FPS, SAMPLE_RATE_HZ, DemoClass, DemoSettings, draw_clip, render, scene, sound


def write_demo_data(root: Path, settings: DemoSettings | None = None) -> Iterator[Path]:
    """Write the demo dataset clip by clip.

    A run that was interrupted can be repeated: clips that are there already are kept, if they are the same.

    Parameters
    ----------
    root
        A folder that is new, empty, or holds clips of the same settings.
    settings
        What to generate; None means the defaults, 200 clips.

    Returns
    -------
    Iterator[Path]
        The path of each clip, as soon as it is finished.

    Raises
    ------
    UsageError
        The folder holds something else.
    """
    settings = settings or DemoSettings()
    _check_folder(Path(root), settings)
    return _write_clips(Path(root), settings)


def make_demo_data(root: Path, settings: DemoSettings | None = None) -> list[Path]:
    """Write the demo dataset and return the paths of its clips; see `write_demo_data`."""
    return list(write_demo_data(root, settings))


def _clip_paths(settings: DemoSettings, group: int) -> Iterator[tuple[DemoClass, int, Path]]:
    for demo_class in settings.classes:
        for number in range(1, settings.clips_per_group + 1):
            name = demo_class.name
            yield demo_class, number, Path(name) / f"v_{name}_g{group:02}_c{number:02}.avi"


def _check_folder(root: Path, settings: DemoSettings) -> None:
    if root.exists() and not root.is_dir():
        raise UsageError(f"root={root}: it is a file; name a new folder")
    groups = range(1, settings.num_groups + 1)
    paths = {path for group in groups for _, _, path in _clip_paths(settings, group)}
    known = {path.parent for path in paths} | paths | {_part(path) for path in paths}
    for entry in root.rglob("*"):
        if entry.relative_to(root) not in known:
            raise UsageError(f"root={root}: it holds {entry}, no part of this dataset; name a new folder")


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def _write_clips(root: Path, settings: DemoSettings) -> Iterator[Path]:
    for group in range(1, settings.num_groups + 1):
        background = scene(settings, group)
        for demo_class, number, relative_path in _clip_paths(settings, group):
            path = root / relative_path
            path.parent.mkdir(parents=True, exist_ok=True)
            clip = draw_clip(settings, demo_class, group, number)
            write_video(
                _part(path),
                render(clip, background, settings.size),
                fps=FPS,
                num_b_frames=2 if clip.has_b_frames else 0,
                quantiser=4,
                audio=sound(clip, settings.size) if clip.has_audio else None,
                sample_rate_hz=SAMPLE_RATE_HZ,
                container_format="avi",
            )
            _keep(_part(path), path)
            yield path


def _keep(part: Path, path: Path) -> None:
    """Give a finished file its name, unless another one has it."""
    if path.exists() and path.read_bytes() != part.read_bytes():
        part.unlink()
        raise UsageError(f"path={path}: it holds a clip of other settings; name a new folder")
    part.replace(path)
