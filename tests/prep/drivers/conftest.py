"""Towers whose complete meteorology is known."""

from __future__ import annotations

import pytest
import xarray as xr

from tests.prep.drivers.samples import IN_GAP
from xcarbon.prep.drivers.adjustment import RULES
from xcarbon.testing import synthetic_towers


@pytest.fixture(scope="session")
def truth() -> xr.Dataset:
    names = [*RULES, "NEE"]
    return synthetic_towers(2, patches=False, variables=names, gaps=False, seed=4).load()


@pytest.fixture(scope="session")
def gappy(truth) -> xr.Dataset:
    inside = xr.DataArray(IN_GAP, dims="time")
    hidden = {code: truth[code].where(~inside) for code in RULES}
    flags = {f"{code}_QC": truth[f"{code}_QC"].where(~inside, -1) for code in RULES if f"{code}_QC" in truth}
    return truth.assign(hidden | flags)
