"""Hundreds of damaged shards: verify finds each change that matters, and readers give arrays or a clear error."""

from __future__ import annotations

import io
import json
import shutil
import signal
import tracemalloc
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutants import BYTE_MUTATORS, TAR_MUTATORS, Rng, change_value, write_sources
from numpy.typing import NDArray
from runs import extract_here

from vidprep.errors import ShardError, VidprepError
from vidprep.modalities import MODALITIES
from vidprep.modalities.base import Settings
from vidprep.pipelines.extract import Options
from vidprep.reading import read_npy, read_npz
from vidprep.shards.index import Status
from vidprep.shards.reader import Sample, read_samples
from vidprep.shards.stats import shard_stats
from vidprep.shards.verify import verify

NUM_FEW, NUM_MANY = 45, 500
LIMIT_SECONDS = 20
Arrays = dict[str, NDArray[Any] | None]


class HangError(BaseException):
    """No Exception, so that nothing takes it for damage."""


@contextmanager
def time_limit() -> Iterator[None]:
    def end(*_: object) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(LIMIT_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def write_decoded(source: Path, out: Path) -> None:
    options = Options("copy", frames="stride:6", settings=Settings("png", levels=(16,)), shard_bytes=60_000)
    assert extract_here(source, out, options).num_done == 8


def write_bitstream(source: Path, out: Path) -> None:
    """Write shards that hold the streams as they are."""
    options = Options("copy", frames="stride:6", layout="bitstream", settings=Settings(levels=(16,)), shard_bytes=9_000)
    assert extract_here(source, out, options).num_done == 8


LAYOUTS: dict[str, Callable[[Path, Path], None]] = {"decoded": write_decoded, "bitstream": write_bitstream}
"""What writes a folder of shards of each layout."""


@dataclass(frozen=True)
class Good:
    """A folder of sound shards, and all that they hold."""

    folder: Path
    samples: dict[str, Sample]
    arrays: dict[str, Arrays]


def decode(sample: Sample) -> Arrays:
    return {name: modality.decode(sample.entries, sample.facts) for name, modality in MODALITIES.items()}


@pytest.fixture(scope="module", params=LAYOUTS)
def good(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Good:
    root = tmp_path_factory.mktemp(request.param)
    write_sources(root / "source")
    (root / "source" / "broken.mp4").write_bytes(b"no video")
    LAYOUTS[request.param](root / "source", root / "out")
    assert verify(root / "out").problems == ()
    tars = sorted((root / "out").glob("*.tar"))
    assert len(tars) > 2
    samples = {sample.key: sample for tar in tars for sample in read_samples(tar)}
    return Good(root / "out", samples, {key: decode(sample) for key, sample in samples.items()})


def mutate(folder: Path, rng: Rng) -> Path:
    """Damage one file of a folder; two of three are tars. Return which."""
    if rng.random() < 0.67:
        paths = sorted(folder.glob("*.tar"))
        path, mutators = paths[int(rng.integers(len(paths)))], TAR_MUTATORS
    else:
        paths = [folder / "index.json", folder / "plan.json", *sorted((folder / "status").iterdir())]
        path, mutators = paths[int(rng.integers(len(paths)))], {**BYTE_MUTATORS, **dict.fromkeys("abcdef", change_text)}
    names = list(mutators)
    path.write_bytes(mutators[names[int(rng.integers(len(names)))]](path.read_bytes(), rng))
    return path


def change_text(data: bytes, rng: Rng) -> bytes:
    """Change a value in a JSON file, or in one row of a file with one JSON value a line."""
    if data.startswith(b"{\n"):
        return json.dumps(change_value(json.loads(data), rng)).encode()
    lines = data.splitlines()
    i = int(rng.integers(len(lines)))
    lines[i] = json.dumps(change_value(json.loads(lines[i]), rng)).encode()
    return b"\n".join(lines) + b"\n"


def is_found(folder: Path) -> bool:
    """Whether verify finds something; each other reader of the folder may only raise a VidprepError."""
    for read in (shard_stats, verify):
        try:
            report = read(folder)
        except VidprepError as error:
            assert len(str(error)) > 30
            return True
    return bool(report.problems)


# What nothing else in the folder repeats: guesses of the plan, reasons of failures, figures for statistics.
UNCHECKED = {"estimated_bytes", "error", "duration_seconds"}
FACTS = ("bytes_by_kind", "has_audio", "motion_exact", "decode_errors", "labels")


def matters(old: bytes, new: bytes, *, rows: bool) -> bool:
    """Whether two texts differ in more than form and unchecked fields."""
    try:
        return what_matters(old, rows) != what_matters(new, rows)
    except (ValueError, TypeError, AttributeError):
        return True


def what_matters(text: bytes, rows: bool) -> object:
    if not rows:
        return without_unchecked(json.loads(text))
    values = [asdict(Status(**json.loads(line))) for line in text.splitlines()]  # with what a row may leave out
    for value in values:
        value["facts"] = {name: value["facts"].get(name) for name in FACTS}  # nobody asks for others
    failed = [value for value in values if value["error"] is not None]
    return [without_unchecked(value) for value in values if value not in failed] + [len(failed)]


def without_unchecked(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_unchecked(item) for name, item in value.items() if name not in UNCHECKED}
    return [without_unchecked(item) for item in value] if isinstance(value, list) else value


def check_reading(tar: Path, good: Good) -> str:
    """Read a damaged tar; return what came of it."""
    outcome = "read"
    try:
        for sample in read_samples(tar):
            outcome = max(outcome, check_sample(sample, good))
    except VidprepError as error:
        assert tar.name in str(error)
        return "tar refused"
    return outcome


def check_sample(sample: Sample, good: Good) -> str:
    """Decode each modality: untouched entries give the right arrays, others something that fits, or an error."""
    outcome, known = "read", good.samples.get(sample.key)
    for name, modality in MODALITIES.items():
        try:
            array = modality.decode(sample.entries, sample.facts)
        except VidprepError as error:
            assert len(str(error)) > 30
            outcome = "sample refused"
            continue
        if known is not None and sample.entries == known.entries:
            np.testing.assert_array_equal(array, good.arrays[sample.key][name])
        elif array is not None and name in ("rgb", "residual", "motion"):
            facts = sample.facts
            shape = (facts.get("frame_indices"), facts.get("height"), facts.get("width"))
            assert None in shape or array.shape[:3] == (len(shape[0] or ()), *shape[1:])
    return outcome


def fuzz(good: Good, folder: Path, count: int) -> Counter[str]:
    found: Counter[str] = Counter()
    for seed in range(count):
        shutil.copytree(good.folder, folder)
        with time_limit():
            path = mutate(folder, np.random.default_rng(seed))
            old, new = (good.folder / path.relative_to(folder)).read_bytes(), path.read_bytes()
            was_found = is_found(folder)
            if path.suffix == ".tar":
                assert was_found == (old != new), f"seed={seed}, {path.name}"
                found[check_reading(path, good)] += 1
            else:
                assert was_found or not matters(old, new, rows=path.suffix == ".jsonl"), f"seed={seed}, {path.name}"
                found["text found" if was_found else "text the same"] += 1
        shutil.rmtree(folder)
    return found


def test_some_shards(good: Good, tmp_path: Path) -> None:
    found = fuzz(good, tmp_path / "shards", NUM_FEW)
    assert {"read", "tar refused", "sample refused", "text found"} <= set(found), found


@pytest.mark.slow
def test_hundreds_of_shards(good: Good, tmp_path: Path) -> None:
    found = fuzz(good, tmp_path / "shards", NUM_MANY)
    print(dict(found))
    assert min(found[kind] for kind in ("read", "tar refused", "sample refused", "text found")) > NUM_MANY // 50


# Promises


def npy_header(shape: str, dtype: str = "<f4") -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def npz(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("num_blocks.npy", content)
    return file.getvalue()


SHAPES = ["(10000000000000,)", "(1000000, 1000000)", "(10**12,)", "(-1,)", "(2**63,)", "(True,)", "(1e3,)", "(5,)"]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["<f4", "<i8", "|O", "|V0", "<U9999999"])
def test_an_array_that_promises_more_than_there_is(shape: str, dtype: str) -> None:
    data = npy_header(shape, dtype) + bytes(16)
    tracemalloc.start()
    try:
        with pytest.raises(ShardError, match="run vidprep verify, or extract anew"):
            read_npy(data, "x.npy")
        with pytest.raises(ShardError, match="run vidprep verify, or extract anew"):
            read_npz(npz(data), ["num_blocks"], "x.npz")
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "array", [np.arange(6.0).reshape(2, 3), np.zeros((0,), "<i4"), np.zeros((3, 0)), np.float32(3)]
)
def test_arrays_come_back(array: NDArray[Any]) -> None:
    for made in (array, np.asfortranarray(array)):
        file, archive = io.BytesIO(), io.BytesIO()
        np.save(file, made)
        np.savez_compressed(archive, a=made, b=1)
        for found in (read_npy(file.getvalue(), "x"), read_npz(archive.getvalue(), "a", "x")["a"]):
            np.testing.assert_array_equal(found, array)
            assert found.dtype == array.dtype
            assert found.flags.writeable
    with pytest.raises(ShardError, match=r"x: KeyError .*c\.npy"):
        read_npz(archive.getvalue(), ["c"], "x")


def test_a_picture_that_promises_more_than_there_is(good: Good) -> None:
    sample = next(iter(good.samples.values()))
    for name in ("rgb", "residual"):
        entries, facts = {**sample.entries}, {**sample.facts}
        if "packets" in facts:
            facts |= {"width": 16000, "height": 16000}
        else:
            entry = next(entry for entry in entries if entry.startswith(f"{name}."))
            data = bytearray(entries[entry])
            at = data.index(b"\xff\xc0") + 5 if name == "rgb" else 16  # the sizes in the frame header, and in IHDR
            data[at : at + (4 if name == "rgb" else 8)] = b"\xff\xdc" * 2 if name == "rgb" else b"\0\0\xff\xff" * 2
            entries = {entry: bytes(data)}
        tracemalloc.start()
        try:
            with pytest.raises(VidprepError):
                MODALITIES[name].decode(entries, facts)
            assert tracemalloc.get_traced_memory()[1] < 4 << 20
        finally:
            tracemalloc.stop()
