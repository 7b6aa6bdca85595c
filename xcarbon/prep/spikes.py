"""Find spikes of a flux that lie within its plausibility limits."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xcarbon.core.conventions import MISSING_FLAG
from xcarbon.core.errors import OptionError
from xcarbon.core.validation import check_units, check_variables, steps_per_day
from xcarbon.core.variables import VARIABLES
from xcarbon.prep.labels import read_labels
from xcarbon.prep.periods import map_towers
from xcarbon.prep.quality import mask_quality

Array = NDArray[np.floating[Any]]

#: Suffix in the name of the flags of spikes.
SPIKE = "_SPIKE"
#: Global radiation above which an hour belongs to the day [W m-2].
DAYLIGHT = 20.0
#: Length of the windows in which the spread of differences is computed [days].
WINDOW = 13
#: Minimum number of differences in a window.
MIN_VALUES = 10
#: Factor from the median absolute deviation to the standard deviation of normal errors.
_NORMAL = 0.6745


def despike(
    ds: xr.Dataset, target: str = "NEE", *, threshold: float = 5.5, mask: bool = False, max_qc: int = 0
) -> xr.Dataset:
    r"""Flag spikes of a flux, lazily.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers on ``(site, time)``, or one on ``(time,)``, with the flux and ``SW_IN``.
    target : str
        Code of the flux.
    threshold : float
        Number :math:`z` [1] of deviations from the median above which a difference is a spike: 4, 5.5 or 7.
        Larger numbers find fewer spikes.
    mask : bool
        Also replace the spikes by missing values. By default they are flagged only.
    max_qc : int
        Highest quality flag of the values to examine. Gap-filled values have no spikes.

    Returns
    -------
    xarray.Dataset
        ``ds`` with ``<target>_SPIKE``, int8 on the dims of the flux: 0 no spike, 1 spike, -1 not examined,
        because the hour or one of its neighbours is missing or is not measured. The flux lists it in its
        ``ancillary_variables``.

    Raises
    ------
    VariableError
        If the flux or ``SW_IN`` is absent.
    MetadataError
        If one of them has other units than the vocabulary.
    TimestampError
        If the time axis is not hourly or half-hourly.
    OptionError
        If the threshold is not positive.

    Notes
    -----
    The double difference of an hour is :math:`d_i = (x_i - x_{i-1}) - (x_{i+1} - x_i)`, among the hours of
    the day (``SW_IN`` above 20 W m-2, or unknown) and among those of the night separately. In windows of 13
    days, and half a window more on both sides, with :math:`M` the median of :math:`d` and :math:`D` the
    median of :math:`|d - M|`, an hour is a spike if

    .. math:: |d_i - M| > z D / 0.6745.

    Both neighbours of a spike have a large double difference, too. Of adjacent candidates, only the largest
    are flagged.

    References
    ----------
    Papale, D., et al. (2006), Towards a standardized processing of Net Ecosystem Exchange measured with eddy
    covariance technique: algorithms and uncertainty estimation, Biogeosciences 3, 571-583,
    doi:10.5194/bg-3-571-2006

    Examples
    --------
    >>> from xcarbon.testing import synthetic_towers
    >>> tower = synthetic_towers(1, patches=False, variables=["NEE", "SW_IN"], gaps=False).load()
    >>> tower["NEE_QC"][:] = 0
    >>> tower["NEE"][0, 1000] += 60
    >>> int(despike(tower)["NEE_SPIKE"][0, 1000])
    1
    """
    if not threshold > 0:
        raise OptionError(f"threshold must be greater than 0, found {threshold}")
    check_variables(ds, (target, "SW_IN"), "finding spikes")
    ds = read_labels(ds)
    check_units(ds, (target, "SW_IN"))
    per_day = steps_per_day(ds["time"], str(ds.encoding.get("source", "the Dataset")))
    flux, light = mask_quality(ds, [target], max_qc)[target], mask_quality(ds, ["SW_IN"], 9)["SW_IN"]
    series = [array.reset_coords(drop=True) for array in (flux, light)]
    if any(array.chunks for array in series):
        series = [array.chunk(time=-1) for array in series]
    flags = map_towers(
        lambda hours, sun: find_spikes(hours, ~(sun <= DAYLIGHT), threshold, per_day),
        *series,
        sizes={"time": ds.sizes["time"]},
        dtype=np.int8,
    )
    flags = flags.transpose(*flux.dims).assign_coords(flux.coords)
    flags.attrs = {
        "long_name": f"spikes of {VARIABLES[target].long_name}",
        "standard_name": "status_flag",
        "flag_values": np.array([MISSING_FLAG, 0, 1], "int8"),
        "flag_meanings": "not_examined no_spike spike",
        "references": "doi:10.5194/bg-3-571-2006",
        "comment": f"double differences beyond {threshold:g} deviations, by day and by night",
    }
    values = ds[target].where(flags != 1) if mask else ds[target].copy()
    names = [*str(ds[target].attrs.get("ancillary_variables", "")).split(), target + SPIKE]
    values.attrs = ds[target].attrs | {"ancillary_variables": " ".join(dict.fromkeys(names))}
    return ds.assign({target: values, target + SPIKE: flags})


def find_spikes(
    flux: Array, is_day: NDArray[np.bool_], threshold: float = 5.5, per_day: int = 24
) -> NDArray[np.int8]:
    """Find the spikes of one tower; the kernel of :func:`despike`.

    Parameters
    ----------
    flux : numpy.ndarray
        Measured values, NaN where missing, shape ``(hours,)``.
    is_day : numpy.ndarray
        Whether an hour belongs to the day, shape ``(hours,)``.
    threshold : float
        As for :func:`despike`.
    per_day : int
        Number of time steps per day: 24 for hours, 48 for half-hours.

    Returns
    -------
    numpy.ndarray
        1 spike, 0 no spike, -1 not examined, int8, shape ``(hours,)``.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(size=500)
    >>> noise[200] = 30
    >>> np.flatnonzero(find_spikes(noise, np.ones(500, bool)) == 1)
    array([200])
    """
    flags = np.full(flux.shape, MISSING_FLAG)
    for part in (is_day, ~is_day):
        positions = np.flatnonzero(part)
        if positions.size < 3:
            continue
        deviation = _deviations(flux[positions].astype(float), positions, flux.size, per_day)
        size = np.where(deviation > threshold, deviation, 0)
        before, after = np.append(0, size[:-1]), np.append(size[1:], 0)
        spike = (size > 0) & (size >= before) & (size >= after)
        flags[positions] = np.where(np.isnan(deviation), MISSING_FLAG, spike.astype(np.int8))
    return flags


def _deviations(values: Array, positions: NDArray[np.intp], hours: int, per_day: int) -> Array:
    """Return double differences in standard deviations of their window, ``(values,)``; NaN where unknown.

    ``values`` are those of the days or of the nights of a record of ``hours``, at their ``positions`` in it.
    """
    inner = 2 * values[1:-1] - values[:-2] - values[2:]
    near = (positions[2:] - positions[:-2]) <= per_day  # others are separated by missing light
    difference = np.full(values.shape, np.nan)
    difference[1:-1] = np.where(near, inner, np.nan)
    deviation = np.full(values.shape, np.nan)
    window = WINDOW * per_day
    for start in range(0, hours, window):
        own = slice(*np.searchsorted(positions, [start, start + window]))
        # Half a window more on both sides, so that the first and last days of a window are not at an edge.
        around = slice(*np.searchsorted(positions, [start - window // 2, start + 3 * window // 2]))
        known = difference[around][~np.isnan(difference[around])]
        if known.size < MIN_VALUES:
            continue
        middle = np.median(known)
        spread = np.median(np.abs(known - middle)) / _NORMAL
        if spread > 0:
            deviation[own] = np.abs(difference[own] - middle) / spread
    return deviation
