"""Sums of carbon over the cells of a region, weighted by area."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import xarray as xr

from xcarbon.core.errors import MetadataError, OptionError
from xcarbon.core.validation import check_hourly, check_units, check_variables
from xcarbon.core.variables import variable
from xcarbon.prep.aggregate import RESOLUTIONS, check_resolution, describe, period_edges
from xcarbon.prep.cells import cell_area
from xcarbon.prep.limits import plausible
from xcarbon.prep.units import conversion

#: Grams in a petagram.
_PETA = 1e15


def regional_sums(
    ds: xr.Dataset,
    target: str = "NEE",
    resolution: str = "YY",
    *,
    area: xr.DataArray | None = None,
    max_missing: float = 0.0,
) -> xr.Dataset:
    r"""Sum a flux on a grid over a region and over calendar years, months or days, lazily.

    Parameters
    ----------
    ds : xarray.Dataset
        Hourly flux on ``(time, lat, lon)``, such as a prediction.
    target : str
        Code of the flux.
    resolution : {"YY", "MM", "WW", "DD"}
        Year, month, week or day, as for :func:`~xcarbon.prep.aggregate.aggregate`.
    area : xarray.DataArray, optional
        Area [m2] on the ``(lat, lon)`` of ``ds`` that each cell contributes, 0 or NaN outside the region:
        for example ``cell_area(ds) * land_fraction``. With a further dimension, such as ``region``, each
        region is summed. Default: the area of the cells, :func:`~xcarbon.prep.cells.cell_area`.
    max_missing : float
        Highest share of missing hours of a period [1], weighted by area. The sum over the available hours is
        divided by their share, as if the mean flux of the missing ones was that of the others. With the
        default 0, a period in which an hour of a cell is missing has no sum.

    Returns
    -------
    xarray.Dataset
        Lazy variables along ``time``, the first day of each period, and the further dimensions of ``area``.
        For the target ``NEE`` they are:

        - ``NEE``: sum of carbon [Pg], NaN with too many missing hours,
        - ``share_missing``: share of the hours of the calendar period that are missing in the summed
          cells [1], weighted by area,
        - ``summed_area``: area of the cells that are summed [m2]. These are the cells with a value in any
          hour of ``ds``; cells that are never predicted, such as those of the sea, belong to no sum.

    Raises
    ------
    VariableError
        If ``ds`` lacks the flux.
    TimestampError
        If time is not hourly: means of days or months do not state which hours are missing.
    MetadataError
        If ``ds`` is not a grid, or the flux has other units than the vocabulary.
    OptionError
        If ``resolution`` is unknown, ``max_missing`` is negative or not less than 1, or ``area`` is on other
        cells than ``ds``.

    Notes
    -----
    With the flux :math:`F_{ci}` of the cell :math:`c` in the hour :math:`i` and the area :math:`A_c`, the sum
    is :math:`\sum_c A_c \sum_i F_{ci}`, with 12.011 g of carbon per mol. An uncertainty is not computed: the
    errors of neighbouring cells and hours have parts in common, which cannot be measured on a map.

    Examples
    --------
    >>> from xcarbon.testing import synthetic_grid
    >>> ds = synthetic_grid(2, 3, variables=["NEE"])
    >>> sums = regional_sums(ds, resolution="MM")
    >>> sums["NEE"].shape, sums["NEE"].attrs["units"], float(sums["share_missing"].max())
    ((12,), 'Pg', 0.0)
    """
    check_resolution(resolution)
    if not 0 <= max_missing < 1:
        raise OptionError(f"max_missing must be at least 0 and less than 1, found {max_missing}")
    check_variables(ds, (target,), "the sum over a region")
    check_hourly(ds["time"], "the flux to sum")
    check_units(ds, (target,))
    if set(ds[target].dims) != {"time", "lat", "lon"}:
        raise MetadataError(f"{target} must be on (time, lat, lon), found {ds[target].dims}")
    flux = plausible(ds[target], target).reset_coords(drop=True)
    area = cell_area(ds) if area is None else area.reset_coords(drop=True)
    try:
        xr.align(flux, area, join="exact")
    except ValueError as found:
        raise OptionError(f"area must be on the cells of the flux: {found}") from found

    stamps = ds["time"].values.astype("M8[D]")
    edges = period_edges(stamps[0], stamps[-1], resolution)
    parts = [flux.isel(time=slice(*ends)) for ends in pairwise(np.searchsorted(stamps, edges))]
    hours = xr.DataArray(np.diff(edges).astype(int) * 24, dims="time")
    count = xr.concat([part.count("time") for part in parts], "time")
    total = xr.concat([part.sum("time", dtype="float64") for part in parts], "time")
    summed = area.where((count > 0).any("time"), 0).fillna(0)
    cells = ["lat", "lon"]
    summed_area = summed.sum(cells)
    share_missing = xr.dot(summed, hours - count, dim=cells) / (summed_area * hours)
    grams = xr.dot(summed, total, dim=cells) / conversion("gC m-2 h-1", target)[0]
    available = share_missing <= max_missing
    sums = {
        target: (grams / _PETA / (1 - share_missing)).where(available),
        "share_missing": share_missing,
        "summed_area": summed_area,
    }
    return _labelled(sums, ds, target, edges, resolution)


def _labelled(
    sums: dict[str, xr.DataArray], ds: xr.Dataset, target: str, edges: np.ndarray, resolution: str
) -> xr.Dataset:
    """Add the time axis and the CF attributes."""
    period = RESOLUTIONS[resolution]
    labelled = describe(
        xr.Dataset(sums, attrs=ds.attrs), edges, resolution, f"regional_sums of {target}", clock="UTC"
    ).transpose("time", ...)
    labelled.attrs.pop("featureType", None)  # it is not a time series of a point
    labelled[target].attrs = {
        "long_name": f"{variable(target).long_name}, sum of carbon over the region and a calendar {period}",
        "units": "Pg",
        "cell_methods": "time: sum area: sum",
        "ancillary_variables": "share_missing",
    }
    labelled["share_missing"].attrs = {
        "long_name": f"share of the hours of a calendar {period} that are missing, weighted by area",
        "units": "1",
    }
    labelled["summed_area"].attrs = {"long_name": "area of the cells that are summed", "units": "m2"}
    return labelled
