"""Datasets behind a web server: the same batches, and what goes wrong on the way."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from shards.servers import Server, hangs_up, serving, stalls

from dataset.test_shards import CLIPS, keys_of
from dataset.tiny import flat, same
from vidprep.dataset import ShardDataset
from vidprep.errors import RemoteError, ShardError
from vidprep.shards import remote
from vidprep.shards.reader import read_samples

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # Python 3.12's


@pytest.fixture
def server(made: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(remote, "_WAITS_SECONDS", (0.0,))
    with serving(made) as server:
        yield server


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_are_those_from_disk(server: Server, made: Path, num_workers: int) -> None:
    wanted = list(ShardDataset(made, "split1/train", ("rgb", "motion"), clips=CLIPS, shuffle=True).loader(5))
    dataset = ShardDataset(server.url, "split1/train", ("rgb", "motion"), clips=CLIPS, shuffle=True)
    found = list(dataset.loader(5, num_workers))
    assert len(found) == 3
    assert all(map(same, found, wanted))
    tars = Counter(name for name, part, _ in server.asked if part)
    assert tars == {shard.name: shard.num_samples for shard in dataset.shards}


def test_reading_begins_with_the_index_alone(server: Server) -> None:
    """And goes on with the rows of the shards that are touched."""
    dataset = ShardDataset(server.url, clips=CLIPS)
    assert [name for name, *_ in server.asked] == ["index.json"]
    next(iter(dataset.loader(3)))
    first, second = dataset.shards[:2]
    rows = [f"status/{shard.name.removesuffix('.tar')}.jsonl" for shard in (first, second)]
    assert [name for name, *_ in server.asked[1:]] == [rows[0], first.name, first.name, rows[1], second.name]


@pytest.mark.parametrize("fault", [stalls, hangs_up])
def test_a_stream_that_stalls_is_an_error_that_names_it_and_is_never_skipped(server: Server, fault: object) -> None:
    dataset = ShardDataset(server.url, clips=CLIPS, on_error="skip", timeout_seconds=0.3)
    name = dataset.shards[1].name
    server.faults[name] = fault  # type: ignore[assignment]
    reason = r"sent nothing for timeout_seconds=0\.3" if fault is stalls else "IncompleteRead"
    with pytest.raises(RemoteError, match=rf"{server.url}/{name}: .*{reason}.*, 2 times".replace("+", "%2B")):
        list(dataset.loader(4))
    assert dataset.num_skipped == 0


def test_a_tar_that_is_not_there_raises_or_is_skipped(server: Server, made: Path) -> None:
    dataset = ShardDataset(server.url, clips=CLIPS, on_error="skip")
    name = dataset.shards[1].name
    server.faults[name] = lambda handler: handler.reply(404, b"")
    with pytest.warns(UserWarning, match="skipped: .*status=404") as caught:
        found = flat(dataset.loader(4))
    lost = {sample.key for sample in read_samples(made / name)}
    assert found == [key for key in keys_of(made) if key not in lost]
    assert len(caught) == 1
    with pytest.raises(ShardError, match="status=404"):
        list(ShardDataset(server.url, clips=CLIPS))


def test_a_state_serves_both_from_disk_and_over_the_net(server: Server, made: Path) -> None:
    there = ShardDataset(server.url, clips=CLIPS, shuffle=True).loader(4)
    here = ShardDataset(made, clips=CLIPS, shuffle=True).loader(4)
    wanted = list(here)
    next(iter(there))
    here.load_state_dict(there.state_dict())
    assert all(map(same, here, wanted[1:]))
