"""Files of all formats give the same grid, and files that do not fit are named."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
import xarray as xr

from tests.io.era5.samples import assert_same, everything, make, weather
from xcarbon.core.errors import FileFormatError, MetadataError, OptionError, TimestampError, VariableError
from xcarbon.io.era5 import open_era5
from xcarbon.io.formats import open_data
from xcarbon.testing import raise_on_compute

LONG = {
    "t2m": "2m_temperature",
    "d2m": "2m_dewpoint_temperature",
    "sp": "surface_pressure",
    "tp": "total_precipitation",
    "ssrd": "surface_solar_radiation_downwards",
    "strd": "surface_thermal_radiation_downwards",
    "u10": "10m_u_component_of_wind",
    "v10": "10m_v_component_of_wind",
}


@pytest.mark.parametrize("name", ["download.nc", "download.zip", "download"])
def test_downloads_are_archives_whatever_their_names(tmp_path, name):
    source = weather().rename(time="valid_time").assign_coords(number=0)
    source = source.assign_coords(expver=("valid_time", ["0001"] * source.sizes["valid_time"]))
    source["t2m"] = source["tp"] + 280
    source[["t2m"]].to_netcdf(tmp_path / "data_stream-oper_stepType-instant.nc")
    source.drop_vars("t2m").to_netcdf(tmp_path / "data_stream-oper_stepType-accum.nc")
    source.to_netcdf(tmp_path / "whole.nc")
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        for file in tmp_path.glob("data_stream*"):
            archive.write(file, file.name)
    expected = open_era5(tmp_path / "whole.nc")
    assert set(expected) == {"TA", "P", "SW_IN", "LW_IN", "DOY", "TOD"}
    assert_same(open_era5(tmp_path / name), expected)
    assert_same(open_data(tmp_path / name), expected)
    with zipfile.ZipFile(tmp_path / "other.nc", "w") as archive:
        archive.writestr("data.grib", "GRIB")
    with pytest.raises(FileFormatError, match=r"other.nc: .* no NetCDF file, only \['data.grib'\]"):
        open_era5(tmp_path / "other.nc")
    (tmp_path / "cut.nc").write_bytes((tmp_path / name).read_bytes()[:-100])
    with pytest.raises(FileFormatError, match=r"cut.nc: the archive is truncated"):
        open_era5(tmp_path / "cut.nc")


def test_all_formats_of_the_source_give_the_same(opened, tmp_path):
    source = everything()
    expected = opened(source).load()
    assert set(expected.data_vars) == {
        *("TA", "P", "RH", "VPD", "PA", "SW_IN", "LW_IN", "WS", "WD", "DOY", "TOD")
    }
    new = source.rename(time="valid_time").assign_coords(
        number=0, expver=("valid_time", np.repeat(["0001", "0005"], 15))
    )
    assert_same(opened(new), expected)
    assert_same(opened(new.expand_dims("number")), expected)
    short = source.rename(latitude="lat", longitude="lon").assign_coords(spatial_ref=0)
    assert_same(opened(short.transpose("lat", "lon", "time")), expected)
    source.rename(LONG).chunk(time=7).to_zarr(tmp_path / "arco", consolidated=False)
    assert_same(open_era5(tmp_path / "arco", chunks={}), expected)


def test_names_and_units_of_earth_engine_are_those_of_the_source(opened):
    expected = opened(everything()).load()
    names = LONG | {
        "t2m": "temperature_2m",
        "d2m": "dewpoint_temperature_2m",
        "u10": "u_component_of_wind_10m",
        "v10": "v_component_of_wind_10m",
    }
    source = everything().rename(names)
    for name, units in [("ssrd", "J/m^2"), ("u10", "m/s"), ("tp", "m"), ("t2m", "K"), ("sp", "Pa")]:
        source[names[name]].attrs["units"] = units
    assert_same(opened(source), expected)
    source[names["ssrd"]].attrs["units"] = "kJ/m^2"
    with pytest.raises(MetadataError, match=r"ssrd has units 'kJ/m\^2', but 'J m-2'"):
        opened(source)


def test_variables_that_are_not_used_are_named_where_drivers_are_absent(opened):
    source = everything().rename(t2m="air_temperature")
    with pytest.warns(UserWarning, match=r"TA, RH, VPD cannot .*variables air_temperature are not"):
        found = opened(source)
    assert "VPD" not in found and "SW_IN" in found
    opened(everything().assign(skt=source["air_temperature"]))  # no driver is absent


@pytest.mark.parametrize("versions", [[5, 1], ["0005", "0001"]])
def test_final_values_go_before_preliminary_ones(opened, versions):
    final, preliminary = make(hours=4, t2m=[280, 281, np.nan, np.nan]), make(hours=4, t2m=[0, 0, 282, 283])
    both = xr.concat([preliminary, final], xr.Variable("expver", versions))
    np.testing.assert_allclose(opened(both)["TA"][:, 0, 0] + 273.15, [280.5, 281.5, 282.5], rtol=1e-6)
    hourly = weather()
    cut = hourly["time"] < hourly["time"][50]
    both = xr.concat([hourly.where(~cut), hourly.where(cut)], xr.Variable("expver", versions))
    assert_same(opened(both), opened(hourly))


def test_latitudes_keep_their_order(opened):
    source = everything()
    found = opened(source.isel(latitude=slice(None, None, -1)))
    assert found["lat"].values.tolist() == [48.0, 48.25, 48.5]
    assert_same(found.isel(lat=slice(None, None, -1)), opened(source))


def test_longitudes_are_wrapped_and_ascend(opened):
    around = (0.0, 90.0, 180.0, 270.0, 359.75)
    found = opened(everything(lon=around), accumulated="hour")
    assert found["lon"].values.tolist() == [-90, -0.25, 0, 90, 180]
    whole = opened(everything(lon=around).assign_coords(longitude=np.arange(5.0)), accumulated="hour")
    np.testing.assert_array_equal(found["TA"].values, whole["TA"].values[..., [3, 4, 0, 1, 2]])
    np.testing.assert_array_equal(found["utc_offset"], (found["lon"] / 15).astype("float32"))


def test_files_are_joined_in_time_and_by_variable(opened, tmp_path):
    source = everything(hours=48)
    expected = opened(source).load()
    instant = ["t2m", "d2m", "sp", "u10", "v10"]
    parts = {
        "july_instant": source[instant].isel(time=slice(24)),
        "august_instant": source[instant].isel(time=slice(24, None)),
        "sums": source.drop_vars(instant),
    }
    for name, part in parts.items():
        part.to_netcdf(tmp_path / f"{name}.nc")
    with raise_on_compute():
        found = open_era5(tmp_path / f"{name}.nc" for name in reversed(parts))
    assert_same(found, expected)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda later: later.isel(time=slice(1, None)), TimestampError, "00:00:00 is followed by .* 02:00"),
        (
            lambda later: later.assign_coords(time=later["time"] - np.timedelta64(1, "h")),
            TimestampError,
            "hourly",
        ),
        (
            lambda later: later.assign_coords(longitude=[8.0, 8.1]),
            FileFormatError,
            "files do not fit together",
        ),
    ],
    ids=["gap", "overlap", "grid"],
)
def test_files_that_do_not_fit_together_are_an_error(tmp_path, change, error, message):
    make("2022-07-01T00", 25, t2m=280.0).to_netcdf(tmp_path / "a.nc")
    change(make("2022-07-02T01", 24, t2m=280.0)).to_netcdf(tmp_path / "b.nc")
    with pytest.raises(error, match=message):
        open_era5([tmp_path / "a.nc", tmp_path / "b.nc"])


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (make(cloud=1.0), VariableError, r"no driver can be computed from \['cloud'\]; .* u10 or 10m_u"),
        (make(u10=1.0), VariableError, r"computed from \['u10'\]; xcarbon computes TA from t2m;"),
        (make(hours=1, t2m=280.0), TimestampError, "an hour needs stamps at both ends"),
        (make(t2m=280.0).isel(longitude=0), FileFormatError, r"t2m has dim.* xcarbon reads \(time, latitude"),
        (make(t2m=280.0).drop_vars("latitude"), FileFormatError, "t2m has dimensions "),
        (make(t2m=280.0).expand_dims(number=2), FileFormatError, "t2m has dimensions .*'number': 2"),
        (make(t2m=280.0).assign_coords(time=np.arange(30)), TimestampError, "the time axis is int64"),
    ],
    ids=["other", "half", "stamp", "line", "no latitudes", "ensemble", "numbers"],
)
def test_unreadable_source_is_an_error_with_a_reason(opened, source, error, message):
    with pytest.raises(error, match=rf"source.nc.*{message}"):
        opened(source)


def test_other_units_are_an_error(opened):
    source = make(t2m=20.0)
    source["t2m"].attrs["units"] = "degC"
    with pytest.raises(MetadataError, match="t2m has units 'degC', but 'K' in ERA5"):
        opened(source)
    source["t2m"].attrs["units"] = "K"
    assert "TA" in opened(source)


def test_paths_and_settings_that_are_wrong_are_errors(tmp_path):
    with pytest.raises(FileNotFoundError):
        open_era5(tmp_path / "nothing.nc")
    with pytest.raises(FileNotFoundError, match="the list of paths is empty"):
        open_era5([])
    (tmp_path / "text.nc").write_text("no file")
    with pytest.raises(FileFormatError, match=r"text.nc: the file cannot be opened as NetCDF or Zarr"):
        open_era5(tmp_path / "text.nc")
    with pytest.raises(OptionError, match="accumulated='month' is not allowed; use 'hour' or 'day'"):
        open_era5(tmp_path / "text.nc", accumulated="month")


def test_archive_of_a_newer_format_is_named(tmp_path):
    path = tmp_path / "new.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.nc", "")
    content = path.read_bytes()
    place = content.index(b"PK\x01\x02") + 6
    path.write_bytes(content[:place] + b"\x63" + content[place + 1 :])
    with pytest.raises(FileFormatError, match=r"new\.zip: the archive .* \(zip file version"):
        open_era5(path)
