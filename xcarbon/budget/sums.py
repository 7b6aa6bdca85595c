"""Sums of a filled flux over days, months and years, with their uncertainty."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xcarbon.budget.adapt import ADAPTED, MIN_HOURS
from xcarbon.budget.correlation import ErrorPart, error_parts, variance_of_sum, variance_ratio
from xcarbon.budget.fill import FILLED, MODEL
from xcarbon.budget.gaps import gap_length
from xcarbon.core.conventions import MISSING_FLAG
from xcarbon.core.errors import OptionError, VariableError
from xcarbon.core.notices import warn
from xcarbon.core.validation import check_dataset, steps_per_day
from xcarbon.core.variables import SPREAD, variable
from xcarbon.evaluation.coverage import LEVELS
from xcarbon.prediction.calibration import LIMITS
from xcarbon.prep.aggregate import RESOLUTIONS, check_resolution, describe, period_edges
from xcarbon.prep.limits import plausible
from xcarbon.prep.periods import Array, Index, Stamps, map_towers

#: Amount of carbon in the unit of a flux [mol].
MOLES = {"umol m-2 s-1": 1e-6, "nmol m-2 s-1": 1e-9}
#: Endings of the names of the limits of an interval, and of the standard errors by their cause.
LOWER, UPPER, TERMS = "_LOWER", "_UPPER", "_SE_TERMS"

Flags = NDArray[np.int8]


def carbon_sums(
    filled: xr.Dataset,
    target: str = "NEE",
    resolution: str = "YY",
    *,
    cumulative: bool = False,
    max_missing: float = 0.0,
    trial: xr.Dataset | None = None,
) -> xr.Dataset:
    r"""Sum a filled flux over calendar years, months or days, with the uncertainty of the sums, lazily.

    Parameters
    ----------
    filled : xarray.Dataset
        Filled flux from :func:`~xcarbon.budget.gapfill`, hourly or half-hourly.
    target : str
        Code of the flux.
    resolution : {"YY", "MM", "WW", "DD"}
        Year, month, week or day, as for :func:`~xcarbon.prep.aggregate.aggregate`.
    cumulative : bool
        Sum from the first of January of each year to the end of each period.
    max_missing : float
        Highest share of missing hours of a period [1]. The sum over the available hours is multiplied by the
        number of all hours over that of the available ones, as if the mean flux of the missing hours was that
        of the others; the error of this assumption is not included. With the default 0, a period with a
        missing hour has no sum.
    trial : xarray.Dataset, optional
        The same towers, filled in the same way after hiding some measured hours with
        :func:`~xcarbon.budget.artificial_gaps`. The variance of the model's errors is estimated in the
        hidden hours. By default it is estimated in all measured hours, which is correct for an adapted model
        and for one that was not trained on them; for others it underestimates the errors.

    Returns
    -------
    xarray.Dataset
        Variables along ``time``, the first day of each period, and the dimensions of ``filled`` besides
        ``time``, lazy with one task for each tower. For the target ``NEE`` they are:

        - ``NEE``: sum of carbon over the period [g m-2], NaN with too many missing hours,
        - ``NEE_SE``: standard error of the sum [g m-2]; NaN if the uncertainty of all hours is unknown,
        - ``NEE_LOWER``, ``NEE_UPPER``: 90 % interval of the sum [g m-2],
        - ``NEE_SE_TERMS``: standard errors by their cause, along ``term``: ``random``, the errors of
          measurements, and ``filling``, those of the model; NaN if unknown. ``NEE_SE`` is the square root of
          the sum of their squares,
        - ``share_filled``, ``share_missing``: shares of the hours of the calendar period [1].

    Raises
    ------
    VariableError
        If ``filled`` or ``trial`` is not a result of ``gapfill``.
    OptionError
        If ``trial`` has other towers or hours, ``resolution`` is unknown, or ``max_missing`` is negative or
        not less than 1.

    Warns
    -----
    UserWarning
        If the gaps were filled by a model that is not adapted to the towers (``gapfill(adapt=False)``). Its
        errors persist at a tower, so that the intervals are too narrow.

    Notes
    -----
    With :math:`s_i` the standard error of an hour, the variance of the sum is

    .. math:: V = \frac{\sum_m e_m^2}{\sum_m s_m^2} \sum_{i,j\,filled} s_i s_j \left[
       a_i a_j \gamma(|i - j|) + b_i b_j \lambda(|i - j|) \right] + \sum_{i\,measured} s_i^2,

    because errors of measurements are regarded as independent, whereas those of a model are correlated
    between hours. The first factor is for the errors :math:`e` of the model in the measured hours of the
    tower, over all years. It is 1 if the spread of the model is as large as its errors, and corrects the
    spread otherwise. The error of a filled hour has a part that lasts for hours, with the correlation
    :math:`\gamma`, and one that lasts for days and weeks, with the correlation :math:`\lambda`. At the lag
    :math:`k` [h] they are

    .. math:: \gamma(k) = 0.88\, \delta_{k0} + 0.12\, e^{-k/6}, \quad
       \lambda(k) = 0.5\, e^{-k/240} + 0.5 \cos(2 \pi k / 24)\, e^{-k / 72}.

    Their shares of the variance are :math:`a^2 = 0.32 / r` and :math:`b^2 = 0.68\, g / r` with
    :math:`r = 0.32 + 0.68\, g`. In gaps that an adapted model has filled, :math:`g` is
    :math:`(\min(L, 720) / 720)^{0.7}` for a gap of :math:`L` hours, because the model has read the measured
    hours before and after the gap; otherwise it is 1. These constants are from gaps that were hidden at 35
    towers and filled by adapted models of other towers: a single tower contains few pairs of independent
    weeks. Systematic errors of measurement, including those of the friction velocity threshold, are not
    included; see :func:`xcarbon.budget.budget`.

    Examples
    --------
    >>> from xcarbon.budget import artificial_gaps, gapfill
    >>> from xcarbon.testing import synthetic_towers
    >>> tower = synthetic_towers(1, patches=False)
    >>> filled = gapfill(tower, model="mds")
    >>> hidden = artificial_gaps(tower, "week")
    >>> trial = gapfill(tower.assign(NEE=tower["NEE"].where(~hidden)), model="mds")
    >>> sums = carbon_sums(filled, resolution="MM", trial=trial)
    >>> sums["NEE"].shape, sums["NEE"].attrs["units"]
    ((1, 12), 'g m-2')
    """
    source = filled if trial is None else trial
    for part in (filled, source):
        check_dataset(part, "the filled flux or the trial", "the result of gapfill")
    names = [target + ending for ending in ("", FILLED, MODEL)]
    absent = [name for name in names if name not in filled or name not in source]
    if absent:
        raise VariableError(
            f"sums need the result of gapfill(ds, {target!r}): the variables {absent} are missing"
        )
    origin = str(source[target + MODEL].attrs.get("source", ""))
    by_length = depends_on_length(source[target + MODEL])
    if "model" in origin and not by_length:
        # ``python -m benchmarks.gaps OUT --towers 35 --seeds 0 1 2 3 --methods pretrained --model ...``
        warn(
            f"{target} was filled by a model that is not adapted to the towers: in tests, such 90 % "
            "intervals contained 57 to 74 % of the true sums; use gapfill(adapt=True)"
        )
    try:
        filled, source = xr.align(filled, source, join="exact")
    except ValueError as found:
        raise OptionError(f"trial must have the same towers and hours as filled: {found}") from found
    tested = filled[target + FILLED] == 0
    if trial is not None:
        tested &= source[target + FILLED] == 1
    unknown = xr.full_like(filled[target], np.nan)
    flux = plausible(filled[target], target)
    series = [
        flux,
        filled[target + FILLED].where(flux.notnull() | filled[target].isnull(), MISSING_FLAG),
        filled.get(target + SPREAD, unknown),
        (filled[target] - source[target + MODEL]).where(tested),
        source.get(target + MODEL + SPREAD, unknown),
    ]
    calendar = Calendar(filled["time"], resolution, cumulative=cumulative, max_missing=max_missing)
    parts = calendar.sum(partial(_sum_filled, by_length=by_length), series, target)
    total, random, filling, share_filled, share_missing = (parts.isel(part=part) for part in range(5))
    sums = with_interval(target, total, {"random": random, "filling": filling})
    sums |= {"share_filled": share_filled, "share_missing": share_missing}
    return calendar.label(sums, filled, f"carbon_sums of {target}")


def depends_on_length(predicted: xr.DataArray) -> bool:
    """Whether errors are smaller in short gaps: an adapted model has read the hours around a gap."""
    return str(predicted.attrs.get("source", "")).endswith(ADAPTED)


class Calendar:
    """Periods over which the hours or half-hours of all towers are summed.

    Raises OptionError if the resolution is unknown or the highest share of missing hours is not in [0, 1).
    """

    def __init__(
        self, time: xr.DataArray, resolution: str, *, cumulative: bool = False, max_missing: float = 0.0
    ) -> None:
        check_resolution(resolution)
        if not 0 <= max_missing < 1:
            raise OptionError(f"max_missing must be at least 0 and less than 1, found {max_missing}")
        self.stamps: Stamps = time.values
        self.per_hour = steps_per_day(time, "the filled flux") // 24
        self.resolution, self.cumulative, self.max_missing = resolution, cumulative, max_missing
        first, last = self.stamps[[0, -1]].astype("M8[D]")
        self.edges = period_edges(first, last, resolution)
        self.start = self.edges[:-1].astype("M8[Y]").astype("M8[D]") if cumulative else self.edges[:-1]

    @property
    def steps(self) -> Index:
        """Number of hours or half-hours of each period."""
        return (self.edges[1:] - self.start).astype(int) * 24 * self.per_hour

    def sum(self, kernel: Callable[..., Array], series: list[xr.DataArray], target: str) -> xr.DataArray:
        """Sum a flux over the periods, ``(..., part, time)``, the first three parts in g m-2."""
        starts, ends = (np.searchsorted(self.stamps, days) for days in (self.start, self.edges[1:]))
        parts = map_towers(
            partial(kernel, calendar=self, slices=list(map(slice, starts, ends))),
            *(array.reset_coords(drop=True) for array in series),
            sizes={"part": 5, "period": self.steps.size},
        )
        mass = 3600 / self.per_hour * MOLES[variable(target).units] * 12.011  # 12.011 g of carbon per mol
        units = xr.DataArray([mass, mass, mass, 1, 1], dims="part")
        return (parts * units).rename(period="time").assign_coords(time=self.edges[:-1].astype("M8[ns]"))

    def label(self, sums: Mapping[str, xr.DataArray], like: xr.Dataset, history: str) -> xr.Dataset:
        """Add the time axis, the coordinates of towers and the CF attributes."""
        coords = {name: c for name, c in like.coords.items() if set(c.dims) <= {"site"}}
        attrs = {name: value for name, value in like.attrs.items() if name != "featureType"}
        plain = {name: array.drop_vars("time", errors="ignore") for name, array in sums.items()}
        labelled = describe(xr.Dataset(plain, coords, attrs), self.edges, self.resolution, history)
        period = RESOLUTIONS[self.resolution]
        when = f"from 1 January to the end of the {period}" if self.cumulative else f"of a calendar {period}"
        for name, array in labelled.data_vars.items():
            code = str(name)
            if code.startswith("share"):
                array.attrs = {"long_name": f"share of hours {when} that are {code[6:]}", "units": "1"}
                continue
            flux = next(code.removesuffix(e) for e in (TERMS, SPREAD, LOWER, UPPER, "") if code.endswith(e))
            what = {
                TERMS: "standard error by cause, ",
                SPREAD: "standard error, ",
                LOWER: f"lower limit of the {LEVELS[-1]:.0%} interval, ",
                UPPER: f"upper limit of the {LEVELS[-1]:.0%} interval, ",
            }.get(code.removeprefix(flux), "")
            text = f"{what}{variable(flux).long_name}, sum of carbon {when}"
            array.attrs = {"long_name": text, "units": "g m-2"}
            if not self.cumulative and code == flux:
                array.attrs["cell_methods"] = "time: sum"
            if code == flux:
                array.attrs["ancillary_variables"] = f"{code}{SPREAD} {code}{LOWER} {code}{UPPER}"
        labelled["term"].attrs = {"long_name": "cause of an error"}
        return labelled


def with_interval(
    code: str, total: xr.DataArray, terms: Mapping[str, xr.DataArray]
) -> dict[str, xr.DataArray]:
    """Return a sum with its standard errors by cause, their root sum of squares, and the interval."""
    each = xr.concat(list(terms.values()), xr.DataArray(list(terms), dims="term", name="term"))
    each = each.where(total.notnull())
    error = ((each**2).sum("term") ** 0.5).where(each.notnull().any("term"))
    half = LIMITS[-1] * error
    return {
        code: total,
        code + SPREAD: error,
        code + LOWER: total - half,
        code + UPPER: total + half,
        code + TERMS: each.transpose(..., "term"),
    }


def _sum_filled(
    flux: Array,
    flag: Flags,
    se: Array,
    error: Array,
    error_se: Array,
    *,
    by_length: bool,
    calendar: Calendar,
    slices: list[slice],
) -> Array:
    """Sum a filled flux of one tower, see :func:`sum_periods`."""
    ratio = variance_ratio(error.astype(float), error_se.astype(float))
    parts = filling_errors(se, flag, ratio, by_length=by_length, per_hour=calendar.per_hour)
    return sum_periods(flux, flag, se, parts, calendar, slices)


def filling_errors(
    se: Array, flag: Flags, ratio: float, *, by_length: bool, per_hour: int
) -> Sequence[ErrorPart]:
    """Return the parts of the errors of filled hours, whether or not they depend on the length of gaps."""
    is_adapted = by_length and np.count_nonzero(flag == 0) >= MIN_HOURS * per_hour
    length = gap_length(flag == 0) / per_hour if is_adapted else np.full(flag.shape, np.inf)
    return error_parts(np.where(flag == 1, se, 0), length, ratio, per_hour)


def sum_periods(
    flux: Array, flag: Flags, se: Array, parts: Sequence[ErrorPart], calendar: Calendar, slices: list[slice]
) -> Array:
    """Compute sum, its random error and that of filled hours, share filled and missing: ``(5, periods)``.

    ``parts`` are the errors of filled hours; ``se`` also contains those of measured hours.
    """
    found = np.full((5, len(slices)), np.nan)
    for period, (of, steps) in enumerate(zip(slices, calendar.steps, strict=True)):
        is_filled, is_measured = flag[of] == 1, flag[of] == 0
        filled, measured = is_filled.sum(), is_measured.sum()
        found[3:, period] = filled / steps, 1 - (filled + measured) / steps
        if filled + measured == 0 or found[4, period] > calendar.max_missing:
            continue
        scale, errors = steps / (filled + measured), se[of].astype(float)
        found[0, period] = scale * flux[of][is_filled | is_measured].sum(dtype=float)
        if not np.isfinite(errors).any():
            continue
        known = is_measured & np.isfinite(errors)
        if known.any() or not measured:  # hours without an error have the mean variance of the others
            variance = (errors[known] ** 2).sum() * measured / max(known.sum(), 1)
            found[1, period] = scale * np.sqrt(variance)
        if not filled or np.isfinite(errors[is_filled]).any():
            found[2, period] = scale * np.sqrt(variance_of_sum([part.during(of) for part in parts]))
    return found
