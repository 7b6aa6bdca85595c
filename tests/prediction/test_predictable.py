"""Hours that are not predicted are those that are counted, with their reasons."""

from __future__ import annotations

import numpy as np
import pytest

import xcarbon
from tests.budget.samples import light_model
from xcarbon.prediction.predict import predict
from xcarbon.prediction.predictable import describe, predictable
from xcarbon.prep.inputs import model_inputs
from xcarbon.testing import raise_on_compute, synthetic_towers


@pytest.fixture(scope="module")
def towers():
    codes = ["TA", "SW_IN", "VPD", "NEE"]
    ds = synthetic_towers(2, patches=False, variables=codes, gaps=False).isel(time=slice(600)).load()
    flags = {f"{code}_QC": ds[f"{code}_QC"] * 0 for code in codes}
    ds = ds.assign(flags)
    for code in ("TA", "SW_IN", "VPD"):
        ds[f"{code}_QC"][0, 100:300] = 2  # filled from reanalysis
    ds["SW_IN"][1, 50:70] = np.nan
    ds["SW_IN"][1, 80:90] = 9999
    return ds


@pytest.mark.parametrize("model", ["nee-fluxnet2015", "light"])
@pytest.mark.parametrize("max_qc", [None, 2])
def test_counts_are_those_of_a_prediction(towers, model, max_qc):
    model = light_model() if model == "light" else xcarbon.load(model)
    with raise_on_compute():
        counts = predictable(towers.chunk(), model, max_qc=max_qc)
    missing = predict(towers, "NEE", model, max_qc=max_qc).isnull().sum("time").compute()
    np.testing.assert_array_equal(counts["not_predicted"], missing)
    assert (counts["hours"] == 600).all()


def test_reasons_are_counted_in_hours_that_are_not_predicted(towers):
    counts = predictable(towers, light_model()).sel(variable="SW_IN").compute()
    assert counts["low_quality"].values.tolist() == [200, 0]
    assert counts["missing"].values.tolist() == [0, 20]
    assert counts["implausible"].values.tolist() == [0, 10]
    text = describe(predictable(towers, light_model()))
    assert text == (
        "230 of 1,200 hours are not predicted: SW_IN_QC > 1 in 200, SW_IN missing in 20, "
        "SW_IN implausible in 10"
    )


def test_hours_that_are_not_predicted_are_reported_for_data_in_memory(towers, capsys):
    with xcarbon.set_options(progress=True):
        predict(towers, "NEE", light_model())
        assert "230 of 1,200 hours are not predicted" in capsys.readouterr().out
        with raise_on_compute():
            predict(towers.chunk(), "NEE", light_model())
        predict(towers.isel(time=slice(40)), "NEE", light_model())
    assert "not predicted" not in capsys.readouterr().out


def test_tolerances_of_predictors_and_target_are_separate(towers):
    ds = towers.assign(NEE_QC=towers["NEE_QC"] * 0 + 1)
    strict = model_inputs(ds, ["TA"], target="NEE", max_qc=2, target_max_qc=0).compute()
    assert strict["target"].isnull().all()
    assert strict["hourly"].notnull().all()
    assert model_inputs(ds, ["TA"], target="NEE", max_qc=1)["target"].notnull().any()


def test_inputs_that_are_absent_are_printed(capsys):
    towers = synthetic_towers(1, patches=False, variables=["TA", "SW_IN", "VPD", "RH"]).isel(time=slice(48))
    with xcarbon.set_options(progress=True):
        towers.carbon.predict_nee()
        assert "lacks" not in capsys.readouterr().out
        towers.drop_vars(["VPD", "igbp"]).carbon.predict_nee()
    printed = capsys.readouterr().out
    assert "less accurate without VPD and igbp, which the Dataset lacks" in printed
    assert "ds.carbon.standardize(derive=True) computes VPD from TA and RH" in printed
