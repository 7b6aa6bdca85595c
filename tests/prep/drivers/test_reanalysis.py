"""Reanalysis of the right cell and hour is selected."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xcarbon.core.errors import MetadataError
from xcarbon.prep.drivers import fill_drivers


@pytest.mark.parametrize("offset", [-8.0, 0.0, 1.0, 5.5, 5.75, 9.5])
def test_labels_are_shifted_by_the_offset(truth, offset):
    tower = truth.isel(site=[0]).assign_coords(utc_offset=("site", [offset]))
    utc = (tower["time"] - tower["time"][0]).values / np.timedelta64(1, "h") - offset
    tower = tower.assign(TA=(("site", "time"), (utc % 24)[None] - 10))[["TA"]]
    smooth = tower["TA"].where(abs(utc % 24 - 12) < 10)  # away from midnight, where the saw-tooth falls
    stamps = tower["time"].values[0] + np.arange(-24, 8800) * np.timedelta64(1, "h")
    era5 = xr.Dataset({"TA": ("time", np.arange(-24, 8800) % 24.0)}, {"time": stamps})
    filled = fill_drivers(tower.assign(TA=smooth.where(smooth["time"].dt.month != 5)), era5)
    there = smooth.notnull()
    np.testing.assert_allclose(filled["TA"].where(there), smooth, atol=1e-4)
    assert float(filled["era5_rmse"][0, 0]) < 1e-4


def towers_at(*places: tuple[float, float]) -> xr.Dataset:
    """Make towers of 30 days in UTC with a gap of one day."""
    time = np.arange("2010-01-01", "2010-01-31", dtype="M8[h]").astype("M8[ns]")
    rng = np.random.default_rng(5)
    values = rng.normal(size=(len(places), time.size))
    values[:, 100:124] = np.nan
    coords = {
        "time": time,
        "site": [f"XX-{number:03d}" for number in range(len(places))],
        "lat": ("site", [place[0] for place in places]),
        "lon": ("site", [place[1] for place in places]),
        "utc_offset": ("site", np.zeros(len(places))),
    }
    return xr.Dataset({"TA": (("site", "time"), values)}, coords)


def grid_with(towers: xr.Dataset, cells: list[tuple[float, float]], lats, lons) -> xr.Dataset:
    """Make a grid with the complete series of each tower plus 1 in one cell, and noise in the others."""
    rng = np.random.default_rng(6)
    values = rng.normal(size=(towers.sizes["time"], len(lats), len(lons)))
    grid = xr.DataArray(values, {"time": towers["time"], "lat": lats, "lon": lons}, ("time", "lat", "lon"))
    for number, (lat, lon) in enumerate(cells):
        grid.loc[{"lat": lat, "lon": lon}] = towers["TA"][number].fillna(7.0) + 1
    return grid.to_dataset(name="TA")


def test_the_cell_of_each_tower_is_selected():
    lats, lons = np.arange(50.0, 47, -0.25), np.arange(8.0, 11, 0.25)
    towers = towers_at((49.3, 9.4), (48.1, 10.2))
    era5 = grid_with(towers, [(49.25, 9.5), (48.0, 10.25)], lats, lons)
    filled = fill_drivers(towers, era5, min_hours=200)
    np.testing.assert_allclose(filled["TA"][:, 100:124], 7, atol=1e-5)
    np.testing.assert_allclose(filled["era5_intercept"], -1, atol=1e-5)


def test_cells_without_values_are_replaced_by_the_nearest_with_values():
    lats, lons = np.arange(50.0, 47, -0.25), np.arange(8.0, 11, 0.25)
    towers = towers_at((49.3, 9.4), (50.0, 8.0))
    era5 = grid_with(towers, [(49.25, 9.25), (49.75, 8.25)], lats, lons)
    sea = [(49.25, 9.5), (50.0, 8.0), (50.0, 8.25), (49.75, 8.0)]
    for lat, lon in sea:
        era5["TA"].loc[{"lat": lat, "lon": lon}] = np.nan
    filled = fill_drivers(towers, era5, min_hours=200)
    np.testing.assert_allclose(filled["TA"][:, 100:124], 7, atol=1e-5)


def test_longitudes_are_cyclic():
    lats, lons = np.arange(-10.0, 10, 1), np.arange(-180.0, 180, 1)
    towers = towers_at((2.1, 179.8))
    filled = fill_drivers(towers, grid_with(towers, [(2, -180)], lats, lons), min_hours=200)
    np.testing.assert_allclose(filled["TA"][:, 100:124], 7, atol=1e-5)
    eastwards = grid_with(towers, [(2, 180)], lats, lons % 360)
    again = fill_drivers(towers, eastwards.sortby("lon"), min_hours=200)
    np.testing.assert_allclose(again["TA"][:, 100:124], 7, atol=1e-5)


def test_towers_outside_the_grid_are_named():
    lats, lons = np.arange(50.0, 47, -0.25), np.arange(8.0, 11, 0.25)
    era5 = grid_with(towers_at((48, 9)), [], lats, lons)
    with pytest.warns(UserWarning, match="do not increase with reanalysis"):  # a corner cell has noise
        fill_drivers(towers_at((50.1, 7.9)), era5, min_hours=200)
    with pytest.raises(MetadataError, match=r"XX-001: the tower at 50\.2 degrees north, 8 degrees east"):
        fill_drivers(towers_at((48, 9), (50.2, 8)), era5)
    with pytest.raises(MetadataError, match="XX-000: lat or lon is missing"):
        fill_drivers(towers_at((np.nan, 9)), era5)
