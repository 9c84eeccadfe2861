"""Run by torchrun on two processes: trains a tiny model on shards, resumes, evaluates; writes what each rank saw."""

import json
import sys
from pathlib import Path

import torch
from torch.nn.parallel import DistributedDataParallel

from vidprep.dataset import RandomClip, ShardDataset


def main(root: str, out: Path) -> None:
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    model = DistributedDataParallel(torch.nn.Linear(3, 2))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)

    def train_step(batch: dict[str, torch.Tensor]) -> None:
        """One whose all-reduce hangs if a rank makes fewer batches."""
        means = batch["rgb"].float().mean(dim=(2, 3, 4)) / 255
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(means), batch["label"]).backward()
        optimiser.step()

    train = ShardDataset(root, clips=RandomClip(4), shuffle=True)  # 17 samples: an odd number
    loader = train.loader(4)
    epochs = []
    for _ in range(2):
        epochs.append([])
        for batch in loader:
            train_step(batch)
            epochs[-1].append(batch["key"])
    train.set_epoch(0)
    next(iter(loader))
    states: list[dict[str, object]] = [{}, {}]
    torch.distributed.all_gather_object(states, loader.state_dict())
    resumed = ShardDataset(root, clips=RandomClip(4), shuffle=True).loader(4, 1)
    resumed.load_state_dict(states[0])  # as saved by the first rank, for all
    rest = []
    for batch in resumed:
        train_step(batch)
        rest.append(batch["key"])
    test = ShardDataset(root, clips=RandomClip(4)).loader(4)
    with torch.no_grad():
        tested = [key for batch in test for key in batch["key"]]
    num_tested = torch.tensor(len(tested))
    torch.distributed.all_reduce(num_tested)
    weights = [torch.zeros(2, 3) for _ in range(2)]
    torch.distributed.all_gather(weights, model.module.weight.data)
    assert torch.equal(weights[0], weights[1])
    seen = {"epochs": epochs, "rest": rest, "tested": tested, "num_tested": int(num_tested), "states": states}
    (out / f"{rank}.json").write_text(json.dumps(seen))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
