"""Distribution of scores over towers."""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr

from xcarbon.core.errors import OptionError


def site_quantiles(scores: xr.Dataset, q: Sequence[float] = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9)) -> xr.Dataset:
    """Compute quantiles of scores over towers, which show the towers with the worst predictions.

    Parameters
    ----------
    scores : xarray.Dataset
        Scores of each tower along ``site``, as returned by ``score(..., by="site")``, with or without other
        dimensions; ``n`` is optional.
    q : sequence of float
        Quantiles in [0, 1].

    Returns
    -------
    xarray.Dataset
        Quantiles of each score along ``quantile`` and the dimensions besides ``site``, lazy, over the towers
        that have the score, with linear interpolation. ``n`` is replaced by ``towers``, the number of towers
        that have the first score. The worst towers are in the low quantiles of an efficiency and in the high
        quantiles of an error.

    Raises
    ------
    OptionError
        If ``scores`` has no dimension ``site``.

    Examples
    --------
    >>> nse = xr.DataArray([0.2, 0.6, 0.7, 0.8, 0.9], dims="site")
    >>> site_quantiles(xr.Dataset({"nse": nse}), q=(0, 0.5))["nse"].values
    array([0.2, 0.7])
    """
    if "site" not in scores.dims:
        raise OptionError(
            f"quantiles over towers need the dimension 'site', found {tuple(scores.dims)}: use by='site'"
        )
    each = scores.drop_vars("n", errors="ignore").reset_coords(drop=True)
    if each.chunks:
        each = each.chunk(site=-1)
    towers = next(iter(each.data_vars.values())).notnull().sum("site")
    known = each.notnull().any("site")  # numpy warns of empty slices
    quantiles = each.where(known, 0).quantile(list(q), dim="site", keep_attrs=True).where(known)
    return quantiles.assign(towers=towers.assign_attrs(long_name="number of towers", units="1"))
