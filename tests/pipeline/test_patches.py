"""Tests of building stores with satellite patches from synthetic and from real rasters."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import xcarbon
from tests.io.modis.samples import AROUND, LAT, LON, counts, name, patch_counts, write_bands, write_geotiff
from xcarbon import open_store
from xcarbon.io.modis.grid import georeference, sinusoidal
from xcarbon.io.modis.patches import open_modis
from xcarbon.pipeline import build, read_audit
from xcarbon.testing import synthetic_towers, write_fluxnet_csv

AUSTRALIA = ["AU-Tum", "AU-Wom", "AU-Whr", "AU-Cum", "AU-Rob"]


@pytest.fixture
def raw(tmp_path):
    """Return two towers in summer; the images cover one of them."""
    towers = synthetic_towers(2, patches=False, variables=["TA", "NEE"], seed=3)
    folder = tmp_path / "raw"
    folder.mkdir()
    for site in towers["site"].values:
        few = towers.isel(time=slice(0, 240))
        write_fluxnet_csv(few, site, folder / f"FLX_{site}_FLUXNET2015_SUBSET_HH_2010-2010_1-4.csv")
    for day in ("2018185", "2018186"):
        write_bands(folder / "modis", day=day)
    header = "SITE_ID,LOCATION_LAT,LOCATION_LON,IGBP,UTC_OFFSET"
    rows = [f"SY-001,{LAT},{LON},ENF,-5", "SY-002,50,10,ENF,1"]
    (folder / "site_data.csv").write_text("\n".join([header, *rows]))
    return folder


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store.zarr"


def test_patches_are_cut_and_joined(raw, store):
    assert not build(raw, store).problems
    ds = open_store(store).load()
    assert ds["day"].dt.dayofyear.values.tolist() == [185, 186]
    np.testing.assert_array_equal(np.rint(ds["reflectance"].values[0, 0] * 1e4), patch_counts())
    assert ds["reflectance"].sel(site="SY-002").isnull().all()
    assert read_audit(store, "SY-001")["patches"] == 2 and read_audit(store, "SY-002")["patches"] == 0
    xr.testing.assert_equal(ds["reflectance"].variable, open_modis(raw / "modis", ds)["reflectance"].variable)
    assert georeference(ds.sel(site="SY-001")).rio.crs == sinusoidal().rio.crs


def test_new_rasters_are_read_for_the_towers_under_them(raw, store):
    build(raw, store)
    write_bands(raw / "modis", day="2018187")
    report = build(raw, store)
    assert report.built == ("SY-001",) and report.kept == ("SY-002",)
    assert open_store(store)["reflectance"].notnull().any(("band", "y", "x")).sum().compute() == 3


def test_broken_raster_is_reported_and_left_out(raw, store):
    broken = raw / "modis" / name("Nadir_Reflectance_Band3", day="2018186")
    build(raw, store)
    broken.write_bytes(broken.read_bytes()[:200])
    report = build(raw, store)
    assert [problem for problem in report.problems if broken.name in str(problem)]
    assert report.built == ("SY-001",)


def test_raster_on_another_grid_is_reported(raw, store):
    path = raw / "modis" / name("Nadir_Reflectance_Band1", day="2018190")
    write_geotiff(path, AROUND, counts(AROUND), crs="EPSG:32633")
    (problem,) = build(raw, store).problems
    assert path.name in problem.reason and "sinusoidal" in problem.reason


@pytest.fixture(scope="module")
def real_store(real_data, tmp_path_factory) -> Path:
    """Build the nine towers of the raw files and four more towers under the rasters."""
    raw = tmp_path_factory.mktemp("real") / "raw"
    raw.mkdir()
    for path in [*(real_data / "raw").iterdir(), real_data / "mod09a1_australia.nc"]:
        (raw / path.name).symlink_to(path)
    towers = xcarbon.open_store(real_data / "fluxnet2015_hourly.zarr").sel(time=slice("2012", "2013"))
    metadata = {}
    for site in set(AUSTRALIA) - {"AU-Tum"}:
        write_fluxnet_csv(towers, site, raw / f"FLX_{site}_FLUXNET2015_SUBSET_HH_2012-2013_1-4.csv")
        fields = ("lat", "lon", "igbp", "elevation", "utc_offset")
        metadata[site] = {name: towers[name].sel(site=site).item() for name in fields}
    with xcarbon.set_options(progress=False):
        report = build(raw, raw.parent / "store.zarr", metadata=metadata)
    assert len(report.built) == 13 and not report.problems
    return report.store


def test_real_towers_and_patches_are_those_of_their_sources(real_store, real_towers, real_data):
    ds = open_store(real_store)
    both = slice("2012-03-01", "2012-05-31")
    for site in AUSTRALIA:
        found, expected = (of["NEE"].sel(site=site, time=both) for of in (ds, real_towers))
        np.testing.assert_allclose(found, expected, atol=0.004)
    patches = open_modis(real_data / "mod09a1_australia.nc", ds.sel(site=AUSTRALIA)).load()
    found = ds["reflectance"].sel(site=AUSTRALIA).values
    np.testing.assert_allclose(found, patches["reflectance"].values, atol=1e-6)
    assert np.isfinite(found).all(axis=(2, 3, 4)).any(axis=1).all()


def test_real_store_checks_and_trains(real_store, tmp_path):
    ds = open_store(real_store)
    report = xcarbon.check(ds.sel(site=["AU-Tum", "US-ARc"]))
    assert not report.has_errors
    assert any(found.site == "US-ARc" and "utc_offset" in found.message for found in report.findings)
    train = ds.sel(site=AUSTRALIA, time=slice("2012", "2013"))
    model = train.carbon.fit(run_dir=tmp_path, max_steps=1, batch_size=8, network={"cross_blocks": 1})
    assert model.config.bands and "AU-Tum" in model.sites
    assert np.isfinite(train.isel(site=[0]).sel(time="2012-02").carbon.predict_nee(model).values).any()
