"""Spikes are found where they were put, and nothing is removed unasked."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from xcarbon.core import conventions
from xcarbon.core.errors import OptionError, VariableError
from xcarbon.prep.spikes import despike, find_spikes
from xcarbon.testing import raise_on_compute, synthetic_towers

SPIKES = np.arange(500, 8000, 337)


@pytest.fixture(scope="module")
def clean() -> xr.Dataset:
    ds = synthetic_towers(2, patches=False, variables=["NEE", "SW_IN"], gaps=False, seed=2).load()
    return ds.assign(NEE_QC=ds["NEE_QC"] * 0, SW_IN_QC=ds["SW_IN_QC"] * 0)


@pytest.fixture(scope="module")
def spiked(clean) -> xr.Dataset:
    ds = clean.copy(deep=True)
    sign = np.where(np.arange(SPIKES.size) % 2, 1, -1)
    ds["NEE"][0, SPIKES] += (55 * sign).astype("float32")
    return ds


def test_spikes_are_found_where_they_are(clean, spiked):
    before, after = despike(clean)["NEE_SPIKE"], despike(spiked)["NEE_SPIKE"]
    assert (after[0, SPIKES] == 1).all()
    others = np.delete(np.arange(after.sizes["time"]), SPIKES)
    # a clean series has few candidates, and spikes do not make others of their neighbours
    assert (after[0, others] == 1).sum() <= (before[0] == 1).sum() <= 0.002 * others.size
    np.testing.assert_array_equal(after[1], before[1])


def test_noise_has_few_spikes_and_a_larger_threshold_finds_fewer():
    rng, is_day = np.random.default_rng(0), np.arange(20_000) % 24 < 12
    assert (find_spikes(rng.normal(size=20_000), is_day) == 1).sum() <= 5
    noise = rng.laplace(size=20_000)
    counts = [(find_spikes(noise, is_day, threshold) == 1).sum() for threshold in (4, 5.5, 7)]
    assert counts[0] > counts[1] > counts[2] > 0


def test_nights_are_compared_with_nights():
    """A deviation that is common by day is a spike at night."""
    rng = np.random.default_rng(1)
    is_day = np.arange(9600) % 24 < 12
    flux = np.where(is_day, rng.normal(0, 5, 9600), rng.normal(0, 0.2, 9600))
    night = 24 * 100 + 18
    flux[night] += 5
    flags = find_spikes(flux, is_day)
    assert flags[night] == 1
    assert (flags[is_day] == 1).sum() < 10


def test_values_are_removed_on_request_only(spiked):
    flagged, masked = despike(spiked), despike(spiked, mask=True)
    xr.testing.assert_equal(flagged[["NEE", "SW_IN", "NEE_QC"]], spiked[["NEE", "SW_IN", "NEE_QC"]])
    assert masked["NEE"][0, SPIKES].isnull().all()
    np.testing.assert_array_equal(masked["NEE"].isnull(), flagged["NEE_SPIKE"] == 1)


def test_missing_and_filled_hours_are_not_examined(spiked):
    ds = spiked.copy(deep=True)
    ds["NEE_QC"][0, SPIKES[3]] = 1
    ds["NEE"][0, SPIKES[4]] = np.nan
    ds["NEE"][0, SPIKES[5]] = 9999
    flags = despike(ds)["NEE_SPIKE"]
    assert (flags[0, SPIKES[3:6]] == -1).all()
    assert flags[0, SPIKES[6]] == 1


def test_flags_are_lazy_and_do_not_depend_on_chunks(spiked):
    with raise_on_compute():
        lazy = despike(spiked.chunk(site=1, time=1000).assign_coords(spiked.coords))
    np.testing.assert_array_equal(lazy["NEE_SPIKE"], despike(spiked)["NEE_SPIKE"])
    alone = spiked.isel(site=0).carbon.despike()
    np.testing.assert_array_equal(alone["NEE_SPIKE"], despike(spiked)["NEE_SPIKE"][0])


def test_flags_are_cf(spiked, findings):
    found = despike(conventions.apply(spiked, history="made for a test"))
    assert found["NEE"].attrs["ancillary_variables"].split() == ["NEE_QC", "NEE_SPIKE"]
    assert findings(found) == findings(conventions.apply(spiked, history="made for a test"))


def test_what_is_needed_is_said(spiked):
    with pytest.raises(VariableError, match=r"finding spikes needs \['SW_IN'\]"):
        despike(spiked[["NEE"]])
    with pytest.raises(OptionError, match="threshold must be greater than 0"):
        despike(spiked, threshold=0)


def test_constant_series_has_no_spikes():
    assert (find_spikes(np.zeros(100), np.ones(100, bool)) <= 0).all()
    assert (find_spikes(np.full(2, 1.0), np.ones(2, bool)) == -1).all()
