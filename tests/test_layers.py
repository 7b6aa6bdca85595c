"""Dependencies point downwards only."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import xcarbon

PACKAGE = Path(xcarbon.__file__).parent
FORBIDDEN = {
    "io": {"torch", "xgboost", "lightning_fabric", "xcarbon.models", "xcarbon.training", "xcarbon.accessor"},
    "prep": {"torch", "xgboost", "lightning_fabric", "xcarbon.models", "xcarbon.io", "xcarbon.accessor"},
    "models": {"xarray", "dask", "xcarbon.io", "xcarbon.prep", "xcarbon.windows", "xcarbon.training"},
}
MODULES = [path for folder in FORBIDDEN for path in sorted((PACKAGE / folder).glob("*.py"))]


def imports(path: Path) -> set[str]:
    """Names of all modules that a file imports, with those that hold them."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {".".join(name.split(".")[:depth]) for name in names for depth in (1, 2, 3)}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_no_module_imports_from_above(path):
    assert not imports(path) & FORBIDDEN[path.parent.name]


def test_forbidden_imports_would_be_found():
    training = imports(PACKAGE / "training" / "run.py") | imports(PACKAGE / "training" / "task.py")
    assert {"torch", "xarray", "xcarbon.models", "xcarbon.prep"} <= training


@pytest.mark.parametrize(
    "path", ["models/networks.py", "training/ecoperceiver.py", "training/run.py", "training/streaming.py"]
)
def test_networks_need_no_xgboost(path):
    """Nor do trees need torch: tests/training/test_boosting.py trains some without it."""
    assert not imports(PACKAGE / path) & {"xgboost", "xcarbon.models.boosting", "xcarbon.training.boosting"}
