"""Stores with satellite series, from files that lie beside the towers."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from tests.io.modis.samples import LAT, LON, write_bands
from xcarbon import open_satellite, open_store
from xcarbon.core.errors import FileFormatError
from xcarbon.pipeline import build, read_audit
from xcarbon.pipeline.survey import find, survey_towers
from xcarbon.pipeline.towers import make_template
from xcarbon.testing import raise_on_compute, synthetic_towers, write_fluxnet_csv


def write_sample(path, sites=("SY-001", "elsewhere"), fpar=0.5):
    dates = pd.date_range("2009-12-27", "2010-02-10", freq="8D").strftime("%Y-%m-%d")
    rows = [
        {"ID": site, "Latitude": 50, "Longitude": 10, "Date": date}
        | {"MCD15A2H_061_Fpar_500m": fpar + 0.01 * i, "MCD15A2H_061_FparLai_QC": 0}
        for site in sites
        for i, date in enumerate(dates)
    ]
    path.parent.mkdir(exist_ok=True)
    pd.DataFrame(rows).to_csv(path, index=False)


@pytest.fixture
def raw(tmp_path):
    """Two towers of ten days, and a series of one of them."""
    towers = synthetic_towers(2, patches=False, variables=["TA", "NEE"], seed=3)
    folder = tmp_path / "raw"
    folder.mkdir()
    for site in towers["site"].values:
        few = towers.isel(time=slice(0, 240))
        write_fluxnet_csv(few, site, folder / f"FLX_{site}_FLUXNET2015_SUBSET_HH_2010-2010_1-4.csv")
    write_sample(folder / "satellite" / "towers-MCD15A2H-061-results.csv")
    header = "SITE_ID,LOCATION_LAT,LOCATION_LON,IGBP,UTC_OFFSET"
    rows = [f"SY-001,{LAT},{LON},ENF,-5", "SY-002,50,10,ENF,1"]
    (folder / "site_data.csv").write_text("\n".join([header, *rows]))
    return folder


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store.zarr"


def test_series_are_joined(raw, store):
    report = build(raw, store)
    assert not report.problems
    ds = open_store(store).load()
    expected = open_satellite(raw / "satellite" / "*.csv").sel(site="SY-001")
    np.testing.assert_array_equal(ds["day"], expected["day"])
    np.testing.assert_array_equal(ds["FAPAR"].sel(site="SY-001"), expected["FAPAR"])
    np.testing.assert_array_equal(ds["FAPAR_QC"].sel(site="SY-001"), expected["FAPAR_QC"])
    assert ds["FAPAR"].sel(site="SY-002").isnull().all() and (ds["FAPAR_QC"].sel(site="SY-002") == -1).all()
    assert ds["FAPAR"].attrs["composite_days"] == 8
    assert read_audit(store, "SY-001")["composites"] == 6 and read_audit(store, "SY-002")["composites"] == 0
    assert build(raw, store).kept == ("SY-001", "SY-002")


def test_changed_series_are_built_for_their_tower_alone(raw, store):
    build(raw, store)
    write_sample(raw / "satellite" / "towers-MCD15A2H-061-results.csv", fpar=0.6)
    report = build(raw, store)
    assert report.built == ("SY-001",) and report.kept == ("SY-002",)
    assert float(open_store(store)["FAPAR"].min()) == pytest.approx(0.6)


def test_series_that_come_later_leave_the_other_tower(raw, store):
    sample = raw / "satellite" / "towers-MCD15A2H-061-results.csv"
    content = sample.read_bytes()
    sample.unlink()
    build(raw, store)
    assert "FAPAR" not in open_store(store)
    sample.write_bytes(content)
    assert build(raw, store).built == ("SY-001",)
    ds = open_store(store)
    assert int(ds["FAPAR"].notnull().sum()) == 6 and (ds["FAPAR_QC"].sel(site="SY-002") == -1).all()
    assert ds["NEE"].sel(site="SY-002").notnull().any()


def test_series_and_patches_share_their_days(raw, store):
    for day in ("2010001", "2010002"):
        write_bands(raw / "modis", day=day)
    assert not build(raw, store).problems
    ds = open_store(store).load()
    assert ds.sizes["day"] == 8
    assert ds["reflectance"].notnull().any(("band", "y", "x")).sum() == 2
    assert ds["FAPAR"].notnull().sum() == 6


def test_template_with_series_computes_nothing(raw):
    found = find(raw)
    assert len(found.series) == 1 and not found.problems
    with ThreadPoolExecutor(1) as pool, raise_on_compute():
        plan, _ = survey_towers(found, None, pool, uncertainty=False)
        template = make_template(plan)
    assert template.ds["FAPAR"].sizes["site"] == 2


def test_wrong_series_are_reported_and_left_out(raw, store):
    write_sample(raw / "satellite" / "raw.csv", fpar=45)
    sample = raw / "satellite" / "broken.csv"
    sample.write_text("ID,Date,MCD15A2H_061_Fpar_500m\nSY-001,yesterday,0.5\n")
    report = build(raw, store)
    first, *others = report.problems
    assert "broken.csv: column 'Date', row 1: 'yesterday' is no date" in str(first)
    assert any("FAPAR beyond 0 to 1" in str(problem) and "raw.csv" in str(problem) for problem in others)
    assert float(open_store(store)["FAPAR"].max()) < 1
    with pytest.raises(FileFormatError, match="broken"):
        build(raw, store.with_name("other.zarr"), strict=True)


def test_series_of_other_towers_are_reported(raw, store):
    write_sample(raw / "satellite" / "towers-MCD15A2H-061-results.csv", ["elsewhere"])
    (problem,) = build(raw, store).problems
    assert "no tower and year of this build" in str(problem)
    assert "FAPAR" not in open_store(store)


def test_real_files_are_found_by_their_content(raw, store, real_data):
    for path in (real_data / "satellite").glob("*.nc"):
        with xr.open_dataset(path) as ds:
            ds = ds.isel(site=slice(2)).assign_coords(site=["SY-001", "SY-002"])
            ds.to_netcdf(raw / path.name)
    assert not build(raw, store).problems
    ds = open_store(store)
    assert {"LAI", "SIF", "SOIL_MOISTURE", "NIRV"} <= set(ds)
    assert (ds["NIRV_QC"] == 2).any("day").values.all()
    assert ds["day"].values[0] >= np.datetime64("2009-08-01")
