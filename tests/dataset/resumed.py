"""Trains for two epochs, saves after each batch, and is killed after some: ``resumed.py SHARDS FOLDER WORKERS NUM``."""

import hashlib
import json
import os
import signal
import sys
from pathlib import Path

import torch

from vidprep.dataset import Flip, RandomClip, RandomCrop, ShardDataset


def digest(batch: dict[str, object]) -> str:
    """One for the bytes of all arrays of a batch, the labels and the keys."""
    parts = [
        value.numpy().tobytes() if isinstance(value, torch.Tensor) else str(value).encode() for value in batch.values()
    ]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def main(root: str, folder: Path, num_workers: int, num_batches: int) -> None:
    dataset = ShardDataset(
        root,
        "split1/train",
        ("rgb", "motion"),
        clips=RandomClip(4),
        transform=(RandomCrop(32), Flip()),
        shuffle=True,
        seed=5,
    )
    loader = dataset.loader(5, num_workers)
    saved = folder / "state.pt"
    if saved.exists():
        loader.load_state_dict(torch.load(saved, weights_only=True))
    while loader.state_dict()["epoch"] < 2:
        for batch in loader:
            with (folder / "log.jsonl").open("a") as log:
                log.write(json.dumps([batch["key"], digest(batch)]) + "\n")
            torch.save(loader.state_dict(), saved)
            num_batches -= 1
            if not num_batches:
                os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
