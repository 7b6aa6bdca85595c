"""What is wrong with towers, or worth knowing, before a model learns from them."""

from __future__ import annotations

import contextlib
import itertools
import sys
import tempfile
import textwrap
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import dask
import netCDF4
import numpy as np
import xarray as xr

from xcarbon.core.conventions import QC
from xcarbon.core.errors import VariableError
from xcarbon.core.options import progress_bar
from xcarbon.core.variables import TARGETS, VARIABLES
from xcarbon.prep.sun import Times
from xcarbon.quality.plausibility import Array, Finding, Severity, Tower, find_traps, longest_run

__all__ = ["Finding", "Report", "cf_findings", "check"]

#: Towers so near to each other [m] are one place: they have the same patches.
SAME_PLACE = 100.0
#: Consecutive equal hours of two towers that are one series: by chance there are nine (IT-CA2, IT-CA3).
SAME_SERIES = 24

_SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
_WRAP = textwrap.TextWrapper(110, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
_EARTH_RADIUS = 6371e3  # [m]
#: Why the order of the dimensions of patches is no finding: a day's patch stays in one piece,
#: (site, day, band, y, x) rather than (site, band, day, y, x).
_OUR_ORDER = "not in the recommended order T, Z, Y, X"
#: It subtracts neighbours to see if they are in order, and fails where they are strings (site, band).
_CRASHES_ON_STRINGS = "check_coordinate_variables_strict_monotonicity"


@dataclass(frozen=True, eq=False, repr=False)
class Report:
    """What :func:`check` found; it prints as a text.

    Attributes
    ----------
    findings : tuple of Finding
        Errors first, then warnings, then notes.
    coverage : xarray.Dataset
        ``present`` and ``good (site, variable)``: share of the hours of a tower's record [1] with a value,
        and with one at a quality code up to 1; ``first`` and ``last`` hour of the record, ``nee_hours``
        and ``patch_days (site)``: hours of NEE at such a code, and days of which half a patch is there.
    """

    findings: tuple[Finding, ...]
    coverage: xr.Dataset

    @property
    def has_errors(self) -> bool:
        """Whether any finding is an error."""
        return any(found.severity == "error" for found in self.findings)

    def to_text(self) -> str:
        """Give the report as text for a terminal."""
        return "\n".join([self._summary(), *self._findings_text(), *self._coverage_text()])

    __str__ = __repr__ = to_text

    def _summary(self) -> str:
        counts = {"tower": self.coverage.sizes["site"]} | dict.fromkeys(_SEVERITIES, 0)
        for found in self.findings:
            counts[found.severity] += 1
        towers, *others = [f"{count} {name}{'s' * (count != 1)}" for name, count in counts.items()]
        return f"{towers}: {', '.join(others)}"

    def _findings_text(self) -> Iterator[str]:
        """One paragraph per finding; towers that share it share its paragraph."""
        sites = defaultdict(list)
        for found in self.findings:
            sites[found.severity, found.topic, found.variable, found.message].append(found.site)
        heading = None
        for (severity, topic, variable, message), where in sites.items():
            if heading != (heading := (severity, topic)):
                yield f"\n{severity.upper()}: {topic}"
            start = " ".join(filter(None, [", ".join(filter(None, where)), variable]))
            text = f"{start}: {message}" if start else message
            yield _WRAP.fill(text)

    def _coverage_text(self) -> Iterator[str]:
        """One line per variable, and one per class."""
        ds = self.coverage
        yield f"\n{'variable':10}{'towers':>8}{'present':>9}{'code <= 1':>11}   (median share of hours)"
        for variable in ds["variable"].values:
            present, good = (ds[name].sel(variable=variable).values for name in ("present", "good"))
            if (has := present > 0).any():
                shares = f"{np.median(present[has]):9.0%}{np.median(good[has]):11.0%}"
                yield f"{variable:10}{has.sum():8}{shares}"
        if "igbp" in ds.coords:
            yield f"\n{'class':10}{'towers':>8}{'hours of NEE at code <= 1':>27}"
            for igbp, members in ds["nee_hours"].groupby("igbp"):
                yield f"{igbp:10}{members.size:8}{int(members.sum()):27,}"


def check(ds: xr.Dataset) -> Report:
    """Look for what is wrong with towers: conventions, coverage, clocks, sensors, fluxes and patches.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers of the data model. Each is read once, on whatever Dask scheduler is connected; a worker
        has one tower in memory.

    Returns
    -------
    Report
        Findings and coverage. Values are judged at quality codes up to 1, as models read them. The traps
        are the functions of :mod:`xcarbon.quality.plausibility`, where their thresholds are explained. Where
        there is a coordinate ``equal_halves (site)``, as in the stores of :func:`xcarbon.build`, hourly data
        that was handed in as half-hourly is named.

    Raises
    ------
    VariableError
        If there is no variable of the vocabulary on ``time``.

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
    if not _codes(ds):
        raise VariableError(f"there is nothing to check: no variable on time among {[*ds.data_vars]}")
    if "site" not in ds.dims:
        ds = ds.expand_dims("site")
    time = dask.delayed(ds["time"].values)
    towers = [dask.delayed(_examine)(*_parts(ds.isel(site=i)), time) for i in range(ds.sizes["site"])]
    pairs = _neighbours(ds)
    runs = [dask.delayed(_equal_hours)(*(_fingerprint(ds, i) for i in pair)) for pair in pairs]
    with progress_bar("checking"):
        examined, runs = dask.compute(towers, runs)
    rows, findings = zip(*examined, strict=True)
    found = [*cf_findings(ds), *_metadata(ds), *itertools.chain(*findings), *_twins(ds, pairs, runs)]
    found.sort(key=lambda finding: (_SEVERITIES.index(finding.severity), finding.topic))
    return Report(tuple(found), _coverage(ds, rows))


# --- Conventions ------------------------------------------------------------------


def cf_findings(ds: xr.Dataset) -> list[Finding]:
    """Compare attributes and coordinates with CF, by the IOOS compliance checker.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers. None of their values is read: the checker sees a small file full of zeros.

    Returns
    -------
    list of Finding
        As :func:`cf_findings_in_file` gives them.

    Examples
    --------
    >>> from xcarbon.testing import synthetic_towers
    >>> [finding.message for finding in cf_findings(synthetic_towers(1))]
    ['§2.6.2 global attribute history should exist and be a non-empty string']
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "towers.nc")
        _skeleton(ds).to_netcdf(path)
        return cf_findings_in_file(path)


def cf_findings_in_file(path: Path) -> list[Finding]:
    """Compare a NetCDF file with CF, by the IOOS compliance checker.

    Parameters
    ----------
    path : pathlib.Path
        The file.

    Returns
    -------
    list of Finding
        What its suite ``cf:1.11`` requires (errors) and recommends (warnings); a note where the package
        ``compliance-checker`` is not installed.

    Notes
    -----
    Of sinusoidal grids the suite asks for attributes named "l", "o", "n", "g" ..., since its table lacks
    a comma after "longitude_of_projection_origin"; so do all suites from 1.7 on, and 1.6 knows no
    sinusoidal grid (nor 64-bit time). The comma is put in here.
    """
    try:
        with contextlib.redirect_stdout(sys.stdout):  # which the import replaces where it has no encoding
            from compliance_checker.base import BaseCheck
            from compliance_checker.cf import appendix_f
            from compliance_checker.runner import CheckSuite
    except ImportError:
        return [Finding("note", "CF", "conventions were not checked: pip install 'xcarbon[check]'")]
    CheckSuite.load_all_available_checkers()
    _, *others = appendix_f.grid_mapping_dict17["sinusoidal"]
    fixed = {"sinusoidal": [("longitude_of_projection_origin",), *others]}
    with mock.patch.dict(appendix_f.grid_mapping_dict17, fixed), netCDF4.Dataset(path) as file:
        ((results, crashed),) = CheckSuite().run_all(file, ["cf:1.11"]).values()
    found = [
        Finding("error" if result.weight == BaseCheck.HIGH else "warning", "CF", message)
        for result in results
        if result.weight >= BaseCheck.MEDIUM and result.value[0] < result.value[1]
        for message in result.msgs
        if _OUR_ORDER not in message
    ]
    failed = sorted(crashed.keys() - {_CRASHES_ON_STRINGS})
    return [*found, *(Finding("note", "CF", f"{name} of the checker failed") for name in failed)]


def _skeleton(ds: xr.Dataset) -> xr.Dataset:
    """Keep the attributes, and of the coordinates the first tower, two hours and two days."""
    few = ds.isel(site=slice(1), time=slice(2), day=slice(2), missing_dims="ignore")
    zeros = {name: np.zeros(array.shape, array.dtype) for name, array in few.data_vars.items()}
    return few.copy(data=zeros).load()


# --- One tower --------------------------------------------------------------------


def _codes(ds: xr.Dataset) -> list[str]:
    """Variables that are checked."""
    return [code for code in VARIABLES if code in ds and "time" in ds[code].dims]


def _parts(tower: xr.Dataset) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metadata and (lazy) arrays of one tower."""
    known: dict[str, Any] = {name: str(tower[name].values) for name in ("site", "igbp") if name in tower}
    for name in ("lat", "lon", "elevation", "utc_offset", "equal_halves"):
        if name in tower.coords and tower[name].ndim == 0:
            known[name] = float(tower[name])
    names = [name for code in _codes(tower) for name in (code, f"{code}{QC}") if name in tower]
    arrays = {name: tower[name].data for name in names}
    if "reflectance" in tower:
        arrays["reflectance"] = tower["reflectance"].transpose("day", "band", "y", "x").data
    return known, arrays


def _examine(
    known: dict[str, Any], arrays: dict[str, Any], time: Times
) -> tuple[dict[str, Any], list[Finding]]:
    """Coverage and findings of one tower."""
    values = {code: array for code, array in arrays.items() if code in VARIABLES}
    present = {code: ~np.isnan(array) for code, array in values.items()}
    hours = np.flatnonzero(np.any(list(present.values()), axis=0)) if present else np.array([], int)
    row: dict[str, Any] = {"patch_days": _patch_days(arrays)}
    if not hours.size:
        return row, [Finding("warning", "coverage", "there is no value at all", known.get("site", ""))]
    record = slice(hours[0], hours[-1] + 1)
    tower = Tower(
        **known,
        time=time[record],
        values={code: array[record] for code, array in values.items()},
        codes={code: arrays[f"{code}{QC}"][record] for code in values if f"{code}{QC}" in arrays},
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
    return row, find_traps(tower)


def _patch_days(arrays: dict[str, Array]) -> int:
    """Days of which half of the patch, or more, is there: those that models read."""
    if "reflectance" not in arrays:
        return 0
    return int(np.count_nonzero(np.isnan(arrays["reflectance"]).mean((1, 2, 3)) <= 0.5))


def _coverage(ds: xr.Dataset, rows: Sequence[dict[str, Any]]) -> xr.Dataset:
    """Label the coverage of the towers."""
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
    if "igbp" in ds.coords and ds["igbp"].dims == ("site",):
        coverage = coverage.assign_coords(igbp=("site", ds["igbp"].values))
    for name, text in _COVERAGE.items():
        coverage[name].attrs["long_name"] = text
    return coverage


_COVERAGE = {
    "present": "share of the record's hours with a value",
    "good": "share of the record's hours with a value at a quality code up to 1",
    "first": "first hour of the record",
    "last": "last hour of the record",
    "nee_hours": "hours of net ecosystem exchange at a quality code up to 1",
    "patch_days": "days of which half of the patch is there",
}


# --- All towers -------------------------------------------------------------------


def _metadata(ds: xr.Dataset) -> Iterator[Finding]:
    """Name the towers that do not say how to cite them."""
    if "citation" not in ds.coords and "doi" not in ds.coords:
        yield Finding("note", "metadata", "no tower has a citation or a doi; their licences ask for one")
        return
    texts = [np.atleast_1d(ds[name].values) for name in ("citation", "doi") if name in ds.coords]
    for site, *told in zip(np.atleast_1d(ds["site"].values), *texts, strict=True):
        if not any(told):
            yield Finding("note", "metadata", "there is neither citation nor doi", str(site))


def _neighbours(ds: xr.Dataset) -> list[tuple[int, int]]:
    """Pairs of towers at the same place."""
    if not {"lat", "lon"} <= set(ds.coords) or ds["lat"].dims != ("site",):
        return []
    lat, lon = np.radians(ds["lat"].values), np.radians(ds["lon"].values)
    half = np.sin((lat[:, None] - lat) / 2) ** 2
    half = half + np.cos(lat[:, None]) * np.cos(lat) * np.sin((lon[:, None] - lon) / 2) ** 2
    near = 2 * _EARTH_RADIUS * np.arcsin(np.sqrt(half)) <= SAME_PLACE
    return [(int(i), int(j)) for i, j in np.argwhere(np.triu(near, 1))]


def _fingerprint(ds: xr.Dataset, i: int) -> Any:
    """Series that no two towers share: a flux, or the first variable there is."""
    code = next(code for code in (*TARGETS, *_codes(ds)) if code in ds)
    return ds[code].isel(site=i).data


def _equal_hours(one: Array, other: Array) -> int:
    """Longest run of hours in which two series are equal."""
    return longest_run((one == other) & (one != 0))[1]


def _twins(ds: xr.Dataset, pairs: list[tuple[int, int]], runs: list[int]) -> Iterator[Finding]:
    """Name towers that stand at one place, or are one."""
    sites = ds["site"].values
    for (i, j), run in zip(pairs, runs, strict=True):
        if run >= SAME_SERIES:
            message = f"is {sites[i]} once more: {run} hours on end are equal; keep one of them"
            yield Finding("error", "duplicate", message, str(sites[j]))
        else:
            message = f"stands within {SAME_PLACE:.0f} m of {sites[i]}: keep both on one side of a split"
            yield Finding("note", "duplicate", message, str(sites[j]))
