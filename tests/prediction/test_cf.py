"""Predictions follow the CF conventions in every form, and a part of one is computed alone."""

from __future__ import annotations

import cf_xarray  # noqa: F401 - registers .cf
import numpy as np
import pytest
import xarray as xr

import xcarbon
from tests.prediction.test_predict import make
from xcarbon.models.bundle import CarbonModel
from xcarbon.prediction import blocks
from xcarbon.testing import synthetic_towers

#: Recommendations that a DataArray cannot meet, because a file of one has no global attributes.
ROOT = ("title", "history", "Conventions")


@pytest.fixture(scope="module")
def bare() -> xr.Dataset:
    """Two towers in ten days without any attribute."""
    ds = synthetic_towers(2, patches=False, variables=["TA", "SW_IN", "VPD", "NEE"])
    return ds.isel(time=slice(240)).load().drop_attrs()


@pytest.mark.parametrize("form", ["towers", "one tower"])
def test_passes_the_checker_in_every_form(bare, form, findings, tmp_path):
    ds = bare if form == "towers" else bare.isel(site=0)
    nee = ds.carbon.predict_nee()
    assert nee.cf["latitude"].name == "lat" and nee.cf["time"].name == "time"
    assert "bounds" not in nee["time"].attrs and "ancillary_variables" not in nee.attrs
    assert [text for text in findings(nee) if not any(name in text for name in ROOT)] == []
    both = ds.carbon.predict_nee(spread=True, applicability=True)
    assert set(both["NEE"].attrs["ancillary_variables"].split()) == set(both.data_vars) - {"NEE"}
    assert both["time"].attrs["bounds"] in both.coords
    assert all(len(array.attrs["long_name"]) <= 40 for array in both.data_vars.values())
    assert findings(both) == []
    for name in ("nee.nc", "nee.zarr"):
        path = ds.carbon.predict_to("NEE", "nee-fluxnet2015", tmp_path / name, spread=True)
        found = xcarbon.open_netcdf(path) if name == "nee.nc" else xcarbon.open_store(path)
        assert findings(found) == []
        assert not found["in_training"].any() and found["in_training"].dtype == bool


@pytest.mark.filterwarnings("ignore:Consolidated metadata")  # about every store that xarray writes
@pytest.mark.filterwarnings("error")
def test_goes_to_zarr_without_warnings(bare, tmp_path):
    nee = bare.carbon.predict_nee()
    nee.to_dataset().to_zarr(tmp_path / "nee.zarr")
    with xr.open_zarr(tmp_path / "nee.zarr") as back:
        xr.testing.assert_equal(
            back["NEE"].drop_vars(["igbp", "site_name"]), nee.drop_vars(["igbp", "site_name"])
        )
        assert back["igbp"].values.tolist() == bare["igbp"].values.tolist()


def test_a_part_is_computed_without_the_rest(bare, monkeypatch):
    """Long chunks are predicted in blocks, with the same values."""
    model, calls = make(("DOY", "TOD", "TA", "SW_IN"), ()), []
    expected = bare.carbon.predict_nee(model).values
    predict_series = CarbonModel.predict_series

    def count(self, inputs, wanted):
        calls.append(len(wanted))
        return predict_series(self, inputs, wanted)

    monkeypatch.setattr(CarbonModel, "predict_series", count)
    monkeypatch.setattr(blocks, "BLOCK", 50)
    prediction = bare.chunk(site=1, time=-1).carbon.predict_nee(model)
    part = prediction.isel(site=1, time=slice(110, 120)).values
    assert calls == [50]
    np.testing.assert_allclose(part, expected[1, 110:120], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(prediction.values, expected, rtol=1e-5, atol=1e-5)
