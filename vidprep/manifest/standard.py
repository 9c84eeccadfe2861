"""The published datasets, from the TOML files in `manifests/`."""

import functools
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib import resources

from vidprep.errors import ManifestError
from vidprep.manifest.rows import Row, sort_rows


@dataclass(frozen=True, slots=True)
class GroupSplit:
    """A standard split by groups of clips: the test groups are tested on, all others are trained on."""

    name: str
    test_groups: tuple[int, ...]
    num_train: int
    num_test: int

    def membership(self, group: int) -> str:
        """Say which side of this split a group is on, such as "split1/test"."""
        return f"{self.name}/{'test' if group in self.test_groups else 'train'}"


@dataclass(frozen=True, slots=True)
class StandardDataset:
    """A published dataset as its authors define it; `rows` are all its official videos.

    `sources` holds (what, address) of its page, paper, videos and annotations: to read, nothing fetches them.
    """

    name: str
    title: str
    about: str
    preparation: str
    sources: tuple[tuple[str, str], ...]
    classes: tuple[str, ...]
    splits: tuple[GroupSplit, ...]
    rows: tuple[Row, ...]


def list_manifests() -> list[str]:
    """List the names of the standard datasets, sorted."""
    names = (file.name for file in resources.files("vidprep.manifests").iterdir())
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


@functools.cache
def load_standard(name: str) -> StandardDataset:
    """Load a standard dataset, such as "ucf101"; raises ManifestError when none has this name."""
    if name not in list_manifests():
        raise ManifestError(f"manifest={name!r} must be one of: {', '.join(list_manifests())}")
    facts = tomllib.loads((resources.files("vidprep.manifests") / f"{name}.toml").read_text("utf-8"))
    splits = tuple(GroupSplit(**(split | {"test_groups": tuple(split["test_groups"])})) for split in facts["splits"])
    rows = []
    for label, entry in enumerate(facts["classes"]):
        names = {"name": entry["name"], "stem": entry.get("file_stem", entry["name"])}
        for group, num_clips in enumerate(map(int, entry["num_clips"]), start=1):
            memberships = memberships_of(splits, group)
            for clip in range(1, num_clips + 1):
                path = facts["path"].format(**names, group=group, clip=clip)
                rows.append(Row(path, labels=(label,), splits=memberships))
    return StandardDataset(
        name=name,
        title=facts["title"],
        about=facts["about"],
        preparation=facts["preparation"],
        sources=tuple(facts["sources"].items()),
        classes=tuple(entry["name"] for entry in facts["classes"]),
        splits=splits,
        rows=sort_rows(rows),
    )


def memberships_of(splits: Iterable[GroupSplit], group: int) -> tuple[str, ...]:
    """Say where a group of clips stands in each split, sorted."""
    return tuple(sorted(split.membership(group) for split in splits))


def stem_of(path: str) -> str:
    """Leave out the extension, and the case: copies of UCF101 differ in how they write HandstandPushups."""
    return path.rpartition(".")[0].casefold()


def official_rows(dataset: StandardDataset, paths: Iterable[str]) -> tuple[Row, ...]:
    """Rows of the dataset for those of the paths that it knows, whatever their extension."""
    official = {stem_of(row.path): row for row in dataset.rows}
    return sort_rows(replace(official[stem_of(path)], path=path) for path in paths if stem_of(path) in official)
