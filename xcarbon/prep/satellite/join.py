"""The join of satellite series with towers."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from xcarbon.core import conventions
from xcarbon.core.conventions import LENGTH, MISSING_FLAG, QC
from xcarbon.core.errors import MetadataError, VariableError
from xcarbon.core.validation import check_dataset, check_units
from xcarbon.core.variables import SATELLITE


def join_satellite(ds: xr.Dataset, series: xr.Dataset) -> xr.Dataset:
    """Join satellite series to towers, lazily.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers on ``(site, time)``, or one tower on ``(time,)`` with a scalar coordinate ``site``, with or
        without patches on ``day``.
    series : xarray.Dataset
        Satellite series on ``(site, day)`` with their quality flags, as :func:`xcarbon.open_satellite` and
        :func:`indices` return them.

    Returns
    -------
    xarray.Dataset
        ``ds`` with the series of its towers. The axis ``day`` has the days of both; patches are missing on
        the days of the series alone. Towers without a series have missing values. Sites of ``series`` that
        are not in ``ds`` are dropped, and the ``history`` states their number. Series that ``ds`` already
        has are replaced. No value of ``ds`` is computed.

    Raises
    ------
    VariableError
        If ``series`` contains no satellite series.
    MetadataError
        If no site is in both, or a series has other units than the vocabulary.
    OptionError
        If ``series`` is no Dataset.

    Examples
    --------
    >>> from xcarbon.prep.satellite import indices
    >>> from xcarbon.testing import synthetic_towers
    >>> towers = synthetic_towers(3)
    >>> joined = join_satellite(towers, indices(towers.isel(site=[0])))
    >>> joined["NIRV"].sizes["site"]
    3
    """
    check_dataset(series, "the series", "xcarbon.open_satellite for its files")
    codes = [code for code in SATELLITE if code in series and "day" in series[code].dims]
    if not codes:
        raise VariableError(
            f"there is no satellite series on 'day' to join: the variables are {[*series.data_vars]}; name "
            f"them as in {list(SATELLITE)}"
        )
    check_units(series, codes)
    names = [name for code in codes for name in (code, f"{code}{QC}", f"{code}{LENGTH}") if name in series]
    series = series[names].reset_coords(drop=True)
    sites = [str(site) for site in np.atleast_1d(ds["site"].values)] if "site" in ds.variables else []
    series = series if "site" in series.dims else series.expand_dims("site")
    theirs = [str(site) for site in series["site"].values] if "site" in series.coords else []
    known = set(sites) & set(theirs)
    if not known:
        raise MetadataError(
            f"no site of the series {theirs[:3]} is in the Dataset, which has {sites[:3]}; rename the sites"
        )
    encoding = dict(ds.encoding)
    ds = ds.drop_vars([name for name in names if name in ds])
    series = series.reindex(site=ds["site"].values.reshape(-1), fill_value=_fill_values(series))
    if "site" not in ds.dims:
        series = series.isel(site=0, drop=True)
    if "day" in ds.dims:
        day = np.union1d(ds["day"].values, series["day"].values)
        ds, series = (
            part if part.sizes["day"] == day.size else part.reindex(day=day, fill_value=_fill_values(part))
            for part in (ds, series)
        )
    ds = ds.assign({name: array.variable for name, array in series.items()} | {"day": series["day"]})
    ds.encoding = encoding
    note = f"satellite series joined: {', '.join(codes)} of {len(known)} of {len(sites)} towers"
    if others := len(set(theirs) - known):
        note += f"; {others} sites of the series are not in the Dataset and were dropped"
    return conventions.apply(ds, history=note)


def _fill_values(ds: xr.Dataset) -> dict[Any, Any]:
    """Return the value that stands for a missing one, for each variable."""
    return {name: np.nan if array.dtype.kind == "f" else MISSING_FLAG for name, array in ds.data_vars.items()}
