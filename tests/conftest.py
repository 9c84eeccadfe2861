"""What all tests share."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples on every run and every machine; no deadline, since a first call may compile a kernel.
settings.register_profile("vidprep", derandomize=True, deadline=None)
settings.load_profile("vidprep")

# Long files of few tests. They begin first: one that began last would leave every process but its own with nothing.
LONG = ("test_fuzz.py", "test_resume.py", "test_extract.py", "test_real_data.py", "test_ranks.py", "test_readme.py")


def pytest_configure(config: pytest.Config) -> None:
    """Have processes take files in the order of the collection; by itself xdist begins with those of most tests."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """Thousands of small files are written here, and none needs to survive a power cut; other processes do wait."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _nothing_old_to_collect() -> Iterator[None]:
    """What the imports made lives on: full collections, by the garbage collector or by a test, need not walk it."""
    gc.freeze()
    yield
    gc.unfreeze()  # else libraries complain at the end that it was never freed


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real clips, annotations and golden data beside the checkout; most machines have none."""
    folder = Path(__file__).resolve().parents[1].parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}: the checks against real clips and golden data need it")
    return folder
