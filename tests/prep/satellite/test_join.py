"""Series are joined to their towers without a change of any other value."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from tests.prep.satellite.samples import make
from xcarbon.core.errors import MetadataError, VariableError
from xcarbon.prep.satellite import join_satellite
from xcarbon.testing import raise_on_compute, synthetic_towers


def test_join_keeps_patches_and_computes_nothing(patches):
    sites = [str(patches["site"].values[1]), "elsewhere"]
    series = make(sites, start="2010-01-20")
    with raise_on_compute():
        joined = join_satellite(patches, series)
    assert joined.encoding == patches.encoding
    np.testing.assert_array_equal(joined["day"], np.union1d(patches["day"], series["day"]))
    there = joined.sel(day=patches["day"])
    xr.testing.assert_equal(there["reflectance"].compute(), patches["reflectance"].compute())
    xr.testing.assert_equal(there["snow"].compute(), patches["snow"].compute())
    others = joined.sel(day=np.setdiff1d(joined["day"], patches["day"]))
    assert others["reflectance"].isnull().all() and (others["water"] == -1).all()
    np.testing.assert_array_equal(joined["LAI"].sel(site=sites[0], day=series["day"]), series["LAI"][0])
    assert joined["LAI"].isel(site=0).isnull().all() and (joined["LAI_QC"].isel(site=0) == -1).all()
    assert joined["LAI_QC"].dtype == np.int8 and joined["LAI"].dtype == np.float32
    assert "LAI of 1 of 2 towers; 1 sites of the series are not in the Dataset" in joined.attrs["history"]


def test_join_to_towers_without_patches_and_to_one_tower():
    towers = synthetic_towers(2, patches=False, variables=["TA"])
    series = make([str(site) for site in towers["site"].values])
    joined = towers.carbon.join_satellite(series)
    np.testing.assert_array_equal(joined["LAI"], series["LAI"])
    one = towers.isel(site=1).carbon.join_satellite(series)
    assert one["LAI"].dims == ("day",)
    np.testing.assert_array_equal(one["LAI"], series["LAI"][1])


def test_join_again_replaces():
    towers = synthetic_towers(2, patches=False, variables=["TA"])
    sites = [str(site) for site in towers["site"].values]
    once = join_satellite(towers, make(sites, seed=1))
    again = join_satellite(once, make(sites, seed=2))
    np.testing.assert_array_equal(again["LAI"], make(sites, seed=2)["LAI"])


def test_join_refuses_what_does_not_fit():
    towers = synthetic_towers(2, patches=False, variables=["TA"])
    with pytest.raises(MetadataError, match=r"no site of the series \['A', 'B'\]"):
        join_satellite(towers, make())
    with pytest.raises(VariableError, match="no satellite series on 'day'"):
        join_satellite(towers, towers)
    with pytest.raises(MetadataError, match="units"):
        join_satellite(towers, make(units="percent"))
