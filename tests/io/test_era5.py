"""Labels, means and de-accumulation of hourly ERA5, computed lazily."""

from __future__ import annotations

import itertools
import zipfile

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from xcarbon.core.errors import FileFormatError, MetadataError, OptionError, TimestampError, VariableError
from xcarbon.io.era5 import open_era5
from xcarbon.io.formats import open_data
from xcarbon.prep.scale import time_features
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


def make(start="2022-07-01T00", hours=30, lat=(48.5, 48.25, 48.0), lon=(8.0, 8.25), **fields) -> xr.Dataset:
    """Create a source on the axes of the old Climate Data Store; fields are (time,) or on all axes."""
    time = np.datetime64(start, "h") + np.arange(hours)
    shape = (hours, len(lat), len(lon))
    arrays = {}
    for name, values in fields.items():
        values = np.asarray(values, "float64")
        values = values.reshape(*values.shape, *[1] * (3 - values.ndim))
        arrays[name] = (("time", "latitude", "longitude"), np.broadcast_to(values, shape).copy())
    coords = {"time": time.astype("M8[ns]"), "latitude": np.array(lat), "longitude": np.array(lon)}
    return xr.Dataset(arrays, coords)


def everything(hours=30, **axes) -> xr.Dataset:
    """Create a source with all fields, with plausible values that differ between cells."""
    rng = np.random.default_rng(3)
    shape = (hours, len(axes.get("lat", "abc")), len(axes.get("lon", "ab")))
    t2m = rng.uniform(275, 300, shape)
    return make(
        hours=hours,
        t2m=t2m,
        d2m=t2m - rng.uniform(0, 10, shape),
        sp=rng.uniform(9e4, 1e5, shape),
        tp=rng.uniform(0, 2e-3, shape),
        ssrd=rng.uniform(0, 3e6, shape),
        strd=rng.uniform(8e5, 1.4e6, shape),
        u10=rng.normal(0, 4, shape),
        v10=rng.normal(0, 4, shape),
        **axes,
    )


@pytest.fixture
def opened(tmp_path):
    """Return a function that writes and opens a source."""
    number = itertools.count()

    def write_and_open(source: xr.Dataset, **how) -> xr.Dataset:
        path = tmp_path / str(next(number)) / "source.nc"
        path.parent.mkdir()
        source.to_netcdf(path)
        return open_era5(path, **how)

    return write_and_open


@pytest.fixture(scope="module")
def alps(real_data):
    return real_data / "era5" / "era5_2022_07_alps.nc"


def assert_same(found: xr.Dataset, expected: xr.Dataset) -> None:
    xr.testing.assert_equal(found.drop_attrs().compute(), expected.drop_attrs().compute())


# Real data


def test_real_temperature_is_the_mean_of_both_ends_of_the_hour(alps):
    found = open_era5(alps)["TA"]
    with xr.open_dataset(alps) as source:
        expected = (source["t2m"].values[:-1] + source["t2m"].values[1:]) / 2 - 273.15
    assert found.dtype == np.float32
    assert -10 < found.min() < found.max() < 40
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_real_sums_belong_to_the_hour_that_ends_at_their_stamp(alps):
    found = open_era5(alps)["SW_IN"]
    with xr.open_dataset(alps) as source:
        np.testing.assert_allclose(found, source["ssrd"].values[1:] / 3600, rtol=1e-6, atol=1e-3)


def test_real_sun_stands_highest_at_noon_of_mean_solar_time_and_does_not_shine_at_night(alps):
    ds = open_era5(alps).load()
    assert (ds["SW_IN"].where((ds["TOD"] > 21.5) | (ds["TOD"] < 2.5), 0) == 0).all()
    # The maximum over all days excludes clouds. In July, the true sun is 4 to 6 minutes late.
    clear = ds["SW_IN"].max("lat").groupby("time.hour").max()
    middle = (clear["hour"] + 0.5 + ds["utc_offset"] + 3) % 24 - 3
    noon = (clear * middle).sum("hour") / clear.sum("hour")
    np.testing.assert_allclose(noon, 12.1, atol=0.25)


def test_real_month_opens_lazily(alps):
    with raise_on_compute():
        ds = open_era5(alps)
    assert set(ds.data_vars) == {"TA", "SW_IN", "DOY", "TOD"}
    assert ds.sizes["time"] == 743
    assert all(array.chunks for array in ds.data_vars.values())


# Sums


@settings(max_examples=30)
@given(
    sums=st.lists(st.floats(0, 3.6e6), min_size=3, max_size=60),
    hour=st.integers(0, 23),
    chunk=st.integers(1, 30),
)
def test_sums_since_midnight_give_back_the_sums_of_hours(tmp_path_factory, sums, hour, chunk):
    source = make(f"2022-07-01T{hour:02}", len(sums), lat=(48.0, 47.9), ssrd=sums)
    daily = source.copy(deep=True)
    total = 0.0
    for row, value in enumerate(sums):
        stamp_hour = (hour + row) % 24
        total = value if stamp_hour == 1 else total + value
        daily["ssrd"][row] = total
    folder = tmp_path_factory.mktemp("sums")
    source.to_netcdf(folder / "hour.nc")
    daily.to_netcdf(folder / "day.nc")
    expected = open_era5(folder / "hour.nc", accumulated="hour")["SW_IN"]
    found = open_era5(folder / "day.nc", accumulated="day", chunks={"time": chunk})["SW_IN"]
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_rounding_of_packed_sums_gives_no_negative_rain(opened):
    daily = np.cumsum(np.r_[0, np.repeat([1e-3, 0, 2e-3, 0], 6)])  # at the stamps 00 to 24
    source = make(hours=25, tp=daily)
    jitter = np.random.default_rng(0).choice([-1e-6, 0, 1e-6], source["tp"].shape)
    source["tp"] += jitter
    found = opened(source, accumulated="day")["P"]
    assert (found.min(), found.sum("time").max()) == (0, pytest.approx(18, abs=0.05))


def since_midnight(hourly: xr.Dataset) -> xr.Dataset:
    """Replace sums over the hour by sums since 00 UTC; the first stamp counts as a whole day."""
    daily = hourly.copy(deep=True)
    for name in ("tp", "ssrd", "strd"):
        if name in hourly:
            of_day = (hourly["time"] - np.timedelta64(1, "h")).dt.floor("D")
            daily[name] = hourly[name].groupby(of_day).cumsum()
    return daily


def weather(days=4, start="2022-12-01T00", seed=3, **axes) -> xr.Dataset:
    """Create sums over the hour: showers, sun and infrared radiation."""
    rng = np.random.default_rng(seed)
    hours = 24 * days + 1
    shape = (hours, len(axes.get("lat", "abc")), len(axes.get("lon", "ab")))
    clock = (np.datetime64(start, "h") + np.arange(hours)).astype("int64") % 24
    sun = np.maximum(np.sin((clock - 6.5) / 24 * 2 * np.pi), 0)[:, None, None] * rng.uniform(0.3, 1, shape)
    rain = rng.gamma(0.5, 4e-4, shape) * (rng.random(shape) < 0.5)
    strd = rng.uniform(0.9e6, 1.1e6, shape)
    return make(start, hours, tp=rain, ssrd=2.4e6 * sun, strd=strd, **axes)


@pytest.mark.parametrize("spacing", [0.1, 0.25, 0.28125])
@pytest.mark.parametrize("codes", [["tp"], ["ssrd"], ["strd"], ["tp", "ssrd", "strd"]])
@pytest.mark.parametrize("start", ["2022-12-01T00", "2022-12-01T01", "2022-12-01T13"])
def test_accumulation_is_found_from_the_values_whatever_the_grid(opened, spacing, codes, start):
    hourly = weather(start=start, lat=(48.0, 48.0 - spacing), lon=(8.0, 8.0 + spacing))[codes]
    daily = since_midnight(hourly).assign_attrs(title="ERA5")
    with raise_on_compute():
        found = opened(hourly.assign_attrs(title="ERA5-Land")), opened(daily)
    for ds, expected in zip(found, ("sums over the hour", "sums since 00 UTC"), strict=True):
        assert all(expected in ds[code].attrs["comment"] for code in ds if code not in ("DOY", "TOD"))
    for code in set(found[0]) - {"DOY", "TOD"}:
        np.testing.assert_allclose(found[0][code], found[1][code], rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("spacing", [0.1, 0.25])
def test_rain_is_the_same_from_both_kinds_of_sums(opened, spacing):
    rain = np.random.default_rng(3).gamma(0.5, 0.4, 48)
    axes = {"lat": (48.0, 48.0 - spacing, 48.0 - 2 * spacing), "lon": (9.0, 9.0 + spacing)}
    for tp in (np.r_[0, rain], np.r_[0, rain[:24].cumsum(), rain[24:].cumsum()]):
        found = opened(make("2022-12-01T00", 49, tp=tp / 1000, **axes))
        assert found["P"].isel(lat=0, lon=0).sum() == pytest.approx(rain.sum(), rel=1e-5)


def test_each_variable_has_its_own_accumulation(opened):
    hourly = weather()
    mixed = hourly.assign(ssrd=since_midnight(hourly)["ssrd"])
    found, expected = opened(mixed), opened(hourly)
    assert "over the hour" in found["P"].attrs["comment"] and "since" in found["SW_IN"].attrs["comment"]
    np.testing.assert_allclose(found["SW_IN"], expected["SW_IN"], atol=1e-2)


def test_packed_sums_missing_cells_and_single_cells_do_not_hide_the_accumulation(tmp_path):
    hourly = weather(lat=(48.0,), lon=(8.0, 9.0))
    hourly["tp"][:, :, 1] = np.nan  # the sea in ERA5-Land
    hourly["tp"][0] = np.nan
    daily = since_midnight(hourly[["tp"]])
    daily["tp"][0] = np.nan
    for expected, source in (("over the hour", hourly[["tp"]]), ("since 00 UTC", daily)):
        path = tmp_path / f"{expected}.nc"
        scale = float(source["tp"].max()) * 20 / 65534  # the range of a wetter place in the same file
        packed = {"dtype": "int16", "scale_factor": scale, "add_offset": 32766 * scale, "_FillValue": -32767}
        source.to_netcdf(path, encoding={"tp": packed})
        assert expected in open_era5(path)["P"].attrs["comment"]


def test_accumulation_is_found_across_files_and_dry_days(tmp_path):
    dry, wet = make("2022-07-01T00", 72, tp=0.0), weather(start="2022-07-04T00")[["tp"]]
    whole = since_midnight(xr.concat([dry, wet], "time"))
    paths = []
    for day, part in whole.groupby(whole["time"].dt.floor("D")):
        paths.append(tmp_path / f"{str(day)[:10]}.nc")
        part.to_netcdf(paths[-1])
    assert "since 00 UTC" in open_era5(paths)["P"].attrs["comment"]


def test_values_that_do_not_decide_give_the_same_or_an_error(opened):
    assert (opened(make(hours=48, tp=0.0))["P"] == 0).all()
    midnight = make(hours=25, tp=np.r_[np.zeros(24), 1e-3])  # the last hour of a day
    assert float(opened(midnight)["P"].sum("time").max()) == pytest.approx(1)
    rising = make("2022-07-01T06", 4, tp=[0, 1e-3, 2e-3, 4e-3])
    with pytest.raises(FileFormatError, match=r"values of P do not show .* pass accumulated='hour' or"):
        opened(rising)
    assert float(opened(rising, accumulated="hour")["P"][:, 0, 0].sum()) == pytest.approx(7)
    assert float(opened(rising, accumulated="day")["P"][:, 0, 0].sum()) == pytest.approx(4)
    late = make(
        "2022-07-01T18", 9, tp=[0, 0, 0, 0, 1e-3, 2e-3, 3e-3, 0, 0]
    )  # an evening with more and more rain
    with pytest.raises(FileFormatError, match="values of P do not show"):
        opened(late)
    land = opened(rising.assign_attrs(title="ERA5-Land"))
    assert float(land["P"][:, 0, 0].sum()) == pytest.approx(4)


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


def test_sums_of_the_other_accumulation_are_an_error_when_computed(opened):
    sun = 3e6 * np.maximum(np.sin(np.arange(48) * np.pi / 12 - np.pi / 2), 0)
    hourly = make(hours=48, ssrd=sun)
    with pytest.raises(FileFormatError, match=r"SW_IN would be -.* pass accumulated='hour'"):
        opened(hourly, accumulated="day").compute()
    daily = make(hours=24, ssrd=np.cumsum(sun[:24]))
    with pytest.raises(FileFormatError, match=r"SW_IN would be \d.* pass accumulated='day'"):
        opened(daily, accumulated="hour").compute()


# State


def test_humidity_is_computed_at_the_instants(opened):
    source = make(hours=2, t2m=[293.15, 303.15], d2m=[283.15, 293.15])
    found = opened(source).isel(time=0, lat=0, lon=0)
    assert found["RH"] == pytest.approx((100 * 12.27 / 23.37 + 100 * 23.37 / 42.43) / 2, rel=3e-3)
    assert found["VPD"] == pytest.approx(((23.37 - 12.27) + (42.43 - 23.37)) / 2, rel=3e-3)


def test_humidity_stays_in_its_bounds(opened):
    found = opened(make(hours=3, t2m=280.0, d2m=280.5)).load()
    assert (found["RH"] == 100).all()
    assert (found["VPD"] == 0).all()


@pytest.mark.parametrize(
    ("u", "v", "direction"), [(0, -3, 0), (-3, 0, 90), (0, 3, 180), (3, 0, 270), (1, -1, 315), (1e-9, -3, 0)]
)
def test_wind_direction_is_where_the_wind_comes_from(opened, u, v, direction):
    found = opened(make(hours=3, u10=u, v10=v)).load()
    np.testing.assert_allclose(found["WD"], direction, atol=1e-4)
    np.testing.assert_allclose(found["WS"], np.hypot(u, v), rtol=1e-6)


def test_wind_that_turns_has_the_mean_speed_and_the_direction_of_the_mean_vector(opened):
    found = opened(make(hours=3, u10=[0, -4, 4], v10=[-4, 0, 0])).isel(lat=0, lon=0)
    np.testing.assert_allclose(found["WS"], [4, 4])
    np.testing.assert_allclose(found["WD"], [45, np.nan])


def test_units_are_those_of_the_data_model(opened):
    found = opened(make(hours=2, sp=101325.0, tp=0.002, strd=300 * 3600.0)).load()
    assert {code: float(found[code].mean()) for code in ("PA", "P", "LW_IN")} == pytest.approx(
        {"PA": 101.325, "P": 2, "LW_IN": 300}
    )
    assert {found[code].dtype for code in found} == {np.dtype("float32")}


# Solar time


@settings(max_examples=30)
@given(lon=st.floats(-180, 180), hour=st.integers(0, 24 * 365))
def test_solar_time_is_that_of_towers_at_their_offset(tmp_path_factory, lon, hour):
    path = tmp_path_factory.mktemp("solar") / "source.nc"
    make(np.datetime64("2020-01-01T00") + hour, 3, lon=(lon,), t2m=280.0).to_netcdf(path)
    found = open_era5(path).isel(lon=0)
    expected = time_features(found["time"] + np.rint(lon / 15 * 3600).astype("m8[s]"))
    np.testing.assert_array_equal(found["DOY"], expected["DOY"])
    # time_features counts whole minutes
    np.testing.assert_allclose(found["TOD"], expected["TOD"], atol=1 / 60 + 1e-5)
    assert found["utc_offset"] == pytest.approx(lon / 15, abs=1e-5)
    assert 0 <= found["TOD"].min() <= found["TOD"].max() < 24


def test_day_changes_at_local_midnight(opened):
    found = opened(make("2021-01-01T00", 4, lon=(-30.0, 0.0, 7.5), t2m=280.0)).load()
    np.testing.assert_array_equal(found["TOD"], [[22, 0, 0.5], [23, 1, 1.5], [0, 2, 2.5]])
    np.testing.assert_array_equal(found["DOY"], [[366, 1, 1], [366, 1, 1], [1, 1, 1]])


# Files


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


# Dask graph and labels


def test_last_chunk_is_never_empty_and_all_variables_share_their_chunks(opened):
    ds = opened(everything(hours=49), chunks={"time": 24, "longitude": 1})
    assert ds["TA"].chunks == ((24, 24), (3,), (1, 1))  # the stamps have chunks of 24 and 25
    assert ds["TOD"].chunks == ((24, 24), (1, 1))
    assert ds.unify_chunks().chunks == ds.chunks


def test_shift_by_an_hour_costs_a_few_tasks_per_chunk_and_reads_two_chunks(opened):
    def tasks(hours: int, code: str) -> float:
        array = opened(everything(hours=hours), chunks={"time": 10})[code].data
        return len(dask.optimize(array)[0].__dask_graph__()) / array.npartitions

    for code, limit in {"TA": 5, "VPD": 9, "SW_IN": 6, "DOY": 5}.items():
        assert tasks(400, code) == pytest.approx(tasks(100, code), rel=0.1)
        assert tasks(400, code) <= limit
    chunk = opened(everything(hours=100), chunks={"time": 10})["TA"].data.blocks[4]
    read = []
    with dask.callbacks.Callback(pretask=lambda key, *_: read.append(key)):
        chunk.compute(scheduler="synchronous", optimize_graph=False)
    assert sum(str(key[0]).startswith("open_dataset") and len(key) > 1 for key in read) == 2


def test_chunks_change_no_value(opened):
    source = everything(hours=50)
    expected = opened(source).load()
    for chunks in ({"time": 1}, {"time": 7, "latitude": 2}, {"time": 49}):
        assert_same(opened(source, chunks=chunks), expected)


def test_grid_is_cf(opened, findings):
    ds = opened(everything())
    assert findings(ds) == []
    assert "featureType" not in ds.attrs
    np.testing.assert_array_equal(ds["time_bnds"][:, 0], ds["time"])
    np.testing.assert_array_equal(np.diff(ds["time_bnds"]), np.timedelta64(1, "h"))


def test_grid_goes_through_netcdf(opened, tmp_path):
    ds = opened(everything())
    ds.to_netcdf(tmp_path / "drivers.nc")
    with xr.open_dataset(tmp_path / "drivers.nc", decode_coords="all") as found:
        found["time"].attrs["bounds"] = "time_bnds"  # xarray moves it to the encoding
        xr.testing.assert_identical(found.compute(), ds.compute())


def test_implausible_values_are_missing(opened):
    source = make(hours=4, t2m=293.15, sp=101325.0)
    source["t2m"][1] = 1e20
    found = opened(source).isel(lat=0, lon=0)
    np.testing.assert_allclose(found["TA"], [np.nan, np.nan, 20], rtol=1e-6)
    assert found["PA"].notnull().all()


def test_archive_of_a_newer_format_is_named(tmp_path):
    path = tmp_path / "new.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.nc", "")
    content = path.read_bytes()
    place = content.index(b"PK\x01\x02") + 6
    path.write_bytes(content[:place] + b"\x63" + content[place + 1 :])
    with pytest.raises(FileFormatError, match=r"new\.zip: the archive .* \(zip file version"):
        open_era5(path)
