"""Who may import whom, and how long things may grow: read from the sources with ``ast``."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = (
    "vidprep",
    "models",
    "pipelines",
    "manifests",
)  # where the sources are; the last three are links in vidprep/

ALL_MAY = {"errors", "__version__"}

# A room of vidprep, or one recipe in it (`pipelines.extract` with its parts `pipelines.extract_plan`, ...), which adds
# to its room's list -> what else of vidprep it may import.
ROOMS_IT_MAY_IMPORT = {
    "__init__": set(),
    "cli": ALL_MAY | {"pipelines", "shards", "manifest"},
    "codec": ALL_MAY,
    "dataset": ALL_MAY | {"shards", "modalities", "codec", "sampling", "features", "reading"},
    "engines": ALL_MAY,
    "errors": set(),
    "features": ALL_MAY | {"reading"},
    "manifest": ALL_MAY,
    "manifests": set(),
    "modalities": ALL_MAY | {"codec", "reading"},
    "models": set(),
    "pipelines": ALL_MAY | {"dataset", "engines", "models", "manifest"},
    "pipelines.demo": {"codec"},
    "pipelines.evaluate": {"shards"},
    "pipelines.export": {"features", "modalities", "reading", "sampling", "shards"},
    "pipelines.extract": {"codec", "modalities", "shards", "sampling"},
    "pipelines.inspect": {"codec", "modalities", "shards"},
    "pipelines.recipe": {"sampling"},
    "pipelines.train": {"shards"},
    "reading": ALL_MAY,
    "sampling": ALL_MAY,
    "shards": ALL_MAY | {"reading"},
}

# A package of others -> the only rooms or modules that may import it.
ROOMS_THAT_MAY_IMPORT = {
    "PIL": {"modalities", "pipelines.demo", "pipelines.inspect"},
    "av": {"codec"},
    "click": {"cli"},
    "h5py": {"features"},
    "librosa": {"modalities.spectrogram"},
    "matplotlib": {"pipelines.evaluate"},
    "numba": {"codec"},
    "ray": {"engines"},
    "simplejpeg": {"modalities"},
    "torch": {"dataset", "models", "pipelines"},
    "torchvision": {"dataset", "models", "pipelines"},
    "webdataset": {"dataset"},
}

# Seconds to load, or optional: imported inside the function that needs it, never with the module.
ONLY_INSIDE_FUNCTIONS = {"librosa", "matplotlib"}
# `vidprep --help` must answer at once: with the module, the command line loads nothing but these.
CLI_MAY_LOAD = {"click", "vidprep.cli", "vidprep.errors", "vidprep.__version__"} | sys.stdlib_module_names
# Their place in a checkout, not their name: a training repository has a `models` of its own.
BARE_NAMES = {"models", "pipelines", "manifests"}

MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 60


class Import(NamedTuple):
    """One imported name: ``from a.b import c`` gives ``a.b.c``; a relative one keeps its dots in front."""

    name: str
    line: int
    is_late: bool  # not run with the module: inside a function, or for the type checker alone


def imports_of(tree: ast.AST, is_late: bool = False) -> Iterator[Import]:
    """All imports below a node, ``import_module("name")`` and ``__import__("name")`` included."""
    for node in ast.iter_child_nodes(tree):
        is_node_late = is_late or is_for_type_checker(tree, node)
        for name in names_imported_by(node):
            yield Import(name, node.lineno, is_node_late)  # type: ignore[attr-defined]
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from imports_of(node, is_node_late or is_function)


def is_for_type_checker(parent: ast.AST, node: ast.AST) -> bool:
    """Whether a statement stands in the body of an ``if TYPE_CHECKING:``; what its ``else`` holds is run."""
    tests = {"TYPE_CHECKING", "typing.TYPE_CHECKING"}
    return isinstance(parent, ast.If) and ast.unparse(parent.test) in tests and node in parent.body


def names_imported_by(node: ast.AST) -> list[str]:
    match node:
        case ast.Import():
            return [alias.name for alias in node.names]
        case ast.ImportFrom():
            start = "." * node.level + (f"{node.module}." if node.module else "")
            return [start + alias.name for alias in node.names]
        case ast.Call(
            func=ast.Name("import_module" | "__import__") | ast.Attribute(attr="import_module"),
            args=[name, *_],
        ):
            return [str(name.value) if isinstance(name, ast.Constant) else f"{{{ast.unparse(name)}}}"]
    return []


def import_faults(module: str, source: str) -> list[str]:
    """What one module imports against the tables. ``module`` is its name below vidprep: ``codec.video``."""
    faults = []
    for found in imports_of(ast.parse(source)):
        reason = (
            fault_of_form(found)
            or fault_of_room(module, found)
            or fault_of_package(module, found)
            or fault_of_time(module, found)
        )
        if reason:
            faults.append(f"{module}:{found.line} imports {found.name}: {reason}")
    return faults


def recipe_of(module: str) -> str:
    """A recipe may have several files: ``pipelines.extract_plan`` belongs to ``pipelines.extract``."""
    return module.partition("_")[0] if module.startswith("pipelines.") else module


def fault_of_form(found: Import) -> str | None:
    if found.name.startswith("."):
        return "relative; write the whole name from vidprep on"
    if found.name.startswith("{"):
        return "computed; name it, so that it can be checked"
    if found.name.split(".")[0] in BARE_NAMES:
        return f"a bare name; write vidprep.{found.name}"
    return None


def fault_of_room(module: str, found: Import) -> str | None:
    top, _, rest = found.name.partition(".")
    if top != "vidprep" or not rest:
        return None
    room = module.split(".")[0]
    if room not in ROOMS_IT_MAY_IMPORT:
        return f"room {room} is not in the table; add it to DESIGN.md and here"
    allowed = {room} | ROOMS_IT_MAY_IMPORT[room] | ROOMS_IT_MAY_IMPORT.get(recipe_of(module), set())
    if rest.split(".")[0] in allowed:
        return None
    return f"{module} may import {', '.join(sorted(allowed))} of vidprep"


def fault_of_package(module: str, found: Import) -> str | None:
    allowed = ROOMS_THAT_MAY_IMPORT.get(found.name.split(".")[0])
    if allowed is None or allowed & {module, recipe_of(module), module.split(".")[0]}:
        return None
    return f"only {', '.join(sorted(allowed))} may"


def fault_of_time(module: str, found: Import) -> str | None:
    if found.is_late:
        return None
    top = found.name.split(".")[0]
    if top in ONLY_INSIDE_FUNCTIONS:
        return "slow to load; import it inside the function that needs it"
    two = ".".join(found.name.split(".")[:2])
    if module.split(".")[0] == "cli" and not {top, two} & CLI_MAY_LOAD:
        return "the command line must start at once; import it inside the command"
    return None


def size_faults(module: str, source: str) -> list[str]:
    """A missing docstring, and what is longer than the limits; a function's docstring doesn't count."""
    tree = ast.parse(source)
    faults = [] if ast.get_docstring(tree) else [f"{module} has no docstring: say in a line what it is for"]
    num_lines = len(source.splitlines())
    if num_lines > MAX_FILE_LINES:
        faults.append(f"{module} has {num_lines} lines, at most {MAX_FILE_LINES}: split it")
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            num_lines = (node.end_lineno or 0) - node.lineno + 1 - num_docstring_lines(node)
            if num_lines > MAX_FUNCTION_LINES:
                name = f"{module}:{node.lineno} {node.name}"
                faults.append(f"{name} has {num_lines} lines, at most {MAX_FUNCTION_LINES}: split it")
    return faults


def num_docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    if ast.get_docstring(node) is None:
        return 0
    return (node.body[0].end_lineno or 0) - node.body[0].lineno + 1


def modules() -> dict[str, Path]:
    """Every source file by its name below vidprep: ``codec.video``; an ``__init__`` by its folder's name."""
    paths = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    found = {}
    for path in paths:
        parts = path.relative_to(ROOT).with_suffix("").parts
        parts = parts[1:] if parts[0] == "vidprep" else parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)] = path
    return found


MODULES = modules()


def test_every_folder_is_read() -> None:
    some_of_each = {"__init__", "errors", "codec", "models", "models.backbones", "pipelines", "manifests"}
    assert some_of_each <= set(MODULES)
    assert len(MODULES) == len({path.resolve() for path in MODULES.values()})


@pytest.mark.parametrize("module", MODULES)
def test_imports_follow_the_table(module: str) -> None:
    assert import_faults(module, MODULES[module].read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("module", MODULES)
def test_modules_have_a_docstring_and_stay_short(module: str) -> None:
    assert size_faults(module, MODULES[module].read_text(encoding="utf-8")) == []


def test_every_room_of_the_table_may_import_only_rooms_of_the_table() -> None:
    rooms = set(ROOMS_IT_MAY_IMPORT) | {"__version__"}
    assert set().union(*ROOMS_IT_MAY_IMPORT.values()) <= rooms


def test_the_table_has_no_circle() -> None:
    order = ["errors", "__version__", "reading", "codec", "sampling", "shards", "engines", "manifest", "models"]
    order += ["features", "modalities", "dataset", "pipelines", "cli"]
    for room in order:
        modules_of_it = [name for name in ROOMS_IT_MAY_IMPORT if name.split(".")[0] == room]
        for name in modules_of_it:
            assert ROOMS_IT_MAY_IMPORT[name] <= set(order[: order.index(room)]), name


# In each: the module, a colon, its source.
FORBIDDEN = [
    # Rooms.
    "codec.video: from vidprep.shards import writer",
    "codec.video: import vidprep.shards.writer",
    "codec.video: from vidprep import sampling",
    "codec.video: from vidprep import *",
    "sampling: from vidprep.manifest import Row",
    "shards.reader: def f(): from vidprep.codec.video import Video",
    "modalities: from vidprep.shards import writer",
    "dataset: from vidprep.pipelines import train",
    "models.lnet: from vidprep.errors import VidprepError",
    "models.lnet: from vidprep.codec.frame import Frame",
    "pipelines.train: from vidprep.codec.video import Video",
    "pipelines.demo_data: from vidprep.shards.writer import write",
    "pipelines.inspect: from vidprep.sampling import uniform",
    "cli: def f(): from vidprep.codec.video import Video",
    "newroom: from vidprep.errors import VidprepError",
    "engines.local: import_module('vidprep.codec')",
    # Packages of others.
    "codec.video: import torch",
    "shards.writer: import webdataset as wds",
    "modalities.rgb: import av",
    "modalities.motion: from numba import njit",
    "pipelines.extract: import numba.core",
    "engines.local: import torch.multiprocessing",
    "pipelines.extract: import ray",
    "pipelines.extract: import click",
    "pipelines.train: from PIL import Image",
    "codec.video: import simplejpeg",
    "shards.writer: import h5py",
    "modalities.rgb: def f(): import librosa",
    "shards.writer: importlib.import_module('torch')",
    "shards.writer: __import__('torch')",
    "shards.writer: import json, torch",
    "shards.writer: if True:\n    try:\n        import torch\n    except ImportError:\n        pass",
    # Time.
    "modalities.spectrogram: import librosa",
    "modalities.spectrogram: from librosa import feature",
    "modalities.spectrogram: class A: import librosa",
    "pipelines.evaluate_plot: from matplotlib.figure import Figure",
    "cli: from vidprep.pipelines.extract import extract",
    "cli: from vidprep.shards import verify",
    "cli: import numpy as np",
    "cli: from tqdm import tqdm",
    "cli: if TYPE_CHECKING: pass\nelse: import numpy",
    "cli: if not TYPE_CHECKING: import numpy",
    "cli: if TYPE_CHECKING: from vidprep.codec.video import Video",
    # Form.
    "codec.video: from .frame import Frame",
    "codec.video: from . import frame",
    "cli: def f(): from ..codec import frame",
    "pipelines.train: import models",
    "pipelines.train: from models.lnet import LNet",
    "cli: def f(): from pipelines import extract",
    "manifest: import manifests",
    "engines.local: import_module(name)",
]
ALLOWED = [
    "codec.video: import av; import numpy as np; from vidprep.codec.frame import Frame",
    "codec.video: from vidprep.errors import DecodeError",
    "codec: from vidprep.codec.video import Video",
    "modalities.spectrogram: def f(): import librosa",
    "modalities.spectrogram: async def f(): from librosa import feature",
    "modalities.rgb: import simplejpeg; from PIL import Image; from vidprep import codec",
    "pipelines.extract: from vidprep.shards.writer import write; from vidprep.engines import local",
    "pipelines.extract: from vidprep import __version__; import vidprep.sampling",
    "pipelines.train: import torch; from vidprep.dataset import ShardDataset",
    "models.lnet: import torch; from vidprep.models.backbones import mobilenet",
    "dataset: import torch, webdataset",
    "cli: import json; import click; from vidprep import __version__",
    "cli: def f(): from vidprep.pipelines.extract import extract; from vidprep.manifest import Row",
    "cli: if TYPE_CHECKING: from vidprep.pipelines.extract import Summary",
    "sampling: import numpy as np  # import torch",
    "sampling: import avro, rayon",
]


@pytest.mark.parametrize("case", FORBIDDEN)
def test_a_forbidden_import_is_found(case: str) -> None:
    module, source = case.split(": ", 1)
    assert len(import_faults(module, source)) == 1


@pytest.mark.parametrize("case", ALLOWED)
def test_an_allowed_import_passes(case: str) -> None:
    module, source = case.split(": ", 1)
    assert import_faults(module, source) == []


def test_a_fault_names_module_line_import_and_rule() -> None:
    (fault,) = import_faults("shards.writer", "import json\n\nfrom vidprep.codec import video")
    rule = "shards.writer may import __version__, errors, reading, shards of vidprep"
    assert fault == f"shards.writer:3 imports vidprep.codec.video: {rule}"


def test_length_and_docstring_faults_are_found() -> None:
    def function(num_lines: int, docstring: str = "") -> str:
        return f'"""Module."""\ndef f():\n{docstring}' + "    x = 1\n" * (num_lines - 1)

    assert size_faults("a", function(MAX_FUNCTION_LINES)) == []
    assert size_faults("a", function(MAX_FUNCTION_LINES, '    """One\n    two."""\n')) == []
    assert size_faults("a", function(MAX_FUNCTION_LINES + 1)) == ["a:2 f has 61 lines, at most 60: split it"]
    assert size_faults("a", "async " + function(MAX_FUNCTION_LINES + 1).split("\n", 1)[1]) != []
    assert size_faults("a", '"""Module."""\n' + "x = 1\n" * (MAX_FILE_LINES - 1)) == []
    assert size_faults("a", '"""Module."""\n' + "x = 1\n" * MAX_FILE_LINES) == [
        "a has 301 lines, at most 300: split it"
    ]
    assert size_faults("a", "# only a comment\nx = 1\n") == ["a has no docstring: say in a line what it is for"]
    assert size_faults("a", "") != []


def modules_loaded_by(statement: str) -> set[str]:
    """The top names in ``sys.modules`` after a statement in a fresh interpreter."""
    code = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    return set(
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    )


def test_the_command_line_loads_nothing_heavy() -> None:
    loaded = modules_loaded_by("import vidprep.cli")
    assert "click" in loaded
    assert not loaded & {"torch", "av", "numba", "numpy", "librosa", "PIL", "webdataset"}


def test_extraction_never_loads_torch() -> None:
    loaded = modules_loaded_by("import vidprep.pipelines.extract")
    assert "av" in loaded
    assert not loaded & {"torch", "torchvision", "webdataset", "librosa"}
