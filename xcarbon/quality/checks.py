"""Quality checks of towers before a model is trained: conventions, coverage, records and duplicates."""

from __future__ import annotations

import itertools
import textwrap
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import dask
import numpy as np
import xarray as xr

from xcarbon.core.conventions import QC, is_grid
from xcarbon.core.display import table, tower_map
from xcarbon.core.errors import MetadataError, VariableError
from xcarbon.core.options import progress_bar
from xcarbon.core.validation import (
    OPENERS,
    check_dataset,
    check_no_half_hours,
    check_numbers,
    suggestion,
)
from xcarbon.core.variables import SATELLITE, TARGETS, VARIABLES
from xcarbon.prep.labels import read_labels
from xcarbon.prep.split import distances
from xcarbon.prep.sun import Times
from xcarbon.quality.cf import cf_findings
from xcarbon.quality.plausibility import Finding, TowerRecord, run_checks
from xcarbon.quality.plausibility.series import longest_run
from xcarbon.quality.plausibility.tower import Array, Severity
from xcarbon.quality.storage import stored_values

__all__ = ["Report", "check"]

#: Distance [km] up to which two towers are at the same place and have the same patches.
SAME_PLACE = 0.1
#: Number of consecutive equal hours from which two towers have the same series. Up to nine occur by chance
#: (IT-CA2 and IT-CA3).
SAME_SERIES = 24

_SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
_WRAP = textwrap.TextWrapper(110, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)


@dataclass(frozen=True, eq=False, repr=False)
class Report:
    """The result of :func:`check`, which can be printed.

    Attributes
    ----------
    findings : tuple of Finding
        Errors first, then warnings, then notes.
    coverage : xarray.Dataset
        ``present`` and ``good (site, variable)``: share of the hours of a tower's record [1] with a value,
        and with a value whose quality flag is 1 or less. ``first`` and ``last (site)``: first and last hour
        of the record. ``nee_hours (site)``: number of hours of NEE with such a flag. ``patch_days (site)``:
        number of days with at least half of the patch. If there are satellite series, also
        ``series_present`` and ``series_good (site, series)``: share of the months of the record [1] with a
        value, and with a value that is not a mean seasonal cycle.
    """

    findings: tuple[Finding, ...]
    coverage: xr.Dataset

    @property
    def has_errors(self) -> bool:
        """Whether any finding is an error."""
        return any(found.severity == "error" for found in self.findings)

    def to_text(self) -> str:
        """Return the report as text for a terminal."""
        return "\n".join([self._summary(), *self._findings_text(), *self._coverage_text()])

    __str__ = __repr__ = to_text

    def _repr_html_(self) -> str:
        rows = [
            (severity, topic, ", ".join(filter(None, sites)), message)
            for (severity, topic, message), sites in self._groups().items()
        ]
        coords = self.coverage.coords
        known = {"lat", "lon", "site"} <= set(coords)
        figure = tower_map(*(coords[name].values for name in ("lat", "lon", "site"))) if known else ""
        return f"<div><strong>{escape(self._summary())}</strong>{table(rows)}{figure}</div>"

    def _groups(self) -> dict[tuple[str, str, str], list[str]]:
        """Return the towers of each severity, topic and message."""
        groups: dict[tuple[str, str, str], list[str]] = defaultdict(list)
        for found in self.findings:
            groups[found.severity, found.topic, found.message].append(found.site)
        return groups

    def _summary(self) -> str:
        counts = {"tower": self.coverage.sizes["site"]} | dict.fromkeys(_SEVERITIES, 0)
        for found in self.findings:
            counts[found.severity] += 1
        towers, *others = [f"{count} {name}{'s' * (count != 1)}" for name, count in counts.items()]
        return f"{towers}: {', '.join(others)}"

    def _findings_text(self) -> Iterator[str]:
        """Yield one paragraph per finding, or per group of towers with the same finding."""
        heading = None
        for (severity, topic, message), sites in self._groups().items():
            if heading != (heading := (severity, topic)):
                yield f"\n{severity.upper()}: {topic}"
            where = ", ".join(filter(None, sites))
            yield _WRAP.fill(f"{where}: {message}" if where else message)

    def _coverage_text(self) -> Iterator[str]:
        """Yield one line per variable, and one per class."""
        ds = self.coverage
        yield f"\n{'variable':10}{'towers':>8}{'present':>9}{'flag <= 1':>11}   (median share of hours)"
        for variable in ds["variable"].values:
            present, good = (ds[name].sel(variable=variable).values for name in ("present", "good"))
            if (has := present > 0).any():
                shares = f"{np.median(present[has]):9.0%}{np.median(good[has]):11.0%}"
                yield f"{variable:10}{has.sum():8}{shares}"
        if "series" in ds.dims:
            yield f"\n{'series':14}{'towers':>8}{'present':>9}{'flag <= 1':>11}   (median share of months)"
            for code in ds["series"].values:
                present, good = (ds[f"series_{name}"].sel(series=code).values for name in ("present", "good"))
                if (has := present > 0).any():
                    shares = f"{np.median(present[has]):9.0%}{np.median(good[has]):11.0%}"
                    yield f"{code:14}{has.sum():8}{shares}"
        if "igbp" in ds.coords:
            yield f"\n{'class':10}{'towers':>8}{'hours of NEE at flag <= 1':>27}"
            for igbp, members in ds["nee_hours"].groupby("igbp"):
                yield f"{igbp:10}{members.size:8}{int(members.sum()):27,}"


def check(ds: xr.Dataset) -> Report:
    """Run the quality checks on towers: conventions, coverage, clocks, sensors, fluxes, patches and series.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers of the data model. Each tower is read once, by the current Dask scheduler; a worker holds one
        tower in memory.

    Returns
    -------
    Report
        Findings and coverage. Values are checked up to the quality flag 1, which is the default of models.
        The checks of a tower, with their thresholds, are the functions of
        :mod:`xcarbon.quality.plausibility`. Hourly data that was submitted as half-hourly is found if there
        is a coordinate ``equal_halves (site)``, as in the stores of :func:`xcarbon.build`.

        If ``ds`` was opened from a store, its files are also read: a variable that cannot be read at a tower,
        or that has another number of values than were written, is an error of the topic ``store``, and is
        left out of the other checks of this tower. Stores record these numbers when they are written.

    Raises
    ------
    VariableError
        If no variable of the vocabulary has the dimension ``time``, or one has text.
    TimestampError
        If the values are half-hourly.
    MetadataError
        If there are no towers, as on a grid.

    Examples
    --------
    >>> from xcarbon.testing import synthetic_towers
    >>> ds = synthetic_towers(2, variables=["SW_IN", "NEE"], patches=False)
    >>> ds["utc_offset"] = -ds["utc_offset"]
    >>> report = check(ds)
    >>> report.findings[0].topic, report.findings[0].site
    ('clock', 'SY-001')
    >>> bool((report.coverage["present"] > 0.8).all())
    True
    """
    check_dataset(ds, "the data to check", OPENERS)
    if not _codes(ds):
        raise VariableError(
            f"there is nothing to check: none of {[*ds.data_vars]} is a variable of xcarbon on time; rename "
            f"variables to the codes in xcarbon.core.variables.VARIABLES{suggestion(ds)}"
        )
    ds = read_labels(ds)
    check_no_half_hours(ds["time"], str(ds.encoding.get("source", "the Dataset")))
    if is_grid(ds) or not ds.sizes.get("site", 1):
        raise MetadataError(f"check is for towers, but the Dataset has none, only {dict(ds.sizes)}")
    if "site" not in ds.dims:
        ds = ds.expand_dims("site")
    stored = stored_values(ds)
    damaged: dict[str, list[str]] = defaultdict(list)  # the variables of a tower that are not read again
    for finding in stored:
        if finding.severity == "error":
            damaged[finding.site].append(finding.variable)
    time = dask.delayed(ds["time"].values)
    day = dask.delayed(ds["day"].values if "day" in ds.coords else np.array([], "datetime64[ns]"))
    towers = [
        dask.delayed(_examine)(
            *_parts(ds.isel(site=i).drop_vars(damaged[str(site)], errors="ignore")), time, day
        )
        for i, site in enumerate(ds["site"].values)
    ]
    whole = [not damaged[str(site)] for site in ds["site"].values]
    pairs = [(i, j) for i, j in _neighbours(ds) if whole[i] and whole[j]]
    runs = [dask.delayed(_equal_hours)(*(_fingerprint(ds, i) for i in pair)) for pair in pairs]
    with progress_bar("checking"):
        examined, runs = dask.compute(towers, runs)
    rows, findings = zip(*examined, strict=True)
    found = [
        *stored,
        *cf_findings(ds),
        *_metadata(ds),
        *itertools.chain(*findings),
        *_duplicates(ds, pairs, runs),
    ]
    found.sort(key=lambda finding: (_SEVERITIES.index(finding.severity), finding.topic))
    return Report(tuple(found), _coverage(ds, rows))


# --- One tower --------------------------------------------------------------------


def _codes(ds: xr.Dataset) -> list[str]:
    """Return the codes of the variables to check."""
    return [code for code in VARIABLES if code in ds and "time" in ds[code].dims]


def _series(ds: xr.Dataset) -> list[str]:
    """Return the codes of the satellite series to check."""
    return [code for code in SATELLITE if code in ds and "day" in ds[code].dims]


def _parts(tower: xr.Dataset) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return metadata and (lazy) arrays of one tower."""
    metadata: dict[str, Any] = {name: str(tower[name].values) for name in ("site", "igbp") if name in tower}
    for name in ("lat", "lon", "elevation", "utc_offset", "equal_halves"):
        if name in tower.coords and tower[name].ndim == 0:
            metadata[name] = float(tower[name])
    names = [name for code in _codes(tower) for name in (code, f"{code}{QC}") if name in tower]
    names += [name for code in _series(tower) for name in (code, f"{code}{QC}") if name in tower]
    for name in names:
        check_numbers(tower[name])
    arrays = {name: tower[name].data for name in names}
    if "reflectance" in tower:
        arrays["reflectance"] = tower["reflectance"].transpose("day", "band", "y", "x").data
    return metadata, arrays


def _examine(
    metadata: dict[str, Any], arrays: dict[str, Any], time: Times, day: Times
) -> tuple[dict[str, Any], list[Finding]]:
    """Return coverage and findings of one tower."""
    values = {code: array for code, array in arrays.items() if code in VARIABLES}
    present = {code: ~np.isnan(array) for code, array in values.items()}
    hours = np.flatnonzero(np.any(list(present.values()), axis=0)) if present else np.array([], int)
    row: dict[str, Any] = {"patch_days": _patch_days(arrays)}
    if not hours.size:
        message = "No variable has a value. Check the source files, or leave the tower out."
        return row, [Finding("warning", "coverage", message, metadata.get("site", ""))]
    record = slice(hours[0], hours[-1] + 1)
    tower = TowerRecord(
        **metadata,
        time=time[record],
        values={code: array[record] for code, array in values.items()},
        flags={code: arrays[f"{code}{QC}"][record] for code in values if f"{code}{QC}" in arrays},
        reflectance=arrays.get("reflectance"),
    )
    good = {code: ~np.isnan(tower.read(code)) for code in values}
    row |= {
        "first": time[hours[0]],
        "last": time[hours[-1]],
        "present": {code: shown[record].mean() for code, shown in present.items()},
        "good": {code: shown.mean() for code, shown in good.items()},
        "nee_hours": int(good["NEE"].sum()) if "NEE" in good else 0,
    }
    series = {code: arrays[code] for code in SATELLITE if code in arrays}
    flags = {code: arrays[f"{code}{QC}"] for code in series if f"{code}{QC}" in arrays}
    row |= _series_coverage(series, flags, day, time[record])
    return row, [*run_checks(tower), *_implausible(series, tower.site)]


def _series_coverage(
    series: dict[str, Array], flags: dict[str, Array], day: Times, hours: Times
) -> dict[str, Any]:
    """Return the shares of the months of a record in which satellite series have values."""
    first, last = hours[[0, -1]].astype("datetime64[M]").astype(int)
    month = day.astype("datetime64[M]").astype(int)
    shares: dict[str, dict[str, float]] = {"series_present": {}, "series_good": {}}
    for code, values in series.items():
        there = ~np.isnan(values) & (month >= first) & (month <= last)
        good = there & (flags[code] <= 1) if code in flags else there
        for name, days in (("series_present", there), ("series_good", good)):
            shares[name][code] = np.unique(month[days]).size / (last - first + 1)
    return shares


def _implausible(series: dict[str, Array], site: str) -> Iterator[Finding]:
    """Find values of satellite series beyond the plausibility limits."""
    for code, values in series.items():
        bounds, units = SATELLITE[code].bounds, SATELLITE[code].units
        if count := int(np.count_nonzero((values < bounds.lower) | (values > bounds.upper))):
            limits = f"{bounds.lower:g} to {bounds.upper:g} [{units}]"
            message = (
                f"{count} values of {code} are beyond {limits}. Check their units and fill values, "
                "or set them to missing."
            )
            yield Finding("warning", "satellite series", message, site, code)


def _patch_days(arrays: dict[str, Array]) -> int:
    """Count the days with at least half of the patch, which are the days that models use."""
    if "reflectance" not in arrays:
        return 0
    return int(np.count_nonzero(np.isnan(arrays["reflectance"]).mean((1, 2, 3)) <= 0.5))


def _coverage(ds: xr.Dataset, rows: Sequence[dict[str, Any]]) -> xr.Dataset:
    """Return the coverage of all towers as a Dataset."""
    codes = _codes(ds)
    shares = {
        name: (("site", "variable"), [[row.get(name, {}).get(code, 0.0) for code in codes] for row in rows])
        for name in ("present", "good")
    }
    hours = {
        name: ("site", np.array([row.get(name, "NaT") for row in rows], "datetime64[ns]"))
        for name in ("first", "last")
    }
    counts = {name: ("site", [row.get(name, 0) for row in rows]) for name in ("nee_hours", "patch_days")}
    coverage = xr.Dataset({**shares, **hours, **counts}, {"site": ds["site"].values, "variable": codes})
    if series := _series(ds):
        for name in ("series_present", "series_good"):
            found = [[row.get(name, {}).get(code, 0.0) for code in series] for row in rows]
            coverage[name] = xr.DataArray(found, {"series": series}, ("site", "series"))
    on_site = [name for name in ("igbp", "lat", "lon") if name in ds.coords and ds[name].dims == ("site",)]
    coverage = coverage.assign_coords({name: ("site", ds[name].values) for name in on_site})
    for key, array in coverage.data_vars.items():
        array.attrs["long_name"] = _COVERAGE[str(key)]
    return coverage


_COVERAGE = {
    "present": "share of the record's hours with a value",
    "good": "share of the record's hours with a value whose quality flag is 1 or less",
    "first": "first hour of the record",
    "last": "last hour of the record",
    "nee_hours": "number of hours of net ecosystem exchange whose quality flag is 1 or less",
    "patch_days": "number of days with at least half of the patch",
    "series_present": "share of the record's months with a value of the satellite series",
    "series_good": "share of the record's months with a value that is not a mean seasonal cycle",
}


# --- All towers -------------------------------------------------------------------


def _metadata(ds: xr.Dataset) -> Iterator[Finding]:
    """Find towers without citation and doi."""
    if "citation" not in ds.coords and "doi" not in ds.coords:
        message = "No tower has a citation or a doi. Add them, because licences of the data require it."
        yield Finding("note", "metadata", message)
        return
    columns = [np.atleast_1d(ds[name].values) for name in ("citation", "doi") if name in ds.coords]
    for site, *citations in zip(np.atleast_1d(ds["site"].values), *columns, strict=True):
        if not any(citations):
            message = "The tower has neither citation nor doi. Add one of them to its metadata."
            yield Finding("note", "metadata", message, str(site))


def _neighbours(ds: xr.Dataset) -> list[tuple[int, int]]:
    """Return pairs of towers at the same place."""
    if not {"lat", "lon"} <= set(ds.coords) or ds["lat"].dims != ("site",):
        return []
    lat, lon = ds["lat"].values, ds["lon"].values
    near = distances(lat, lon, lat, lon) <= SAME_PLACE
    return [(int(i), int(j)) for i, j in np.argwhere(np.triu(near, 1))]


def _fingerprint(ds: xr.Dataset, i: int) -> Any:
    """Return the (lazy) series by which duplicates are found: a target, or else the first variable."""
    code = next(code for code in (*TARGETS, *_codes(ds)) if code in ds)
    return ds[code].isel(site=i).data


def _equal_hours(one: Array, other: Array) -> int:
    """Return the length of the longest run of hours in which two series are equal."""
    return longest_run((one == other) & (one != 0))[1]


def _duplicates(ds: xr.Dataset, pairs: list[tuple[int, int]], runs: list[int]) -> Iterator[Finding]:
    """Find towers at the same place, or with the same series."""
    sites = ds["site"].values
    for (i, j), run in zip(pairs, runs, strict=True):
        if run >= SAME_SERIES:
            message = f"The tower equals {sites[i]} in {run} consecutive hours. Keep one of them."
            yield Finding("error", "duplicate", message, str(sites[j]))
        else:
            found = f"The tower is within {1000 * SAME_PLACE:.0f} m of {sites[i]}"
            message = f"{found}. Keep both in the same set of a split."
            yield Finding("note", "duplicate", message, str(sites[j]))
