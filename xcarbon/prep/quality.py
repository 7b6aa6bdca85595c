"""Mask implausible values, and values whose quality flag is above the tolerance."""

from __future__ import annotations

from collections.abc import Iterable

import xarray as xr

from xcarbon.core.conventions import QC
from xcarbon.core.errors import OptionError
from xcarbon.core.validation import check_numbers
from xcarbon.prep.limits import plausible

#: Tolerance of arXiv 2406.04940: measured values and good gap-filling.
MAX_QC = 1


def mask_quality(ds: xr.Dataset, codes: Iterable[str], max_qc: int = MAX_QC) -> xr.Dataset:
    """Replace implausible values and values of low quality by missing values, lazily.

    Parameters
    ----------
    ds : xarray.Dataset
        Variables named by code, optionally with quality flags named ``<code>_QC``.
    codes : iterable of str
        Codes of the variables to return.
    max_qc : int
        Highest quality flag of the values to keep; 0 keeps measured values only.

    Returns
    -------
    xarray.Dataset
        The variables ``codes`` without their flags. A value without a flag (-1, NaN, or no ``<code>_QC`` in
        ``ds``) was never gap-filled and is kept. Values beyond the limits of the variable are missing, or
        clipped to the limit within the margin: see :data:`xcarbon.core.variables.LIMITS`.

    Raises
    ------
    OptionError
        If ``max_qc`` is negative.
    VariableError
        If quality flags are not numbers.

    Examples
    --------
    >>> ds = xr.Dataset({"TA": ("time", [1.0, 2.0]), "TA_QC": ("time", [0, 2])})
    >>> mask_quality(ds, ["TA"])["TA"].values
    array([ 1., nan])
    """
    if max_qc < 0:
        raise OptionError(f"max_qc must be 0 or more, found {max_qc}")
    masked = {}
    for code in codes:
        values = plausible(ds[code], code)
        if f"{code}{QC}" in ds:
            check_numbers(ds[f"{code}{QC}"])
            values = values.where(~(ds[f"{code}{QC}"] > max_qc))
        masked[code] = values
    return xr.Dataset(masked, attrs=ds.attrs)
