"""Artificial gaps: measured hours that are hidden, to see how well they are filled."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xcarbon.core.errors import OptionError
from xcarbon.core.validation import check_variables
from xcarbon.prep.periods import map_towers
from xcarbon.prep.quality import mask_quality

Mask = NDArray[np.bool_]

#: Shortest and longest gap of each kind [hours].
KINDS = {"short": (1, 4), "day": (36, 36), "week": (288, 288), "month": (720, 720)}


def artificial_gaps(
    ds: xr.Dataset,
    kind: str,
    *,
    target: str = "NEE",
    share: float = 0.1,
    seed: int = 0,
    max_qc: int = 0,
) -> xr.DataArray:
    """Choose measured hours to hide, in gaps as long as real ones, lazily.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers on ``(site, time)``, or one on ``(time,)``.
    kind : {"short", "day", "week", "month"}
        Gaps of 1 to 4 hours, 1.5 days or 12 days, as of [1]_, or of 30 days, for the long ones of [2]_.
    target : str
        Code of the flux.
    share : float
        Of the measured hours of a tower [1], in (0, 1); gaps are planted until they hide as much, so that it
        is a little more, or up to a month more of a short record. Less if there is no room.
    seed : int
        Of the places; a tower's gaps do not depend on the other towers.
    max_qc : int
        Highest quality code that counts as measured.

    Returns
    -------
    xarray.DataArray
        Bool, on the dims of the target: the measured hours in the gaps, for
        ``ds["NEE"].where(~artificial_gaps(ds, "week"))``. Every gap has a measured hour at its start, and
        gaps neither overlap nor touch.

    Raises
    ------
    OptionError
        If there is no such kind, or the share is not between 0 and 1.
    VariableError
        If the target is absent.

    References
    ----------
    .. [1] Moffat, A. M., et al. (2007), Comprehensive comparison of gap-filling techniques for eddy
       covariance net carbon fluxes, Agricultural and Forest Meteorology 147, 209-232,
       doi:10.1016/j.agrformet.2007.08.011
    .. [2] Zhu, S., et al. (2022), Stable gap-filling for longer eddy covariance data gaps: a globally
       validated machine-learning approach for carbon dioxide, water, and energy fluxes, Agricultural and
       Forest Meteorology 314, 108777, doi:10.1016/j.agrformet.2021.108777

    Examples
    --------
    >>> from xcarbon.testing import synthetic_towers
    >>> towers = synthetic_towers(1, patches=False)
    >>> hidden = artificial_gaps(towers, "day")
    >>> measured = towers["NEE"].where(towers["NEE_QC"] == 0).notnull()
    >>> float((hidden.sum() / measured.sum()).round(2))
    0.1
    """
    if kind not in KINDS:
        raise OptionError(f"there are no gaps of kind {kind!r}; the kinds are {list(KINDS)}")
    if not 0 < share < 1:
        raise OptionError(f"the share of hours to hide must be between 0 and 1, found {share}")
    check_variables(ds, (target,), "planting gaps")
    measured = mask_quality(ds, [target], max_qc)[target].notnull()
    series = measured.reset_coords(drop=True)
    hidden = map_towers(
        lambda hours: plant(hours, kind, share, seed),
        series.chunk(time=-1) if series.chunks else series,
        sizes={"time": ds.sizes["time"]},
        dtype=np.bool_,
    )
    hidden = hidden.transpose(*measured.dims).assign_coords(measured.coords)
    return hidden.rename("hidden").assign_attrs(long_name=f"whether the hour of {target} is hidden")


def plant(measured: Mask, kind: str, share: float, seed: int) -> Mask:
    """Choose the measured hours of one tower that lie in artificial gaps.

    Parameters
    ----------
    measured : numpy.ndarray
        Whether there is a measured value, bool, shape ``(hours,)``.
    kind, share, seed
        As for :func:`artificial_gaps`.

    Returns
    -------
    numpy.ndarray
        Bool, shape ``(hours,)``.
    """
    rng = np.random.default_rng(seed)
    shortest, longest = KINDS[kind]
    wanted = share * measured.sum()
    in_gap = np.zeros(measured.size, bool)
    hidden = 0
    for start in rng.permutation(np.flatnonzero(measured)):
        end = start + rng.integers(shortest, longest, endpoint=True)
        if hidden >= wanted:
            break
        if end <= measured.size and not in_gap[max(0, start - 1) : end + 1].any():
            in_gap[start:end] = True
            hidden += measured[start:end].sum()
    return in_gap & measured
