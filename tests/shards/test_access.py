"""Any sample by its number: the same entries as a walk through the tar, from disk and from a web server."""

import gc
import json
import os
import pickle
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from shards.conftest import ODD_PATH, ROWS, Shards, plan_row
from shards.servers import Server, hangs_up, serving, stalls, times, trickles
from vidprep.errors import RemoteError, ShardError, UsageError
from vidprep.shards import remote, sources
from vidprep.shards.access import ShardFolder
from vidprep.shards.reader import read_samples

assert ODD_PATH in {row.row["path"] for row in ROWS}  # names of all kinds are among the samples
LONG = "a" * 120  # no header of the plain form holds it


def walked(folder: Path) -> list[tuple[str, dict[str, bytes]]]:
    return [(sample.key, sample.entries) for tar in sorted(folder.glob("*.tar")) for sample in read_samples(tar)]


def jumped(folder: ShardFolder) -> list[tuple[str, dict[str, bytes]]]:
    """All samples, read from the last to the first, and brought to order."""
    places = [(shard, i) for shard in folder.index.shards_of() for i in range(shard.num_samples)]
    read = [folder.read(*place) for place in reversed(places)]
    assert [folder.key(*place) for place in reversed(places)] == [key for key, _ in read]
    return [(key, dict(entries)) for key, entries in reversed(read)]


@pytest.fixture
def shards(make_shards: Callable[..., Shards]) -> Path:
    return make_shards([*ROWS, plan_row(LONG, "train")]).folder


@pytest.fixture
def server(shards: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(remote, "_WAITS_SECONDS", (0.0, 0.01))
    with serving(shards) as server:
        yield server


class TestOnDisk:
    def test_entries_are_those_of_the_tar(self, shards: Path) -> None:
        assert jumped(ShardFolder(shards)) == walked(shards)
        assert jumped(ShardFolder(str(shards))) == walked(shards)
        assert len(walked(shards)) == 13

    def test_entries_are_a_mapping(self, shards: Path) -> None:
        folder = ShardFolder(shards)
        (_, wanted), *_ = walked(shards)
        _, entries = folder.read(folder.index.shards_of()[0], 0)
        assert list(entries) == list(wanted)
        assert len(entries) == len(wanted)
        assert "json" in entries
        assert "nothing" not in entries

    def test_only_what_is_asked_for_is_read(self, shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Headers and one entry, not the pictures."""
        num_bytes = []
        pread = os.pread
        monkeypatch.setattr(os, "pread", lambda fd, size, offset: num_bytes.append(size) or pread(fd, size, offset))
        folder = ShardFolder(shards)
        shard = folder.index.shards_of()[0]
        _, entries = folder.read(shard, 0)
        facts = entries["json"]
        assert sum(num_bytes) == 512 * len(entries) + len(facts)

    def test_a_thousand_shards_need_few_descriptors(self, make_shards: Callable[..., Shards]) -> None:
        rows = [plan_row(f"c{i}", f"cell{i}") for i in range(150)]
        folder = ShardFolder(make_shards(rows, entries=lambda row: {"json": b"{}"}).folder)

        def num_open() -> int:
            return len(list(Path("/proc/self/fd").iterdir()))

        before = num_open()
        assert len(jumped(folder)) == len(folder.index.shards) == 150
        assert before < num_open() <= before + sources.MAX_OPEN
        del folder
        gc.collect()
        assert num_open() <= before

    def test_it_is_pickled_while_files_are_open(self, shards: Path) -> None:
        folder = ShardFolder(shards)
        wanted = jumped(folder)
        assert jumped(pickle.loads(pickle.dumps(folder))) == wanted

    def test_rows_that_point_nowhere_are_refused(self, shards: Path) -> None:
        name = ShardFolder(shards).index.shards_of()[0].name
        rows = shards / "status" / f"{name.removesuffix('.tar')}.jsonl"
        sound = rows.read_text().splitlines()
        for wrong in ({"offset_bytes": -512}, {"num_bytes": 0}, {"offset_bytes": 10**9}):
            rows.write_text("\n".join([json.dumps(json.loads(sound[0]) | wrong), *sound[1:]]))
            with pytest.raises(
                ShardError, match=f"samples stand outside of {name}; run vidprep verify".replace("+", r"\+")
            ):
                jumped(ShardFolder(shards))
        rows.unlink()
        with pytest.raises(ShardError, match=rf"{rows.name}: no such file"):
            jumped(ShardFolder(shards))

    @pytest.mark.parametrize("root", ["s3://bucket/shards", "hf://datasets/x", "file:///data"])
    def test_other_addresses_are_refused(self, root: str) -> None:
        with pytest.raises(UsageError, match=f"root={root}: must be a folder, or an http:// or https:// address; copy"):
            ShardFolder(root)


class TestRemote:
    def test_entries_are_those_of_the_tar(self, server: Server, shards: Path) -> None:
        assert jumped(ShardFolder(server.url)) == walked(shards)
        assert jumped(ShardFolder(f"{server.url}/")) == walked(shards)

    def test_a_sample_costs_one_request_for_its_bytes(self, server: Server, shards: Path) -> None:
        folder = ShardFolder(server.url)
        shard = folder.index.shards["train-000000.tar"]
        for _ in range(2):
            for number in range(2):
                _, entries = folder.read(shard, number)
                for name in entries:
                    entries[name]
        rows = f"status/{shard.name.removesuffix('.tar')}.jsonl"
        sound = [row for row in map(json.loads, (shards / rows).read_text().splitlines()) if row["error"] is None]
        ranges = [f"bytes={row['offset_bytes']}-{row['offset_bytes'] + row['num_bytes'] - 1}" for row in sound[:2]]
        asked = [("index.json", None), (rows, None), *[(shard.name, each) for each in (*ranges, *ranges)]]
        assert [request[:2] for request in server.asked] == asked
        assert server.num_connections == 1

    def test_views_of_a_sample_cost_one_request(self, server: Server) -> None:
        folder = ShardFolder(server.url)
        shard = folder.index.shards_of()[0]
        for _ in range(5):
            folder.read(shard, 0)
        assert len(server.asked) == 3

    def test_a_token_is_sent_and_not_shown(self, server: Server) -> None:
        folder = ShardFolder(f"{server.url}?token=secret")
        shard = folder.index.shards_of()[0]
        folder.read(shard, 0)
        assert {query for _, _, query in server.asked} == {"token=secret"}
        server.faults[shard.name] = lambda handler: handler.reply(403, b"")
        with pytest.raises(ShardError, match="status=403") as caught:
            folder.read(shard, 1)
        assert "secret" not in str(caught.value)

    def test_redirects_are_followed(self, server: Server, shards: Path) -> None:
        def moved(handler: Any) -> bool:
            if "moved" in handler.path:
                return False
            return bool(handler.reply(302, b"", Location=f"{handler.path}?moved"))

        for tar in shards.glob("*.tar"):
            server.faults[tar.name] = moved
        assert jumped(ShardFolder(server.url)) == walked(shards)

    def test_redirects_in_a_circle_or_out_of_the_web_are_refused(self, server: Server) -> None:
        folder = ShardFolder(server.url)
        shard = folder.index.shards_of()[0]
        for location, message in (("?again", "more than 5 redirects"), ("ftp://there/x", "leads to ftp://there")):
            server.faults[shard.name] = lambda handler, to=location: handler.reply(307, b"", Location=to)
            with pytest.raises(ShardError, match=message):
                folder.read(shard, 0)

    @pytest.mark.parametrize("fault", [stalls, hangs_up, lambda handler: handler.reply(503, b"busy")])
    def test_what_passes_is_tried_again(self, server: Server, shards: Path, fault: Callable[..., object]) -> None:
        folder = ShardFolder(server.url, timeout_seconds=0.3)
        shard = folder.index.shards_of()[0]
        server.faults[shard.name] = times(2, fault)
        assert jumped(folder) == walked(shards)

    @pytest.mark.parametrize(
        ("fault", "message"),
        [
            (stalls, "the server sent nothing for timeout_seconds=0.2, or next to nothing, 3 times; check the network"),
            (trickles, "the server sent nothing for timeout_seconds=0.2, or next to nothing, 3 times"),
            (hangs_up, "IncompleteRead.*, 3 times"),
            (lambda handler: handler.reply(500, b""), "status=500 .*, 3 times"),
        ],
    )
    def test_what_lasts_is_an_error(self, server: Server, fault: Callable[..., object], message: str) -> None:
        """Of a class of its own: it says nothing about the sample, which must not be skipped for it."""
        folder = ShardFolder(server.url, timeout_seconds=0.2)
        shard = folder.index.shards_of()[0]
        server.faults[shard.name] = fault
        with pytest.raises(RemoteError, match=message) as caught:
            folder.read(shard, 0)
        assert str(caught.value).startswith(f"http://127.0.0.1:{server.server_address[1]}/data/shards/")

    @pytest.mark.parametrize(
        ("fault", "message"),
        [
            (lambda handler: handler.reply(404, b""), "status=404 Not Found; check that the address"),
            (lambda handler: handler.reply(200, bytes(4096)), "the server sends the whole file where a part is asked"),
            (lambda handler: handler.reply(206, bytes(9)), "Content-Range='' is not bytes 0-"),
            (
                lambda h: h.reply(206, bytes(9), **{"Content-Range": "bytes 0-8/9"}),
                "Content-Range='bytes 0-8/9' is not",
            ),
        ],
    )
    def test_a_wrong_answer_is_an_error_at_once(
        self, server: Server, fault: Callable[..., object], message: str
    ) -> None:
        folder = ShardFolder(server.url)
        shard = folder.index.shards_of()[0]
        server.faults[shard.name] = fault
        with pytest.raises(ShardError, match=message):
            folder.read(shard, 0)
        assert [name for name, _, _ in server.asked].count(shard.name) == 1

    def test_a_tar_of_another_size_is_refused(self, server: Server, shards: Path) -> None:
        """Longer, cut behind the sample, cut in it, cut before it."""
        folder = ShardFolder(server.url)
        shard = folder.index.shards["train-000000.tar"]
        data = (shards / shard.name).read_bytes()
        for size, message in ((len(data) + 512, "Content-Range"), (len(data) - 512, "Content-Range"), (512, "shorter")):
            (shards / shard.name).write_bytes((data + bytes(512))[:size])
            with pytest.raises(ShardError, match=f"{message}.*the.*index says; run vidprep verify"):
                folder.read(shard, 1)

    def test_a_folder_that_is_not_there(self, server: Server) -> None:
        with pytest.raises(ShardError, match=r"nowhere/index\.json: status=404"):
            ShardFolder(f"{server.url}/nowhere")

    def test_a_server_that_is_not_there(self, server: Server) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
        with pytest.raises(RemoteError, match=r"index\.json: ConnectionRefusedError .*, 3 times; check the network"):
            ShardFolder(f"http://127.0.0.1:{port}/shards")

    @pytest.mark.parametrize("root", ["http://", "https:///shards", "http://me:secret@there/shards", "http://there/#x"])
    def test_addresses_that_can_not_be_are_refused(self, root: str) -> None:
        with pytest.raises(UsageError, match="must be http://HOST/FOLDER"):
            ShardFolder(root)

    @pytest.mark.parametrize("timeout_seconds", [0, -1, float("nan")])
    def test_so_are_times(self, timeout_seconds: float) -> None:
        with pytest.raises(UsageError, match="timeout_seconds="):
            ShardFolder("http://there/shards", timeout_seconds)

    @pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # Python 3.12's
    def test_a_child_process_and_threads_have_connections_of_their_own(self, server: Server, shards: Path) -> None:
        folder = ShardFolder(server.url)
        wanted = walked(shards)
        reading, writing = os.pipe()
        child = os.fork()
        if not child:  # with the parent's connection in its hands
            try:
                os.write(writing, b"same" if jumped(folder) == wanted else b"not!")
            finally:
                os._exit(0)
        assert jumped(folder) == wanted
        assert os.read(reading, 4) == b"same"
        os.waitpid(child, 0)
        os.close(reading)
        os.close(writing)
        with ThreadPoolExecutor(4) as pool:
            assert all(found == wanted for found in pool.map(jumped, [folder] * 4))
        assert threading.active_count() < 20

    def test_it_is_pickled_without_its_connections(self, server: Server, shards: Path) -> None:
        folder = ShardFolder(server.url)
        wanted = jumped(folder)
        assert jumped(pickle.loads(pickle.dumps(folder))) == wanted == walked(shards)
