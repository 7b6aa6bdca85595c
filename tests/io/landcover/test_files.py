"""Maps of all formats are equal, and files that are no map are named."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import xarray as xr

from tests.io.landcover.samples import LAND, MCD12C1, axis, pixels, write_geotiff, write_hdf4
from xcarbon.core.errors import FileFormatError, OptionError, VariableError
from xcarbon.io.landcover import files, open_landcover
from xcarbon.testing import raise_on_compute


def test_all_formats_of_mcd12c1_are_equal(values, tmp_path):
    values[3, 5] = 255
    maps = {
        "hdf": write_hdf4(tmp_path / "MCD12C1.A2019001.061.2022170020638.hdf", values),
        "tif": write_geotiff(tmp_path / "MCD12C1.A2019001.tif", values),
        "nc": tmp_path / "map.nc",
        "zarr": tmp_path / "map.zarr",
    }
    pixels(values).to_netcdf(maps["nc"], encoding={MCD12C1: {"_FillValue": 255}})
    pixels(values).to_zarr(maps["zarr"])
    expected = np.array(["", *LAND])[np.where(values == 255, 0, values)]
    for path in maps.values():
        with raise_on_compute():
            ds = open_landcover(path)
        assert ds["igbp"].chunks
        ds.load()
        np.testing.assert_array_equal(ds["igbp"], expected)
        np.testing.assert_allclose(ds["lat"], axis(90, -90, 18))
        np.testing.assert_allclose(ds["lon"], axis(-180, 180, 36))
        assert np.isnan(ds["land_fraction"][3, 5]) and ds["land_fraction"].sum() == (values > 0).sum() - 1
        assert "MCD12C1" in ds.attrs["title"] and "igbp" in ds.coords


def test_map_of_the_package(values, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(files, "_PACKAGE", "a_map_in_a_package")
    with pytest.raises(FileNotFoundError, match=r"xcarbon\[landcover\]"):
        open_landcover()
    folder = tmp_path / "a_map_in_a_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise ImportError('its code is not needed')")
    write_geotiff(folder / files._PACKAGED, values)
    assert (open_landcover()["igbp"].values == np.array(["", *LAND])[values]).all()


def test_real_map_of_the_package():
    pytest.importorskip("rasterio")
    try:
        ds = open_landcover(like=xr.Dataset(coords={"lat": [50.96, 48.7], "lon": [13.57, 2.35]}))
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert ds["igbp"].shape == (2, 2) and set(ds["igbp"].values.ravel()) <= set(LAND)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda ds: ds.rename({MCD12C1: "cover"}), VariableError, r"\['cover'\].*legend="),
        (lambda ds: ds.rename({MCD12C1: "a"}).assign(b=ds[MCD12C1]), VariableError, "file of its own"),
        (lambda ds: ds + np.uint8(20), FileFormatError, "value 20, which is not a class"),
        (lambda ds: ds + 0.5, FileFormatError, "value 0.5, which is not a class"),
        (lambda ds: ds.expand_dims(time=[1, 2]), FileFormatError, "single map"),
        (lambda ds: ds.drop_vars("lat"), FileFormatError, "no coordinate lat"),
        (lambda ds: ds.isel(lon=[0, 2, 1]), FileFormatError, "lon must be one-dimensional and monotonic"),
        (lambda ds: ds.assign_coords(lat=ds["lat"] * 2), FileFormatError, "lat must be one-dim"),
        (lambda ds: ds.rename(lat="row"), FileFormatError, "single map"),
    ],
)
def test_files_that_are_no_map(tmp_path, change, error, message):
    path = tmp_path / "theirs.nc"
    change(pixels(np.zeros((4, 8), "uint8"))).to_netcdf(path)
    with pytest.raises(error, match=message) as raised:
        open_landcover(path).load()
    assert "theirs.nc" in str(raised.value)


def test_other_files(values, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_landcover(tmp_path / "nowhere.hdf")
    for name in ("text.nc", "text.tif", "text.hdf"):
        (tmp_path / name).write_text("no map")
        with pytest.raises(FileFormatError, match=name):
            open_landcover(tmp_path / name)
    with pytest.raises(VariableError, match="no variable Majority_Land_Cover_Type_1"):
        open_landcover(write_hdf4(tmp_path / "MCD12C1.other.hdf", values, "Majority_Land_Cover_Type_2"))
    with pytest.raises(FileFormatError, match="global map"):
        open_landcover(write_hdf4(tmp_path / "MCD12C1.part.hdf", values[:9]))
    with pytest.raises(FileFormatError, match="EPSG:3857"):
        open_landcover(write_geotiff(tmp_path / "MCD12C1.mercator.tif", values, "EPSG:3857"))
    unnamed = write_geotiff(tmp_path / "unnamed.tif", values)
    with pytest.raises(VariableError, match="pass legend="):
        open_landcover(unnamed)
    assert (open_landcover(unnamed, legend="igbp")["igbp"].values[values == 4] == "DBF").all()
    with pytest.raises(OptionError, match="modis"):
        open_landcover(unnamed, legend="modis")


def test_damaged_pixels_are_named_when_they_are_computed(values, tmp_path):
    path = write_geotiff(tmp_path / "MCD12C1.A2019001.tif", values)
    path.write_bytes(path.read_bytes()[: -values.size // 2])
    with pytest.raises(FileFormatError, match=r"MCD12C1\.A2019001\.tif.* cannot be (read|opened)"):
        open_landcover(path).load()
