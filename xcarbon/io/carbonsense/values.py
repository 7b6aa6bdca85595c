"""Values and patches of one tower in physical units, on the axes of all towers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xcarbon.core.conventions import MISSING_FLAG
from xcarbon.core.errors import FileFormatError, TimestampError
from xcarbon.core.variables import PATCH_BANDS, REFLECTANCE_BANDS, VARIABLES, Bounds
from xcarbon.io.carbonsense.sites import Array, Site
from xcarbon.io.modis.grid import PATCH_PIXELS
from xcarbon.prep.limits import apply_limits_to_column

#: Tolerance for rounding of scaled values at the limits of their range.
_SLACK = 1e-6


def read_series(tower: Site, codes: Sequence[str], start: np.datetime64, total: int) -> Array:
    """Read all variables of a tower in physical units, ``(1, codes, total)``, from the hour ``start``."""
    series = np.full((1, len(codes), total), np.nan, "float32")
    taken = np.zeros(total, bool)
    for place, stamps, values in tower.records():
        hours = _positions(stamps, start, total, place)
        if taken[hours].any() or np.unique(hours).size < hours.size:
            raise FileFormatError(
                f"{place}: two records have the same hour; xcarbon reads the hourly form of CarbonSense"
            )
        taken[hours] = True
        for (code, column), scaled in zip(tower.columns.items(), values, strict=True):
            bounds = tower.bounds.get(code, VARIABLES[code].bounds)
            physical = unscale(scaled, bounds, VARIABLES[code].cyclic, f"{place}, {column}")
            series[0, codes.index(code), hours] = physical
    for row, code in enumerate(codes):
        series[0, row] = apply_limits_to_column(series[0, row], VARIABLES[code].limits)
    return series


def _positions(stamps: Array, start: np.datetime64, total: int, place: str) -> Array:
    """Convert time stamps to positions on the axis of ``total`` hours from ``start``."""
    hours = stamps.astype("M8[h]")
    positions = (hours - start).astype("int64")
    past = (stamps - hours).astype("m8[s]").astype("int64")
    wrong = np.flatnonzero((positions < 0) | (positions >= total) | ~np.isin(past, (0, 1800)))
    if wrong.size:
        raise TimestampError(
            f"{place}: {stamps[wrong[0]]} is not a full or half hour between {start} and "
            f"{start + total - 1}, the first and last hour of all towers"
        )
    return positions


def unscale(scaled: Array, bounds: Bounds | None, cyclic: bool, place: str) -> Array:
    """Convert scaled values to physical units; the inverse of :func:`xcarbon.prep.scale.scale`."""
    if bounds is None:
        return np.where(np.isfinite(scaled), scaled, np.nan)
    limit = 1.0 if cyclic else 0.5
    wrong = scaled[np.abs(scaled) > limit + _SLACK]
    if wrong.size:
        raise FileFormatError(
            f"{place}: {wrong[0]:g} is not a scaled value, which must be between {-limit:g} and {limit:g}"
        )
    middle = (bounds.lower + bounds.upper) / 2
    return middle + scaled * (bounds.upper - bounds.lower) / (2 * limit)


def read_patches(tower: Site, start: np.datetime64, total: int) -> Array:
    """Read all patches of a tower, ``(1, total, band, y, x)``, from the day ``start``."""
    bands = len(REFLECTANCE_BANDS)
    patches = np.full((1, total, len(PATCH_BANDS), PATCH_PIXELS, PATCH_PIXELS), np.nan, "float32")
    patches[:, :, bands:] = MISSING_FLAG
    taken = np.zeros(total, bool)
    for place, day, patch in tower.patches():
        position = int((day - start).astype("int64"))
        if not 0 <= position < total or taken[position]:
            raise TimestampError(
                f"{place}: the patch of {day} is the second one of that day or outside of all records"
            )
        taken[position] = True
        patch = _centre(patch, f"{place}, {day}")
        patches[0, position, :bands] = np.where(patch[:bands] >= 0, patch[:bands], np.nan)
        patches[0, position, bands:] = np.where(np.isin(patch[bands:], (0, 1)), patch[bands:], MISSING_FLAG)
    return patches


def _centre(patch: Array, place: str) -> Array:
    """Crop a patch of 10 by 10 pixels to the inner 8 by 8; patches of 8 by 8 pixels stay as they are."""
    small, large = ((len(PATCH_BANDS), size, size) for size in (PATCH_PIXELS, PATCH_PIXELS + 2))
    if patch.shape not in (small, large) or patch.dtype.kind not in "fiu":
        raise FileFormatError(
            f"{place}: a patch must have numbers of shape {small} or {large}, found {patch.dtype} of shape "
            f"{patch.shape}"
        )
    return patch if patch.shape == small else patch[:, 1:-1, 1:-1]
