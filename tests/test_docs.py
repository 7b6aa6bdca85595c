"""The reference lists the public functions, their docstrings are complete, and links between files work."""

from __future__ import annotations

import dataclasses
import inspect
import pkgutil
import re
import tomllib
from pathlib import Path

import pytest
from numpydoc.docscrape import NumpyDocString
from numpydoc.validate import ERROR_MSGS, validate

import xcarbon
from xcarbon.accessor import CarbonAccessor
from xcarbon.plotting import CarbonPlot

ROOT = Path(__file__).parents[1]
(API,) = (ROOT / "docs").rglob("api.md")
LISTED = re.findall(r"^   (xcarbon\.\S+)$", API.read_text(), re.MULTILINE)
PAGES = [ROOT / "README.md", ROOT / "benchmarks" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CHECKS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["numpydoc_validation"]["checks"]


def is_callable(name: str) -> bool:
    found = pkgutil.resolve_name(name)
    return inspect.isroutine(found) or inspect.isclass(found)


def test_the_reference_lists_each_public_name_once():
    assert len(LISTED) == len(set(LISTED)) > 200
    names = {getattr(pkgutil.resolve_name(name), "__qualname__", name) for name in LISTED}
    public = [getattr(xcarbon, name) for name in xcarbon.__all__ if name != "__version__"]
    owners = (CarbonAccessor, CarbonPlot)
    methods = [getattr(owner, name) for owner in owners for name in vars(owner) if name[0] != "_"]
    wanted = {each.__qualname__ for each in [*public, *methods] if inspect.isroutine(each)}
    assert wanted - names == set()


def test_reference_pages_have_different_files():
    """File systems of macOS and Windows do not distinguish upper case from lower case."""
    text = (ROOT / "docs" / "conf.py").read_text()
    renamed = dict(re.findall(r'^    "(xcarbon\.\S+)": "(xcarbon\.\S+)",$', text, re.MULTILINE))
    files = [renamed.get(name, name).lower() for name in LISTED]
    assert len(files) == len(set(files))


def attributes(found: type) -> set[str]:
    """Names in the section Attributes of a class and of those that it inherits from."""
    texts = [inspect.cleandoc(each.__doc__ or "") for each in found.__mro__[:-1]]
    sections = [NumpyDocString(text)["Attributes"] for text in texts]
    return {name for section in sections for entry in section for name in entry.name.split(", ")}


@pytest.mark.parametrize("name", [name for name in LISTED if is_callable(name)])
def test_docstring_follows_numpydoc(name):
    found = pkgutil.resolve_name(name)
    left_out = set(CHECKS)
    if dataclasses.is_dataclass(found) or hasattr(found, "_fields"):
        left_out |= {"PR01"}  # numpydoc does not see that the section Attributes describes the parameters
        assert set(inspect.signature(found).parameters) <= attributes(found)
    errors = [f"{code}: {message}" for code, message in validate(name)["errors"] if code not in left_out]
    assert errors == []


def test_only_known_checks_are_left_out():
    assert CHECKS[0] == "all" and set(CHECKS[1:]) <= set(ERROR_MSGS)


def anchors(path: Path) -> set[str]:
    """Anchors of the headings of a page and of the files that it includes."""
    include = r"^```\{include\} (\S+)\n.*?^```$"
    lines = re.MULTILINE | re.DOTALL
    text = re.sub(include, lambda found: (path.parent / found[1]).read_text(), path.read_text(), flags=lines)
    text = re.sub(r"^```.*?^```$", "", text, flags=lines)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_local_links_lead_somewhere(path):
    text = re.sub(r"^```.*?^```$|`[^`\n]+`", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"\w+:", link) or link.startswith("#xcarbon"):  # Sphinx checks the names of functions
            continue
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), f"{link}: there is no file {target}"
        assert not anchor or anchor in anchors(target), f"{link}: there is no such heading in {target.name}"
