"""Opening of daily, weekly, monthly and yearly tower files."""

import zipfile

import numpy as np
import pandas as pd
import pytest

from xcarbon import open_fluxnet
from xcarbon.core.errors import FileFormatError, OptionError, TimestampError
from xcarbon.prep.aggregate import RESOLUTIONS, aggregate
from xcarbon.testing import raise_on_compute

THARANDT = dict(lat=50.9636, lon=13.5669, igbp="ENF", elevation=380, utc_offset=1)
#: Columns of a FLUXNET2015 file by variable of the Dataset.
COLUMNS = {
    "TA": "TA_F",
    "TA_QC": "TA_F_QC",
    "P": "P_F",
    "P_QC": "P_F_QC",
    "NEE": "NEE_VUT_REF",
    "NEE_QC": "NEE_VUT_REF_QC",
    "GPP_NT": "GPP_NT_VUT_REF",
    "NETRAD": "NETRAD",
    "NETRAD_QC": "NETRAD_QC",
}
FORMS = {"DD": "%Y%m%d", "WW": "%Y%m%d", "MM": "%Y%m", "YY": "%Y"}


def name(resolution, site="DE-Tha", version="1-4"):
    return f"FLX_{site}_FLUXNET2015_FULLSET_{resolution}_2011-2012_{version}.csv"


def stamps(starts, ends, resolution):
    begin = pd.DatetimeIndex(starts).strftime(FORMS[resolution])
    if resolution != "WW":
        return {"TIMESTAMP": begin}
    last = pd.DatetimeIndex(ends) - pd.Timedelta("1D")
    return {"TIMESTAMP_START": begin, "TIMESTAMP_END": last.strftime("%Y%m%d")}


def write(path, stamps, columns):
    pd.DataFrame(stamps | columns).to_csv(path, index=False, na_rep="-9999")
    return path


@pytest.fixture(scope="module")
def tower(towers):
    """One synthetic tower with a lost hour."""
    tower = towers.drop_dims("day").isel(site=0).load()
    return tower.assign(TA=tower["TA"].where(tower["time"] != tower["time"][1000]))


@pytest.fixture
def write_tower(tower, tmp_path):
    """Write the aggregated values of the tower in the layout of FLUXNET2015."""

    def _write(resolution):
        ds = aggregate(tower, resolution)
        columns = {column: ds[key].values for key, column in COLUMNS.items() if key in ds}
        begin, end = ds["time_bnds"].values.T
        return write(tmp_path / name(resolution), stamps(begin, end, resolution), columns)

    return _write


@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_file_comes_back_as_aggregated_from_hours(write_tower, tower, findings, resolution):
    path = write_tower(resolution)
    expected = aggregate(tower.assign(GPP_NT_QC=tower["NEE_QC"]), resolution)  # partitioned from NEE
    with raise_on_compute():
        found = open_fluxnet(path, resolution=resolution, metadata=THARANDT)
    assert set(found) == {*COLUMNS, "GPP_NT_QC"}
    np.testing.assert_array_equal(found["time"], expected["time"])
    np.testing.assert_array_equal(found["time_bnds"], expected["time_bnds"])
    for key in found:
        np.testing.assert_allclose(found[key][0], expected[key], rtol=1e-5, atol=1e-5, err_msg=key)
        assert found[key].dtype == "float32"
        given = {k: v for k, v in found[key].attrs.items() if k != "source_column"}
        assert given == expected[key].attrs
    assert found["NEE"].attrs["source_column"] == "NEE_VUT_REF"
    assert "flag_values" not in found["NEE_QC"].attrs and found["NEE_QC"].attrs["units"] == "1"
    assert found["lat"].item() == THARANDT["lat"] and found.attrs["license"] == "CC-BY-4.0"
    assert not findings(found)


def test_values_and_units_by_hand(tmp_path):
    columns = {"NEE_VUT_REF": [-412.5, -9999], "NEE_VUT_REF_QC": [0.87, -9999], "P_F": [843.1, 910]}
    path = write(tmp_path / name("YY"), {"TIMESTAMP": ["2011", "2012"]}, columns)
    ds = open_fluxnet(path, resolution="YY", metadata=THARANDT).load()
    np.testing.assert_allclose(ds["NEE"], [[-412.5, np.nan]])  # beyond the limits of hours, and valid
    np.testing.assert_allclose(ds["NEE_QC"], [[0.87, np.nan]])
    np.testing.assert_allclose(ds["P"], [[843.1, 910]])
    assert (ds["NEE"].attrs["units"], ds["NEE"].attrs["network_units"]) == ("g m-2 year-1", "gC m-2 y-1")
    assert (ds["P"].attrs["units"], ds["P"].attrs["cell_methods"]) == ("mm year-1", "time: sum")


def test_variable_that_was_never_measured_has_no_good_hours(tmp_path):
    """Fifteen monthly files of FLUXNET2015 have G_F_MDS_QC = 3 in all months."""
    path = write(tmp_path / name("MM"), {"TIMESTAMP": ["201101"]}, {"G_F_MDS": [5], "G_F_MDS_QC": [3]})
    ds = open_fluxnet(path, resolution="MM", metadata=THARANDT).load()
    assert (ds["G"].item(), ds["G_QC"].item()) == (5, 0)


def test_archive_of_all_resolutions(write_tower, tmp_path):
    paths = [write_tower(resolution) for resolution in RESOLUTIONS]
    with zipfile.ZipFile(tmp_path / "FLX_DE-Tha_FLUXNET2015_FULLSET_2011-2012_1-4.zip", "w") as archive:
        for path in paths:
            archive.write(path, path.name)
            path.unlink()
    for resolution in RESOLUTIONS:
        found = open_fluxnet(tmp_path, resolution=resolution, metadata=THARANDT)
        assert found["time"].attrs["long_name"].startswith(f"start of the {RESOLUTIONS[resolution]} in")
    with pytest.raises(FileFormatError, match="no half-hourly"):
        open_fluxnet(next(tmp_path.glob("*.zip")), metadata=THARANDT)


def test_towers_and_releases_share_a_time_axis(tmp_path):
    days = {"TIMESTAMP": ["20111230", "20111231", "20120101"]}
    write(tmp_path / name("DD"), days, {"TA_F": [1, 2, 3]})
    write(tmp_path / name("DD", version="2-4"), days, {"TA_F": [7, 8, -9999], "TA_F_QC": [0.5, 1, -9999]})
    write(tmp_path / name("DD", "US-Ha1"), {"TIMESTAMP": ["20120102"]}, {"P_F": [5]})
    metadata = {"DE-Tha": THARANDT, "US-Ha1": THARANDT}
    ds = open_fluxnet(tmp_path, resolution="DD", metadata=metadata).load()
    nan = np.nan
    np.testing.assert_array_equal(ds["TA"], [[7, 8, 3, nan], [nan] * 4])
    np.testing.assert_array_equal(ds["TA_QC"], [[0.5, 1, nan, nan], [nan] * 4])
    np.testing.assert_array_equal(ds["P"], [[nan] * 4, [nan, nan, nan, 5]])


@pytest.mark.parametrize(
    ("resolution", "times", "message"),
    [
        (
            "DD",
            ["20110101", "20110103"],
            "line 3: the time stamp of a day is 20110103, where 20110102 should",
        ),
        ("MM", ["201111", "201112", "201202"], "line 4: .* month is 201202, where 201201 should"),
        ("YY", ["201101", "201102"], "line 2: .* year is 201101; time stamps have 4 digits"),
        ("MM", ["201113"], "line 2: .* month is 201113"),
        ("DD", ["00000000", "00000000"], "line 2: .* day is 0; time stamps have 8 digits"),
        (
            "WW",
            ["20110103", "20110110"],
            "line 2: .* week is 20110103; .* weeks begin on the first of January",
        ),
    ],
)
def test_wrong_stamps_are_named(tmp_path, resolution, times, message):
    column = "TIMESTAMP_START" if resolution == "WW" else "TIMESTAMP"
    path = write(tmp_path / name(resolution), {column: times}, {"TA_F": 1})
    with pytest.raises(TimestampError, match=message):
        open_fluxnet(path, resolution=resolution, metadata=THARANDT)


def test_wrong_files_are_named(tmp_path, write_tower):
    path = write_tower("DD")
    with pytest.raises(OptionError, match="one of HH, DD, WW, MM, YY"):
        open_fluxnet(path, resolution="HR", metadata=THARANDT)
    with pytest.raises(FileFormatError, match=r"daily or coarser \(DD\)"):
        open_fluxnet(path, resolution="HH", metadata=THARANDT)
    with pytest.raises(FileFormatError, match="states the resolution DD, not MM"):
        open_fluxnet(path, resolution="MM", metadata=THARANDT)
    with pytest.raises(FileFormatError, match=r"daily or coarser \(DD\)"):
        open_fluxnet(path, metadata=THARANDT)
    other = path.rename(tmp_path / "FLX_DE-Tha_FLUXNET-CH4_DD_2011-2012_1-1.csv")
    with pytest.raises(FileFormatError, match="only hourly and half-hourly files of FLUXNET-CH4"):
        open_fluxnet(other, resolution="DD", metadata=THARANDT)
    flags = write(tmp_path / name("DD"), {"TIMESTAMP": ["20110101"]}, {"TA_F": [1], "TA_F_QC": [2]})
    with pytest.raises(FileFormatError, match="line 2, column TA_F_QC: 2 is not a share"):
        open_fluxnet(flags, resolution="DD", metadata=THARANDT).load()
    empty = write(tmp_path / name("DD"), {"TIMESTAMP": []}, {"TA_F": []})
    with pytest.raises(FileFormatError, match="no rows"):
        open_fluxnet(empty, resolution="DD", metadata=THARANDT)
    hourly = write(tmp_path / name("DD"), {"TIMESTAMP_START": ["201101010000"]}, {"TA_F": [1]})
    with pytest.raises(FileFormatError, match="lacks the column TIMESTAMP"):
        open_fluxnet(hourly, resolution="DD", metadata=THARANDT)
