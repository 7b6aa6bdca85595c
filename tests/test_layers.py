"""Imports point downwards only, from the accessor and the command line to the vocabulary, without circles."""

from __future__ import annotations

import ast
import graphlib
import re
from pathlib import Path

import pytest

import xcarbon

PACKAGE = Path(xcarbon.__file__).parent
#: Folders and top modules from the ground up; a module imports from its own floor and from those below.
FLOORS = (
    ("_version", "core"),
    ("models", "prep"),
    ("io",),
    ("pipeline", "quality", "testing"),
    ("evaluation",),
    ("training",),
    ("prediction",),
    ("budget", "experiments", "plotting", "reports"),
    ("accessor",),
    ("cli",),
    ("__init__", "__main__"),
)
LEVEL = {name: level for level, names in enumerate(FLOORS) for name in names}
#: Packages that a folder does not import, so that it can be used and tested without them.
FORBIDDEN = {
    "core": {"torch", "xgboost", "lightning_fabric"},
    "io": {"torch", "xgboost", "lightning_fabric"},
    "prep": {"torch", "xgboost", "lightning_fabric"},
    "models": {"xarray", "dask", "lightning_fabric"},
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """Dotted name of a module below the package; folders by their own name."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


NAMES = {name_of(path) for path in MODULES}


def imported(path: Path) -> set[str]:
    """Names of all modules that a file imports, wherever the import stands, those for type checking too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = inner.removeprefix("xcarbon.") in NAMES
                names.add(inner if is_module else str(node.module))
    return names


def internal(path: Path) -> set[str]:
    """Modules of the package that a file imports; the package itself is ``__init__``."""
    own = {name for name in imported(path) if name.split(".")[0] == "xcarbon"}
    return {name.removeprefix("xcarbon").removeprefix(".") or "__init__" for name in own} - {name_of(path)}


def graph() -> dict[str, set[str]]:
    """Modules that each module of the package imports."""
    return {name_of(path): internal(path) for path in MODULES}


def test_every_module_has_a_floor():
    assert {name.split(".")[0] for name in NAMES} == LEVEL.keys()


def test_the_page_for_contributors_lists_all_floors():
    """The table of the page has the folders in the order of ``FLOORS``, and all paths on the page exist."""
    text = (PACKAGE.parent / "docs" / "contributing.md").read_text()
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \|", text, re.MULTILINE)
    found = [(name.strip("/"), int(level)) for level, names in rows for name in re.findall("`(.+?)`", names)]
    stated = {name.removesuffix(".py"): level - 1 for name, level in found}
    assert stated == {name: level for name, level in LEVEL.items() if name != "_version"}
    layout = text.partition("## Layout")[2].partition("## Dependencies")[0]
    paths = re.findall(rf"`((?:{'|'.join(LEVEL)})/\S*)`", layout)
    assert len(paths) > 40 and [path for path in paths if not (PACKAGE / path).exists()] == []


@pytest.mark.parametrize("folder", [name for name in LEVEL if (PACKAGE / name).is_dir()])
def test_the_docstring_of_a_folder_states_what_it_may_import(folder):
    docstring = ast.get_docstring(ast.parse((PACKAGE / folder / "__init__.py").read_text()))
    (sentence,) = re.findall(r"This folder may import ([^.]+)\.", " ".join(str(docstring).split()))
    stated = set(re.findall("``(.+?)``", sentence)) - {"xcarbon"}
    own = LEVEL[folder]
    assert all(LEVEL[name] <= own for name in stated)
    if own:
        assert set(FLOORS[own - 1]) - {"_version"} <= stated
    assert ("folders below" in sentence) == (own > 2)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_module_imports_from_above(path):
    own = LEVEL[name_of(path).split(".")[0]]
    above = {name for name in internal(path) if LEVEL[name.split(".")[0]] > own}
    if name_of(path).split(".")[0] == "cli":
        above -= {"__init__"}  # the command line is written against the public names
    assert not above


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_folders_do_without_packages_that_are_not_theirs(folder):
    for path in sorted((PACKAGE / folder).rglob("*.py")):
        assert not {name.split(".")[0] for name in imported(path)} & FORBIDDEN[folder], path


def test_there_are_no_circles_between_modules():
    names = graph()
    for name in names:
        if name.split(".")[0] == "cli":
            names[name] = names[name] - {"__init__"}
    graphlib.TopologicalSorter(names).prepare()  # raises CycleError, which names the circle


def test_there_are_no_circles_between_folders():
    folders: dict[str, set[str]] = {}
    for name, others in graph().items():
        own = name.split(".")[0]
        folders.setdefault(own, set()).update(other.split(".")[0] for other in others)
    edges = {own: others - {own} for own, others in folders.items()}
    edges["cli"] = edges["cli"] - {"__init__"}
    graphlib.TopologicalSorter(edges).prepare()


def test_imports_are_found():
    training = imported(PACKAGE / "training" / "run.py") | imported(PACKAGE / "training" / "task.py")
    assert {"torch", "xarray", "xcarbon.models.bundle", "xcarbon.prep.inputs"} <= training


@pytest.mark.parametrize(
    "name", ["models/networks", "training/ecoperceiver", "training/run", "training/streaming"]
)
def test_networks_need_no_xgboost(name):
    """Nor do trees need torch: tests/training/test_boosting.py trains some without it."""
    found = imported(PACKAGE / f"{name}.py")
    assert not found & {"xgboost", "xcarbon.models.boosting", "xcarbon.training.boosting"}
