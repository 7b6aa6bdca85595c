"""Satellite series keep the values of their files, at the centres of composites, with quality flags."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import xcarbon
from xcarbon.core.errors import FileFormatError, MetadataError
from xcarbon.core.variables import SATELLITE
from xcarbon.io.composites import compose, merge
from xcarbon.io.netcdf import open_netcdf
from xcarbon.io.satellite import is_satellite, open_satellite
from xcarbon.io.store import open_store, to_store
from xcarbon.testing import synthetic_towers

CATEGORY = {"Category": "tower", "Latitude": 50.0, "Longitude": 10.0, "MODIS_Tile": "h18v03"}


def sample(path, sites, dates, **columns):
    """Write a point sample as AppEEARS names its columns; columns are values by date."""
    rows = [
        {"ID": site} | CATEGORY | {"Date": date} | {name: of[i] for name, of in columns.items()}
        for site in sites
        for i, date in enumerate(dates)
    ]
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def days(ds: xr.Dataset) -> list[str]:
    return ds["day"].values.astype("datetime64[D]").astype(str).tolist()


def flags(ds: xr.Dataset, code: str, site: str = "A") -> list[int]:
    return ds[f"{code}_QC"].sel(site=site).values.tolist()


# --- Point samples ----------------------------------------------------------------


def test_fapar_and_lai_of_a_point_sample(tmp_path):
    dates = ["2010-01-01", "2010-01-09", "2010-01-17", "2010-01-25", "2010-02-02", "2010-02-10"]
    path = sample(
        tmp_path / "a-MCD15A2H-061-results.csv",
        ["A", "B"],
        dates,
        MCD15A2H_061_Line_Y_500m=[1] * 6,
        MCD15A2H_061_Fpar_500m=[0.5, 0.6, 0.7, 2.54, 0.4, 0.3],
        MCD15A2H_061_Lai_500m=[1.5, 1.6, 1.7, 25.4, 255, 0.3],
        MCD15A2H_061_FparLai_QC=[0, 2, 72, 0, 0, 157],
        MCD15A2H_061_FparLai_QC_bitmask=["0b00000000"] * 6,
        MCD15A2H_061_FparLai_QC_CloudState=["Clear"] * 6,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ds = open_satellite(path)
    assert days(ds) == ["2010-01-05", "2010-01-13", "2010-01-21", "2010-02-06"]
    np.testing.assert_allclose(ds["FAPAR"].sel(site="B"), [0.5, 0.6, 0.7, 0.4], rtol=1e-6)
    np.testing.assert_allclose(ds["LAI"].sel(site="B"), [1.5, 1.6, 1.7, np.nan], rtol=1e-6)
    assert flags(ds, "FAPAR") == [0, 0, 1, 0]
    assert flags(ds, "LAI") == [0, 0, 1, -1]
    assert ds["FAPAR"].attrs["composite_days"] == 8


def test_the_shorter_composite_is_used_where_it_has_a_value(tmp_path):
    four = sample(
        tmp_path / "four.csv",
        ["A"],
        ["2010-01-01", "2010-01-05", "2010-01-09", "2010-01-13", "2010-01-17", "2010-01-21"],
        MCD15A3H_061_Fpar_500m=[0.1, 0.2, 2.5, 2.5, 0.5, 0.6],
        MCD15A3H_061_FparLai_QC=[0] * 6,
    )
    eight = sample(
        tmp_path / "eight.csv",
        ["A", "B"],
        ["2010-01-01", "2010-01-09", "2010-01-17"],
        MCD15A2H_061_Fpar_500m=[0.7, 0.8, 0.9],
        MCD15A2H_061_FparLai_QC=[0] * 3,
    )
    ds = open_satellite([eight, four])
    series = ds["FAPAR"].sel(site="A").dropna("day")
    assert days(series.to_dataset()) == [f"2010-01-{day:02}" for day in (3, 7, 13, 19, 23)]
    np.testing.assert_allclose(series, [0.1, 0.2, 0.8, 0.5, 0.6], rtol=1e-6)
    assert ds["FAPAR_DAYS"].sel(site="A").dropna("day").values.tolist() == [4, 4, 8, 4, 4]
    assert ds["FAPAR"].attrs["composite_days"] == 8
    assert ds["FAPAR"].sel(site="B").notnull().sum() == 3


def test_evi_of_a_point_sample(tmp_path):
    path = sample(
        tmp_path / "evi.csv",
        ["A"],
        ["2010-01-01", "2010-01-17", "2010-02-02", "2010-02-18"],
        MOD13Q1_061__250m_16_days_EVI=[0.4, 0.5, 0.1, -3000],
        MOD13Q1_061__250m_16_days_VI_Quality=[2112, 2181, 2177, 65535],
        MOD13Q1_061__250m_16_days_pixel_reliability=[0, 1, 3, -1],
    )
    ds = open_satellite(path)
    assert days(ds) == ["2010-01-09", "2010-01-25"] and flags(ds, "EVI") == [0, 1]
    assert ds["EVI"].attrs["composite_days"] == 16


def test_surface_temperature_of_a_point_sample(tmp_path):
    path = sample(
        tmp_path / "lst.csv",
        ["A"],
        ["2010-01-01", "2010-01-09", "2010-01-17"],
        MOD11A2_061_LST_Day_1km=[283.15, 293.15, 0],
        MOD11A2_061_QC_Day=[0, 65, 2],
        MOD11A2_061_LST_Night_1km=[273.15, 263.15, 253.15],
        MOD11A2_061_QC_Night=[0, 0, 193],
    )
    ds = open_satellite(path)
    np.testing.assert_allclose(ds["LST_DAY"][0], [10, 20], atol=1e-4)
    np.testing.assert_allclose(ds["LST_NIGHT"][0], [0, -10], atol=1e-4)
    assert flags(ds, "LST_DAY") == [0, 1] and flags(ds, "LST_NIGHT") == [0, 0]
    assert ds["LST_DAY"].attrs["units"] == "degC"


def test_indices_of_the_bands_of_a_point_sample(tmp_path):
    bands = {1: [0.05, 0.05, 0.05], 2: [0.35, 0.35, 32767], 3: [0.03] * 3, 6: [0.2] * 3, 4: [0.1] * 3}
    path = sample(
        tmp_path / "nbar.csv",
        ["A"],
        ["2010-07-01", "2010-07-02", "2010-07-03"],
        **{f"MCD43A4_061_Nadir_Reflectance_Band{band}": values for band, values in bands.items()},
        **{
            f"MCD43A4_061_BRDF_Albedo_Band_Mandatory_Quality_Band{band}": [0, int(band == 3), 0]
            for band in bands
        },
    )
    ds = open_satellite(path)
    assert days(ds) == ["2010-07-01", "2010-07-02"]  # the date is that of the centre of the sixteen days
    assert float(ds["NIRV"][0, 0]) == pytest.approx(0.35 * 0.3 / 0.4)
    assert float(ds["NDWI"][0, 0]) == pytest.approx(0.15 / 0.55)
    assert float(ds["EVI"][0, 0]) == pytest.approx(2.5 * 0.3 / (0.35 + 0.3 - 0.225 + 1))
    assert flags(ds, "NIRV") == [0, 0] and flags(ds, "EVI") == [0, 1]
    assert ds["EVI"].attrs["composite_days"] == 16


def test_point_sample_without_its_quality_layer_is_usable(tmp_path):
    path = sample(tmp_path / "a.csv", ["A"], ["2010-01-01"], MCD15A2H_061_Lai_500m=[1.5])
    assert flags(open_satellite(path), "LAI") == [1]


def test_values_beyond_the_limits_are_missing_and_counted(tmp_path):
    path = sample(
        tmp_path / "a.csv",
        ["A"],
        ["2010-01-01", "2010-01-09", "2010-01-17"],
        MCD15A2H_061_Fpar_500m=[0.5, 45, 46],
    )
    with pytest.warns(UserWarning, match=r"FAPAR beyond 0 to 1 \[1\] in .*a\.csv: MCD15A2H Fpar_500m: 2"):
        ds = open_satellite(path)
    assert days(ds) == ["2010-01-05"]


# --- Tables -----------------------------------------------------------------------


def table(path, **columns):
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


NAMES = {"site": "tower", "date": "day", "FAPAR": "fpar"}


def test_table_of_months(tmp_path):
    path = table(
        tmp_path / "a.csv",
        tower=["A"] * 3,
        day=["2010-01-01", "2010-02-01", "2010-04-01"],
        fpar=[0.1, -9999, 0.3],
    )
    ds = open_satellite(path, columns=NAMES)
    assert days(ds) == ["2010-01-16", "2010-04-16"]
    assert ds["FAPAR"].attrs["composite_days"] == 31


def test_table_with_flags_and_a_length(tmp_path):
    path = table(
        tmp_path / "a.csv", tower=["A", "A"], day=["2010-01-01", "2010-03-01"], fpar=[0.1, 0.2], q=[1, 2]
    )
    ds = open_satellite(path, columns=NAMES | {"FAPAR_QC": "q"}, composite_days=10)
    assert days(ds) == ["2010-01-06", "2010-03-06"]
    assert flags(ds, "FAPAR") == [1, 2]


@pytest.mark.parametrize(
    ("changes", "columns", "message"),
    [
        ({"day": ["2010-01-01", "soon"]}, NAMES, r"a\.csv: column 'day', row 2: 'soon' is no date"),
        ({"fpar": ["0.1", "low"]}, NAMES, r"a\.csv: column 'fpar', site A, row 2: 'low' is no number"),
        ({"tower": ["A", None]}, NAMES, r"a\.csv: column 'tower', row 2: the site is missing"),
        ({"day": ["2010-01-01"] * 2}, NAMES, r"one date does not state the length"),
        ({}, NAMES | {"FAPAR": "fapar"}, r"a\.csv: there are no columns \['fapar'\]"),
        ({}, {"site": "tower", "FAPAR": "fpar"}, r"columns needs 'site', 'date'"),
        ({}, NAMES | {"NDVI": "fpar"}, r"columns needs"),
        ({}, None, r"not a point sample of AppEEARS"),
        ({"q": [0, 7]}, NAMES | {"FAPAR_QC": "q"}, r"'q' has flags \[7\.0\]"),
    ],
)
def test_errors_name_file_column_and_site(tmp_path, changes, columns, message):
    plain = {"tower": ["A", "A"], "day": ["2010-01-01", "2010-01-09"], "fpar": [0.1, 0.2]}
    path = table(tmp_path / "a.csv", **plain | changes)
    with pytest.raises((FileFormatError, MetadataError), match=message):
        open_satellite(path, columns=columns)


def test_two_rows_for_one_composite_are_refused(tmp_path):
    path = table(
        tmp_path / "a.csv", tower=["A"] * 3, day=["2010-01-01", "2010-01-09", "2010-01-09"], fpar=[0.1] * 3
    )
    with pytest.raises(FileFormatError, match="site A has two values"):
        open_satellite(path, columns=NAMES)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.nc"):
        open_satellite(tmp_path / "none.nc")


# --- NetCDF -----------------------------------------------------------------------


def netcdf(path, name="LAI", units="1", start="2005-01-01", count=36, value=None, **attrs):
    """Write months of one variable at the sites A and B."""
    time = pd.date_range(start, periods=count, freq="MS")
    values = (
        np.random.default_rng(0).uniform(0.1, 0.9, (2, count))
        if value is None
        else np.full((2, count), value)
    )
    ds = xr.Dataset(
        {name: (("site", "time"), values, {"units": units} | attrs)}, {"site": ["A", "B"], "time": time}
    )
    ds.to_netcdf(path)
    return path


@pytest.mark.parametrize(
    ("name", "units", "value", "code", "expected"),
    [
        ("LST_DAY", "K", 283.15, "LST_DAY", 10.0),
        ("SNOW", "percent", 40.0, "SNOW_COVER", 0.4),
        ("FPAR", "1", 0.4, "FAPAR", 0.4),
        ("soil_moisture", "m3 m-3", 0.3, "SOIL_MOISTURE", 0.3),
    ],
)
def test_names_and_units_of_sources(tmp_path, name, units, value, code, expected):
    ds = open_satellite(netcdf(tmp_path / "a.nc", name, units, value=value))
    np.testing.assert_allclose(ds[code], expected, atol=1e-4)
    assert ds[code].attrs["units"] == SATELLITE[code].units


def test_unknown_units_are_refused(tmp_path):
    with pytest.raises(MetadataError, match=r"a\.nc: LST_DAY has units 'degF'"):
        open_satellite(netcdf(tmp_path / "a.nc", "LST_DAY", "degF"))


def cycle(path, name="LAI"):
    months = np.arange(1.0, 13)
    ds = xr.Dataset(
        {name: (("site", "month"), [months / 10, months / 20])}, {"site": ["A", "C"], "month": range(1, 13)}
    )
    ds.to_netcdf(path)
    return path


def test_seasonal_cycle_is_used_outside_the_period_of_satellite_values(tmp_path):
    months = netcdf(tmp_path / "months.nc")
    with xr.open_dataset(months) as ds:
        ds = ds.load()
    ds["LAI"][0, :6] = np.nan  # A begins in July 2005
    ds["LAI"][0, 20] = np.nan  # a gap
    ds.to_netcdf(months)
    ds = open_satellite([cycle(tmp_path / "cycle.nc"), months], years=(2004, 2008))
    assert flags(ds, "LAI", "A") == [2] * 18 + [0] * 14 + [-1] + [0] * 15 + [2] * 12
    assert flags(ds, "LAI", "B") == [-1] * 12 + [0] * 36 + [-1] * 12
    assert flags(ds, "LAI", "C") == [2] * 60
    np.testing.assert_allclose(ds["LAI"].sel(site="A")[:12], np.arange(1, 13) / 10, rtol=1e-6)


def test_seasonal_cycle_alone_needs_years(tmp_path):
    path = cycle(tmp_path / "cycle.nc")
    with pytest.raises(MetadataError, match="pass years"):
        open_satellite(path)
    assert open_satellite(path, years=(2001, 2002)).sizes["day"] == 24


def test_comment_describes_a_seasonal_cycle(tmp_path):
    comment = "before July 2005 and after February 2007 a mean seasonal cycle"
    ds = open_satellite(netcdf(tmp_path / "a.nc", comment=comment))
    assert flags(ds, "LAI") == [2] * 6 + [0] * 20 + [2] * 10


def test_values_of_modis_before_modis_are_a_seasonal_cycle(tmp_path):
    ds = open_satellite(netcdf(tmp_path / "a.nc", start="1999-01-01", long_name="leaf area index (MODIS)"))
    assert flags(ds, "LAI") == [2] * 14 + [0] * 22


def test_repeated_months_are_a_seasonal_cycle_and_constant_ones_are_not(tmp_path):
    path = netcdf(tmp_path / "a.nc", count=60)
    with xr.open_dataset(path) as ds:
        ds = ds.load()
    ds["LAI"][0, 12:24] = ds["LAI"][0, :12].values
    ds["LAI"][0, 40] = ds["LAI"][0, 52].values  # by chance
    ds["LAI"][1] = 0.0
    ds.to_netcdf(path)
    ds = open_satellite(path)
    assert flags(ds, "LAI", "A") == [2] * 24 + [0] * 36
    assert flags(ds, "LAI", "B") == [0] * 60


# --- Merging ----------------------------------------------------------------------


@given(data=st.data())
def test_merged_composites_are_those_of_the_parts_and_none_contains_a_shorter_one(data):
    parts = []
    for number in range(data.draw(st.integers(1, 3))):
        length = data.draw(st.sampled_from([4.0, 8.0, 16.0, 31.0]))
        count = data.draw(st.integers(1, 12))
        day = np.datetime64("2010-01-05") + np.arange(count) * int(length)
        values = np.where(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)), np.nan, number)
        flag = np.array(data.draw(st.lists(st.sampled_from([0, 1, 2]), min_size=count, max_size=count)))
        parts.append(compose("LAI", "A", day, values, flag, length, str(number)))
    merged = merge(parts)
    assert np.isfinite(merged.values).all()
    assert (np.diff(merged.day) > np.timedelta64(0)).all()
    have = {(day, value) for part in parts for day, value in zip(part.day, part.values, strict=True)}
    assert all((day, value) in have for day, value in zip(merged.day, merged.values, strict=True))
    distance = np.abs((merged.day[:, None] - merged.day).astype(float))
    observed = merged.flags < 2
    contains = (merged.length[:, None] > merged.length) & (distance < merged.length[:, None] / 2)
    assert not contains[observed][:, observed].any()
    if observed.any():
        first, last = merged.day[observed][[0, -1]]
        assert ((merged.day[~observed] < first) | (merged.day[~observed] > last)).all()


# --- Real files, stores, NetCDF ---------------------------------------------------


@pytest.fixture(scope="module")
def real_series(real_data) -> xr.Dataset:
    return open_satellite(real_data / "satellite" / "*.nc")


def test_real_series_keep_the_values_of_their_files(real_data, real_series):
    assert set(real_series) >= {*SATELLITE, *(f"{code}_QC" for code in SATELLITE)}
    with xr.open_dataset(real_data / "satellite" / "monthly.nc") as ds:
        month = ds.sel(site="DE-Tha", time="2010-07-01").load()
    july = real_series.sel(site="DE-Tha", day="2010-07-16")
    assert float(july["LST_DAY"]) == pytest.approx(float(month["LST_DAY"]) - 273.15, abs=1e-3)
    assert float(july["SNOW_COVER"]) == pytest.approx(float(month["SNOW"]) / 100)
    assert float(july["SIF"]) == float(month["SIF"])
    with xr.open_dataset(real_data / "satellite" / "fapar_weekly.nc") as ds:
        week = float(ds["FAPAR"].sel(site="DE-Tha", time="2010-07-02"))
    assert float(real_series["FAPAR"].sel(site="DE-Tha", day="2010-07-05")) == week


def test_real_fapar_is_satellite_from_july_2002_on(real_series):
    tharandt = real_series.sel(site="DE-Tha")
    weekly = tharandt["FAPAR_DAYS"] == 7
    seen = tharandt["FAPAR_QC"].where(weekly & (tharandt["day"] < np.datetime64("2002-07-01")), drop=True)
    assert (seen == 2).all()
    assert (
        tharandt["FAPAR_QC"].sel(day=slice("2002-07-05", "2014-12-20")).where(weekly, drop=True) == 0
    ).all()
    months = (
        tharandt["FAPAR_QC"].sel(day=slice("2001", "2001-12")).where(tharandt["FAPAR_DAYS"] == 31, drop=True)
    )
    assert months.size and (months == 0).all()


def test_real_series_are_plausible_and_cf(real_series, findings):
    for code, series in SATELLITE.items():
        assert series.bounds.lower <= float(real_series[code].min())
        assert float(real_series[code].max()) <= series.bounds.upper
    towers = synthetic_towers(3, patches=False, variables=["TA"]).isel(time=slice(48))
    towers = towers.assign_coords(site=["DE-Tha", "FI-Hyy", "US-Ha1"])
    assert findings(towers.carbon.join_satellite(real_series)) == []


def test_series_go_through_store_and_netcdf(real_series, tmp_path):
    towers = synthetic_towers(3, variables=["TA"]).assign_coords(site=["DE-Tha", "FI-Hyy", "ZZ-Zzz"])
    joined = towers.carbon.join_satellite(real_series).compute()
    stored = open_store(to_store(joined, tmp_path / "towers.zarr"))
    assert stored["FAPAR"].chunksizes == {"site": (1, 1, 1), "day": (joined.sizes["day"],)}
    opened = open_netcdf(joined.carbon.to_netcdf(tmp_path / "towers.nc"))
    sites = open_netcdf(joined.carbon.to_sites(tmp_path / "sites"))
    for found in (stored, opened, sites):
        np.testing.assert_array_equal(found["day"], joined["day"])
        for name in (*SATELLITE, *(f"{code}_QC" for code in SATELLITE), "FAPAR_DAYS"):
            np.testing.assert_array_equal(found[name], joined[name])
            assert found[name].dtype == joined[name].dtype
            assert found[name].attrs.keys() == joined[name].attrs.keys()
        assert found["FAPAR"].attrs["composite_days"] == 31


def test_series_alone_go_through_netcdf(real_series, tmp_path):
    real_series.to_netcdf(tmp_path / "series.nc")
    again = open_satellite(tmp_path / "series.nc")
    for name in real_series:
        xr.testing.assert_equal(again[name], real_series[name])
    assert again["FAPAR"].attrs["composite_days"] == real_series["FAPAR"].attrs["composite_days"]


def test_files_are_recognised_by_their_content(real_data, tmp_path):
    assert all(is_satellite(path) for path in (real_data / "satellite").glob("*.nc"))
    assert is_satellite(sample(tmp_path / "a.csv", ["A"], ["2010-01-01"], MCD15A2H_061_Lai_500m=[1.5]))
    others = ("mod09a1_australia.nc", "era5/era5_2022_07_alps.nc", "raw/site_data.csv", "raw/none.csv")
    assert not any(is_satellite(real_data / name) for name in others)


def test_it_is_a_public_name():
    assert xcarbon.open_satellite is open_satellite


@pytest.mark.parametrize("damage", [b"B\xb0,2010-01-09,0.6\n", b'"B,2010-01-09,0.6\n'])
def test_text_that_is_no_csv_is_named(tmp_path, damage):
    path = table(tmp_path / "table.csv", tower=["A"] * 2, day=["2010-01-01", "2010-01-09"], fpar=[0.5, 0.6])
    path.write_bytes(path.read_bytes() + damage)
    columns = {"site": "tower", "date": "day", "FAPAR": "fpar"}
    with pytest.raises(FileFormatError, match=r"table\.csv: cannot be read as CSV"):
        open_satellite(path, columns=columns)
    sample(path, ["A"], ["2010-01-01"], MCD15A2H_061_Fpar_500m=[0.5])
    path.write_bytes(path.read_bytes() + damage)
    with pytest.raises(FileFormatError, match=r"table\.csv: cannot be read as CSV"):
        open_satellite(path)


def test_damaged_netcdf_is_named(tmp_path):
    path = tmp_path / "series.nc"
    netcdf(path)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"OHDR", b"OHDX").replace(b"TREE", b"XREE"))
    with pytest.raises(FileFormatError, match=r"series\.nc: cannot be opened as NetCDF"):
        open_satellite(path)
    assert not is_satellite(path)
