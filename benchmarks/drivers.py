"""How well reanalysis that is adjusted to a tower replaces its measurements, by the length of the overlap.

python -m benchmarks.drivers

No month of ERA5 in the folder of real data overlaps with the towers. Therefore the first table has real
towers that are filled from the nearest other tower, 3 to 60 km away, in place of reanalysis: in pairs with at
least two years of common measurements, the parameters are computed from some days, which begin every 120
days, and applied to all other hours. The second table has cells of ERA5 in place of towers: every other cell
in both directions is hidden on every other day and filled from the nearest of the remaining cells.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
import xarray as xr

from benchmarks.common import DATA, STORE
from xcarbon import open_era5, open_store
from xcarbon.prep.drivers import fill_drivers
from xcarbon.prep.drivers.adjustment import adjust_tower
from xcarbon.prep.quality import mask_quality

CODES, DAYS = ("TA", "SW_IN", "VPD"), (7, 30, 90, 180, 365)
#: Distances of the towers of a pair [km], and least number of common measured hours.
NEAREST, FARTHEST, COMMON = 3, 60, 2 * 8760
#: Hours between the beginnings of two overlaps, and least share of measured hours in one.
STEP, SHARE = 120 * 24, 0.8


def rmse(error: np.ndarray) -> float:
    """Root mean square of errors, missing ones left out."""
    return float(np.sqrt(np.nanmean(error**2)))


def distances(ds: xr.Dataset) -> np.ndarray:
    """Distances between towers [km], (site, site)."""
    lat, lon = np.radians(ds["lat"].values), np.radians(ds["lon"].values)
    half = np.sin((lat[:, None] - lat) / 2) ** 2
    half = half + np.cos(lat[:, None]) * np.cos(lat) * np.sin((lon[:, None] - lon) / 2) ** 2
    return np.asarray(2 * 6371 * np.arcsin(np.sqrt(half)))


def from_neighbours(ds: xr.Dataset, code: str) -> pd.DataFrame:
    """RMSE of adjusted and unadjusted values of the nearest tower, one row for each overlap."""
    apart, rows = distances(ds), []
    for number, site in enumerate(ds["site"].values):
        near = np.where((apart[number] > NEAREST) & (apart[number] < FARTHEST), apart[number], np.inf)
        other = int(near.argmin())
        offsets = ds["utc_offset"].values[[number, other]]
        if np.isinf(near[other]) or offsets[0] != offsets[1]:
            continue
        pair = ds[[code, f"{code}_QC"]].isel(site=[number, other]).load()
        own, neighbour = mask_quality(pair, [code], 0)[code].values.astype(float)
        both = np.flatnonzero(np.isfinite(own + neighbour))
        if both.size < COMMON:
            continue
        for begin in range(both[0], both[-1] - 24 * max(DAYS), STEP):
            for days in DAYS:
                measured = np.full(own.shape, np.nan)
                measured[begin : begin + 24 * days] = own[begin : begin + 24 * days]
                fitted = np.isfinite(measured + neighbour)
                if fitted.sum() < SHARE * 24 * days:
                    continue
                adjusted, _ = adjust_tower(
                    measured,
                    ~fitted,
                    neighbour[:, None, None],
                    np.array([0]),
                    0,
                    site,
                    code=code,
                    min_hours=2,
                )
                before, after = (rmse((values - own)[~fitted]) for values in (neighbour, adjusted))
                rows.append({"tower": site, "days": days, "before": before, "after": after})
    return pd.DataFrame(rows)


def from_cells(era5: xr.Dataset) -> pd.DataFrame:
    """RMSE of cells that are filled from the nearest other cell, adjusted and unadjusted."""
    rows, columns = (part.ravel() for part in np.meshgrid(range(0, 14, 2), range(1, 20, 2), indexing="ij"))
    cells = era5.isel(lat=("site", rows), lon=("site", columns)).transpose("site", "time")
    truth = cells.drop_vars("utc_offset").assign_coords(
        site=[f"XX-{number:03d}" for number in range(rows.size)], utc_offset=("site", np.zeros(rows.size))
    )
    truth = truth.assign_coords(time=truth["time"].values)
    others = era5.copy(deep=True)
    for row, column in zip(rows, columns, strict=True):
        for code in others.data_vars:
            others[code][:, row, column] = np.nan
    is_hidden = xr.DataArray(np.arange(truth.sizes["time"]) // 24 % 2 == 1, dims="time")
    filled = fill_drivers(truth.where(~is_hidden), others, min_hours=240)
    # Meridians are closer than parallels, and of two equally close cells the western one is used.
    nearest = others.isel(lat=("site", rows), lon=("site", columns - 1))
    table = {}
    for code in era5.data_vars:
        error = [(values - truth[code]).where(is_hidden).values for values in (nearest[code].T, filled[code])]
        table[code] = dict(zip(("before", "after"), map(rmse, error), strict=True))
    return pd.DataFrame(table).T


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    ds = open_store(STORE)
    for code in CODES:
        table = from_neighbours(ds, code)
        table["ratio"], table["worse"] = table["after"] / table["before"], table["after"] > table["before"]
        table["missing"] = table["after"].isna()
        parts = table.groupby("days")
        print(f"\n{code}, {table['tower'].nunique()} towers: RMSE adjusted / unadjusted\n")
        print(
            pd.DataFrame(
                {
                    "median": parts["ratio"].median(),
                    "mean": parts["ratio"].mean(),
                    "share worse": parts["worse"].mean(),
                    "share not adjusted": parts["missing"].mean(),
                    "overlaps": parts.size(),
                }
            ).round(2)
        )
    era5 = open_era5(DATA / "era5" / "era5_2022_07_alps.nc")[["TA", "SW_IN"]].load()
    print("\nCells of ERA5: RMSE unadjusted and adjusted\n")
    print(from_cells(era5).round(2))


if __name__ == "__main__":
    main()
