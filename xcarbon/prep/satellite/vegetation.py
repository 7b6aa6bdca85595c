"""Indices of vegetation from reflectances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xcarbon.core import conventions
from xcarbon.core.conventions import MISSING_FLAG, QC
from xcarbon.core.errors import VariableError
from xcarbon.core.variables import SATELLITE

#: Days of observations in the reflectances of MCD43A4, from which the patches are cut.
PATCH_COMPOSITE_DAYS = 16


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
