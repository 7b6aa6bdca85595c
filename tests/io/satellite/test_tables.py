"""Point samples and tables are read with their quality, and errors name the place."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from tests.io.satellite.samples import days, flags, sample, table
from xcarbon.core.errors import FileFormatError, MetadataError
from xcarbon.io.satellite import open_satellite


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
