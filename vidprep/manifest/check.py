"""A folder against a standard dataset: what is there, missing and extra, and if the counts are the published ones."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vidprep.manifest.folders import list_videos
from vidprep.manifest.names import OfficialNames
from vidprep.manifest.rows import Row
from vidprep.manifest.standard import Split, StandardDataset, official_rows


@dataclass(frozen=True, slots=True)
class SplitCount:
    """One split, such as "split1/train": counts of its videos, and of its rows where videos have several.

    Attributes
    ----------
    published : Split
    num_present : int
        Files found. Two files of one video are two.
    num_listed, num_rows_listed : int
        Videos and rows in the official lists that were read; 0 where the list is not there.
    """

    published: Split
    num_present: int
    num_listed: int
    num_rows_listed: int

    @property
    def name(self) -> str:
        """The split's name."""
        return self.published.name

    @property
    def is_as_published(self) -> bool:
        """Whether the official lists hold as much as they should; true where no list or no number is known."""
        pairs = (self.published.num_videos, self.num_listed), (self.published.num_rows, self.num_rows_listed)
        return not self.num_listed or all(expected in (None, found) for expected, found in pairs)


@dataclass(frozen=True, slots=True)
class CheckReport:
    """A folder against a standard dataset; paths relative to the folder, missing videos by their official id.

    Attributes
    ----------
    present, extra : tuple of str
        Files that are the dataset's, and videos that are not.
    missing : tuple of str
    doubled : tuple of str
        Official ids of which there are several files.
    unclear : tuple of str
        Files named after a video of which the dataset has several clips, so that nobody can say which one it is.
    splits : tuple of SplitCount
    videos_vanish : bool
        Whether copies of this dataset differ, since videos and lists are taken from the web.
    others : str or None
        Which videos a copy of this dataset holds beside those of its rows, so that extra ones are no fault.
    """

    dataset: str
    present: tuple[str, ...]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    doubled: tuple[str, ...]
    unclear: tuple[str, ...]
    splits: tuple[SplitCount, ...]
    videos_vanish: bool
    others: str | None

    @property
    def ok(self) -> bool:
        """Whether the folder is the dataset: nothing is missing, doubled or too much, and the lists are the published.

        Where videos vanish from the web, missing ones and shorter lists are reported, and are no fault; nor are extra
        ones, where copies of the dataset hold others.
        """
        if not self.present or self.doubled or self.unclear or (self.extra and not self.others):
            return False
        return self.videos_vanish or (not self.missing and all(split.is_as_published for split in self.splits))


def check(dataset: StandardDataset, root: Path, annotations: Path | None = None) -> CheckReport:
    """Compare the names of the videos below a folder with a standard dataset; raises as `find_rows` does."""
    root = Path(root)
    paths, _ = list_videos(root, dataset.facts.get("from_frames"))
    rows = official_rows(dataset, root, annotations)
    names = OfficialNames(rows, ignore_case=dataset.ignore_case)
    files_of: dict[str, list[str]] = {}
    others = []
    for path in paths:
        found = names.find(path)
        if found:
            files_of.setdefault(found[0].path, []).append(path)
        else:
            others.append(path)
    unclear = tuple(path for path in others if names.is_unclear(path))
    return CheckReport(
        dataset=dataset.name,
        present=tuple(sorted(path for files in files_of.values() for path in files)),
        missing=tuple(dict.fromkeys(row.path for row in rows if row.path not in files_of)),
        extra=tuple(sorted(set(others).difference(unclear))),
        doubled=tuple(sorted(name for name, files in files_of.items() if len(files) > 1)),
        unclear=unclear,
        splits=count_splits(dataset, rows, {name: len(files) for name, files in files_of.items()}),
        videos_vanish=dataset.videos_vanish,
        others=f"it is a choice of {dataset.subset_of}" if dataset.subset_of else dataset.unlabelled,
    )


def count_splits(
    dataset: StandardDataset, rows: Iterable[Row], num_files: Mapping[str, int] | None = None
) -> tuple[SplitCount, ...]:
    """Count the official rows of each split, and the files that are there of each video, by its id."""
    num_files = num_files or {}
    videos: dict[str, set[str]] = {split.name: set() for split in dataset.splits}
    num_rows = dict.fromkeys(videos, 0)
    for row in rows:
        for name in row.splits:
            videos[name].add(row.path)
            num_rows[name] += 1
    return tuple(
        SplitCount(
            published=split,
            num_present=sum(num_files.get(video, 0) for video in videos[split.name]),
            num_listed=len(videos[split.name]),
            num_rows_listed=num_rows[split.name],
        )
        for split in sorted(dataset.splits, key=lambda split: split.name)
    )
