"""Marginal distribution sampling: the mean flux of hours near in time with similar weather."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xcarbon._version import __version__
from xcarbon.core import conventions
from xcarbon.core.validation import check_units, check_variables, steps_per_day
from xcarbon.prep.labels import read_labels
from xcarbon.prep.periods import Array, map_towers
from xcarbon.prep.quality import mask_quality

Index = NDArray[np.intp]

#: Maximum difference between similar hours [W m-2, degC, hPa].
TOLERANCES = {"SW_IN": 50.0, "TA": 2.5, "VPD": 5.0}
#: Minimum tolerance of the radiation, which applies in the dark [W m-2].
DARK_TOLERANCE = 20.0
#: Minimum number of similar hours for a mean.
MIN_SIMILAR = 2

_WEATHER, _LIGHT, _TIME_OF_DAY = ("SW_IN", "TA", "VPD"), ("SW_IN",), ()
#: Steps of the search: similar variables, days before and after, quality of the mean (1, 2, 3: A, B, C).
STEPS: tuple[tuple[tuple[str, ...], int, int], ...] = (
    (_WEATHER, 7, 1),
    (_WEATHER, 14, 1),
    (_LIGHT, 7, 1),
    (_TIME_OF_DAY, 0, 1),
    (_TIME_OF_DAY, 1, 2),
    (_TIME_OF_DAY, 2, 2),
    *((_WEATHER, days, 2 if days <= 28 else 3) for days in range(21, 71, 7)),
    *((_LIGHT, days, 2 if days <= 14 else 3) for days in range(14, 71, 7)),
    *((_TIME_OF_DAY, days, 3) for days in range(7, 211, 7)),
)


class Sample(NamedTuple):
    """Estimates from similar hours.

    Attributes
    ----------
    mean, std : numpy.ndarray
        Mean and standard deviation of the flux in similar hours, in units of the flux, float64, shape
        ``(hours,)``; NaN where there are too few similar hours.
    quality : numpy.ndarray
        1 good (A), 2 medium (B), 3 poor (C), -1 where there are too few similar hours, int8, shape
        ``(hours,)``.
    """

    mean: Array
    std: Array
    quality: NDArray[np.int8]


def mds(ds: xr.Dataset, target: str = "NEE", *, max_qc: int = 0) -> xr.Dataset:
    """Estimate a flux in every hour by marginal distribution sampling, lazily.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers on ``(site, time)``, or a single one on ``(time,)``, with ``target``, ``SW_IN``, ``TA`` and
        ``VPD``.
    target : str
        Code of the flux.
    max_qc : int
        Highest quality flag of measured values of the flux.

    Returns
    -------
    xarray.Dataset
        ``target`` and ``<target>_SE``, mean and standard deviation of the flux in similar hours, in units of
        the target, float32, and quality flags ``<target>_QC``, int8; see :func:`sample`. The value of the
        hour itself is never used, so that estimates of measured hours are independent of their measurements.

    Raises
    ------
    VariableError
        If one of the four variables is absent.
    MetadataError
        If the units of one of them differ from those of the vocabulary.
    TimestampError
        If the time axis is not hourly or half-hourly.

    Examples
    --------
    >>> from xcarbon.testing import synthetic_towers
    >>> tower = synthetic_towers(1, patches=False)
    >>> list(mds(tower).data_vars)
    ['NEE', 'NEE_SE', 'NEE_QC']
    """
    codes = tuple(TOLERANCES)
    check_variables(ds, (target, *codes), "marginal distribution sampling")
    ds = read_labels(ds)
    check_units(ds, (target, *codes))
    per_day = steps_per_day(ds["time"], str(ds.encoding.get("source", "the Dataset")))
    flux, weather = mask_quality(ds, [target], max_qc)[target], mask_quality(ds, codes)
    series = [array.reset_coords(drop=True) for array in (flux, *weather.data_vars.values())]
    sizes = {"part": 3, "time": ds.sizes["time"]}
    parts = map_towers(
        lambda y, sw_in, ta, vpd: np.stack(sample(y, sw_in, ta, vpd, per_day)),
        *series,
        sizes=sizes,
        dtype=np.float32,
    )
    mean, std, quality = (parts.isel(part=part).transpose(*flux.dims) for part in range(3))
    estimate = xr.Dataset({target: mean, f"{target}_SE": std, f"{target}_QC": quality.astype("int8")})
    estimate[target].attrs = conventions.variable_attrs(target) | {
        "source": f"marginal distribution sampling, xcarbon {__version__}",
        "references": "doi:10.1111/j.1365-2486.2005.001002.x",
    }
    return estimate.assign_coords(flux.coords)


def sample(flux: Array, sw_in: Array, ta: Array, vpd: Array, per_day: int = 24) -> Sample:
    """Estimate a flux in each hour as the mean of the measured flux in similar hours.

    Parameters
    ----------
    flux : numpy.ndarray
        Measured flux in consecutive hours, NaN where missing, shape ``(hours,)``.
    sw_in, ta, vpd : numpy.ndarray
        Incoming shortwave radiation [W m-2], air temperature [degC], vapour pressure deficit [hPa], NaN where
        missing, shape ``(hours,)``.
    per_day : int
        Number of time steps per day: 24 for hours, 48 for half-hours.

    Returns
    -------
    Sample
        Mean, standard deviation and quality of each hour.

    Notes
    -----
    The steps are tried in turn until an hour has two similar hours besides itself [1]_:

    1. radiation, temperature and vapour pressure deficit differ by less than 50 W m-2, 2.5 degC and 5 hPa,
       within 7 and 14 days (quality A);
    2. only the radiation is compared, within 7 days (A);
    3. the time of day differs by at most one hour, on the same day (A), within 1 and 2 days (B);
    4. as in 1, within 21 and 28 days (B), then 35, 42 .. 70 days (C);
    5. as in 2, within 14 days (B), then 21, 28 .. 70 days (C);
    6. as in 3, within 7, 14 .. 210 days (C).

    Where the radiation is less than 50 W m-2, the tolerance is equal to the radiation, but at least 20 W m-2.
    This rule and the windows of steps 4 to 6 follow the implementation in general use [2]_.

    References
    ----------
    .. [1] Reichstein, M., et al. (2005), On the separation of net ecosystem exchange into assimilation and
       ecosystem respiration: review and improved algorithm, Global Change Biology 11, 1424-1439, appendix A,
       doi:10.1111/j.1365-2486.2005.001002.x
    .. [2] Wutzler, T., et al. (2018), Basic and extensible post-processing of eddy covariance flux data with
       REddyProc, Biogeosciences 15, 5015-5030, doi:10.5194/bg-15-5015-2018

    Examples
    --------
    >>> flux, mild = np.array([1.0, np.nan, 3.0, 2.0, 9.0]), np.full(5, 10.0)
    >>> sample(flux, sw_in=np.array([0.0, 0.0, 0.0, 0.0, 500.0]), ta=mild, vpd=mild).mean
    array([2.5, 2. , 1.5, 2. , nan])
    """
    farthest = max(days for _, days, _ in STEPS) * per_day + per_day // 24
    reach = max(1, min(farthest, flux.size))  # the record is padded with missing hours
    known = np.pad(flux.astype(float), reach, constant_values=np.nan)
    weather, tolerance = {}, {}
    for code, values in {"SW_IN": sw_in, "TA": ta, "VPD": vpd}.items():
        weather[code] = np.pad(values.astype(float), reach, constant_values=np.nan)
        lowest = DARK_TOLERANCE if code == "SW_IN" else TOLERANCES[code]
        tolerance[code] = np.clip(weather[code], lowest, TOLERANCES[code])
    mean, std = np.full((2, known.size), np.nan)
    quality = np.full(known.size, -1, np.int8)
    left = np.arange(reach, reach + flux.size)
    for codes, days, grade in STEPS:
        offsets = _offsets(days, per_day, reach, whole_days=bool(codes))
        for hours in _blocks(_near_known(left, known, offsets), offsets.size):
            other = hours[:, np.newaxis] + offsets
            similar = np.isfinite(known[other])
            for code in codes:
                values = weather[code]
                difference = np.abs(values[other] - values[hours, np.newaxis])
                similar &= difference < tolerance[code][hours, np.newaxis]
            enough = similar.sum(axis=1) >= MIN_SIMILAR
            mean[hours[enough]], std[hours[enough]] = _moments(known[other[enough]], similar[enough])
            quality[hours[enough]] = grade
        left = left[quality[left] < 0]
    record = slice(reach, reach + flux.size)
    return Sample(mean[record], std[record], quality[record])


def _offsets(days: int, per_day: int, reach: int, *, whole_days: bool) -> Index:
    """Return offsets of the hours to compare an hour with: whole days, or the same time of day."""
    if whole_days:
        offsets = np.arange(-days * per_day, days * per_day + 1)
    else:
        beside = np.arange(-(per_day // 24), per_day // 24 + 1)
        offsets = (np.arange(-days, days + 1)[:, np.newaxis] * per_day + beside).ravel()
    return offsets[(offsets != 0) & (np.abs(offsets) <= reach)]


def _near_known(hours: Index, known: Array, offsets: Index) -> Index:
    """Select the hours with enough measured hours around them for a search."""
    before = np.concatenate([[0], np.cumsum(np.isfinite(known))])
    return hours[before[hours + offsets[-1] + 1] - before[hours + offsets[0]] >= MIN_SIMILAR]


def _blocks(hours: Index, width: int) -> list[Index]:
    """Split hours into blocks that are compared at once, each hour with ``width`` others."""
    size = max(1, 2**21 // width)  # 2**21 pairs of hours need about 100 MB of memory
    return [hours[start : start + size] for start in range(0, hours.size, size)]


def _moments(values: Array, chosen: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Compute mean and sample standard deviation of the chosen values of each row."""
    count = chosen.sum(axis=1)
    mean = np.where(chosen, values, 0).sum(axis=1) / count
    deviation = np.where(chosen, values - mean[:, np.newaxis], 0)
    return mean, np.sqrt((deviation**2).sum(axis=1) / (count - 1))
