"""What the benchmarks write, without timing anything."""

from pathlib import Path
from types import ModuleType

import av
import pytest
from reference import moving_texture

from vidprep.codec.video import Video
from vidprep.codec.writer import write_video

FOLDER = Path(__file__).resolve().parent / "benchmarks"


@pytest.fixture
def common(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    import common

    return common


@pytest.fixture
def peers(common: ModuleType) -> ModuleType:
    import peers

    return peers


class TestPublish:
    TEXT = (
        "head\n<!-- tests/benchmarks/{} -->\nold\n<!-- end -->\n"
        "between\n<!-- tests/benchmarks/b.py -->\n<!-- end -->\ntail\n"
    )

    def test_only_its_own_place_changes(self, common: ModuleType, tmp_path: Path) -> None:
        readme = tmp_path / "README.md"
        readme.write_text(self.TEXT.format("a.py"))
        common.publish(["| 1 |", "| 2 |"], "a.py", readme)
        assert readme.read_text() == self.TEXT.format("a.py").replace("old", "| 1 |\n| 2 |")
        once = readme.read_text()
        common.publish(iter(["| 1 |", "| 2 |"]), "a.py", readme)
        assert readme.read_text() == once
        common.publish(["| 3 |"], "b.py", readme)
        assert readme.read_text() == once.replace("b.py -->\n", "b.py -->\n| 3 |\n")

    def test_missing_marks(self, common: ModuleType, tmp_path: Path) -> None:
        readme = tmp_path / "README.md"
        for text in ("nothing", "<!-- tests/benchmarks/a.py --> no end", "<!-- end -->"):
            readme.write_text(text)
            with pytest.raises(SystemExit, match=r"benchmarks/a\.py -->.*are missing"):
                common.publish(["1"], "a.py", readme)
            assert readme.read_text() == text

    def test_lines_are_printed(self, common: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
        common.publish(iter(["one", "two"]), "a.py", None)
        assert capsys.readouterr().out == "one\ntwo\n"


def test_the_stream_is_cut_between_frames(
    common: ModuleType, peers: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common, "NUM_FRAMES", 16)
    for name in ("a.avi", "b.avi"):
        write_video(tmp_path / name, moving_texture(11, 352, 288), gop=5)
    stream, num_frames = common.long_stream([tmp_path / "a.avi", tmp_path / "b.avi"], tmp_path)
    assert num_frames == 16
    bare = list(Video(stream).frames())
    contained = list(Video(peers.as_mp4(stream, tmp_path)).frames())
    assert "".join(frame.picture_type for frame in bare) == "IPPPPPPPPPPIPPPP"
    for one, two in zip(bare, contained, strict=True):
        assert (one.rgb() == two.rgb()).all()
        assert (one.vectors == two.vectors).all()
    with av.open(tmp_path / "long.mp4") as container:
        assert container.streams.video[0].frames == 16


def test_absent_peers_are_named(peers: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def missing(path: Path) -> None:
        raise ModuleNotFoundError("No module named 'other'")

    monkeypatch.setattr(peers, "PEERS", (("other picture", "pip install other", missing), ("here", "", Path.exists)))
    works, absent = peers.peer_works(tmp_path)
    assert absent == {"other picture": "pip install other"}
    assert list(works) == ["here"]
    assert works["here"]()
