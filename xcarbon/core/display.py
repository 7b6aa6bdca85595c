"""Short descriptions of objects as text and as HTML, with a map of towers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import ArrayLike

#: Width of a label in text.
_LABEL = 13
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
