"""Satellite series of towers: indices of vegetation, the join with towers, and values of each hour.

A series has one value per composite. Its label on ``day`` is the day at the centre of the composite, and
the attribute ``composite_days`` is the length of the composite [days]. Where one series is made of
composites of several lengths, ``<VAR>_DAYS (site, day)`` has the length of each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from xcarbon.core import conventions
from xcarbon.core.conventions import LENGTH, MISSING_FLAG, QC, satellite_attrs
from xcarbon.core.errors import MetadataError, VariableError
from xcarbon.core.validation import check_units
from xcarbon.core.variables import SATELLITE

#: Number of composites up to which a gap is interpolated, and a past value is used.
MAX_GAP = 4
#: Days of observations in the reflectances of MCD43A4, from which the patches are cut.
PATCH_COMPOSITE_DAYS = 16
#: Highest quality flag that :func:`hourly` uses: with values of later composites, and without.
MAX_QC_HINDCAST, MAX_QC_CAUSAL = 2, 1
#: Hours of a chunk of the result: ten years, since one takes less time to compute than Dask takes to schedule
#: a task.
_CHUNK = 10 * 8784

_RULES = {
    False: (
        "hourly values: linear interpolation in time between the centres of composites up to "
        f"{MAX_GAP} composite lengths apart, constant up to half a composite beyond the first and the last; "
        "uses later composites"
    ),
    True: (
        "hourly values: value of the latest composite that had ended before the hour, until "
        f"{MAX_GAP} composite lengths after its end; uses no later composite"
    ),
}

# --- Indices ----------------------------------------------------------------------


def nirv(red: NDArray[Any], nir: NDArray[Any]) -> NDArray[Any]:
    r"""Compute the near-infrared reflectance of vegetation [1] from reflectances [1] of any equal shape.

    Parameters
    ----------
    red, nir : numpy.ndarray
        Reflectances [1].

    Returns
    -------
    numpy.ndarray
        The index [1], in the shape of the reflectances.

    Notes
    -----
    :math:`\mathrm{NIRv} = \rho_{nir} (\rho_{nir} - \rho_{red}) / (\rho_{nir} + \rho_{red})` (Badgley et al.
    2017, doi:10.1126/sciadv.1602244).

    Examples
    --------
    >>> float(nirv(np.array(0.1), np.array(0.3)))
    0.15
    """
    return nir * _ratio(nir - red, nir + red)


def ndwi(nir: NDArray[Any], swir: NDArray[Any]) -> NDArray[Any]:
    r"""Compute the normalised difference water index [1] from reflectances [1] of any equal shape.

    Parameters
    ----------
    nir, swir : numpy.ndarray
        Reflectances [1].

    Returns
    -------
    numpy.ndarray
        The index [1], in the shape of the reflectances.

    Notes
    -----
    :math:`(\rho_{nir} - \rho_{swir}) / (\rho_{nir} + \rho_{swir})` (Gao 1996,
    doi:10.1016/S0034-4257(96)00067-3) with the band at 1.64 um (B6 of MODIS), as in the published series at
    flux towers, in place of the one at 1.24 um.

    Examples
    --------
    >>> float(ndwi(np.array(0.3), np.array(0.2)))
    0.2
    """
    return _ratio(nir - swir, nir + swir)


def evi(red: NDArray[Any], nir: NDArray[Any], blue: NDArray[Any]) -> NDArray[Any]:
    r"""Compute the enhanced vegetation index [1] from reflectances [1] of any equal shape.

    Parameters
    ----------
    red, nir, blue : numpy.ndarray
        Reflectances [1].

    Returns
    -------
    numpy.ndarray
        The index [1], in the shape of the reflectances.

    Notes
    -----
    :math:`2.5 (\rho_{nir} - \rho_{red}) / (\rho_{nir} + 6 \rho_{red} - 7.5 \rho_{blue} + 1)` (Huete et al.
    2002, doi:10.1016/S0034-4257(02)00096-2).

    Examples
    --------
    >>> round(float(evi(np.array(0.1), np.array(0.3), np.array(0.05))), 3)
    0.328
    """
    return 2.5 * _ratio(nir - red, nir + 6 * red - 7.5 * blue + 1)


def _ratio(numerator: NDArray[Any], denominator: NDArray[Any]) -> NDArray[Any]:
    """Divide; NaN where the denominator is not positive."""
    ratio = np.full_like(numerator, np.nan)
    return np.divide(numerator, denominator, out=ratio, where=denominator > 0)


#: Indices of vegetation: function, and the bands of MODIS that it reads.
INDICES: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "NIRV": (nirv, ("B1", "B2")),
    "NDWI": (ndwi, ("B2", "B6")),
    "EVI": (evi, ("B1", "B2", "B3")),
}


def indices(ds: xr.Dataset) -> xr.Dataset:
    """Compute NIRV, NDWI and EVI from satellite patches, lazily.

    Parameters
    ----------
    ds : xarray.Dataset
        Dataset with ``reflectance (..., day, band, y, x)`` [1].

    Returns
    -------
    xarray.Dataset
        ``NIRV``, ``NDWI`` and ``EVI (..., day)`` [1], float32, with their quality flags ``<VAR>_QC``: an
        index of the mean reflectances of the four central pixels that are not fill. The flag is 0 where
        all of them have a value, and 1 where some of them do. An index whose bands are not in ``ds`` is
        left out, and values beyond the plausibility limits are missing.

    Raises
    ------
    VariableError
        If ``ds`` has no reflectance, or lacks the bands of all indices.

    Examples
    --------
    >>> from xcarbon.testing import synthetic_towers
    >>> indices(synthetic_towers(2))["NIRV"].dims
    ('site', 'day')
    """
    bands = set(ds.indexes.get("band", ())) if "reflectance" in ds else set()
    codes = [code for code, (_, needed) in INDICES.items() if bands.issuperset(needed)]
    if not codes:
        raise VariableError(
            f"the indices {list(INDICES)} need reflectance of some of the bands B1, B2, B3 and B6, but the "
            f"Dataset has the bands {sorted(bands)}"
        )
    pixels = ds["reflectance"]
    centre = {dim: slice((pixels.sizes[dim] - 1) // 2, pixels.sizes[dim] // 2 + 1) for dim in ("y", "x")}
    pixels = pixels.isel(centre)
    mean, share = pixels.mean(("y", "x")), pixels.notnull().mean(("y", "x"))
    found = {}
    for code in codes:
        function, needed = INDICES[code]
        inputs = [mean.sel(band=band, drop=True) for band in needed]
        index = xr.apply_ufunc(function, *inputs, dask="parallelized", output_dtypes=[np.float32])
        limits = SATELLITE[code].bounds
        index = index.where((index >= limits.lower) & (index <= limits.upper)).astype("float32")
        complete = (share.sel(band=list(needed)) == 1).all("band")
        flags = xr.where(index.isnull(), MISSING_FLAG, xr.where(complete, np.int8(0), np.int8(1)))
        index.attrs = {  # xarray may keep those of the reflectance
            "composite_days": float(PATCH_COMPOSITE_DAYS),
            "comment": "from the mean reflectances of the four central pixels of the patch that are not fill",
        }
        found[code], found[f"{code}{QC}"] = index, flags.astype("int8").drop_attrs()
    result = xr.Dataset(found).drop_vars(["band", "spatial_ref", "patch_x", "patch_y"], errors="ignore")
    return conventions.apply(result)


# --- The join with towers ---------------------------------------------------------


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

    Examples
    --------
    >>> from xcarbon.testing import synthetic_towers
    >>> towers = synthetic_towers(3)
    >>> joined = join_satellite(towers, indices(towers.isel(site=[0])))
    >>> joined["NIRV"].sizes["site"]
    3
    """
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


# --- Values of each hour ----------------------------------------------------------


def hourly(
    series: xr.Dataset,
    time: xr.DataArray | ArrayLike,
    variables: Sequence[str] | None = None,
    *,
    causal: bool = False,
    max_qc: int | None = None,
    chunks: int | tuple[int, ...] = _CHUNK,
) -> xr.Dataset:
    """Compute values of satellite series at hours, lazily.

    Parameters
    ----------
    series : xarray.Dataset
        Satellite series on ``(site, day)`` or ``(day,)``, with their quality flags where there are any.
    time : xarray.DataArray or array_like
        Starts of hours [datetime64], shape ``(time,)``.
    variables : sequence of str, optional
        Series to use. Default: all.
    causal : bool
        Use no composite that had not ended before the hour, as a forecast requires. Default: interpolate
        between the composite before and the one after, which is the best estimate of a past state.
    max_qc : int, optional
        Highest quality flag of the composites to use. Default: 2, and 1 with ``causal``, because a mean
        seasonal cycle (flag 2) is computed from later years.
    chunks : int or tuple of int
        Sizes of the chunks of the result along ``time`` [hours], by default ten years.

    Returns
    -------
    xarray.Dataset
        Each series on ``(site, time)`` in its units, float32, NaN where missing. The attribute ``comment``
        states the rule. A chunk has the sites of a chunk of ``series``.

    Raises
    ------
    VariableError
        If ``series`` does not contain one of the variables, or none at all.
    MetadataError
        If a series has other units than the vocabulary, or no composite length.

    Notes
    -----
    The centre of a composite is the midnight at which its ``day`` begins.

    Interpolation is linear between neighbouring composites with a value. If their centres are more than
    four composite lengths apart, the hours between them are missing, except those up to half a composite
    from one of the two, which have its value. The same holds before the first and after the last.

    A composite has ended at the first midnight after its ``day`` plus half its length; with ``causal`` its
    value is used from then on, until a later one has ended, and for at most four composite lengths. The
    delay between the end of a composite and its publication is not considered.

    Examples
    --------
    >>> day = np.array(["2010-01-05", "2010-01-13"], "datetime64[ns]")
    >>> series = xr.Dataset({"LAI": ("day", [1.0, 3.0], {"composite_days": 8})}, {"day": day})
    >>> hours = np.array(["2010-01-05T00", "2010-01-09T00", "2010-01-17T00"], "datetime64[ns]")
    >>> hourly(series, hours)["LAI"].values
    array([1., 2., 3.], dtype=float32)
    >>> hourly(series, hours, causal=True)["LAI"].values
    array([nan,  1.,  3.], dtype=float32)
    """
    codes = [code for code in SATELLITE if code in series and "day" in series[code].dims]
    codes = codes if variables is None else list(variables)
    absent = [code for code in codes if code not in SATELLITE or code not in series]
    if absent or not codes:
        have = [code for code in SATELLITE if code in series]
        raise VariableError(f"the satellite series {absent} are not in the Dataset, which has {have}")
    check_units(series, codes)
    max_qc = (MAX_QC_CAUSAL if causal else MAX_QC_HINDCAST) if max_qc is None else max_qc
    if not series.indexes["day"].is_monotonic_increasing:
        series = series.sortby("day")
    if not isinstance(time, xr.DataArray):
        time = xr.DataArray(np.asarray(time, "datetime64[ns]"), dims="time")
    coords = {name: coord for name, coord in series.coords.items() if "day" not in coord.dims}
    coords["time"] = time.variable
    day, hours = _hours_since_epoch(series["day"].values), _hours_since_epoch(time.values)
    found = {}
    for code in codes:
        array = series[code].transpose(..., "day")
        dims = array.dims[:-1]
        values, length = _lazy(array), _length(series, code, array)
        flags = series.get(f"{code}{QC}")
        if flags is not None:
            values = da.where(_lazy(flags.transpose(*array.dims)) > max_qc, np.float32(np.nan), values)
        data = _map_chunks(values, length, day, da.from_array(hours, chunks=(chunks,)), causal)
        attrs = {key: value for key, value in array.attrs.items() if key != "ancillary_variables"}
        rule = "; ".join(filter(None, [attrs.get("comment"), _RULES[causal]]))
        attrs = satellite_attrs(code) | attrs | {"comment": rule}
        found[code] = xr.Variable((*dims, "time"), data, attrs)
    return xr.Dataset(found, coords)


def _lazy(array: xr.DataArray) -> da.Array:
    """Return a Dask array; one that is in memory has one chunk per place."""
    if isinstance(array.data, da.Array):
        return array.data
    return da.from_array(array.values, chunks=(*(1 for _ in array.dims[:-1]), -1))


def _length(series: xr.Dataset, code: str, array: xr.DataArray) -> da.Array | float:
    """Return the length of the composites [days], ``(..., day)`` if there are several, else a number."""
    if f"{code}{LENGTH}" in series:
        return _lazy(series[f"{code}{LENGTH}"].transpose(*array.dims))
    try:
        return float(array.attrs["composite_days"])
    except (KeyError, ValueError):
        found = array.attrs.get("composite_days")
        raise MetadataError(
            f"{code} needs the length of its composites [days] in the attribute composite_days, found "
            f"{found!r}: set ds[{code!r}].attrs['composite_days']"
        ) from None


def _hours_since_epoch(stamps: NDArray[np.datetime64]) -> NDArray[np.float64]:
    return (stamps - np.datetime64(0, "s")) / np.timedelta64(1, "h")


def _map_chunks(
    values: da.Array,
    length: da.Array | float,
    day: NDArray[np.float64],
    hours: da.Array,
    causal: bool,
) -> da.Array:
    """Dask graph: one task per chunk of places and of hours, ``(..., day) -> (..., time)``."""
    *place, axis = range(values.ndim)
    if isinstance(length, da.Array):
        length = length.rechunk(values.chunks)
    return da.blockwise(
        to_hours,
        (*place, axis + 1),
        values,
        (*place, axis),
        length,
        (*place, axis) if isinstance(length, da.Array) else None,
        hours,
        (axis + 1,),
        da.from_array(day, chunks=(values.chunks[axis],)),  # one for all tasks
        (axis,),
        causal=causal,
        concatenate=True,
        align_arrays=False,  # they are aligned, and the warning about the number of chunks would be shown
        dtype=np.float32,
        meta=np.empty((0,) * values.ndim, np.float32),
    )


def to_hours(
    values: NDArray[Any],
    length: NDArray[Any] | float,
    hours: NDArray[np.float64],
    day: NDArray[np.float64],
    causal: bool = False,
) -> NDArray[np.float32]:
    """Compute hourly values of series in memory; see :func:`hourly`.

    Parameters
    ----------
    values : numpy.ndarray
        Values of composites in any units, shape ``(..., day)``; NaN where missing.
    length : numpy.ndarray or float
        Lengths of the composites [days], of the same shape or one for all.
    hours : numpy.ndarray
        Hours [hours since any epoch], shape ``(time,)``.
    day : numpy.ndarray
        Centres of the composites, increasing [hours since the same epoch, which is a midnight], shape
        ``(day,)``.
    causal : bool
        Use only composites that had ended before the hour.

    Returns
    -------
    numpy.ndarray
        Shape ``(..., time)``, float32.

    Examples
    --------
    >>> to_hours(np.array([1.0, 3.0]), 1.0, np.arange(0.0, 25, 6), np.array([0.0, 24]))
    array([1. , 1.5, 2. , 2.5, 3. ], dtype=float32)
    """
    order = np.argsort(hours, kind="stable") if (np.diff(hours) < 0).any() else slice(None)
    result = np.full((*values.shape[:-1], hours.size), np.nan, np.float32)
    lengths = np.broadcast_to(np.asarray(length, np.float64) * 24, values.shape)
    kernel = _latest if causal else _interpolate
    for place in np.ndindex(values.shape[:-1]):
        there = np.flatnonzero(np.isfinite(values[place]))
        if there.size:
            series = day[there], values[place][there].astype(np.float64), lengths[place][there]
            result[place][order] = kernel(*series, hours[order])
    return result


def _interpolate(
    centre: NDArray[np.float64],
    value: NDArray[np.float64],
    length: NDArray[np.float64],
    hours: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Interpolate one series: centres and lengths [hours] of the composites with a value, all ``(n,)``."""
    found = np.interp(hours, centre, value, left=np.nan, right=np.nan)
    is_gap = np.diff(centre) > MAX_GAP * np.maximum(length[:-1], length[1:])
    gaps = [int(gap) for gap in np.flatnonzero(is_gap)]
    # The hours before the first composite and after the last are gaps with a neighbour on one side.
    for left, right in [(-1, 0), *((gap, gap + 1) for gap in gaps), (len(centre) - 1, len(centre))]:
        start, stop = 0, hours.size
        if left >= 0:
            start = int(np.searchsorted(hours, centre[left] + length[left] / 2, side="right"))
            found[int(np.searchsorted(hours, centre[left])) : start] = value[left]
        if right < len(centre):
            end = int(np.searchsorted(hours, centre[right]))
            stop = int(np.searchsorted(hours, centre[right] - length[right] / 2))
            found[stop:end] = value[right]
        found[start:stop] = np.nan
    return found


def _latest(
    centre: NDArray[np.float64],
    value: NDArray[np.float64],
    length: NDArray[np.float64],
    hours: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the value of the latest composite that has ended; arguments as in :func:`_interpolate`."""
    end = 24 * np.ceil((centre + length / 2) / 24)
    order = np.argsort(end, kind="stable")
    end, oldest = end[order], end[order] + MAX_GAP * length[order]
    limits = np.append(np.searchsorted(hours, end), hours.size)
    found = np.full(hours.size, np.nan)
    found[limits[0] :] = np.repeat(value[order], np.diff(limits))
    for number in np.flatnonzero(oldest < np.append(end[1:], np.inf)):
        found[int(np.searchsorted(hours, oldest[number], side="right")) : limits[number + 1]] = np.nan
    return found
