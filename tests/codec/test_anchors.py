"""Which frames frames are linked to."""

from pathlib import Path

import pytest
from reference import busy_frames

from vidprep.codec.anchors import MAX_CONSECUTIVE_B_FRAMES, link_anchors
from vidprep.codec.frame import Frame
from vidprep.codec.video import Video
from vidprep.codec.writer import write_video
from vidprep.errors import DecodeError


def frames_of(tmp_path: Path, letters: str) -> list[Frame]:
    """Real frames that claim to be of other types."""
    path = tmp_path / "a.mkv"
    write_video(path, busy_frames(len(letters), 32, 32))
    frames = list(Video(path).frames(vectors=False))
    for frame, letter in zip(frames, letters, strict=True):
        frame.picture_type = letter
    return frames


@pytest.mark.parametrize(
    ("letters", "expected"),
    [
        ("IPP", {0: (None, None), 1: (0, None), 2: (1, None)}),
        ("IBBPBP", {0: (None, None), 1: (0, 3), 2: (0, 3), 3: (0, None), 4: (3, 5), 5: (3, None)}),
        ("IPBIP", {1: (0, None), 2: (1, 3), 3: (1, None), 4: (3, None)}),
        ("IPBB", {2: (1, None), 3: (1, None)}),
        ("BIP", {0: (None, 1), 2: (1, None)}),
    ],
)
def test_links(tmp_path: Path, letters: str, expected: dict[int, tuple[int | None, int | None]]) -> None:
    frames = frames_of(tmp_path, letters)
    assert [frame.index for frame in link_anchors(frames)] == list(range(len(letters)))
    for index, pair in expected.items():
        anchors = frames[index]._anchors
        assert anchors is not None
        assert anchors == tuple(None if i is None else frames[i]._picture for i in pair)


def test_b_frames_are_yielded_once_their_anchor_is_there(tmp_path: Path) -> None:
    """Not before, and none is held back longer."""
    frames = iter(frames_of(tmp_path, "IBBPP"))
    linked = link_anchors(frames)
    assert [next(linked).index for _ in range(2)] == [0, 1]
    assert next(frames).index == 4


def test_too_many_b_frames(tmp_path: Path) -> None:
    frames = frames_of(tmp_path, "I" + "B" * (MAX_CONSECUTIVE_B_FRAMES + 1))
    assert len(list(link_anchors(frames[:-1]))) == len(frames) - 1
    with pytest.raises(DecodeError, match=rf"num_consecutive_b_frames={MAX_CONSECUTIVE_B_FRAMES + 1} .*transcode"):
        list(link_anchors(frames))
