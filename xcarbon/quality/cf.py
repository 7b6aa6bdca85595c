"""The CF conventions of a Dataset or file, checked by the IOOS compliance checker."""

from __future__ import annotations

import contextlib
import functools
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import netCDF4
import numpy as np
import xarray as xr

from xcarbon.io.handles import LOCK, write_file
from xcarbon.quality.plausibility import Finding

#: Message that is not reported. The order (site, day, band, y, x) stores a day's patch in one piece, unlike
#: the recommended order (site, band, day, y, x).
_OUR_ORDER = "not in the recommended order T, Z, Y, X"
#: Check whose failure is not reported. It subtracts adjacent values, which fails for strings (site, band).
_CRASHES_ON_STRINGS = "check_coordinate_variables_strict_monotonicity"
#: Functions of the checker that search a file for variables of a kind, hundreds of times for each file.
_SEARCHES = (
    "get_auxiliary_coordinate_variables",
    "get_axis_variables",
    "get_geophysical_variables",
    "get_latitude_variables",
    "get_longitude_variables",
    "get_time_variable",
    "get_z_variables",
)


def cf_findings(ds: xr.Dataset) -> list[Finding]:
    """Check attributes and coordinates of a Dataset with the IOOS compliance checker.

    Values are not read: the checker reads a small file of zeros with the same attributes.

    Examples
    --------
    >>> from xcarbon.testing import synthetic_towers
    >>> [finding.message for finding in cf_findings(synthetic_towers(1))]
    ['§2.6.2 global attribute history should exist and be a non-empty string']
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "towers.nc")
        write_file(_skeleton(ds), path, {})
        return cf_findings_in_file(path)


def cf_findings_in_file(path: Path) -> list[Finding]:
    """Check the CF conventions of a NetCDF file with the suite ``cf:1.11`` of the IOOS compliance checker.

    Violated requirements are errors and violated recommendations are warnings, in the words of the
    checker. There is one note instead if the package ``compliance-checker`` is not installed.

    The suite requires attributes named "l", "o", "n", "g" ... of sinusoidal grids, because its table
    lacks a comma after "longitude_of_projection_origin". This function corrects the table. The suites
    from 1.7 have the same bug, and 1.6 supports neither sinusoidal grids nor 64-bit time.
    """
    try:
        with contextlib.redirect_stdout(sys.stdout):  # the import replaces sys.stdout if it has no encoding
            from compliance_checker.base import BaseCheck
            from compliance_checker.cf import appendix_f, util
            from compliance_checker.runner import CheckSuite
    except ImportError:
        message = "The CF conventions were not checked. Run pip install 'xcarbon[check]' to check them."
        return [Finding("note", "CF", message)]
    CheckSuite.load_all_available_checkers()
    _, *others = appendix_f.grid_mapping_dict17["sinusoidal"]
    fixed = {"sinusoidal": [("longitude_of_projection_origin",), *others]}
    once: dict[str, Any] = {name: functools.cache(getattr(util, name)) for name in _SEARCHES}
    with (
        LOCK,
        mock.patch.dict(appendix_f.grid_mapping_dict17, fixed),
        mock.patch.multiple(util, **once),
        netCDF4.Dataset(path) as file,
    ):
        ((results, crashed),) = CheckSuite().run_all(file, ["cf:1.11"]).values()
    found = [
        Finding("error" if result.weight == BaseCheck.HIGH else "warning", "CF", message)
        for result in results
        if result.weight >= BaseCheck.MEDIUM and result.value[0] < result.value[1]
        for message in result.msgs
        if _OUR_ORDER not in message
    ]
    failed = sorted(crashed.keys() - {_CRASHES_ON_STRINGS})
    messages = [f"{name} of compliance-checker failed. Check this convention by hand." for name in failed]
    return [*found, *(Finding("note", "CF", message) for message in messages)]


def _skeleton(ds: xr.Dataset) -> xr.Dataset:
    """Return one tower, two hours and two days with all attributes, and zeros as values."""
    few = ds.isel(site=slice(1), time=slice(2), day=slice(2), missing_dims="ignore")
    zeros = {name: np.zeros(array.shape, array.dtype) for name, array in few.data_vars.items()}
    return few.copy(data=zeros).load()
