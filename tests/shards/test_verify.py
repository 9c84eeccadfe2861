"""verify passes good shards and finds each kind of damage, with the shard, the sample and a cure."""

import hashlib
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import extract_here

from shards.conftest import DATASET, RECIPE, Entries, Shards, entries_of, facts_of, plan_row
from vidprep.codec.writer import write_video
from vidprep.errors import ShardError
from vidprep.modalities.base import Settings
from vidprep.pipelines.extract import Options
from vidprep.shards.files import to_json, write_json
from vidprep.shards.index import load_statuses, save_index, save_statuses, status_path
from vidprep.shards.plan import PlanRow, load_plan, make_plan, save_plan
from vidprep.shards.verify import Problem, Report, verify

Make = Callable[..., Shards]
CURES = re.compile(r"run the same vidprep extract command again|remove it|--overwrite")


def problems_of(folder: Path) -> list[str]:
    """The problems as text; each says what to do."""
    problems = verify(folder).problems
    assert all(CURES.search(problem.message) for problem in problems)
    return [str(problem) for problem in problems]


def shard_with(shards: Shards, key: str) -> str:
    return next(shard.name for shard in shards.plan.shards if any(row.key == key for row in shard.rows))


# Good shards


def test_good_shards_pass(make_shards: Make) -> None:
    shards = make_shards()
    seen: list[tuple[int, int]] = []
    report = verify(shards.folder, lambda done, total: seen.append((done, total)))
    assert report == Report(num_shards=5, num_samples=12, num_failed=4, problems=())
    assert seen == [(i, 6) for i in range(1, 7)]


def test_verify_changes_nothing(make_shards: Make) -> None:
    shards = make_shards()
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in shards.folder.rglob("*") if path.is_file()}
    verify(shards.folder)
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in before} == before


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pipeline itself writes: sound in one clip, B-frames in one, and one file that is no video."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("out") / "shards"
    scene = np.random.default_rng(0).integers(0, 256, (9, 12, 3)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
    frames = [scene[:48, k : k + 64] for k in range(8)]
    for folder in ("walk", "run"):
        (source / folder).mkdir()
    write_video(source / "walk" / "sound.avi", frames, audio=np.zeros(8000, np.float32))
    write_video(source / "walk" / "caf\u00e9 b.avi", frames, num_b_frames=2)
    write_video(source / "run" / "plain.avi", frames)
    (source / "run" / "text.mp4").write_text("no video")
    assert extract_here(source, out, OPTIONS).num_done == 3
    return out


OPTIONS = Options(
    codec="copy", num_workers=1, frames="stride:3", shard_bytes=25000, settings=Settings("png", levels=(112, 24))
)


def test_the_cures_cure(extracted: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A changed byte, a cut tar, a lost status file: do what the messages say, and all is as before."""
    before = {path: path.read_bytes() for path in extracted.rglob("*") if path.is_file()}
    flipped, cut, *_ = sorted(extracted.glob("*.tar"))
    damage_flip(flipped)
    cut.write_bytes(cut.read_bytes()[:-512])
    (extracted / "x.tar.part").write_bytes(b"half")
    (extracted / "x.tar").write_bytes(b"none of these")
    problems = "\n".join(problems_of(extracted))
    assert re.search(rf"{flipped.name}: sha256.*; remove this tar and run the same", problems)
    assert re.search(rf"{cut.name}: num_bytes=.*; run the same", problems)
    assert re.search(r"x\.tar: .*; remove it", problems)
    flipped.unlink()
    (extracted / "x.tar").unlink()
    (extracted / "x.tar.part").unlink()
    source = next(path for path in tmp_path_factory.getbasetemp().iterdir() if (path / "walk").is_dir())
    extract_here(source, extracted, OPTIONS)
    assert {path: path.read_bytes() for path in extracted.rglob("*") if path.is_file()} == before
    assert verify(extracted).problems == ()


def test_what_extraction_writes_passes(extracted: Path) -> None:
    report = verify(extracted)
    assert report.problems == ()
    assert (report.num_samples, report.num_failed) == (3, 1)
    assert report.num_shards >= 1


# Files


def damage_flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_flip, r"sha256: not the one in index\.json"),
        (lambda path: path.write_bytes(path.read_bytes()[:-512]), r"num_bytes=\d+: index\.json says \d+"),
        (lambda path: path.write_bytes(path.read_bytes() + b"\0"), r"num_bytes=\d+: index\.json says \d+"),
        (lambda path: path.write_bytes(b""), r"num_bytes=0: index\.json says \d+"),
        (Path.unlink, "the file is missing"),
    ],
)
def test_a_damaged_tar(make_shards: Make, damage: Callable[[Path], Any], message: str) -> None:
    shards = make_shards()
    damage(shards.folder / "test-000001.tar")
    problems = problems_of(shards.folder)
    assert re.match(f"test-000001.tar: {message}", problems[0])
    assert all(problem.startswith("test-000001.tar") for problem in problems)


@settings(max_examples=25)
@given(share=st.floats(0, 1, exclude_max=True), bits=st.integers(1, 255))
def test_a_changed_byte_anywhere_is_found(extracted: Path, share: float, bits: int) -> None:
    path = sorted(extracted.glob("*.tar"))[0]
    good = path.read_bytes()
    bad = bytearray(good)
    bad[int(share * len(good))] ^= bits
    try:
        path.write_bytes(bad)
        problems = problems_of(extracted)
    finally:
        path.write_bytes(good)
    assert any(re.match(rf"{re.escape(path.name)}: sha256", problem) for problem in problems)


def test_a_renamed_tar(make_shards: Make) -> None:
    shards = make_shards()
    (shards.folder / "test-000000.tar").rename(shards.folder / "other.tar")
    assert problems_of(shards.folder) == [
        "other.tar: index.json does not hold it; remove it, it is none of these shards",
        "test-000000.tar: the file is missing; run the same vidprep extract command again, it writes this shard anew",
    ]


def test_two_tars_that_changed_places(make_shards: Make) -> None:
    shards = make_shards()
    one, two = shards.folder / "train-000000.tar", shards.folder / "train-000001.tar"
    one.rename(shards.folder / "x")
    two.rename(one)
    (shards.folder / "x").rename(two)
    named = {problem.partition(":")[0] for problem in problems_of(shards.folder)}
    assert named == {"train-000000.tar", "train-000001.tar"}


@pytest.mark.parametrize("name", ["train-000000.tar.part", "index.json.part", "status/train-000000.jsonl.part"])
def test_a_part_file(make_shards: Make, name: str) -> None:
    shards = make_shards()
    (shards.folder / name).write_bytes(b"half")
    [problem] = problems_of(shards.folder)
    assert problem.startswith(f"{Path(name).name}: never finished; if no vidprep extract is at work here, remove it")


def test_a_tar_where_all_failed(make_shards: Make) -> None:
    shards = make_shards()
    (shards.folder / "hopeless-000000.tar").write_bytes(bytes(1024))
    [problem] = problems_of(shards.folder)
    assert problem.startswith("hopeless-000000.tar: num_samples=0: there must be no file then")


# Plan, index and status rows


@pytest.mark.parametrize("num_missing", [1, 3, 6])
def test_an_unfinished_extraction(make_shards: Make, num_missing: int) -> None:
    shards = make_shards()
    for planned in shards.plan.shards[:num_missing]:
        del shards.index.shards[planned.name]
        (shards.folder / planned.name).unlink(missing_ok=True)
    save_index(shards.folder, shards.index, shards.plan)
    [problem] = problems_of(shards.folder)
    assert problem.startswith(f"num_shards_missing={num_missing} of 6: it is incomplete; run the same")


def test_an_extraction_that_ended_before_its_first_shard(make_shards: Make) -> None:
    shards = make_shards()
    for path in (*shards.folder.glob("*.tar"), shards.folder / "index.json"):
        path.unlink()
    report = verify(shards.folder)
    assert [problem.message.partition(":")[0] for problem in report.problems] == ["num_shards_missing=6 of 6"]
    assert (report.num_shards, report.num_samples, report.num_failed) == (0, 0, 0)


def test_a_tar_that_came_just_before_the_kill(make_shards: Make) -> None:
    shards = make_shards()
    del shards.index.shards["train-000002.tar"]
    save_index(shards.folder, shards.index, shards.plan)
    problems = problems_of(shards.folder)
    assert len(problems) == 2
    assert problems[1].startswith("train-000002.tar: index.json does not hold it; run the same vidprep extract")


@pytest.mark.parametrize("name", ["plan.json", "index.json"])
def test_a_plan_or_an_index_that_cannot_be_read(make_shards: Make, name: str) -> None:
    shards = make_shards()
    (shards.folder / name).write_text("{")
    with pytest.raises(ShardError, match=rf"{name}: not readable as JSON"):
        verify(shards.folder)
    with pytest.raises(ShardError, match=r"plan\.json: no such file; is .* a folder that vidprep extract wrote"):
        verify(shards.folder / "status")


def change_index(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    index = json.loads((folder / "index.json").read_bytes())
    change(index)
    write_json(folder / "index.json", index)


@pytest.mark.parametrize("name", ["num_samples", "num_failed", "num_frames", "num_bytes", "cell", "sha256"])
def test_a_wrong_line_of_the_index(make_shards: Make, name: str) -> None:
    shards = make_shards()

    def change(index: dict[str, Any]) -> None:
        old = index["shards"][0][name]
        index["shards"][0][name] = old + 1 if isinstance(old, int) else "other"

    first = shards.plan.shards[1].name  # the hopeless one has no file
    assert first == "test-000000.tar"
    change_index(shards.folder, lambda index: index["shards"].reverse())
    change_index(shards.folder, lambda index: index["shards"].sort(key=lambda shard: shard["name"] != first))
    change_index(shards.folder, change)
    problems = problems_of(shards.folder)
    assert any(problem.startswith(f"{first}: {name}") for problem in problems)


@pytest.mark.parametrize(
    ("name", "value"), [("complete", False), ("num_samples", 13), ("num_failed", 3), ("splits", {}), ("extra", 1)]
)
def test_a_wrong_sum_in_the_index(make_shards: Make, name: str, value: object) -> None:
    shards = make_shards()
    change_index(shards.folder, lambda index: index.__setitem__(name, value))
    [problem] = problems_of(shards.folder)
    assert problem.startswith(f"index.json: {name} is not what its shards add up to; run the same")


@pytest.mark.parametrize("name", ["dataset", "recipe"])
def test_an_index_of_another_extraction(make_shards: Make, name: str) -> None:
    shards = make_shards()
    change_index(shards.folder, lambda index: index[name].__setitem__("other", 1))
    [problem] = problems_of(shards.folder)
    assert problem.startswith("index.json has another dataset or recipe than plan.json")


def test_a_shard_that_was_never_planned(make_shards: Make) -> None:
    shards = make_shards()
    change_index(shards.folder, lambda index: index["shards"].append(index["shards"][0] | {"name": "x-000000.tar"}))
    assert any(problem.startswith("x-000000.tar: index.json holds it") for problem in problems_of(shards.folder))


def without_first(statuses: list[Any]) -> list[Any]:
    return statuses[1:]


@pytest.mark.parametrize(
    "change", [without_first, lambda rows: rows[::-1], lambda rows: [*rows, rows[0]], lambda rows: []]
)
def test_status_rows_that_are_not_the_planned_ones(make_shards: Make, change: Callable[[list[Any]], list[Any]]) -> None:
    shards = make_shards()
    name = "train-000000.tar"
    save_statuses(shards.folder, name, change(load_statuses(shards.folder, name)))
    problems = problems_of(shards.folder)
    assert re.match(rf"{name}: num_status_rows=\d: they are not the 3 planned, in order; remove its file", problems[0])


@pytest.mark.parametrize("name", ["train-000000.tar", "hopeless-000000.tar"])
def test_lost_or_broken_status_rows(make_shards: Make, name: str) -> None:
    shards = make_shards()
    status_path(shards.folder, name).write_text("{")
    [problem] = problems_of(shards.folder)
    assert re.match(rf"{name}: .*jsonl: no status rows can be read", problem)
    status_path(shards.folder, name).unlink()
    assert len(problems_of(shards.folder)) == 1


def test_a_key_that_is_planned_twice(make_shards: Make) -> None:
    rows = [plan_row("twice", "train"), plan_row("twice", "test", labels=[1])]
    [problem] = problems_of(make_shards(rows).folder)
    assert problem.startswith("twice: count=2: a key may be planned once")


def test_a_sample_that_stands_twice_in_its_tar(make_shards: Make) -> None:
    """The index was made for this tar: size and checksum are right."""
    shards = make_shards([plan_row("clip", "train"), plan_row("nolabel", "train", labels=[])])
    name = "train-000000.tar"
    data = (shards.folder / name).read_bytes()
    status = load_statuses(shards.folder, name)[0]
    copy = data[status.offset_bytes : status.offset_bytes + status.num_bytes]
    repack(shards, name, data[:-1024] + copy + bytes(1024))
    [problem] = problems_of(shards.folder)
    assert re.match(rf"{name}: {status.key}: offset_bytes={len(data) - 1024}, .*: nothing should be here", problem)


def test_a_sample_that_lacks_in_its_tar(make_shards: Make) -> None:
    shards = make_shards([plan_row("clip", "train"), plan_row("nolabel", "train", labels=[])])
    name = "train-000000.tar"
    data = (shards.folder / name).read_bytes()
    first, second = load_statuses(shards.folder, name)
    repack(shards, name, data[: first.num_bytes] + bytes(1024))
    assert problems_of(shards.folder)[0].startswith(f"{name}: {second.key}: the sample is missing")
    repack(shards, name, data[first.num_bytes :])
    assert f"{first.key} at byte 0 should be here" in problems_of(shards.folder)[0]
    repack(shards, name, data[:-1024])
    assert "the tar is cut or damaged" in problems_of(shards.folder)[0]


def repack(shards: Shards, name: str, data: bytes) -> None:
    """Put other bytes into a tar, and their size and checksum into the index."""
    (shards.folder / name).write_bytes(data)
    entry = {"num_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    change_index(
        shards.folder,
        lambda index: [shard.update(entry) for shard in index["shards"] if shard["name"] == name] and None,
    )


# Samples: everything around them is right, only the entries are not


def tampered(change: Callable[[dict[str, bytes]], Any], key: str = "clip1") -> Entries:
    def entries(row: PlanRow) -> dict[str, bytes]:
        made = entries_of(row)
        if row.key == key:
            change(made)
        return made

    return entries


def with_facts(**changes: object) -> Callable[[dict[str, bytes]], None]:
    def change(entries: dict[str, bytes]) -> None:
        facts = json.loads(entries["json"]) | changes
        entries["json"] = to_json({name: value for name, value in facts.items() if value is not KeyError})

    return change


def npy(array: object) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(array))
    return file.getvalue()


def npz(**arrays: object) -> bytes:
    file = io.BytesIO()
    np.savez(file, **{name: np.asarray(array) for name, array in arrays.items()})
    return file.getvalue()


def put(name: str, change: Callable[[bytes], bytes] | bytes) -> Callable[[dict[str, bytes]], None]:
    def apply(entries: dict[str, bytes]) -> None:
        entries[name] = change if isinstance(change, bytes) else change(entries[name])

    return apply


def drop(name: str) -> Callable[[dict[str, bytes]], None]:
    def apply(entries: dict[str, bytes]) -> None:
        del entries[name]

    return apply


SAMPLE_FAULTS = [
    (drop("rgb.000001.jpg"), r"entries: 1 missing \['rgb\.000001\.jpg'\], 0 too many \[\]"),
    (drop("residual.000002.png"), r"entries: 1 missing \['residual\.000002\.png'\]"),
    (drop("rgb16.000000.jpg"), r"entries: 1 missing \['rgb16\.000000\.jpg'\]"),
    (drop("motion.npz"), r"entries: 1 missing \['motion\.npz'\]"),
    (drop("spectrogram.npy"), r"entries: 1 missing \['spectrogram\.npy'\]"),
    (drop("cls"), r"entries: 1 missing \['cls'\]"),
    (drop("json"), "json: not as vidprep writes it"),
    (put("rgb.000003.jpg", b"\xff\xd8\xff\xd9"), r"entries: 0 missing \[\], 1 too many \['rgb\.000003\.jpg'\]"),
    (put("rgb.000000.png", b"x"), r"rgb\.000000\.png: it does not begin and end like a picture"),
    (put("notes.txt", b"x"), r"entries: 0 missing \[\], 1 too many \['notes\.txt'\]"),
    (put("rgb.000000.jpg", lambda data: data[:-1]), r"rgb\.000000\.jpg: it does not begin and end like a picture"),
    (put("rgb.000000.jpg", lambda data: b"\0" + data[1:]), r"rgb\.000000\.jpg: it does not begin"),
    (put("rgb24.000002.jpg", b""), r"rgb24\.000002\.jpg: it does not begin"),
    (put("residual.000000.png", lambda data: data[:-5]), r"residual\.000000\.png: it does not begin"),
    (put("cls", b"7"), r"cls=b'7': the label is 1"),
    (put("cls", b"1\n"), r"cls=b'1\\n': the label is 1"),
    (put("json", b"{"), "json: not as vidprep writes it"),
    (put("json", b"[]"), "json: not as vidprep writes it"),
    (put("json", b"{}"), "json: not as vidprep writes it"),
    (with_facts(key="other"), "json: key=other, the plan says clip1"),
    (with_facts(path="x.avi"), r"json: path=x\.avi, the plan says clip1\.avi"),
    (with_facts(labels=[2]), r"json: labels=\[2\], the plan says \[1\]"),
    (with_facts(recipe={}), r"json: recipe=\{\}, the plan says"),
    (with_facts(num_frames=5), "json: num_frames=5, and another number of picture types or times"),
    (with_facts(num_frames=10**30), "json: num_frames=10{30}, and another number of picture types or times"),
    (with_facts(picture_types="IPP"), "json: num_frames=4, and another number of picture types or times"),
    (with_facts(pts_seconds=[0.0]), "json: num_frames=4, and another number of picture types or times"),
    (with_facts(frame_indices=[0, 2]), "json: frame_indices, 2 of 4 frames; the status row says 3"),
    (with_facts(frame_indices=[0, 3, 2]), "json: frame_indices, 3 of 4 frames"),
    (with_facts(frame_indices=[0, 2, 4]), "json: frame_indices, 3 of 4 frames"),
    (with_facts(has_audio=False), r"entries: 0 missing \[\], 1 too many \['spectrogram\.npy'\]"),
    (with_facts(motion={"num_blocks": 6}), r"motion\.npz: 5 blocks in 4 frames, the json says otherwise"),
    (with_facts(decode_errors=1), "json: decode_errors=1, the status row says 0"),
    (with_facts(decode_errors=-1), "json: decode_errors=-1, the status row says 0"),
    (with_facts(decode_errors="0"), "json: decode_errors=0, the status row says 0"),
    (with_facts(decode_errors=False), "json: decode_errors=False: must be a count"),
    (with_facts(motion_exact=False), "json: motion_exact=False, the status row says True"),
    (with_facts(decode_errors=KeyError), "json: not as vidprep writes it.*decode_errors"),
    (with_facts(pts_seconds=KeyError), "json: not as vidprep writes it.*pts_seconds"),
    (put("motion.npz", npz(num_blocks=[0, 2, 3])), r"motion\.npz: 5 blocks in 3 frames, the json says otherwise"),
    (put("motion.npz", npz(source=[1])), r"motion\.npz or spectrogram\.npy: not readable"),
    (put("motion.npz", lambda data: data[: len(data) // 2]), r"motion\.npz or spectrogram\.npy: not readable"),
    (put("motion.npz", b"text"), r"motion\.npz or spectrogram\.npy: not readable"),
    (put("spectrogram.npy", npy(np.zeros((4, 8)))), r"spectrogram\.npy: shape=\(4, 8\), the json says otherwise"),
    (put("spectrogram.npy", lambda data: data[:-1]), r"motion\.npz or spectrogram\.npy: not readable"),
    (put("spectrogram.npy", b""), r"motion\.npz or spectrogram\.npy: not readable"),
    (put("spectrogram.npy", npy({"a": 1})), r"motion\.npz or spectrogram\.npy: not readable"),
]


@pytest.mark.parametrize(("change", "message"), SAMPLE_FAULTS, ids=range(len(SAMPLE_FAULTS)))
def test_a_faulty_sample(make_shards: Make, change: Callable[[dict[str, bytes]], Any], message: str) -> None:
    rows = [plan_row("clip0", "train"), plan_row("clip1", "train", labels=[1])]
    shards = make_shards(rows, entries=tampered(change))
    problems = problems_of(shards.folder)
    assert any(re.match(f"train-000000.tar: clip1: {message}", problem) for problem in problems)
    assert all(problem.startswith("train-000000.tar: clip1: ") for problem in problems)


def test_sizes_by_kind_that_are_not_those_of_the_entries(make_shards: Make) -> None:
    shards = make_shards()
    name = shard_with(shards, "clip1")
    statuses = load_statuses(shards.folder, name)
    next(status for status in statuses if status.key == "clip1").facts["bytes_by_kind"]["rgb"] += 1  # type: ignore[index]
    save_statuses(shards.folder, name, statuses)
    [problem] = problems_of(shards.folder)
    assert problem.startswith(f"{name}: clip1: bytes_by_kind=")


def test_only_the_chosen_modalities_are_expected(make_shards: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = RECIPE | {"modalities": ["motion"]}
    monkeypatch.setattr("shards.conftest.RECIPE", recipe)

    def motion_only(row: PlanRow) -> dict[str, bytes]:
        kept = {name: data for name, data in entries_of(row).items() if name in ("motion.npz", "cls")}
        return kept | {"json": to_json(facts_of(row))}

    shards = make_shards([plan_row("clip1"), plan_row("nolabel", labels=[])], entries=motion_only)
    assert shards.plan.recipe == recipe
    assert problems_of(shards.folder) == []


def test_other_plans_do_not_fit(make_shards: Make) -> None:
    shards = make_shards()
    rows = [row for shard in load_plan(shards.folder).shards for row in shard.rows]
    save_plan(shards.folder, make_plan(rows[1:], DATASET, RECIPE, 3))
    assert problems_of(shards.folder)


def test_a_problem_as_text() -> None:
    assert str(Problem("a.tar", "key", "x=1: wrong")) == "a.tar: key: x=1: wrong"
    assert str(Problem(None, None, "x=1: wrong")) == "x=1: wrong"
