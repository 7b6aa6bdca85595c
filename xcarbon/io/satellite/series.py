"""One Dataset out of the composites and the mean seasonal cycles of all files."""

from __future__ import annotations

import functools
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xcarbon.core.conventions import LENGTH, MISSING_FLAG, QC
from xcarbon.core.errors import MetadataError
from xcarbon.core.variables import SATELLITE
from xcarbon.io.composites import MONTH, SEASONAL, Composites, SeasonalCycle, compose, merge, month_centre


def mask_implausible(part: Composites, implausible: list[str]) -> Composites:
    """Set values beyond the plausibility limits to missing; add a line to ``implausible`` for each."""
    bounds = SATELLITE[part.code].bounds
    is_beyond = (part.values < bounds.lower) | (part.values > bounds.upper)
    if not is_beyond.any():
        return part
    limits = f"{bounds.lower} to {bounds.upper} [{SATELLITE[part.code].units}]"
    what = f"{part.code} beyond {limits} in {part.source}"
    implausible += [what] * int(is_beyond.sum())
    return replace(
        part,
        values=np.where(is_beyond, np.float32(np.nan), part.values),
        flags=np.where(is_beyond, MISSING_FLAG, part.flags),
    )


def expand_cycles(
    cycles: list[SeasonalCycle],
    parts: list[Composites],
    years: tuple[int, int] | None,
    implausible: list[str],
) -> list[Composites]:
    """Repeat mean seasonal cycles in all years."""
    if not cycles:
        return []
    if years is None:
        if not parts:
            raise MetadataError(
                f"{cycles[0].source} is a mean seasonal cycle, and no other series states the years; pass "
                "years=(first, last)"
            )
        found = [part.day.astype("datetime64[Y]").astype(int) + 1970 for part in parts if part.day.size]
        years = min(int(of.min()) for of in found), max(int(of.max()) for of in found)
    first, last = years
    months = np.arange(f"{first}-01", f"{last + 1}-01", dtype="datetime64[M]")
    day, flags = month_centre(months), np.full(months.size, SEASONAL)
    expanded = []
    for cycle in cycles:
        plain = compose(cycle.code, cycle.site, day[:12], cycle.months, flags[:12], MONTH, cycle.source)
        values = np.tile(mask_implausible(plain, implausible).values, last - first + 1)
        expanded.append(compose(cycle.code, cycle.site, day, values, flags, MONTH, cycle.source))
    return expanded


def label_series(parts: list[Composites]) -> xr.Dataset:
    """Merge composites, and label them on the sites and days of all."""
    groups: defaultdict[tuple[str, str], list[Composites]] = defaultdict(list)
    for part in parts:
        groups[part.code, part.site].append(part)
    merged = [series for series in map(merge, groups.values()) if series.day.size]
    sites = sorted({series.site for series in merged})
    day = functools.reduce(np.union1d, {series.day.tobytes(): series.day for series in merged}.values())
    shape = len(sites), day.size
    variables: dict[str, Any] = {}
    for code in SATELLITE:
        these = [series for series in merged if series.code == code]
        if not these:
            continue
        values, lengths = np.full(shape, np.nan, np.float32), np.full(shape, np.nan, np.float32)
        flags = np.full(shape, MISSING_FLAG, np.int8)
        for series in these:
            place = sites.index(series.site), np.searchsorted(day, series.day)
            values[place], flags[place], lengths[place] = series.values, series.flags, series.length
        sources = dict.fromkeys(text for series in these for text in series.source.split("; "))
        names = [
            f"{Path(path).name}: {name}" for path, _, name in (text.rpartition(": ") for text in sources)
        ]
        attrs = {"composite_days": float(np.nanmax(lengths)), "source": "; ".join(names)}
        variables[code] = (("site", "day"), values, attrs)
        variables[f"{code}{QC}"] = (("site", "day"), flags)
        if np.unique(lengths[np.isfinite(lengths)]).size > 1:
            variables[f"{code}{LENGTH}"] = (("site", "day"), lengths)
    return xr.Dataset(variables, {"site": sites, "day": day.astype("datetime64[ns]")})
