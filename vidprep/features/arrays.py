"""What the arrays of a store are: their numbers and their axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

CHANNELS_LAST = ("frames", "height", "width", "channels")


@dataclass(frozen=True, slots=True)
class ArrayKind:
    """The arrays of one name, one for each video.

    Attributes
    ----------
    dtype : str
        NumPy's name: ``"int16"``.
    axes : tuple of str
        What the axes are: ``("frames", "height", "width", "channels")``. An array whose first axis isn't ``frames``
        belongs to its video as a whole.
    """

    dtype: str
    axes: tuple[str, ...] = CHANNELS_LAST

    @property
    def is_by_frame(self) -> bool:
        """Whether the array has an entry for each stored frame."""
        return self.axes[0] == "frames"


def kinds_to_json(kinds: Mapping[str, ArrayKind]) -> dict[str, dict[str, str]]:
    """Return what a store's attribute says of its arrays."""
    return {name: {"dtype": kind.dtype, "axes": ",".join(kind.axes)} for name, kind in kinds.items()}


def kinds_from_json(data: Mapping[str, Mapping[str, str]]) -> dict[str, ArrayKind]:
    """Read what `kinds_to_json` gave; KeyError or another exception if it is something else."""
    return {name: ArrayKind(kind["dtype"], tuple(kind["axes"].split(","))) for name, kind in data.items()}
