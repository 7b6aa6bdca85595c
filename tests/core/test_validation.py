"""Tests of the errors for data and settings that a function cannot use."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import xcarbon
from xcarbon import open_era5, open_netcdf
from xcarbon.budget import carbon_sums, gapfill
from xcarbon.core.errors import MetadataError, ModelError, OptionError, TimestampError, VariableError
from xcarbon.core.validation import (
    check_hourly,
    check_igbp,
    check_range,
    check_units,
    check_variables,
    steps_per_day,
)
from xcarbon.core.variables import variable
from xcarbon.prep.quality import mask_quality
from xcarbon.testing import synthetic_towers


@pytest.fixture(scope="module")
def plain() -> xr.Dataset:
    return synthetic_towers(2, patches=False, variables=["TA", "P", "WD", "NEE", "FCH4"]).isel(
        time=slice(240)
    )


@pytest.mark.parametrize(
    "hours", [[0, 1, 3], [0, 1, 1], [1, 0], [0, 0.5]], ids=["gap", "double", "backwards", "half"]
)
def test_time_axis_that_is_not_hourly_is_an_error_that_says_where(hours):
    stamps = np.datetime64("2010-03-01T00:00", "ns") + np.array(
        [int(hour * 60) for hour in hours], "timedelta64[m]"
    )
    wrong = f"{stamps[-2].astype('datetime64[s]')} is followed by {stamps[-1].astype('datetime64[s]')}"
    with pytest.raises(TimestampError, match=f"DE-Tha: .*{wrong.replace('T', ' ')}"):
        check_hourly(xr.DataArray(stamps, dims="time"), "DE-Tha")


@pytest.mark.parametrize(
    ("hours", "advice"),
    [
        ([0, 1, 2, 5, 6], "asfreq() fills gaps"),
        ([0, 1, 1, 2], "ds.drop_duplicates('time')"),
        ([3, 2, 1], "ds.sortby('time')"),
        ([0, 3, 6, 9], "most steps are 3 hours long"),
        ([0, 24, 48], "most steps are 24 hours long"),
        ([0, 1 / 6, 2 / 6, 3 / 6], "ds.resample(time='1h').mean()"),
    ],
)
def test_error_of_a_time_axis_says_what_to_do(hours, advice):
    steps = np.array([round(hour * 60) for hour in hours], "timedelta64[m]")
    stamps = np.datetime64("2010-03-01T00:00", "ns") + steps
    with pytest.raises(TimestampError, match=re.escape(advice)):
        check_hourly(xr.DataArray(stamps, dims="time"), "DE-Tha")


def test_advice_on_the_time_axis_of_files_is_for_files(tmp_path, plain):
    wrong = plain.isel(time=[1, 0, 2, 3]).drop_vars("time_bnds").load()
    del wrong["time"].attrs["bounds"]
    wrong.drop_encoding().to_netcdf(tmp_path / "towers.nc")
    grid = xr.Dataset({"t2m": (("time", "latitude", "longitude"), np.full((4, 1, 1), 280.0))})
    grid = grid.assign_coords(time=wrong["time"].values, latitude=[48.0], longitude=[8.0])
    grid.drop_attrs().to_netcdf(tmp_path / "era5.nc")
    for use, name in ((open_netcdf, "towers.nc"), (open_era5, "era5.nc")):
        with pytest.raises(TimestampError, match=r"to correct a file, open it as ds = .*ds.sortby\('time'\)"):
            use(tmp_path / name)


def test_time_with_a_zone_is_converted_to_standard_time():
    time = pd.date_range("2010-06-01", periods=3, freq="h", tz="Europe/Berlin")
    with pytest.raises(TimestampError, match=r"tz_convert\('Etc/GMT-1'\).*without daylight saving"):
        check_hourly(xr.Dataset(coords={"time": time})["time"], "DE-Tha")


@pytest.mark.parametrize("kind", [object, str, "Int64"])
def test_variables_without_numbers_are_an_error(kind):
    time = pd.date_range("2010-06-01", periods=3, freq="h", name="time")
    ds = pd.DataFrame({"TA": [1, 2, 3], "NEE": [1, 2, 3]}, index=time).astype({"TA": kind}).to_xarray()
    for use in (lambda: check_units(ds, ["NEE", "TA"]), ds.carbon.standardize, ds.carbon.predict_nee):
        with pytest.raises(VariableError, match=r"TA has values of the type .*ds\['TA'\].astype"):
            use()


@pytest.mark.parametrize("kind", [object, str])
@pytest.mark.parametrize("name", ["NEE_QC", "TA_QC"])
def test_quality_flags_without_numbers_are_an_error(name, kind):
    ds = synthetic_towers(1, patches=False, variables=["TA", "VPD", "SW_IN", "NEE"]).isel(time=slice(240))
    ds = ds.load().assign({name: ds[name].astype(str).astype(kind)})
    uses = [
        lambda: ds.carbon.gapfill(model="mds"),
        lambda: ds.carbon.fit("xgboost"),
        lambda: ds.carbon.aggregate("DD"),
        ds.carbon.check,
        ds.carbon.standardize,
        *([lambda: mask_quality(ds, ["NEE"]), ds.carbon.despike] if name == "NEE_QC" else []),
    ]
    for use in uses:
        with pytest.raises(VariableError, match=rf"{name} has values of the type .*flags are 0 for measured"):
            use()


@pytest.mark.parametrize("path", ["era5.nc", Path("era5.nc")])
def test_paths_in_place_of_datasets_are_an_error_that_names_the_opener(path, plain):
    uses = {
        "open_satellite": plain.carbon.join_satellite,
        "open_era5": plain.carbon.fill_drivers,
        "history": lambda path: plain.carbon.predict_nee(history=path),
        "val": lambda path: plain.carbon.fit("xgboost", val=path),
        "gapfill": carbon_sums,
        "open_fluxnet": gapfill,
        "open_store": xcarbon.check,
    }
    for message, use in uses.items():
        with pytest.raises(OptionError, match=r"must be an xarray.Dataset, but .* path 'era5.nc'") as error:
            use(path)
        assert message in str(error.value)
        with pytest.raises(OptionError, match="but it is int"):
            use(3)


def test_several_codes_where_one_is_needed_are_an_error():
    with pytest.raises(VariableError, match="a variable is named by its code, such as 'NEE'"):
        variable(["NEE", "LE"])  # type: ignore[arg-type]


def test_hourly_time_axis_passes(plain):
    check_hourly(plain["time"], "towers")
    check_hourly(plain["time"][:1], "towers")


def test_unknown_igbp_class_is_an_error():
    assert check_igbp("ENF", "DE-Tha") == check_igbp("enf ", "DE-Tha") == "ENF"
    with pytest.raises(MetadataError, match="DE-Tha: unknown IGBP class 'XYZ'; the classes are ENF,"):
        check_igbp("XYZ", "DE-Tha")


def test_absent_variables_are_named(plain):
    check_variables(plain, ("TA", "NEE"), "a figure")
    with pytest.raises(VariableError, match=r"a figure needs \['WTD'\], but the Dataset only has \['TA',"):
        check_variables(plain, ("TA", "WTD"), "a figure")


@pytest.mark.parametrize(
    ("value", "limits", "message"),
    [
        (0, {"ge": 1}, "size must be at least 1, found 0"),
        (0.0, {"gt": 0, "optional": True}, "size must be greater than 0 or None, found 0.0"),
        (1.0, {"ge": 0, "lt": 1}, "size must be at least 0 and less than 1, found 1.0"),
        (float("nan"), {"le": 1}, "size must be at most 1, found nan"),
        ("3", {"ge": 1}, "size must be at least 1, found '3'"),
        (None, {"ge": 1}, "size must be at least 1, found None"),
    ],
)
def test_settings_beyond_their_limits_are_errors(value, limits, message):
    with pytest.raises(ModelError, match=f"^{message}$"):
        check_range(SimpleNamespace(size=value), "size", **limits)


def test_settings_within_their_limits_pass():
    settings = SimpleNamespace(steps=None, share=1, dropout=np.float32(0))
    check_range(settings, "steps", ge=1, optional=True)
    check_range(settings, "share", gt=0, le=1)
    check_range(settings, "dropout", ge=0, lt=1)
    with pytest.raises(OptionError):
        check_range(settings, "share", lt=1, error=OptionError)


def test_one_short_step_does_not_make_an_axis_half_hourly():
    time = xr.DataArray(
        np.array(["2010-01-01T00", "2010-01-01T01", "2010-01-01T01:30"], "M8[ns]"), dims="time"
    )
    for check in (check_hourly, steps_per_day):
        with pytest.raises(TimestampError, match="01:00:00 is followed by 2010-01-01 01:30:00; ds"):
            check(time, "DE-Tha")
    assert steps_per_day(time[:2], "DE-Tha") == 24 and steps_per_day(time[1:], "DE-Tha") == 48


@pytest.mark.parametrize("igbp", ["XYZ", ["ENF"], None, 3.5])
def test_class_of_any_type_is_checked(igbp):
    with pytest.raises(MetadataError, match="DE-Tha: unknown IGBP class"):
        check_igbp(igbp, "DE-Tha")
