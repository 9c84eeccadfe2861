"""From a file's name to the official rows that it holds: by id, wherever the file lies and whatever its extension."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from vidprep.manifest.rows import Row, sort_rows

VIDEO_SUFFIXES = (
    ".264 .265 .3g2 .3gp .asf .avi .divx .f4v .flv .h264 .h265 .hevc .ivf .m1v .m2t .m2ts .m2v .m4v .mkv .mov"
    " .mp4 .mpe .mpeg .mpg .mts .mxf .ogm .ogv .qt .rm .rmvb .ts .vob .webm .wmv .y4m"
)
VIDEO_EXTENSIONS = frozenset(VIDEO_SUFFIXES.split())
_CLIP = re.compile(r"(.+)[_-]([0-9]+)[_-]([0-9]+)")


def clip_name(video: str, start_seconds: int, end_seconds: int) -> str:
    """Name a clip of a longer video as Kinetics' files are named: ``0wR5jVB-WPk_000417_000427``."""
    return f"{video}_{start_seconds:06}_{end_seconds:06}"


def _video_of_clip(name: str) -> str | None:
    """Return the video's id in what `clip_name` made, else None."""
    video, *times = name.rsplit("_", 2)
    return video if len(times) == 2 and all(len(time) >= 6 and time.isdecimal() for time in times) else None


def stem_of(path: str) -> str:
    """Leave out a video's extension; names without one stay as they are."""
    stem, _, suffix = path.rpartition(".")
    return stem if stem and f".{suffix.lower()}" in VIDEO_EXTENSIONS else path


class OfficialNames:
    """Official rows by the names that their videos' files may have.

    A row's path is the id that its video is known by: "YoYo/v_YoYo_g01_c01.avi", "P01_01", "v_sJFgo9H6zNo". A file
    is this video if its path ends in the id, with any folders in front, any extension, with or without "v_". An id
    of the form of `clip_name` is also found without its times, if the dataset has one clip of that video only, and
    with times written otherwise (``ID_417_427``); other times are another clip.

    Parameters
    ----------
    rows : iterable of Row
        Several rows with one path are segments of one video.
    ignore_case : bool
        For datasets whose copies differ in it. YouTube's ids differ by case alone.
    """

    def __init__(self, rows: Iterable[Row], *, ignore_case: bool = False) -> None:
        self._ignore_case = ignore_case
        self._rows = sort_rows(rows)
        # Numbers and strings alone, no list a video: there may be half a million.
        self._first: dict[str, int] = {}  # name -> the first of its rows, which follow each other
        self._clip: dict[str, str] = {}  # a video's id -> name of its clip; "" if there are several
        for number, row in enumerate(self._rows):
            name = self._fold(stem_of(row.path))
            if self._first.setdefault(name, number) == number and (video := _video_of_clip(name)):
                self._clip[video] = "" if video in self._clip else name

    def find(self, path: str) -> list[Row]:
        """Return the official rows of a file; none if it isn't the dataset's, or if it can't be told which it is."""
        name = self._find(path)
        if not name:
            return []
        first = last = self._first[name]
        while last + 1 < len(self._rows) and self._rows[last + 1].path == self._rows[first].path:
            last += 1
        return list(self._rows[first : last + 1])

    def is_unclear(self, path: str) -> bool:
        """Say whether the file is named after a video of which the dataset has several clips."""
        return self._find(path) == ""

    def _find(self, path: str) -> str | None:
        for name in _possible_names(self._fold(stem_of(path))):
            if name in self._first:
                return name
            if name in self._clip:
                return self._clip[name]
        return None

    def _fold(self, name: str) -> str:
        return name.casefold() if self._ignore_case else name


def match_rows(names: OfficialNames, paths: Iterable[str]) -> tuple[Row, ...]:
    """Rows of the files that are the dataset's, with the files' own paths, sorted."""
    return sort_rows(replace(row, path=path) for path in paths for row in names.find(path))


def _possible_names(stem: str) -> Iterator[str]:
    """Names by which a dataset may know the file, the surest first."""
    folders, _, name = stem.rpartition("/")
    yield name
    yield from (name.removeprefix("v_"), f"v_{name}")
    if clip := _CLIP.fullmatch(name):
        yield clip_name(clip[1], int(clip[2]), int(clip[3]))
        yield clip_name(clip[1].removeprefix("v_"), int(clip[2]), int(clip[3]))
    while folders:
        folders, _, folder = folders.rpartition("/")
        name = f"{folder}/{name}"
        yield name
