"""Docstrings of methods that delegate to a function of the package, without an import of its module."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

Method = TypeVar("Method", bound=Callable[..., Any])

_PACKAGE = Path(__file__).parents[1]


def documented_by(function: str) -> Callable[[Method], Method]:
    """Complete the docstring of a method by that of the function that it calls, when it is first read.

    Parameters
    ----------
    function : str
        Path of the module below the package and name of the function, as in ``"prep/split.py:split"``. The
        file is parsed, not imported, so that a docstring does not import torch.

    Returns
    -------
    callable
        Decorator. The method keeps its own summary and signature; the rest of the docstring is that of the
        function, without the parameters that the method does not have.
    """

    def decorate(method: Method) -> Method:
        return cast(Method, _Documented(method, function))

    return decorate


class _Documented:
    """Descriptor of a method, which completes the docstring at the first access."""

    def __init__(self, method: Callable[..., Any], function: str) -> None:
        self._method, self._function = method, function
        self._complete = False

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        if not self._complete:
            names = set(inspect.signature(self._method).parameters)
            body = _without_absent(_docstring(self._function).partition("\n")[2], names)
            self._method.__doc__, self._complete = f"{self._method.__doc__}\n\n{body.strip()}\n", True
        return self._method.__get__(instance, owner)


def _docstring(function: str) -> str:
    """Read the docstring of a function from its file; of overloaded functions that of the implementation."""
    path, _, name = function.partition(":")
    tree = ast.parse((_PACKAGE / path).read_text())
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    return ast.get_docstring(found[-1]) or ""


def _without_absent(text: str, names: set[str]) -> str:
    """Remove the parameters that are not among ``names`` from a docstring in the format of numpydoc."""
    begin, heading, rest = text.partition("Parameters\n----------\n")
    entries, blank, end = rest.partition("\n\n")
    kept = []
    for entry in re.split(r"\n(?=\S)", entries):
        header, _, description = entry.partition("\n")
        listed, colon, kind = header.partition(" : ")
        present = [name for name in listed.split(", ") if name.lstrip("*") in names]
        if present:
            kept.append("\n".join(filter(None, [", ".join(present) + colon + kind, description])))
    return begin + (heading + "\n".join(kept) + blank if kept else "") + end.rstrip()
