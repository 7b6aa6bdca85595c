"""Short descriptions of objects as text and as HTML, with a map of towers."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

#: Width of a label in text and of a line, and the number of towers that are named.
_LABEL, _WIDTH, _NAMES = 13, 100, 5
_STYLE = "text-align:left;vertical-align:top;padding:2px 8px"


def as_text(title: str, rows: Mapping[str, str]) -> str:
    """Return a title and one line for each row that is not empty.

    Examples
    --------
    >>> print(as_text("CarbonModel", {"targets": "NEE", "licence": ""}))
    CarbonModel
        targets:     NEE
    """
    lines = [f"    {f'{name}:':{_LABEL}}{text}" for name, text in rows.items() if text]
    return "\n".join([title, *lines])


def paragraph(text: str) -> str:
    """Divide a long text into lines that :func:`as_text` shows one below the other."""
    indent = " " * (4 + _LABEL)
    return textwrap.fill(text, _WIDTH, initial_indent=indent, subsequent_indent=indent).strip()


def extent(ds: xr.Dataset) -> dict[str, str]:
    """Return the towers or cells of a Dataset and its period; nothing is computed.

    Examples
    --------
    >>> time = np.arange("2010-01-01", "2010-01-02", dtype="datetime64[h]").astype("datetime64[ns]")
    >>> extent(xr.Dataset(coords={"site": ["DE-Tha"], "time": time}))
    {'towers': '1: DE-Tha', 'period': '2010-01-01 00:00 to 2010-01-01 23:00'}
    """
    rows = {}
    if {"lat", "lon"} <= set(ds.sizes):
        rows["cells"] = f"{ds.sizes['lat']} x {ds.sizes['lon']}"
    elif "site" in ds.coords and not ds["site"].chunks:
        names = [str(name) for name in np.ravel(ds["site"].values)]
        shown = names if len(names) <= _NAMES else [*names[:_NAMES], "..."]
        rows["towers"] = f"{len(names)}: {', '.join(shown)}"
    if len(stamps := ds.indexes.get("time", ())):
        rows["period"] = " to ".join(str(stamp)[:16] for stamp in (stamps[0], stamps[-1]))
    return rows


def as_html(title: str, rows: Mapping[str, str], figure: str = "") -> str:
    """Return a title, a table of the rows that are not empty, and a figure as HTML."""
    cells = [[name, text] for name, text in rows.items() if text]
    return f"<div><strong>{escape(title)}</strong>{table(cells)}{figure}</div>"


def table(rows: Sequence[Sequence[object]]) -> str:
    """Return rows of cells as an HTML table, with the first cell of each row as its heading."""
    lines = []
    for first, *others in rows:
        cells = "".join(f'<td style="{_STYLE}">{escape(str(cell))}</td>' for cell in others)
        lines.append(f'<tr><th style="{_STYLE}">{escape(str(first))}</th>{cells}</tr>')
    return f"<table>{''.join(lines)}</table>"


def count_classes(igbp: ArrayLike) -> str:
    """Return the number of towers of each class, the most frequent first.

    Examples
    --------
    >>> count_classes(["GRA", "ENF", "ENF", ""])
    '2 ENF, 1 GRA'
    """
    names, counts = np.unique([name for name in np.ravel(igbp) if name], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return ", ".join(f"{counts[i]} {names[i]}" for i in order)


def tower_map(lat: ArrayLike, lon: ArrayLike, labels: ArrayLike) -> str:
    """Return a map of towers on a graticule of 30 degrees as an SVG image; empty if no place is known."""
    lat, lon, labels = np.ravel(lat), np.ravel(lon), np.ravel(labels)
    known = np.isfinite(lat) & np.isfinite(lon)
    if not known.any():
        return ""
    lines = [f"M{x} -90V90" for x in range(-180, 181, 30)] + [f"M-180 {y}H180" for y in range(-90, 91, 30)]
    dots = "".join(
        f'<circle cx="{x:.2f}" cy="{-y:.2f}" r="2"><title>{escape(str(label))}</title></circle>'
        for y, x, label in zip(lat[known], lon[known], labels[known], strict=True)
    )
    axes = "".join(
        [f'<text x="{x}" y="98" text-anchor="middle">{x}&#176;</text>' for x in range(-120, 121, 60)]
        + [f'<text x="-183" y="{3 - y}" text-anchor="end">{y}&#176;</text>' for y in range(-60, 61, 30)]
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="-205 -95 390 198" width="480" role="img" '
        'aria-label="map of the towers" style="max-width:100%">'
        f'<path d="{"".join(lines)}" fill="none" stroke="currentColor" stroke-opacity="0.25" '
        'stroke-width="0.5"/>'
        f'<g font-size="8" fill="currentColor" fill-opacity="0.7">{axes}</g>'
        f'<g fill="#d55e00" fill-opacity="0.75">{dots}</g></svg>'
    )
