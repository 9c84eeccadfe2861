"""What a training is told besides its recipe, and how it ended."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import torch

from vidprep.errors import UsageError

AMP_DTYPES = {"off": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
DEVICES = ("cpu", "cuda")


def check_device(device: str, amp: str) -> None:
    """UsageError if there is no such device, or no such type of numbers."""
    for name, value, choices in (("device", device, DEVICES), ("amp", amp, tuple(AMP_DTYPES))):
        if value not in choices:
            raise UsageError(f"{name}={value}: must be one of {', '.join(choices)}; choose one (--{name})")
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("device=cuda: PyTorch finds none here; leave out --device")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line offers.

    Attributes
    ----------
    split : str, optional
        What to train on, such as ``split1/train``; all samples without.
    validate : str, optional
        What to measure the accuracy on, such as ``split1/test``: over the recipe's test views.
    validate_every : int
        After how many epochs; after the last one in any case.
    weights : path, optional
        A checkpoint that the model's backbone begins with: of its authors, or of vidprep.
    has_new_head : bool
        Whether the classifier begins at random all the same, for fine-tuning.
    seed : int
        Of weights, order, clips, views and dropout.
    device : {"cpu", "cuda"}
    amp : {"off", "bf16", "fp16"}
        Whether most of the network computes in a shorter type; fp16 with a gradient scaler.
    sync_batchnorm : bool
        Whether normalisation counts the batches of all ranks; on GPUs alone.
    num_workers : int
        Processes that read, for each rank; 0 for none but this one.
    checkpoint_seconds : float
        The longest time without a checkpoint; each epoch ends with one in any case.
    tensorboard : bool
        Whether metrics are written for TensorBoard too.
    overwrite : bool
        Whether a training that the folder holds is removed, to begin anew.

    Raises
    ------
    UsageError
        If a value can't be meant, or not here.
    """

    split: str | None = None
    validate: str | None = None
    validate_every: int = 1
    weights: Path | None = None
    has_new_head: bool = False
    seed: int = 0
    device: str = "cpu"
    amp: str = "off"
    sync_batchnorm: bool = False
    num_workers: int = 0
    checkpoint_seconds: float = 300.0
    tensorboard: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        check_device(self.device, self.amp)
        if self.sync_batchnorm and self.device == "cpu":
            raise UsageError("sync_batchnorm=True: PyTorch has it for GPUs alone; leave it out, or take --device cuda")
        if self.validate_every < 1:
            raise UsageError(
                f"validate_every={self.validate_every}: must be a positive number of epochs; give 1 for each"
                " (--validate-every), or leave --validate out for none"
            )
        if not self.checkpoint_seconds >= 0:
            raise UsageError(f"checkpoint_seconds={self.checkpoint_seconds}: must not be negative; 0 for each step")
        if self.has_new_head and self.weights is None:
            raise UsageError("new_head=True: without weights all is new; give --weights, or leave it out")
        if self.tensorboard and importlib.util.find_spec("tensorboard") is None:
            raise UsageError("tensorboard=True: the package is missing; pip install 'vidprep[train]', or leave it out")


@dataclass(frozen=True, kw_only=True)
class Summary:
    """How a training ended.

    Attributes
    ----------
    checkpoint : path
    num_epochs, num_resumed : int
        Epochs in all, and those that earlier runs had done.
    loss : float
        The mean of the last epoch.
    score : (str, float), optional
        Name and value of the last validation.
    is_first_rank : bool
        Whether it is for this process to tell.
    """

    checkpoint: Path
    num_epochs: int
    num_resumed: int
    loss: float
    score: tuple[str, float] | None
    is_first_rank: bool
