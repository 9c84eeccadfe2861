"""Shards of a few tiny clips, by the real extraction."""

import shutil
from pathlib import Path

import pytest
from runs import clip_name, extract_here, write_clip, write_dataset

from vidprep.pipelines.extract import Options


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """17 clips of 2 classes, 64x48, in about ten shards; 12 in split1/train and 5 in split1/test. Not to be changed."""
    root = write_dataset(tmp_path_factory.mktemp("videos") / "clips")
    write_clip(root / clip_name("Run", 3), seed=3)
    out = tmp_path_factory.mktemp("made") / "shards"
    extract_here(root, out, Options(modalities=("rgb", "motion"), size="native", shard_bytes=80_000))
    return out


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Path:
    """A copy of the shards, to be broken."""
    return Path(shutil.copytree(made, tmp_path / "own"))
