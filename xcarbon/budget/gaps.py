"""Artificial gaps: measured hours that are hidden to test how well they are filled."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from xcarbon.core.errors import OptionError
from xcarbon.core.validation import check_variables, steps_per_day
from xcarbon.prep.labels import read_labels
from xcarbon.prep.periods import map_towers
from xcarbon.prep.quality import mask_quality

Mask = NDArray[np.bool_]

#: Shortest and longest gap of each kind [hours].
KINDS = {
    "short": (1, 4),
    "day": (36, 36),
    "week": (288, 288),
    "month": (720, 720),
    "season": (60 * 24, 240 * 24),
}


def artificial_gaps(
    ds: xr.Dataset,
    kind: str,
    *,
    target: str = "NEE",
    share: float = 0.1,
    seed: int = 0,
    max_qc: int = 0,
) -> xr.DataArray:
    """Choose measured hours to hide, in gaps with typical lengths, lazily.

    Parameters
    ----------
    ds : xarray.Dataset
        Towers on ``(site, time)``, or a single one on ``(time,)``, hourly or half-hourly.
    kind : {"short", "day", "week", "month", "season"}
        Length of the gaps: 1 to 4 hours, 1.5 days or 12 days as in [1]_, 30 days as the long gaps in [2]_, or
        60 to 240 days.
    target : str
        Code of the flux.
    share : float
        Share of a tower's measured hours to hide [1], in (0, 1). Gaps are added until this share is reached,
        so that the hidden share is larger by up to one gap. It is smaller if no further gap fits in.
    seed : int
        Random seed for the positions of the gaps; the gaps of a tower do not depend on the other towers.
    max_qc : int
        Highest quality flag of measured values.

    Returns
    -------
    xarray.DataArray
        Bool, on the dimensions of the target: True in the measured hours to hide, as in
        ``ds["NEE"].where(~artificial_gaps(ds, "week"))``. Every gap starts with a measured hour; gaps neither
        overlap nor touch.

    Raises
    ------
    OptionError
        If the kind does not exist, or the share is not between 0 and 1.
    VariableError
        If the target is absent.
    TimestampError
        If the time axis is not hourly or half-hourly.

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
        raise OptionError(f"kind must be one of {list(KINDS)}, found {kind!r}")
    if not 0 < share < 1:
        raise OptionError(f"share must be between 0 and 1, found {share}")
    check_variables(ds, (target,), "the choice of artificial gaps")
    ds = read_labels(ds)
    per_hour = steps_per_day(ds["time"], str(ds.encoding.get("source", "the Dataset"))) // 24
    measured = mask_quality(ds, [target], max_qc)[target].notnull()
    hidden = map_towers(
        lambda hours: plant(hours, kind, share, seed, per_hour),
        measured.reset_coords(drop=True),
        sizes={"time": ds.sizes["time"]},
        dtype=np.bool_,
    )
    hidden = hidden.transpose(*measured.dims).assign_coords(measured.coords)
    return hidden.rename("hidden").assign_attrs(long_name=f"whether the hour of {target} is hidden")


def plant(measured: Mask, kind: str, share: float, seed: int, per_hour: int = 1) -> Mask:
    """Choose the measured hours of one tower to hide: bool ``(hours,)`` to bool ``(hours,)``.

    ``per_hour`` is 2 for half-hours in place of hours.
    """
    rng = np.random.default_rng(seed)
    shortest, longest = (hours * per_hour for hours in KINDS[kind])
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


def gap_length(known: Mask) -> NDArray[np.float64]:
    """Length of the gap that each step is in, 0 at known steps [steps]: ``(steps,)``."""
    position = pd.Series(np.arange(len(known), dtype=float)).where(known)
    before, after = position.ffill().fillna(-1), position.bfill().fillna(len(known))
    return np.where(known, 0, after - before - 1)
