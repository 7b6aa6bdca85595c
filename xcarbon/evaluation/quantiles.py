"""How scores differ from tower to tower."""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr

from xcarbon.core.errors import OptionError


def site_quantiles(scores: xr.Dataset, q: Sequence[float] = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9)) -> xr.Dataset:
    """Give quantiles of scores over towers: the tail, which a mean hides.

    Parameters
    ----------
    scores : xarray.Dataset
        A score for each tower along ``site``, as ``score(..., by="site")`` gives it, with other dims or
        without; ``n`` need not be there.
    q : sequence of float
        Quantiles in [0, 1].

    Returns
    -------
    xarray.Dataset
        Each score along ``quantile`` and the dims besides ``site``, over the towers that have it, lazily;
        between two towers linear. In the place of ``n`` stands ``towers``, the number that have the first of
        the scores. Bad towers are in the low quantiles of an efficiency, and in the high ones of an error.

    Raises
    ------
    OptionError
        If the scores are not by tower.

    Examples
    --------
    >>> nse = xr.DataArray([0.2, 0.6, 0.7, 0.8, 0.9], dims="site")
    >>> site_quantiles(xr.Dataset({"nse": nse}), q=(0, 0.5))["nse"].values
    array([0.2, 0.7])
    """
    if "site" not in scores.dims:
        raise OptionError(f"quantiles over towers need scores by 'site', found dims {tuple(scores.dims)}")
    each = scores.drop_vars("n", errors="ignore").reset_coords(drop=True)
    if each.chunks:
        each = each.chunk(site=-1)
    towers = next(iter(each.data_vars.values())).notnull().sum("site")
    known = each.notnull().any("site")  # of nothing at all numpy would warn
    quantiles = each.where(known, 0).quantile(list(q), dim="site", keep_attrs=True).where(known)
    return quantiles.assign(towers=towers.assign_attrs(long_name="number of towers", units="1"))
