"""What the benchmarks write, without timing anything."""

from pathlib import Path
from types import ModuleType

import av
import numpy as np
import pytest
import torch
from reference import moving_texture

from vidprep.codec.video import Video
from vidprep.codec.writer import write_video
from vidprep.dataset.arrays import to_tensor
from vidprep.dataset.steps import ShortSide
from vidprep.dataset.views import View

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


@pytest.fixture
def loader(common: ModuleType) -> ModuleType:
    import loader

    return loader


class TestLoader:
    """All that are compared give the same: batches of as many clips, of one size."""

    def test_every_loader_gives_batches(self, loader: ModuleType, tmp_path: Path) -> None:
        (tmp_path / "videos" / "class").mkdir(parents=True)
        for name in ("a", "b"):
            write_video(tmp_path / "videos" / "class" / f"{name}.avi", moving_texture(17, 64, 48), gop=5)
        write_video(tmp_path / "videos" / "class" / "short.avi", moving_texture(15, 64, 48), gop=5)
        paths = sorted((tmp_path / "videos" / "class").iterdir())
        assert [loader.is_long(path) for path in paths] == [True, True, False]
        bitstream, decoded, videos = loader.prepare(tmp_path / "videos", paths[:2], tmp_path)
        assert [len(video.pictures) for video in videos] == [17, 17]
        found = loader.loaders(bitstream, decoded, videos)
        for name in [name for name in found if name.startswith((loader.WEBDATASET, "the same"))]:
            found.pop(name)  # webdataset leaves its files open where it is stopped
        works, absent = loader.split(found)
        assert set(absent) <= {loader.DECORD, loader.TORCHCODEC}
        assert {loader.RGB, loader.BOTH, loader.JPEG} <= set(works)
        for start in works.values():
            batch = next(start(112, 0))
            arrays = (
                [batch[kind] for kind in ("rgb", "residual") if kind in batch] if isinstance(batch, dict) else [batch]
            )
            for clips in arrays:
                assert len(clips) == loader.BATCH_SIZE
                assert sorted(clips.shape[1:]) == [3, loader.NUM_FRAMES, 112, 112]
        ((_, sample), *_) = loader.streams.samples(decoded)
        for side in loader.SIDES:
            assert loader.streams.read_sample(side, dict(sample)).shape == (loader.NUM_FRAMES, side, side, 3)

    @pytest.mark.parametrize("side", [112, 224])
    def test_others_cut_the_part_that_vidprep_cuts(self, loader: ModuleType, side: int) -> None:
        import streams

        frames = torch.arange(340 * 256).reshape(1, 1, 256, 340).expand(1, 3, 256, 340) % 251
        width, height = (340 * streams.SHORT_SIDES[side] // 256, streams.SHORT_SIDES[side])
        for x, y in ((0, 0), (width - side, height - side), (17, 9)):
            view = ShortSide(streams.SHORT_SIDES[side])(View.whole(340, 256), 0, np.random.default_rng(0))
            view = view.cropped(x, y, side, side)
            left, top, w, h = view.crop
            part = frames[0, :, top : top + h, left : left + w].permute(1, 2, 0)[None].to(torch.uint8).numpy()
            ours = to_tensor("rgb", part, view, resizes=True).permute(1, 0, 2, 3)
            assert torch.equal(streams.scaled(frames.to(torch.uint8), width, height, (x, y, side)), ours)


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
