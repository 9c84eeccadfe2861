"""What an installation holds: the folders at the top arrive under one name, and nothing arrives beside it."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

import vidprep

ROOT = Path(__file__).resolve().parents[1]
LINKED = ("manifests", "models", "pipelines")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DEPENDENCIES = [Requirement(line) for line in PROJECT["project"]["dependencies"]]
DEV_DEPENDENCIES = [Requirement(line) for line in PROJECT["project"]["optional-dependencies"]["dev"]]
# What a dependency is imported as, where that is not its own name.
IMPORT_NAMES = {"ffmpeg-python": "ffmpeg", "imageio-ffmpeg": "imageio_ffmpeg", "pillow": "PIL"}


def packages_on_disk() -> list[str]:
    """Every folder with an ``__init__.py``, by the name that it is imported as."""
    found = []
    for top in ("vidprep", *LINKED):
        for init in (ROOT / top).rglob("__init__.py"):
            parts = init.parent.relative_to(ROOT).parts
            found.append(".".join(parts if top == "vidprep" else ("vidprep", *parts)))
    return sorted(found)


def pins() -> dict[NormalizedName, Version]:
    """The versions in constraints.txt by normalized name."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"==[\w.]+", str(requirement.specifier)) for requirement in requirements)
    found = {canonicalize_name(one.name): Version(str(one.specifier)[2:]) for one in requirements}
    assert len(found) == len(requirements)
    return found


def test_the_package_list_is_what_is_on_disk() -> None:
    assert sorted(PROJECT["tool"]["setuptools"]["packages"]) == packages_on_disk()


def test_every_python_file_is_in_a_package() -> None:
    folders = {path.parent for top in ("vidprep", *LINKED) for path in (ROOT / top).rglob("*.py")}
    assert {folder for folder in folders if not (folder / "__init__.py").is_file()} == set()


@pytest.mark.parametrize("name", LINKED)
def test_the_links_are_relative_and_point_to_the_top(name: str) -> None:
    link = ROOT / "vidprep" / name
    assert link.is_symlink()
    assert os.readlink(link) == f"../{name}"
    assert link.resolve() == ROOT / name
    assert PROJECT["tool"]["setuptools"]["package-dir"][f"vidprep.{name}"] == name


def test_versions_agree() -> None:
    assert PROJECT["project"]["version"] == vidprep.__version__
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    top_entry = re.search(r"^## \[(.+?)\]", changes, re.MULTILINE)
    assert top_entry is not None
    assert top_entry[1] == vidprep.__version__


def test_the_licence_is_apache_2() -> None:
    assert PROJECT["project"]["license"] == "Apache-2.0"
    text = " ".join((ROOT / "LICENSE").read_text(encoding="utf-8").split())
    assert text.startswith("Apache License Version 2.0, January 2004")
    assert "END OF TERMS AND CONDITIONS" in text


@pytest.mark.parametrize("requirement", DEPENDENCIES + DEV_DEPENDENCIES, ids=lambda one: one.name)
def test_dependencies_have_a_floor_and_a_pin_above_it(requirement: Requirement) -> None:
    assert [one.operator for one in requirement.specifier] == [">="]
    assert requirement.specifier.contains(pins()[canonicalize_name(requirement.name)])


def test_cuda_packages_are_left_to_torch() -> None:
    assert not [name for name in pins() if name.startswith(("nvidia", "cuda", "triton"))]


def test_the_console_script_is_there() -> None:
    assert PROJECT["project"]["scripts"] == {"vidprep": "vidprep.cli:main"}
    (script,) = entry_points(group="console_scripts", name="vidprep")
    assert callable(script.load())


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source archive and the wheel that is built from it, made from a copy of the sources.

    The copy has no links, as where git or a file system doesn't keep them: the mapping alone must do.
    """
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("vidprep", *LINKED):
        skipped = shutil.ignore_patterns("__pycache__", *(LINKED if name == "vidprep" else ()))
        shutil.copytree(ROOT / name, copy / name, ignore=skipped)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    run(sys.executable, "-m", "build", "--no-isolation", cwd=copy)
    return copy / "dist"


def names_in_wheel(built: Path) -> set[str]:
    (wheel,) = built.glob("*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_holds_every_source_file_under_one_name(built: Path) -> None:
    names = names_in_wheel(built)
    assert {name.split("/")[0] for name in names} == {"vidprep", f"vidprep-{vidprep.__version__}.dist-info"}
    sources = [path.relative_to(ROOT) for top in ("vidprep", *LINKED) for path in (ROOT / top).rglob("*.py")]
    expected = {(path if path.parts[0] == "vidprep" else "vidprep" / path).as_posix() for path in sources}
    assert {name for name in names if name.endswith(".py")} == expected
    assert "vidprep/models/backbones/__init__.py" in expected


def test_the_wheel_holds_manifests_types_and_licence(built: Path) -> None:
    manifests = {f"vidprep/manifests/{path.name}" for path in (ROOT / "manifests").glob("*.toml")}
    assert manifests
    info = f"vidprep-{vidprep.__version__}.dist-info"
    assert manifests | {"vidprep/py.typed", f"{info}/licenses/LICENSE"} <= names_in_wheel(built)


def test_the_source_archive_holds_the_folders_at_the_top(built: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert {f"{name}/__init__.py" for name in ("vidprep", *LINKED)} <= names


def test_an_installed_wheel_is_imported_under_one_name(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = (
        "import importlib.util, vidprep, vidprep.models.backbones, vidprep.pipelines, vidprep.manifests\n"
        "print(vidprep.__file__)\n"
        "print([name for name in ('models', 'pipelines', 'manifests') if importlib.util.find_spec(name)])\n"
    )
    # Isolated, so that neither the current folder nor the environment's own vidprep comes first.
    start = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
    place, bare_names = run(sys.executable, "-I", "-c", start + code, cwd=tmp_path).splitlines()
    assert Path(place) == tmp_path / "vidprep" / "__init__.py"
    assert bare_names == "[]"


def test_every_imported_package_is_a_declared_dependency() -> None:
    """What only comes along with another package may be gone with that one's next version."""
    extras = PROJECT["project"]["optional-dependencies"]
    optional = [Requirement(line) for name, lines in extras.items() if name != "dev" for line in lines]
    declared = {IMPORT_NAMES.get(one.name, one.name) for one in DEPENDENCIES + optional}
    imported: set[str] = set()
    for path in (path for top in ("vidprep", *LINKED) for path in (ROOT / top).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").split(".")[0])
    assert imported - declared - sys.stdlib_module_names == {"vidprep"}
