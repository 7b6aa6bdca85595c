"""The accumulation period of sums is found from their values."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.io.era5.samples import make, weather
from xcarbon.core.errors import FileFormatError
from xcarbon.io.era5 import open_era5
from xcarbon.testing import raise_on_compute


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


def since_midnight(hourly: xr.Dataset) -> xr.Dataset:
    """Replace sums over the hour by sums since 00 UTC; the first stamp counts as a whole day."""
    daily = hourly.copy(deep=True)
    for name in ("tp", "ssrd", "strd"):
        if name in hourly:
            of_day = (hourly["time"] - np.timedelta64(1, "h")).dt.floor("D")
            daily[name] = hourly[name].groupby(of_day).cumsum()
    return daily


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
