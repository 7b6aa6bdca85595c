"""Apply the plausibility limits of variables: an array kernel, counts for audits, and a lazy function.

The limits are those of :data:`xcarbon.core.variables.LIMITS`. They are separate from the bounds that scale
predictors.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xcarbon.core.notices import warn
from xcarbon.core.variables import VARIABLES, Limits

Array = NDArray[Any]

#: Numbers that files use for missing values. All are beyond the limits of every variable.
CODES = (-9999.0, -9999.9, -9999.99, -6999.0, -999.0, 999999.0, 9999.0, 9999.99, 99999.0, 1e20, 1e30, 1e36)
#: Numbers that are within the limits of fluxes, but stand for missing values if a column repeats them.
REPEATED_CODES = (-99.0, -99.9, -99.99)
#: Share of a column's values beyond the limits [1], and the number of these values, above which the column
#: is probably in another unit. Such columns are not emptied when files are read, so that
#: :func:`xcarbon.check` can name the unit.
OTHER_UNIT, MIN_VALUES = 0.5, 48


class Counts(NamedTuple):
    """Numbers of values of one variable by what the limits do to them.

    Attributes
    ----------
    codes : int
        Numbers for missing values, infinities included; they become missing. Readers of network files
        do not count -9999, which is the missing value of the FLUXNET format.
    beyond : int
        Other values beyond a limit by more than the margin; they become missing.
    clipped : int
        Values beyond a limit by up to the margin; they become the limit.
    other_unit : int
        Values beyond the limits in a column that is probably in another unit; they are not changed.
    """

    codes: int = 0
    beyond: int = 0
    clipped: int = 0
    other_unit: int = 0


def apply_limits(values: Array, limits: Limits) -> Array:
    """Replace implausible values by NaN, and clip values that are slightly beyond a limit.

    Parameters
    ----------
    values : numpy.ndarray
        Values in the units of the variable, any shape; NaN where missing.
    limits : Limits
        Limits of the variable.

    Returns
    -------
    numpy.ndarray
        The same shape and precision (float32 for integers). Values beyond a limit by more than
        ``limits.margin`` are NaN, and infinities are NaN. Values beyond a limit by up to the margin are equal
        to the limit. Other values are not changed; without any change, the result is ``values`` itself.

    Examples
    --------
    >>> from xcarbon.core.variables import VARIABLES
    >>> apply_limits(np.array([-3.0, 500.0, 9999.0, np.inf]), VARIABLES["SW_IN"].limits)
    array([  0., 500.,  nan,  nan])
    """
    if not np.issubdtype(values.dtype, np.floating):
        values = values.astype("float32")
    if _all_within(values, limits):
        return values
    clipped = np.clip(values, limits.lower, limits.upper)
    return np.where(_beyond(values, limits), values.dtype.type(np.nan), clipped)


def apply_limits_to_column(values: Array, limits: Limits, counts: Counts | None = None) -> Array:
    """Apply limits to all values of one column of a tower, unless it is probably in another unit.

    In a column in another unit, only infinities and numbers for missing values become NaN. ``counts`` are
    those of :func:`count_beyond`, if they are known.

    Examples
    --------
    >>> hectopascals = np.array([1013.0] * 99 + [9999.0])
    >>> apply_limits_to_column(hectopascals, Limits(40, 110))[-2:]
    array([1013.,   nan])
    """
    if not (counts or count_beyond(values, limits)).other_unit:
        return apply_limits(values, limits)
    return np.where(is_code(values), values.dtype.type(np.nan), values)


def count_beyond(values: Array, limits: Limits) -> Counts:
    """Count what :func:`apply_limits_to_column` does to the values of one column, any shape.

    Examples
    --------
    >>> count_beyond(np.array([-1.0, 5.0, 9999.0, 3000.0, np.nan]), Limits(0, 1500, 10))
    Counts(codes=1, beyond=1, clipped=1, other_unit=0)
    """
    if _all_within(values, limits):
        return Counts()
    beyond, code = _beyond(values, limits), is_code(values)
    wrong = int(np.count_nonzero(beyond & ~code))
    numbers = np.count_nonzero(~(np.isnan(values) | code))
    codes = int(np.count_nonzero(beyond & code))
    if wrong >= MIN_VALUES and wrong > OTHER_UNIT * numbers:
        return Counts(codes=codes, other_unit=wrong)
    slightly = ((values < limits.lower) | (values > limits.upper)) & ~beyond
    return Counts(codes, wrong, int(np.count_nonzero(slightly)))


def plausible_values(values: Array, code: str) -> Array:
    """Apply the limits of a variable to an array, and warn if it probably is in another unit.

    Parameters
    ----------
    values : numpy.ndarray
        Values in the units of the variable, any shape; NaN where missing.
    code : str
        Code of the variable.

    Returns
    -------
    numpy.ndarray
        As from :func:`apply_limits`.

    Warns
    -----
    UserWarning
        If more than half of the values are beyond the limits, or if -99 is so frequent that it probably
        stands for missing values. Processes of a cluster do not forward this.
    """
    variable, found = VARIABLES[code], apply_limits(values, VARIABLES[code].limits)
    if found is not values and count_beyond(values, variable.limits).other_unit:
        warn(
            f"more than half of the values of {code} are beyond {variable.limits.lower:g} to "
            f"{variable.limits.upper:g} {variable.units} and count as missing; they are probably in another "
            f"unit: convert them, or set ds[{code!r}].attrs['units'] and use ds.carbon.standardize()"
        )
    if is_repeated_code(found).any():
        warn(f"{code} is -99 in so many hours that these are probably missing: replace them by NaN")
    return found


def plausible(array: xr.DataArray, code: str) -> xr.DataArray:
    """Apply the limits of a variable to an array with any dims, lazily if it is lazy.

    Names that are not in the vocabulary have no limits; their values are not changed.

    Parameters
    ----------
    array : xarray.DataArray
        Values in the units of the vocabulary.
    code : str
        Name of the variable.

    Returns
    -------
    xarray.DataArray
        The values, NaN beyond the limits, and clipped to the limit within the margin.

    Warns
    -----
    UserWarning
        When values are computed, as :func:`plausible_values`.

    Examples
    --------
    >>> plausible(xr.DataArray([-3.0, 150.0, 9999.0]), "RH").values
    array([ 0., nan, nan])
    """
    if code not in VARIABLES:
        return array
    return xr.apply_ufunc(
        plausible_values,
        array,
        kwargs={"code": code},
        dask="parallelized",
        output_dtypes=[array.dtype if array.dtype.kind == "f" else np.float32],
        keep_attrs=True,
    )


def _all_within(values: Array, limits: Limits) -> bool:
    """Return whether no value is beyond a limit. Comparisons with NaN are false."""
    return not ((values < limits.lower).any() or (values > limits.upper).any())


def _beyond(values: Array, limits: Limits) -> NDArray[np.bool_]:
    """Return where values are beyond a limit by more than the margin, infinities included."""
    return (values < limits.lower - limits.margin) | (values > limits.upper + limits.margin)


def is_repeated_code(values: Array) -> NDArray[np.bool_]:
    """Return where the values of one column are -99 or similar, if this number stands for missing values.

    A flux can be -99, too, but not in more hours than all other values near it together.

    Examples
    --------
    >>> is_repeated_code(np.array([-99.0] * 60 + [-3.0, 5.0])).sum()
    np.int64(60)
    >>> is_repeated_code(np.arange(-110.0, 5)).any()
    np.False_
    """
    found = np.zeros(values.shape, bool)
    near = values[(values < -80) & (values > -120)]
    if near.size >= MIN_VALUES:
        for code in np.array(REPEATED_CODES).astype(values.dtype):
            if np.count_nonzero(near == code) > max(MIN_VALUES - 1, near.size / 2):
                found |= values == code
    return found


def is_code(values: Array) -> NDArray[np.bool_]:
    """Return where values are infinite or numbers for missing values, in single or double precision."""
    return np.isinf(values) | np.isin(values, np.array(CODES).astype(values.dtype))
