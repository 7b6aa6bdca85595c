"""Tests of the limits of maps and of the names of towers."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from xcarbon.plotting import CarbonPlot
from xcarbon.plotting.sites import MIN_HEIGHT, WORLD, degrees, extent

places = st.lists(st.tuples(st.floats(-180, 180), st.floats(-80, 80)), min_size=1, max_size=5)


@given(places)
def test_all_towers_are_within_the_map(towers: list[tuple[float, float]]) -> None:
    lon, lat = np.array(towers).T
    (west, east), (south, north) = extent(lon, lat)
    assert west <= lon.min() and lon.max() <= east
    if ((west, east), (south, north)) != WORLD:
        assert south <= lat.min() and lat.max() <= north
        assert north - south >= MIN_HEIGHT - 1e-9 or north == 90 or south == -90


def test_towers_of_all_continents_are_on_a_map_of_the_world() -> None:
    assert extent(np.array([-150.0, 140.0]), np.array([60.0, -30.0])) == WORLD
    assert extent(np.array([np.nan]), np.array([np.nan])) == WORLD
    (west, east), (south, north) = extent(np.array([13.6, np.nan]), np.array([51.0, np.nan]))
    assert (west + east) / 2 == pytest.approx(13.6) and (south + north) / 2 == pytest.approx(51)
    assert (east - west) * np.cos(np.deg2rad(51)) / (north - south) == pytest.approx(1.6)


def test_few_towers_are_named_and_neighbours_together(ds: xr.Dataset) -> None:
    few = ds.isel(site=[0, 1, 2]).assign_coords(
        lon=("site", [13.0, 13.001, 16.0]), lat=("site", [51.0, 51.001, 50.0])
    )
    ax = CarbonPlot(few).sites()
    assert [text.get_text() for text in ax.texts] == ["SY-001, SY-002", "SY-003"]
    assert ax.get_xlim()[0] > 5 and ax.get_xlim()[1] < 25
    many = xr.concat([ds, ds.assign_coords(site=[f"again-{name}" for name in ds["site"].values])], "site")
    assert not CarbonPlot(many).sites().texts


def test_towers_without_a_number_are_hollow(ds: xr.Dataset) -> None:
    known = ds["elevation"].where(ds["site"] != "SY-002")
    ax = CarbonPlot(ds.assign_coords(elevation=known)).sites(color_by="elevation")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["unknown (1)"]


def test_degrees_have_a_letter() -> None:
    assert [degrees(value, "WE") for value in (-60, 0, 7.5)] == ["60° W", "0°", "7.5° E"]
