"""Areas of cells: exact on the ellipsoid, complete on the globe, and independent of the order of the axes."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from xcarbon.core.errors import MetadataError
from xcarbon.prep.cells import cell_area, cell_edges, check_axes, with_cell_area


def grid(lat: object, lon: object) -> xr.Dataset:
    return xr.Dataset(coords={"lat": ("lat", np.asarray(lat)), "lon": ("lon", np.asarray(lon))})


@pytest.mark.parametrize("step", [0.25, 1.0, 7.5])
@pytest.mark.parametrize("on_poles", [True, False])
def test_cells_of_the_globe_have_its_surface(step, on_poles):
    """4 pi R2 with the radius of the sphere whose surface is that of WGS84 (Moritz 2000)."""
    first = 90 if on_poles else 90 - step / 2
    world = grid(np.arange(first, -90 - step / 4, -step), np.arange(0, 360, step))
    assert float(cell_area(world).sum()) == pytest.approx(4 * np.pi * 6_371_007.1809**2, rel=1e-9)


@pytest.mark.parametrize(("lat", "step"), [(0.25, 0.5), (45.5, 1.0), (-71.95, 0.1)])
def test_area_of_a_cell_is_that_of_a_polygon_on_the_ellipsoid(lat, step):
    geod = pytest.importorskip("pyproj", reason="computes areas of polygons").Geod(ellps="WGS84")
    along = np.linspace(0, step, 4000)  # the sides of a polygon are geodesics, those of a cell are parallels
    south, north = np.full(along.size, lat - step / 2), np.full(along.size, lat + step / 2)
    polygon, _ = geod.polygon_area_perimeter([*along, *along[::-1]], [*south, *north])
    found = cell_area(grid([lat, lat + step], [step / 2, 1.5 * step]))
    assert found.values[0] == pytest.approx([polygon, polygon], rel=1e-6)


@given(st.floats(-80, 80), st.floats(0.05, 3), st.integers(1, 4))
def test_cells_have_the_area_of_the_cells_that_they_consist_of(south, step, parts):
    coarse = cell_area(grid([south, south + step], [10.0, 10 + step]))
    small = step / parts
    centres = np.arange(2 * parts) * small - step / 2 + small / 2
    fine = cell_area(grid(south + centres, 10 + centres))
    assert float(fine.sum()) == pytest.approx(float(coarse.sum()), rel=1e-9)


def test_order_and_seam_do_not_matter():
    west = cell_area(grid([50.0, 49.0], [-179.5, -178.5]))
    seam = cell_area(grid([49.0, 50.0], [179.5, -179.5, -178.5]))
    np.testing.assert_allclose(west.values[::-1], seam.values[:, :2])
    assert cell_edges(np.array([1.0]), np.array([0.0, 0.5]))[0].tolist() == [0.75, 1.25]


def test_what_is_no_grid_is_said():
    with pytest.raises(MetadataError, match="no coordinate lat"):
        cell_area(xr.Dataset(coords={"latitude": [1.0], "lon": [1.0]}))
    with pytest.raises(MetadataError, match="monotonic"):
        cell_area(grid([1.0, 3.0, 2.0], [1.0]))


def test_measures_are_named_by_variables_on_the_cells():
    ds = grid([1.0, 2.0], [3.0, 4.0]).assign(NEE=(("lat", "lon"), np.ones((2, 2))), other=("lat", [1, 2]))
    found = with_cell_area(ds)
    assert found["NEE"].attrs == {"cell_measures": "area: cell_area"} and not found["other"].attrs
    assert "cell_area" not in ds.coords and not ds["NEE"].attrs


def test_towers_and_paths_are_no_grid():
    towers = xr.Dataset(coords={"lat": ("site", [50.0, 49.0]), "lon": ("site", [10.0, 11.0])})
    with pytest.raises(MetadataError, match="like: lat lies along 'site', as of towers"):
        check_axes(towers, "like", MetadataError)
    with pytest.raises(MetadataError, match="like must be a Dataset or DataArray"):
        check_axes("a.nc", "like", MetadataError)
