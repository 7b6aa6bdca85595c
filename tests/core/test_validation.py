"""Data that a function cannot use is refused with an error that names it."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xcarbon.core.errors import MetadataError, TimestampError, VariableError
from xcarbon.core.validation import check_hourly, check_igbp, check_variables
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


def test_hourly_time_axis_passes(plain):
    check_hourly(plain["time"], "towers")
    check_hourly(plain["time"][:1], "towers")


def test_unknown_igbp_class_is_an_error():
    assert check_igbp("ENF", "DE-Tha") == "ENF"
    with pytest.raises(MetadataError, match="DE-Tha: unknown IGBP class 'XYZ'; the classes are ENF,"):
        check_igbp("XYZ", "DE-Tha")


def test_absent_variables_are_named(plain):
    check_variables(plain, ("TA", "NEE"), "a figure")
    with pytest.raises(VariableError, match=r"a figure needs \['WTD'\], but the Dataset only has \['TA',"):
        check_variables(plain, ("TA", "WTD"), "a figure")
