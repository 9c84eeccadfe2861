"""The official annotation files of the published datasets: one module a format, each with one function `read`.

``read(facts, files)`` turns a dataset's TOML and the official files that the user has (role -> path; the roles are the
keys of the TOML's ``[annotations]``) into rows. A row's ``path`` is the video's id: what a file of the dataset is known
by, wherever it lies and whatever its extension (see `vidprep.manifest.names`). A file that isn't of the promised format
is a ManifestError with file, line, value, rule and cure; `vidprep.manifest.official.files` reads and refuses.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vidprep.manifest.official import activitynet, charades, epic, fcvid, groups, kinetics, lists, something
from vidprep.manifest.rows import Row

Reader = Callable[[Mapping[str, Any], Mapping[str, Path]], list[Row]]

READERS: dict[str, Reader] = {
    "groups": groups.read,
    "lists": lists.read,
    "kinetics": kinetics.read,
    "something": something.read,
    "epic": epic.read,
    "charades": charades.read,
    "activitynet": activitynet.read,
    "fcvid": fcvid.read,
}
"""What a TOML's ``reader`` names."""
