"""Apply the quality tolerance when data is read for a model."""

from __future__ import annotations

from collections.abc import Iterable

import xarray as xr

from xcarbon.core.conventions import QC
from xcarbon.core.errors import OptionError

#: Tolerance of the paper: measured values and good gap-filling.
MAX_QC = 1


def mask_quality(ds: xr.Dataset, codes: Iterable[str], max_qc: int = MAX_QC) -> xr.Dataset:
    """Turn values of too low quality into missing ones, lazily.

    Parameters
    ----------
    ds : xarray.Dataset
        Variables named by code, with quality codes as ``<code>_QC`` where there are any.
    codes : iterable of str
        The variables to keep.
    max_qc : int
        Highest code that counts; 0 keeps measured values only.

    Returns
    -------
    xarray.Dataset
        The variables ``codes`` alone. A value without a code (-1, NaN, or no ``<code>_QC`` at all)
        was never gap-filled and stays.

    Raises
    ------
    OptionError
        If ``max_qc`` is negative.

    Examples
    --------
    >>> ds = xr.Dataset({"TA": ("time", [1.0, 2.0]), "TA_QC": ("time", [0, 2])})
    >>> mask_quality(ds, ["TA"])["TA"].values
    array([ 1., nan])
    """
    if max_qc < 0:
        raise OptionError(f"max_qc must be 0 or more, found {max_qc}")
    return xr.Dataset(
        {
            code: ds[code].where(~(ds[f"{code}{QC}"] > max_qc)) if f"{code}{QC}" in ds else ds[code]
            for code in codes
        },
        attrs=ds.attrs,
    )
