"""The files that describe the package agree with each other and with what is imported."""

import ast
import configparser
import re
import runpy
import subprocess
import sys
import types
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import xcarbon

ROOT = Path(__file__).parents[1]
MAIN_JOB = 'pip install -c constraints.txt ".[plot]" && xcarbon demo'
TESTS = 'pip install -c constraints.txt -e ".[plot,test]" && pytest -n 2'
CONDA_NAMES = {"cf-xarray": "cf_xarray", "torch": "pytorch"}


def requirements() -> dict[str, list[str]]:
    """Requirement lines of setup.cfg by extra; the package's own under ""."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    groups = {"": config["options"]["install_requires"], **config["options.extras_require"]}
    return {extra: text.split("\n")[1:] for extra, text in groups.items()}


ALL_REQUIREMENTS = sorted({line for lines in requirements().values() for line in lines})


@pytest.mark.parametrize("file", ["README.md", ".ci/run"])
@pytest.mark.parametrize("command", [MAIN_JOB, TESTS])
def test_commands_are_the_ones_that_are_checked(file: str, command: str) -> None:
    assert command in (ROOT / file).read_text()


@pytest.mark.parametrize("line", ALL_REQUIREMENTS)
def test_requirement_is_pinned_within_its_range(line: str) -> None:
    pins = dict(pin.split("==") for pin in (ROOT / "constraints.txt").read_text().split())
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    requirement = Requirement(line)
    assert requirement.specifier
    assert pins[canonicalize_name(requirement.name)] in requirement.specifier


@pytest.mark.parametrize("line", ALL_REQUIREMENTS)
def test_requirement_is_in_the_conda_environment(line: str) -> None:
    text = (ROOT / "environment.yml").read_text()
    listed = re.findall(r"^ +- ([\w-]+)", text, re.MULTILINE)
    name = Requirement(line).name
    assert CONDA_NAMES.get(name, name) in listed


def test_every_import_is_a_requirement() -> None:
    groups = requirements()
    lines = [
        line
        for extra in ("", "plot", "check", "cloud", "fetch", "modis", "benchmarks")
        for line in groups[extra]
    ]
    declared = {canonicalize_name(Requirement(line).name) for line in lines}
    distributions = packages_distributions()
    for path in (ROOT / "xcarbon").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            else:
                continue
            for name in {name.partition(".")[0] for name in names}:
                if name == "xcarbon" or name in sys.stdlib_module_names:
                    continue
                owners = {canonicalize_name(owner) for owner in distributions[name]}
                assert owners & declared, f"{path.relative_to(ROOT)} imports {name}"


FRESH = """
import inspect, sys, xcarbon
from xcarbon.accessor import CarbonAccessor
for name in dir(CarbonAccessor): inspect.getdoc(getattr(CarbonAccessor, name))
print(*{name.partition('.')[0] for name in sys.modules})
print(*dir(xcarbon))
print(*(name for name in xcarbon.__all__ if not hasattr(xcarbon, name)))
all(getattr(xcarbon, name) for name in dir(xcarbon))
"""


def test_import_in_a_new_process() -> None:
    """It and the docstrings of methods need no heavy library; ``dir`` lists public names and submodules."""
    result = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True, check=True)
    loaded, listed, absent = map(str.split, result.stdout.split("\n")[:3])
    assert "xcarbon" in loaded and not {"torch", "xgboost", "lightning_fabric", "matplotlib"} & set(loaded)
    folders = {path.parent.name for path in (ROOT / "xcarbon").glob("*/__init__.py")}
    assert listed == sorted({*xcarbon.__all__, *folders})
    assert absent == []


def test_citation_has_the_version_of_the_package() -> None:
    assert f"version: {xcarbon.__version__}\n" in (ROOT / "CITATION.cff").read_text()


@pytest.mark.parametrize("source", [None, "https://host.example/xcarbon"])
def test_description_on_pypi_has_no_relative_links(source: str | None, monkeypatch) -> None:
    passed: dict[str, str] = {}
    monkeypatch.setitem(sys.modules, "setuptools", types.SimpleNamespace(setup=passed.update))
    for_pypi = runpy.run_path(str(ROOT / "setup.py"))["for_pypi"]
    readme = (ROOT / "README.md").read_text()
    text = for_pypi(readme, source)
    assert all(link.startswith("https://") for link in re.findall(r"\]\(([^)]*)\)", text))
    assert (
        re.sub(r"!?\[|\]\([^)]*\)", "", text).split()[-50:]
        == (re.sub(r"!?\[|\]\([^)]*\)", "", readme).split()[-50:])
    )
    assert ("raw/main/docs/_static/week.png" in text) == (source is not None)
    assert text.count("```") == readme.count("```") and text.startswith("# xcarbon\n")
    assert "# xcarbon" in passed["long_description"]
