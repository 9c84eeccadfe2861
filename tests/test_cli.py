"""The command line: what each command prints, where, and with which exit status."""

import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import tarfile
import termios
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from runs import command, run_here, vidprep, write_clip

from vidprep import __version__
from vidprep.cli import main
from vidprep.manifest import load_standard, official_rows

COMMANDS = (
    "extract",
    "export",
    "train",
    "evaluate",
    "plot",
    "flops",
    "inspect",
    "verify",
    "stats",
    "manifest",
    "demo-data",
)
EXTRACT_OPTIONS = [
    "--out",
    "--codec",
    "--modalities",
    "--layout",
    "--manifest",
    "--annotations",
    "--size",
    "--gop",
    "--frames",
    "--segment",
    "--retry-failed",
    "--residual-format",
    "--levels",
    "--shard-size",
    "--workers",
    "--engine",
    "--timeout",
    "--overwrite",
    "--spectrogram-recipe",
]
QUICK = ("--workers", "1", "--size", "native", "--modalities", "rgb,motion")


def samples(out: Path) -> dict[str, dict[str, bytes]]:
    """Entries of each sample of a folder of shards by key, read with nothing of vidprep."""
    found: dict[str, dict[str, bytes]] = {}
    for shard in out.glob("*.tar"):
        with tarfile.open(shard) as tar:
            for member in tar:
                key, _, entry = member.name.partition(".")
                found.setdefault(key, {})[entry] = tar.extractfile(member).read()  # type: ignore[union-attr]
    return found


def image_size(data: bytes) -> tuple[str | None, tuple[int, int]]:
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image.format, image.size


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips, one with sound and B-frames, and a file that is no video."""
    root = tmp_path_factory.mktemp("data") / "clips"
    write_clip(root / "a" / "silent.avi", num_frames=10)
    sound = np.sin(np.arange(44100 * 13 // 25) / 20).astype(np.float32) / 2
    write_clip(root / "b" / "sound.avi", num_frames=13, num_b_frames=2, audio=sound)
    return root


@pytest.fixture(scope="module")
def shards(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shards") / "out"
    run_here("extract", clips, "--out", out, *QUICK)
    return out


class TestHelp:
    @pytest.mark.parametrize("flag", ["-h", "--help"])
    def test_lists_the_commands(self, flag: str) -> None:
        text = run_here(flag).stdout
        for name in COMMANDS:
            assert re.search(rf"^  {name} +[A-Z]", text, re.MULTILINE)

    @pytest.mark.parametrize("name", [*COMMANDS, "manifest list", "manifest show", "manifest check"])
    def test_each_command_says_what_it_does(self, name: str) -> None:
        text = run_here(*name.split(), "--help").stdout
        assert text.startswith(f"Usage: main {name}")
        assert re.search(r"^  [A-Z][^.]+[.:]", text, re.MULTILINE)

    @pytest.mark.parametrize("option", EXTRACT_OPTIONS)
    def test_extract_has_every_option_and_explains_it(self, option: str) -> None:
        found = re.findall(rf"^  {option}\b.*?\s{{2,}}(\w.*)", run_here("extract", "--help").stdout, re.MULTILINE)
        assert len(found) == 1

    def test_version(self) -> None:
        assert run_here("--version").stdout == f"vidprep, version {__version__}\n"

    def test_costs_no_heavy_import(self) -> None:
        code = (
            "import sys; from vidprep.cli import main\ntry: main(['extract', '--help'])\nfinally: print(*sys.modules)"
        )
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert "Usage: " in result.stdout
        names = set(result.stdout.split())
        assert names.isdisjoint(
            ("numpy", "av", "torch", "numba", "PIL", "tqdm", "librosa", "ffmpeg", "multiprocessing")
        )

    def test_nothing_asked_is_bad_usage(self) -> None:
        assert "Commands:" in run_here(status=2).output


class TestExtract:
    def test_prints_a_summary_and_nothing_else(self, clips: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        result = vidprep("extract", clips, "--out", out, *QUICK)
        assert result.returncode == 0
        assert re.fullmatch(rf"2 videos, 23 frames, 0\.\d MB in 1 shards: {re.escape(str(out))}\n", result.stdout)
        assert result.stderr == ""

    def test_lists_failures_with_reasons_and_exits_with_one(self, clips: Path, tmp_path: Path) -> None:
        (tmp_path / "clips/a").mkdir(parents=True)
        (tmp_path / "clips/a/good.avi").write_bytes((clips / "a/silent.avi").read_bytes())
        (tmp_path / "clips/a/empty.avi").touch()
        (tmp_path / "clips/notes.txt").touch()
        for _ in range(2):  # a second run tries nothing, and says the same
            result = run_here("extract", tmp_path / "clips", "--out", tmp_path / "out", *QUICK, status=1)
            assert result.stderr == (
                "1 failed (after mending: the same command with --retry-failed):\n"
                "  a/empty.avi: size_bytes=0 of a/empty.avi: an empty file holds no video; get it anew or remove it\n"
            )
            assert result.stdout.startswith("1 videos, 10 frames, ")
            assert "1 files were passed over: no videos by their extension" in result.stdout
        assert "1 of them were there from an earlier run" in result.stdout

    def test_lists_the_first_twenty_failures(self, tmp_path: Path) -> None:
        (tmp_path / "clips").mkdir()
        for i in range(23):
            (tmp_path / f"clips/{i:02}.avi").touch()
        result = run_here("extract", tmp_path / "clips", "--out", tmp_path / "out", *QUICK, status=1)
        assert result.stderr.startswith("23 failed ")
        assert len(re.findall(r"^  \d\d\.avi: ", result.stderr, re.MULTILINE)) == 20
        assert result.stderr.endswith(f"  ... and 3 more: {tmp_path / 'out'}/status/*.jsonl\n")

    def test_shows_a_bar_on_a_terminal(self, clips: Path, tmp_path: Path) -> None:
        (tmp_path / "clips").mkdir()
        (tmp_path / "clips/good.avi").write_bytes((clips / "a/silent.avi").read_bytes())
        (tmp_path / "clips/empty.avi").touch()
        text = on_terminal("extract", tmp_path / "clips", "--out", tmp_path / "out", *QUICK, status=1)
        assert re.search(r"probe: 100%.* 2/2 ", text)
        assert re.search(r"extract: 100%.* 2/2 .*video.*frames/s=\d+, failed=1", text)
        assert text.rindex("1 videos, 10 frames") > text.rindex("extract:")
        assert "  empty.avi: size_bytes=0 of empty.avi" in text

    def test_warns_where_vectors_are_not_exact(self, tmp_path: Path) -> None:
        write_clip(tmp_path / "clips/x.mp4", codec="h264", options={"refs": "3"})
        for codec, warns in (("copy", True), ("mpeg4", False)):
            arguments = ("--codec", codec, "--workers", 1, "--modalities", "motion")
            result = run_here("extract", tmp_path / "clips", "--out", tmp_path / codec, *arguments)
            assert ("warning: motion_exact=false for 1 videos" in result.stderr) == warns
            assert ("--codec mpeg4 makes them exact" in result.stderr) == warns

    def test_writes_into_the_current_folder_by_default(
        self, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        result = run_here("extract", f"{clips}/a/silent.avi", *QUICK)
        assert result.stdout.endswith(" in 1 shards: silent.avi-shards\n")
        assert samples(tmp_path / "silent.avi-shards").keys() == {"silent%2Eavi"}

    def test_names_that_are_no_text(self, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PYTHONIOENCODING", "utf-8:strict")  # as in a locale other than C
        root = os.fsencode(tmp_path) + b"/clips/\xff"
        os.makedirs(root)
        for name in (b"good\xfe.avi", b"empty\xfd.avi"):
            with open(root + b"/" + name, "wb") as file:
                file.write((clips / "a/silent.avi").read_bytes() if name.startswith(b"good") else b"")
        out = os.fsdecode(os.fsencode(tmp_path) + b"/out\xff")
        result = vidprep("extract", tmp_path / "clips", "--out", out, *QUICK)
        assert result.returncode == 1, result.stderr
        assert "Traceback" not in result.stderr
        assert samples(Path(out)).keys() == {"%FF/good%FE%2Eavi"}
        for name in ("stats", "verify"):
            result = vidprep(name, out)
            assert (result.returncode, "Traceback" in result.stderr) == (0, False), result.stderr
        result = vidprep("inspect", out, "--out", tmp_path / "sheet.png")
        assert (result.returncode, "Traceback" in result.stderr) == (0, False), result.stderr


def on_terminal(*arguments: object, status: int) -> str:
    """Run the command line on a terminal of its own and return what it shows."""
    outside, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))  # rows, columns
    process = subprocess.Popen(command(*arguments), stdin=inside, stdout=inside, stderr=inside)
    os.close(inside)
    shown = b""
    try:
        while piece := os.read(outside, 4096):
            shown += piece
    except OSError:  # the other end is closed: Linux says EIO
        pass
    os.close(outside)
    assert process.wait(timeout=60) == status
    return shown.decode()


class TestChoices:
    """Each option of extract does what it says, seen from the entries."""

    def test_frames_levels_png_and_size(self, clips: Path, tmp_path: Path) -> None:
        chosen = ("--frames", "stride:3", "--levels", "32,16", "--residual-format", "png", "--size", "80x60")
        run_here("extract", clips / "a", "--out", tmp_path / "out", *chosen, "--workers", 1, "--layout", "decoded")
        entries = samples(tmp_path / "out")["silent%2Eavi"]
        facts = json.loads(entries["json"])
        assert (facts["frame_indices"], facts["num_frames"], facts["has_audio"]) == ([0, 3, 6, 9], 10, False)
        ends = [f"{i:06}" for i in range(4)]
        kinds = {"rgb": "jpg", "rgb32": "jpg", "rgb16": "jpg", "residual": "png"}
        numbered = {f"{kind}.{end}.{suffix}" for kind, suffix in kinds.items() for end in ends}
        assert entries.keys() == numbered | {"motion.npz", "json"}
        assert image_size(entries["rgb.000003.jpg"]) == ("JPEG", (80, 60))
        assert image_size(entries["residual.000003.png"]) == ("PNG", (80, 60))
        assert image_size(entries["rgb32.000003.jpg"]) == ("JPEG", (43, 32))
        assert image_size(entries["rgb16.000003.jpg"]) == ("JPEG", (21, 16))

    def test_h264_uniform_short_and_a_table(self, clips: Path, tmp_path: Path) -> None:
        (tmp_path / "rows.tsv").write_text("path\tlabel\tsplit\na/silent.avi\tyes\ttrain\n")
        chosen = ("--codec", "h264", "--frames", "uniform:4", "--size", "short:32", "--manifest", tmp_path / "rows.tsv")
        chosen += ("--workers", 1, "--engine", "local", "--timeout", "60", "--shard-size", "1 gb")
        run_here("extract", clips, "--out", tmp_path / "out", "--modalities", "motion, rgb", *chosen)
        ((key, entries),) = samples(tmp_path / "out").items()
        facts = json.loads(entries["json"])
        assert (key, facts["label_names"], facts["splits"]) == ("a/silent%2Eavi", ["yes"], ["train"])
        assert (facts["stream_codec"], facts["motion_exact"]) == ("h264", True)
        assert (facts["frame_indices"], facts["picture_types"][0]) == ([1, 3, 6, 8], "I")
        assert "B" not in facts["picture_types"]
        assert [image_size(entries[f"rgb.00000{i}.jpg"])[1] for i in range(4)] == [(42, 32)] * 4
        assert facts["recipe"]["modalities"] == ["rgb", "motion"]  # in the table's order, however they were given

    def test_copy_fps_and_tbn(self, clips: Path, tmp_path: Path) -> None:
        chosen = ("--codec", "copy", "--frames", "fps:5", "--spectrogram-recipe", "tbn", "--workers", 1)
        run_here("extract", clips / "b", "--out", tmp_path / "out", *chosen)
        entries = samples(tmp_path / "out")["sound%2Eavi"]
        facts = json.loads(entries["json"])
        times = np.array(facts["pts_seconds"])
        assert np.allclose(np.diff(times), 0.04)
        assert facts["frame_indices"] == [0, 5, 10]
        assert facts["picture_types"][:4] == "IBBP"
        assert (facts["width"], facts["height"]) == (64, 48)
        spectrogram = np.load(io.BytesIO(entries["spectrogram.npy"]))
        assert (spectrogram.dtype, spectrogram.shape[0]) == (np.float32, 256)
        assert facts["spectrogram"]["hop_seconds"] == 120 / 24000
        assert spectrogram.shape[1] * 120 / 24000 == pytest.approx(0.52, abs=0.1)
        assert facts["recipe"]["encode"] is None

    def test_gop_segments_and_mel(self, clips: Path, tmp_path: Path) -> None:
        chosen = ("--gop", 4, "--segment", "0.3", "--modalities", "rgb,spectrogram", "--workers", 1, "--size", "native")
        run_here("extract", clips / "b", "--out", tmp_path / "out", *chosen)
        found = samples(tmp_path / "out")
        assert found.keys() == {"sound%2Eavi@0-300", "sound%2Eavi@300-"}
        facts = [json.loads(found[key]["json"]) for key in sorted(found)]
        types = [fact["picture_types"] for fact in facts]
        assert types == [("IPPP" * 4)[: len(type_)] for type_ in types]
        assert sum(map(len, types)) == 13
        for entries in found.values():
            assert np.load(io.BytesIO(entries["spectrogram.npy"])).shape[0] == 128
            assert not [name for name in entries if name.startswith(("motion", "residual", "rgb1"))]

    def test_a_standard_dataset_by_name(self, clips: Path, tmp_path: Path) -> None:
        name = "Basketball/v_Basketball_g01_c01.avi"
        for path in (tmp_path / "ucf" / name, tmp_path / "ucf/Other/clip.avi"):
            path.parent.mkdir(parents=True)
            path.write_bytes((clips / "a/silent.avi").read_bytes())
        result = run_here("extract", tmp_path / "ucf", "--out", tmp_path / "out", *QUICK, "--manifest", "ucf101")
        assert "1 files were passed over: no videos by their extension, or not in the dataset" in result.stdout
        ((_, entries),) = samples(tmp_path / "out").items()
        assert entries["cls"] == b"7"
        assert json.loads(entries["json"])["splits"] == ["split1/test", "split2/train", "split3/train"]


class TestBadUsage:
    @pytest.mark.parametrize(
        ("arguments", "value", "rule"),
        [
            (("--codec", "vp9"), "vp9", "mpeg4"),
            (("--modalities", "rgb,depth"), "rgb,depth", "must be some of rgb, motion, residual, spectrogram, pyramid"),
            (("--modalities", ""), "--modalities", "must be some of"),
            (("--modalities", " , "), "--modalities", "must be some of"),
            (("--layout", "zip"), "zip", "decoded"),
            (("--manifest", "ucf102"), "ucf102", "ucf101"),
            (("--manifest", "no.csv"), "no.csv", "No such file"),
            (("--size", "0x0"), "size=0x0", "must be WIDTHxHEIGHT or short:N (16 to 4096 pixels), or native"),
            (("--size", "340"), "size=340", "must be WIDTHxHEIGHT"),
            (("--size", "short:8"), "size=short:8", "must be WIDTHxHEIGHT"),
            (("--size", "340x256x3"), "size=340x256x3", "must be WIDTHxHEIGHT"),
            (("--size", "-340x256"), "size=-340x256", "must be WIDTHxHEIGHT"),
            (("--size", ""), "size=", "must be WIDTHxHEIGHT"),
            (("--gop", "0"), "gop=0", "must be between 1 and 600"),
            (("--gop", "601"), "gop=601", "must be between 1 and 600"),
            (("--gop", "twelve"), "twelve", "integer"),
            (("--frames", "some"), "frames=some", "must be all, uniform:COUNT, stride:STEP or fps:RATE"),
            (("--frames", "uniform:0"), "frames=uniform:0", "positive"),
            (("--frames", "stride:-1"), "frames=stride:-1", "positive"),
            (("--frames", "fps:0"), "frames=fps:0", "positive"),
            (("--frames", "fps:nan"), "frames=fps:nan", "positive"),
            (("--frames", ""), "frames=", "must be all"),
            (("--segment", "0"), "segment=0.0", "must be between 0.1 and 300 seconds"),
            (("--segment", "301"), "segment=301.0", "must be between 0.1 and 300 seconds"),
            (("--segment", "nan"), "segment=nan", "must be between 0.1 and 300 seconds"),
            (("--residual-format", "gif"), "gif", "jpeg"),
            (("--spectrogram-recipe", "cqt"), "cqt", "mel"),
            (("--levels", "many"), "many", "must be short sides in pixels, such as 112 or 112,56"),
            (("--levels", ""), "--levels", "must be short sides in pixels"),
            (("--levels", "112,112"), "levels=(112, 112)", "must be different short sides of 8 to 4096 pixels"),
            (("--levels", "4"), "levels=(4,)", "8 to 4096"),
            (("--shard-size", "big"), "big", "must be a number and a unit, such as 500MB or 1GB"),
            (("--shard-size", "-1GB"), "-1GB", "must be a number and a unit"),
            (("--shard-size", "0"), "shard_size=0", "must be at least one byte"),
            (("--shard-size", "0.5B"), "shard_size=0", "must be at least one byte"),
            (("--shard-size", "9" * 400 + "GB"), "999GB", "must be a number and a unit"),
            (("--workers", "0"), "0", "x>=1"),
            (("--workers", "all"), "all", "integer"),
            (("--engine", "cloud"), "cloud", "local"),
            (("--timeout", "0"), "timeout=0.0", "must be a positive"),
            (("--timeout", "-1"), "timeout=-1.0", "must be a positive"),
            (("--timeout", "nan"), "nan", "must be a positive"),
            (("--codec", "copy", "--size", "64x48"), "codec=copy", "leave out --size and --gop"),
            (("--codec", "copy", "--gop", "12"), "codec=copy", "leave out --size and --gop"),
            (("--quality", "1"), "--quality", "No such option"),
        ],
    )
    def test_of_extract(self, clips: Path, tmp_path: Path, arguments: tuple[str, ...], value: str, rule: str) -> None:
        errors = run_here("extract", clips, "--out", tmp_path / "out", *arguments, status=2).stderr
        assert value in errors
        assert rule in errors
        assert not list(tmp_path.rglob("*.*"))

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("extract",), "Missing argument 'SOURCE'"),
            (("extract", "{tmp}/none"), "none' must be a folder that can be read (No such file or directory)"),
            (("extract", "{tmp}"), "must hold videos"),
            (("extract", "{tmp}/text.txt"), "must be a folder or a video"),
            (("extract", "{clips}", "--out", "{tmp}/text.txt"), "out={tmp}/text.txt: File exists; choose a folder"),
            (("extract", "{clips}", "--out", "{tmp}/text.txt/out"), "out={tmp}/text.txt/out: Not a directory; choose"),
            (("manifest",), "Usage: main manifest"),
            (("manifest", "show", "ucf102"), "manifest='ucf102' must be one of: "),
            (("manifest", "check", "ucf102", "{clips}"), "manifest='ucf102' must be one of: "),
            (("manifest", "check", "ucf101", "{tmp}/none"), "No such file or directory"),
            (("inspect", "{tmp}/text.txt", "--frames", "0"), "1<=x<=24"),
            (("demo-data", "{clips}"), "no part of this dataset; name a new folder"),
            (("demo-data", "{tmp}/text.txt"), "it is a file; name a new folder"),
            (("demo-data", "{tmp}/new", "--classes", "3"), "num_classes=3: half are temporal; take 2, 4, 6 or 8"),
            (("demo-data", "{tmp}/new", "--frames", "0"), "num_frames=0: it must lie in 1 to 100000"),
            (("demo-data", "{tmp}/new", "--groups", "100"), "num_groups=100: it must lie in 1 to 99"),
            (("demo-data", "{tmp}/new", "--clips", "0"), "clips_per_group=0: it must lie in"),
            (("demo-data", "{tmp}/new", "--seed", "-1"), "seed=-1: it must lie in"),
            (("learn", "{tmp}"), "No such command 'learn'"),
        ],
    )
    def test_of_arguments(self, clips: Path, tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
        (tmp_path / "text.txt").write_text("no video")
        names = {"tmp": tmp_path, "clips": clips}
        assert said.format(**names) in run_here(*(part.format(**names) for part in arguments), status=2).stderr
        assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("verify", "{clips}"), "{clips}/plan.json: no such file; is {clips} a folder that vidprep extract wrote?"),
            (("stats", "{clips}"), "{clips}/index.json: no such file; is {clips} a folder that vidprep extract wrote?"),
            (("verify", "{clips}/none"), "none/plan.json: no such file"),
            (("stats", "{clips}/none"), "none/index.json: no such file"),
            (("inspect", "{clips}/none.avi"), "none.avi: No such file or directory"),
        ],
    )
    def test_of_what_is_read(self, clips: Path, arguments: tuple[str, ...], said: str) -> None:
        result = run_here(*(part.format(clips=clips) for part in arguments), status=1)
        assert said.format(clips=clips) in result.stderr
        assert result.stdout == ""

    def test_every_message_is_one_line_that_names_the_program(self, clips: Path) -> None:
        assert re.fullmatch(r"vidprep: error: .*\n", run_here("verify", clips, status=1).stderr)

    def test_a_reader_that_goes_away_is_no_error(self, tmp_path: Path) -> None:
        write_clip(tmp_path / "x.avi", num_frames=1)
        script = f"{sys.executable} -m vidprep.cli manifest check ucf101 {tmp_path} | true; echo ${{PIPESTATUS[0]}}"
        result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
        assert result.stderr == ""
        assert result.stdout.strip() == "1"


class TestVerify:
    def test_good_shards(self, shards: Path) -> None:
        assert run_here("verify", shards).stdout == "1 shards, 2 samples, 0 failed at extraction: all good\n"

    @pytest.mark.parametrize("at", [600, -2000])
    def test_a_changed_byte(self, shards: Path, tmp_path: Path, at: int) -> None:
        for path in (path for path in shards.rglob("*") if path.is_file()):
            (tmp_path / path.relative_to(shards)).parent.mkdir(exist_ok=True)
            (tmp_path / path.relative_to(shards)).write_bytes(path.read_bytes())
        data = bytearray((tmp_path / "all-000000.tar").read_bytes())
        data[at] ^= 1
        (tmp_path / "all-000000.tar").write_bytes(data)
        result = run_here("verify", tmp_path, status=1)
        assert "all-000000.tar: " in result.stderr
        assert re.fullmatch(r"1 shards, .*: [1-9]\d* problems\n", result.stdout)

    def test_a_shard_that_is_gone(self, shards: Path, tmp_path: Path) -> None:
        for name in ("plan.json", "index.json"):
            (tmp_path / name).write_bytes((shards / name).read_bytes())
        assert "all-000000.tar" in run_here("verify", tmp_path, status=1).stderr


class TestStatsAndInspect:
    def test_stats(self, shards: Path) -> None:
        lines = dict(re.findall(r"^(\S[\w ]*?\S)  +(.*)$", run_here("stats", shards).stdout, re.MULTILINE))
        assert (lines["shards"], lines["samples"], lines["frames"], lines["failed"]) == ("1", "2", "23", "0")
        assert lines["classes"] == "2"

    def test_inspect_a_video(self, clips: Path, tmp_path: Path) -> None:
        result = run_here("inspect", clips / "a/silent.avi", "--out", tmp_path / "sheet.png", "--frames", 3)
        assert "10, counted by decoding" in result.stdout
        assert result.stdout.endswith(f"contact sheet: {tmp_path / 'sheet.png'}\n")
        assert image_size((tmp_path / "sheet.png").read_bytes())[0] == "PNG"

    def test_inspect_a_sample(self, shards: Path, tmp_path: Path) -> None:
        result = run_here("inspect", shards, "--key", "a/silent%2Eavi", "--out", tmp_path / "sheet.png")
        assert "a/silent%2Eavi" in result.stdout
        assert image_size((tmp_path / "sheet.png").read_bytes())[0] == "PNG"
        assert "key=b" in run_here("inspect", shards, "--key", "b", "--out", tmp_path / "b.png", status=2).stderr
        assert not (tmp_path / "b.png").exists()

    def test_inspect_that_cannot_write(self, clips: Path, tmp_path: Path) -> None:
        result = CliRunner().invoke(main, ["inspect", str(clips / "a/silent.avi"), "--out", str(tmp_path / "no/x.png")])
        assert isinstance(result.exception, SystemExit)
        assert result.exit_code in (1, 2)
        assert str(tmp_path / "no") in result.stderr


class TestManifest:
    def test_list(self) -> None:
        assert "ucf101               UCF101: 13320 videos, 101 classes\n" in run_here("manifest", "list").stdout

    def test_show(self) -> None:
        text = run_here("manifest", "show", "ucf101").stdout
        for said in ("split1/train: 9537 videos", "split2/test: 3734 videos", "split3/test: 3696 videos"):
            assert said in text
        assert "101 classes: ApplyEyeMakeup, ApplyLipstick, " in text

    def test_check(self, tmp_path: Path) -> None:
        rows = official_rows(load_standard("ucf101"))
        for row in rows:
            path = tmp_path / row.path
            path.parent.mkdir(exist_ok=True)
            path.touch()
        assert "13320 present, 0 missing, 0 extra\n" in run_here("manifest", "check", "ucf101", tmp_path).stdout
        (tmp_path / rows[0].path).unlink()
        (tmp_path / "Other").mkdir()
        (tmp_path / "Other/x.avi").touch()
        text = run_here("manifest", "check", "ucf101", tmp_path, status=1).stdout
        assert "13319 present, 1 missing, 1 extra\n" in text
        assert re.search(r"^split1/test +3782 of 3783$", text, re.MULTILINE)
        assert text.endswith(f"missing: {rows[0].path}\nextra: Other/x.avi\n")

    def test_check_lists_the_first_twenty(self, clips: Path) -> None:
        text = run_here("manifest", "check", "ucf101", clips, status=1).stdout
        assert text.count("\nmissing: ") == 21
        assert "missing: ... and 13300 more (--all)\nextra: a/silent.avi\nextra: b/sound.avi\n" in text
        assert run_here("manifest", "check", "ucf101", clips, "--all", status=1).stdout.count("\nmissing: ") == 13320


class TestDemoData:
    def test_writes_once_and_never_into_something_else(self, tmp_path: Path) -> None:
        arguments = ("demo-data", tmp_path / "demo", "--classes", 2, "--groups", 2, "--clips", 1, "--frames", 2)
        result = vidprep(*arguments)
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout == f"4 clips of 2 classes: {tmp_path / 'demo'}\n"
        before = {path: path.read_bytes() for path in tmp_path.rglob("*.avi")}
        assert len(before) == 4
        assert run_here(*arguments).stdout == result.stdout
        assert "it holds a clip of other settings" in run_here(*arguments, "--seed", 1, status=2).stderr
        (tmp_path / "demo/notes.txt").write_text("mine")
        assert "notes.txt, no part of this dataset; name a new folder" in run_here(*arguments, status=2).stderr
        assert {path: path.read_bytes() for path in tmp_path.rglob("*.avi")} == before
