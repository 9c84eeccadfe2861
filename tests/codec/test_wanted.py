"""What several readers want of one pass."""

from itertools import product

import pytest

from vidprep.codec.wanted import Track, union

FOLLOWS: dict[Track, set[str]] = {
    "none": set(),
    "motion": {"motion"},
    "picture": {"picture"},
    "residual": {"motion", "picture"},
}


@pytest.mark.parametrize(("one", "other"), list(product(FOLLOWS, repeat=2)))
def test_union_follows_what_each_follows_and_no_more(one: Track, other: Track) -> None:
    assert FOLLOWS[union([one, other])] == FOLLOWS[one] | FOLLOWS[other]


def test_union_of_none_and_one() -> None:
    assert union([]) == "none"
    assert [union([track]) for track in FOLLOWS] == list(FOLLOWS)
