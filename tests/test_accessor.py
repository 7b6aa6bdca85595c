"""The accessor only delegates, and importing the package stays cheap."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import xcarbon.accessor
from xcarbon.plotting import CarbonPlot


def test_every_method_is_one_call():
    tree = ast.parse(Path(xcarbon.accessor.__file__).read_text())
    (accessor,) = (node for node in tree.body if isinstance(node, ast.ClassDef))
    methods = [node for node in accessor.body if isinstance(node, ast.FunctionDef) and node.name[0] != "_"]
    assert len(methods) >= 7
    for method in methods:
        work = [node for node in method.body if not isinstance(node, ast.Expr | ast.ImportFrom)]
        assert len(work) == 1, f"{method.name} does more than delegate"
        assert isinstance(work[0], ast.Return)


def test_public_methods_are_documented():
    for name, method in inspect.getmembers(xcarbon.accessor.CarbonAccessor, inspect.isfunction):
        assert method.__doc__ or name.startswith("_"), name


def test_plot_is_bound_to_the_dataset(towers):
    assert isinstance(towers.carbon.plot, CarbonPlot)
