"""Damage is raised or counted: damaged pictures, refused and damaged packets, and what FFmpeg only logs."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import av.logging
import numpy as np
import pytest
from mutants import cut, flip_body, remove, write_sources

from vidprep.codec import damage as damage_module
from vidprep.codec.damage import Damage, is_of_machine
from vidprep.codec.messages import error_of, num_decode_errors
from vidprep.codec.transcode import Recipe, transcode
from vidprep.codec.video import Video
from vidprep.errors import DecodeError, TranscodeError

RECIPE = Recipe(size="native")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {path.name: path for path in write_sources(tmp_path_factory.mktemp("sources"))}


@pytest.fixture
def mutant(sources: dict[str, Path], tmp_path: Path) -> Callable[..., Path]:
    """Return a function that damages a source: the same each time."""

    def make(name: str, seed: int = 3, mutator: Callable[..., bytes] = flip_body) -> Path:
        path = tmp_path / f"{seed}_{name}"
        path.write_bytes(mutator(sources[name].read_bytes(), np.random.default_rng(seed)))
        return path

    return make


NAMES = ("mpeg4.avi", "mpeg4_b.mp4", "mpeg4_qpel.mkv", "h264.avi", "h264_b.mp4")


@pytest.mark.parametrize("name", NAMES)
def test_a_sound_video_has_none(sources: dict[str, Path], name: str) -> None:
    for keep in (False, True):
        with Video(sources[name], keep_damaged=keep) as video:
            pictures = [frame.rgb().copy() for frame in video.frames()]
            assert video.num_decode_errors == 0
            with transcode(video, RECIPE) as stream:
                assert sum(1 for _ in stream.frames()) == len(pictures)
                assert stream.num_decode_errors == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_video_fails_unless_it_is_kept(mutant: Callable[..., Path], name: str) -> None:
    path = mutant(name)
    with Video(path) as video, pytest.raises(DecodeError, match=r"damaged.*--decode-errors keep|; the file is damaged"):
        list(video.frames())
    with Video(path) as video, pytest.raises(DecodeError, match=r"ffmpeg gave up \(.*\); the file is damaged"):
        transcode(video, RECIPE)
    with Video(path, keep_damaged=True) as video:
        times = [frame.pts_seconds for frame in video.frames()]
        assert video.num_decode_errors > 0
        assert len(times) > 12
        assert (np.diff(times) > 0).all()
        with transcode(video, RECIPE) as stream:
            assert stream.num_decode_errors > 0
            assert [frame.pts_seconds for frame in stream.frames()] == stream.frame_times
            assert stream.num_decode_errors > 0  # reading the new stream adds none, and takes none away


def test_the_count_is_that_of_the_last_reading(mutant: Callable[..., Path]) -> None:
    with Video(mutant("mpeg4.avi"), keep_damaged=True) as video:
        counts = []
        for _ in range(2):
            assert sum(1 for _ in video.frames()) > 12
            counts.append(video.num_decode_errors)
        assert counts[0] == counts[1] > 1


def test_it_counts_what_plain_decoding_reports(mutant: Callable[..., Path]) -> None:
    path = mutant("mpeg4.avi", seed=5)
    with av.open(str(path)) as container:
        num_reports = sum(picture.is_corrupt for picture in container.decode(video=0))
    with Video(path, keep_damaged=True) as video:
        list(video.frames())
        assert video.num_decode_errors == num_reports > 0


def test_what_is_only_logged_is_marked_and_fails_nothing(mutant: Callable[..., Path]) -> None:
    """The end of one H.264 packet and the begin of the next are missing: a line in the log, and no picture's flag."""
    path = mutant("h264.avi", seed=61, mutator=remove)
    for keep in (False, True):
        with Video(path, keep_damaged=keep) as video:
            assert sum(1 for _ in video.frames()) == 23
            assert video.num_decode_errors == 1
            with transcode(video, RECIPE) as stream:
                assert stream.num_decode_errors == 1


def test_other_readers_do_not_disturb_each_other(sources: dict[str, Path], mutant: Callable[..., Path]) -> None:
    """FFmpeg's log is that of the process; two videos are read in turns."""
    with Video(mutant("mpeg4.avi"), keep_damaged=True) as bad, Video(sources["mpeg4.avi"]) as good:
        assert len(list(zip(bad.frames(), good.frames(), strict=False))) > 12
        assert bad.num_decode_errors > 0
        assert good.num_decode_errors == 0


def test_damaged_sound_is_counted(sources: dict[str, Path], tmp_path: Path) -> None:
    data = bytearray(sources["mpeg4.mp4"].read_bytes())
    with av.open(str(sources["mpeg4.mp4"])) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(audio=0) if packet.size]
    for place, size in places[5:15]:
        data[place : place + size] = b"\xff" * size
    path = tmp_path / "sound.mp4"
    path.write_bytes(data)
    with Video(path) as video, pytest.raises(DecodeError, match=r"the audio of .*damaged"):
        video.audio(22050)
    with Video(path, keep_damaged=True) as video:
        assert sum(1 for _ in video.frames()) == 24
        audio = video.audio(22050)
        assert audio is not None
        assert audio.samples.size > 11025
        assert video.num_decode_errors > 0


def test_a_cut_video_is_kept_up_to_the_cut(mutant: Callable[..., Path]) -> None:
    path = mutant("mpeg4.avi", seed=2, mutator=lambda data, rng: data[: 2 * len(data) // 3])
    with Video(path, keep_damaged=True) as video:
        assert 10 < sum(1 for _ in video.frames()) < 24
        assert video.num_decode_errors > 0


def test_nothing_left_is_an_error_even_if_damage_is_kept(mutant: Callable[..., Path]) -> None:
    with pytest.raises(DecodeError):
        Video(mutant("mpeg4.avi", mutator=lambda data, rng: cut(data[:400], rng)), keep_damaged=True)


class TestDamage:
    def refuse(self) -> None:
        raise av.InvalidDataError(1094995529, "Invalid data found when processing input")

    def test_it_raises_or_counts(self) -> None:
        with pytest.raises(DecodeError, match=r"x\.avi: Invalid data .*; the file is damaged"):
            Damage("x.avi", keep=False).attempt(self.refuse)
        damage = Damage("x.avi", keep=True)
        assert damage.attempt(self.refuse) is None
        assert damage.attempt(lambda: 5) == 5
        assert (damage.num_reports, damage.is_logged) == (1, False)

    def test_it_notices_log_lines(self) -> None:
        damage = Damage("x.avi", keep=False)
        with damage.listening():
            av.logging.log(av.logging.WARNING, "x", "a warning")
        assert not damage.is_logged
        damage.attempt(lambda: av.logging.log(av.logging.ERROR, "x", "an error"))
        assert (damage.num_reports, damage.is_logged) == (0, True)

    def test_packets_end_where_the_container_can_not_be_read_on(self) -> None:
        def packets():  # type: ignore[no-untyped-def]
            packet = av.Packet(b"x")
            packet.time_base = Fraction(1, 25)
            yield packet
            self.refuse()

        damage = Damage("x.avi", keep=True)
        found = list(damage.each(packets()))
        assert [packet.size for packet in found] == [1, 0]
        assert found[1].time_base == found[0].time_base
        assert damage.num_reports == 1

    def test_a_lack_of_memory_is_told_from_a_wild_claim(self, monkeypatch: pytest.MonkeyPatch) -> None:
        error = av.error.MemoryError(12, "Cannot allocate memory")
        assert not is_of_machine(error)
        monkeypatch.setattr(damage_module, "_PLENTY_BYTES", 1 << 60)
        assert is_of_machine(error)
        with pytest.raises(MemoryError):
            Damage("x", keep=True).attempt(lambda: (_ for _ in ()).throw(error))


MESSAGES = """\
[in#0/avi @ 0x5581] [warning] Timestamps are unset
[mpeg4 @ 0x5581] [error] ac-tex damaged at 3 1
[vist#0:0/mpeg4 @ 0x5583] [dec:mpeg4 @ 0x5584] [warning] corrupt decoded frame
[vist#0:0/mpeg4 @ 0x5583] [dec:mpeg4 @ 0x5584] [warning] corrupt decoded frame
[vist#0:0/mpeg4 @ 0x5583] [dec:mpeg4 @ 0x5584] [error] Error submitting packet to decoder: Invalid data
"""


def test_messages_are_counted() -> None:
    assert num_decode_errors("") == 0
    assert num_decode_errors("[x @ 0x1] [warning] something\n") == 0
    assert num_decode_errors("[h264 @ 0x1] [error] Frame num change from 7 to 8\n") == 1
    assert num_decode_errors(MESSAGES) == 3


def test_messages_give_a_reason() -> None:
    assert error_of("x.avi", 0, MESSAGES) is None
    error = error_of("x.avi", 1, MESSAGES)
    assert isinstance(error, DecodeError)
    assert str(error).startswith("x.avi: ffmpeg gave up ([mpeg4] ac-tex damaged at 3 1); the file is damaged")
    assert isinstance(error_of("x.avi", -9, ""), TranscodeError)
    assert isinstance(
        error_of("x.avi", 1, "[in#0/mov @ 0x1] [error] Error during demuxing: Cannot allocate memory"), DecodeError
    )
    for status in (0, 1):  # a command that goes on without memory has lost pictures that are sound
        assert isinstance(error_of("x.avi", status, "[dec:h264 @ 0x1] [error] Cannot allocate memory"), OSError)
