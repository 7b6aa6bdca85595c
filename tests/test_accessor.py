"""The accessor only delegates, with the signatures and docstrings of the functions, without their imports."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import pkgutil
import re
from pathlib import Path

import pytest
import xarray as xr

import xcarbon.accessor
from xcarbon.models.registry import KINDS, resolve, trainable
from xcarbon.plotting import CarbonPlot
from xcarbon.testing import raise_on_compute, synthetic_grid, synthetic_towers
from xcarbon.training import fit

TREE = ast.parse(Path(xcarbon.accessor.__file__).read_text())
(ACCESSOR,) = (node for node in TREE.body if isinstance(node, ast.ClassDef))
METHODS = [node for node in ACCESSOR.body if isinstance(node, ast.FunctionDef) and node.name[0] != "_"]


def function_of(method: ast.FunctionDef):
    """The function that a method is documented by; None for a property."""
    for decorator in method.decorator_list:
        if isinstance(decorator, ast.Call):
            path, name = decorator.args[0].value.split(":")
            module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            return pkgutil.resolve_name(f"xcarbon.{module}:{name}")
    return None


FUNCTIONS = {method.name: found for method in METHODS if (found := function_of(method))}


def test_every_method_is_one_call():
    assert len(METHODS) >= 7
    for method in METHODS:
        work = [node for node in method.body if not isinstance(node, ast.Expr | ast.ImportFrom)]
        assert len(work) == 1, f"{method.name} does more than delegate"
        assert isinstance(work[0], ast.Return)


def test_every_method_but_plot_is_documented_by_its_function():
    assert {method.name for method in METHODS} - FUNCTIONS.keys() == {"plot"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_method_has_the_signature_of_its_function(name, towers):
    """In order, kinds and defaults; annotations name the same types in other words."""

    def parameters(function):
        return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]

    _, *expected = parameters(FUNCTIONS[name])
    if name == "predict_nee":
        expected = [each for each in expected if each[0] != "target"]
    assert parameters(getattr(towers.carbon, name)) == expected


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_method_has_the_docstring_of_its_function(name, towers):
    found, expected = inspect.getdoc(getattr(towers.carbon, name)), inspect.getdoc(FUNCTIONS[name])
    sections = re.findall(r"^(\w+)\n---+$", found, re.MULTILINE)
    assert sections and sections[-1:] == re.findall(r"^(\w+)\n---+$", expected, re.MULTILINE)[-1:]
    _, _, text = found.partition("Parameters\n----------\n")
    listed = re.findall(r"^(\S.*?)(?: :.*)?$", text.partition("\n\n")[0], re.MULTILINE)
    names = {each.lstrip("*") for entry in listed for each in entry.split(", ")}
    assert names == set(inspect.signature(getattr(towers.carbon, name)).parameters)


def test_fit_lists_the_settings_of_each_kind():
    lines = inspect.getdoc(fit).splitlines()
    head = next(number for number, line in enumerate(lines) if line.split()[:1] == ["setting"])
    _, *kinds = lines[head].split()
    assert {*kinds, "xgboost"} == set(trainable())
    listed: dict[str, dict[str, str]] = {kind: {} for kind in kinds}
    for line in lines[head + 2 :]:
        if "====" in line:
            break
        name, *defaults = line.split()
        for kind, default in zip(kinds, defaults, strict=True):
            if default != "-":
                listed[kind][name.strip("`")] = default
    trees = re.findall(r"``(\w+)=([^`]+)``", "\n".join(lines[head:]))
    listed["xgboost"] = dict(trees)
    for kind, found in listed.items():
        fields = dataclasses.fields(resolve(KINDS[kind].training))
        expected = {field.name: repr(field.default) for field in fields if field.init}
        del expected["seed"]  # a parameter of fit
        assert found == expected, kind


def test_plot_is_bound_to_the_dataset(towers):
    assert isinstance(towers.carbon.plot, CarbonPlot)


def test_the_repr_states_towers_period_and_methods_without_reading_values():
    ds = synthetic_towers(7, patches=False)
    with raise_on_compute():
        title, towers, period, *rest = repr(ds.carbon).splitlines()
        assert "towers:      1: SY-002" in repr(ds.isel(site=1).carbon)
        assert "cells:       2 x 3" in repr(synthetic_grid(2, 3).carbon)
        assert "towers" not in repr(xr.Dataset().carbon)
    assert title == "Dataset.carbon, the methods of xcarbon"
    assert towers.split(maxsplit=1)[1] == "7: SY-001, SY-002, SY-003, SY-004, SY-005, ..."
    assert period.split(maxsplit=1)[1] == "2010-01-01 00:00 to 2010-12-31 23:00"
    methods = " ".join(rest).split("methods:")[1].split("help:")[0]
    assert {name.strip() for name in methods.split(",")} == {method.name for method in METHODS}
    assert max(map(len, rest)) <= 100
