"""A streaming EcoPerceiver learns from sequences that are cut right, and resumes to the same weights."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr

from tests.training.samples import checkpoint, interrupted, last_weights, sequences_of, weights
from xcarbon.core.errors import ModelError, VariableError
from xcarbon.core.variables import memory_features
from xcarbon.models.bundle import CarbonModel
from xcarbon.prep.inputs import model_inputs
from xcarbon.training import fit, objective, streaming
from xcarbon.training.checkpoints import MODEL
from xcarbon.training.sequences import MIN_TARGETS, TowerSequences

TINY = {"width": 16, "heads": 2, "window": 8, "octaves": 4, "layers": 2, "cross_blocks": 1}
QUICK = {
    "network": TINY, "length": 64, "batch_size": 8, "micro_batch": 4, "max_steps": 10, "eval_every": 4,
    "val_windows": 20, "learning_rate": 3e-3,
}  # fmt: skip
AVERAGED = QUICK | {"averaging": 0.8}


@pytest.fixture(scope="module")
def months(towers) -> xr.Dataset:
    """Two months of five towers: one begins late, one ends early and has a gap, one has five days."""
    ds = towers.isel(site=slice(0, 5), time=slice(0, 1440), day=slice(0, 60)).load()
    ds = ds.assign(LAI=(("site", "day"), np.linspace(0, 5, 300, dtype="f4").reshape(5, 60)))
    ds["LAI"].attrs["composite_days"] = 8.0
    hours = np.arange(1440)
    ds["NEE"][0, hours < 300] = np.nan
    ds["NEE"][1, (hours > 900) | ((hours > 400) & (hours < 700))] = np.nan
    ds["NEE"][2, (hours < 500) | (hours > 620)] = np.nan
    return ds


@pytest.fixture(scope="module")
def sets(months) -> tuple[xr.Dataset, xr.Dataset]:
    return months.isel(site=slice(0, 3)), months.isel(site=slice(3, 5))


@pytest.fixture(scope="module")
def inputs(sets) -> xr.Dataset:
    ds, codes = sets[0], ["DOY", "TA", "SW_IN"]
    state = ["TA_1D", "SW_IN_7D", "LAI"]
    return model_inputs(ds, codes, ["B1", "snow"], state=state, target=["NEE"]).load().chunk()


@pytest.fixture(scope="module")
def sequences(inputs) -> TowerSequences:
    return sequences_of(inputs, ("igbp", "lat"), 64).samples


# Sequences


def test_every_target_is_in_one_sequence(sequences, inputs):
    """But for those that are alone in a gap."""
    every = sequences_of(inputs, (), 64).samples
    targets = every.targets(every.starts)
    assert torch.isfinite(targets).sum(1).min() >= MIN_TARGETS
    found = np.sort(targets[torch.isfinite(targets)].numpy())
    known = inputs["target"].values[..., 0]
    known = known[np.isfinite(known)]
    assert np.isin(found, known).all()
    assert len(np.unique(found)) == len(np.unique(known[np.isin(known, found)])) == len(found)
    assert len(known) - 4 * MIN_TARGETS < len(found) <= len(known)


@pytest.mark.parametrize("offset", [0, -20, 28])
def test_batches_hold_what_the_towers_observed(sequences, inputs, offset):
    """Sequence by sequence, from the hours of a tower by their labels."""
    starts = sequences.moved(sequences.starts, offset)
    batch = sequences.batch(starts)
    target = batch.target.numpy()[..., 0]
    data = batch.inputs.map(lambda part: part.numpy())
    hourly, patches, index, statics = data.hourly, data.patches, data.patch_index, data.statics
    clock = inputs["time"].values
    unmatched = 0
    for row in range(len(starts)):
        site = int(np.flatnonzero(inputs["lat"].values.astype("f4") == statics[row, 1])[0])
        tower = inputs.isel(site=site, target=0)
        known = np.flatnonzero(np.isfinite(target[row]))
        if not known.size:
            unmatched += 1
            continue
        first = np.flatnonzero(tower["target"].values == target[row, known[0]])[0] - known[0]
        hours = np.arange(first, min(first + 64, 1440))
        expected = tower["target"].values[hours]
        np.testing.assert_array_equal(target[row, known], expected[known])
        there = (
            len(hours)
            if np.isfinite(hourly[row]).any(1).all()
            else int(np.isfinite(hourly[row]).any(1).sum())
        )
        np.testing.assert_array_equal(hourly[row, :there], tower["hourly"].values[hours[:there]])
        assert np.isnan(hourly[row, there:]).all() and np.isnan(data.state[row, there:]).all()
        np.testing.assert_array_equal(data.state[row, :there], tower["state"].values[hours[:there]])
        noon = np.flatnonzero(index[row] >= 0)
        for hour in noon:
            day = np.flatnonzero(inputs["day"].values == clock[hours[hour]].astype("M8[D]"))[0]
            np.testing.assert_array_equal(patches[index[row, hour]], tower["patch"].values[day])
    assert unmatched <= 2
    assert (index >= 0).any()


def test_moved_sequences_stay_in_the_records(sequences):
    begins, ends = sequences._begins, sequences._ends
    for offset in (-500, -28, 0, 28, 500):
        moved = sequences.moved(sequences.starts, offset)
        tower = sequences._tower(sequences.starts)
        assert torch.equal(sequences._tower(moved), tower)
        assert (moved >= begins[tower]).all()
        assert ((moved + 64 <= ends[tower]) | (moved == begins[tower])).all()
    inside = (sequences.starts - 28 >= begins[tower]) & (sequences.starts + 28 + 64 <= ends[tower])
    assert inside.sum() > 10
    assert torch.equal(sequences.moved(sequences.starts, 28)[inside], sequences.starts[inside] + 28)


def test_moments_are_those_of_the_targets(sequences, inputs):
    values = sequences._target[torch.isfinite(sequences._target)].double().numpy()
    (found,) = sequences_of(inputs, (), 64).target_moments()
    assert found == pytest.approx((values.mean(), values.std(ddof=1)), rel=1e-12)


def test_moments_of_the_state_are_those_of_all_hours_with_a_value(sequences, inputs):
    """A feature without any value has none."""
    mean, std = sequences_of(inputs, (), 64).input_moments("state")
    values = sequences._state.double().numpy()
    assert values.shape[1] == 3 and np.isfinite(values).any(0).all()
    np.testing.assert_allclose(mean, np.nanmean(values, 0), rtol=1e-5)
    np.testing.assert_allclose(std, np.nanstd(values, 0), rtol=1e-5)
    bare = inputs.assign(state=inputs["state"].where(inputs["feature"] != "LAI"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mean, std = sequences_of(bare, (), 64).input_moments("state")
    assert torch.isnan(mean).tolist() == torch.isnan(std).tolist() == [False, False, True]


# Training


def test_fit_learns_and_remembers_where_it_comes_from(sets, tmp_path):
    train, _ = sets
    network = TINY | {"dropout": 0.0, "variable_dropout": 0.0, "static_dropout": 0.0}
    settings = QUICK | {"max_steps": 60, "eval_every": 15, "learning_rate": 2e-2, "network": network}
    model = train.carbon.fit("streaming", val=train, allow_leakage=True, run_dir=tmp_path, **settings)
    first, *_, last = (point["val_mse"] for point in model.provenance["curve"])
    assert last < 0.65 < first  # of the variance
    assert model.sites == tuple(train["site"].values)
    assert model.provenance["training"]["length"] == 64
    assert (model.config.targets, model.config.statics) == (("NEE",), ("igbp", "lat", "lon", "elevation"))
    assert len(model.config.variables) == 21 and len(model.config.bands) == 9
    assert CarbonModel.load(tmp_path / MODEL).fingerprint() == model.fingerprint()


def test_several_fluxes_are_learnt_at_once(sets, tmp_path):
    """One of them has hours that the other has not, and they have other units of their own."""
    train, val = (ds.assign(GPP_NT=3 * ds["NEE"].where(ds["NEE"].time.dt.hour > 5) + 40) for ds in sets)
    model = fit(train, "streaming", val=val, target=["NEE", "GPP_NT"], run_dir=tmp_path, **QUICK)
    assert model.outputs == ("NEE", "GPP_NT", "NEE_SE", "GPP_NT_SE")
    (mean, std), (other_mean, other_std) = model.scaler.targets.values()
    assert other_std == pytest.approx(3 * std, rel=0.5) and other_mean > 30 > mean
    with pytest.raises(ModelError, match="only a streaming EcoPerceiver"):
        fit(train, "ecoperceiver", target=["NEE", "GPP_NT"], run_dir=tmp_path / "one")


@pytest.mark.parametrize("after", [3, 8])
def test_interrupted_and_resumed_ends_with_the_same_weights(sets, tmp_path, after):
    """Over several epochs, each with its own first hours."""
    train, val = sets
    whole = fit(train, "streaming", val=val, run_dir=tmp_path / "whole", **AVERAGED)
    with interrupted(after):
        fit(train, "streaming", val=val, run_dir=tmp_path / "parts", **AVERAGED)
    assert checkpoint(tmp_path / "parts")["step"] == after
    resumed = fit(train, "streaming", val=val, run_dir=tmp_path / "parts", resume=True, **AVERAGED)
    assert torch.equal(last_weights(tmp_path / "parts"), last_weights(tmp_path / "whole"))
    assert torch.equal(weights(resumed), weights(whole))
    assert resumed.provenance["curve"] == whole.provenance["curve"]
    with pytest.raises(ModelError, match=r"training\.length differ"):
        other = AVERAGED | {"length": 32}
        fit(train, "streaming", val=val, run_dir=tmp_path / "parts", resume=True, **other)


def test_epochs_begin_at_other_hours_and_scores_do_not(sets, inputs, sequences):
    some = object.__new__(streaming.StreamingRun)
    some.training = SimpleNamespace(seed=0)
    numbers = torch.arange(len(sequences))
    epochs = [some._indices(sequences, numbers, epoch) for epoch in (0, 1, 0)]
    assert torch.equal(epochs[0], epochs[2])
    assert not torch.equal(epochs[0], epochs[1])
    assert torch.equal(some._indices(sequences, numbers, None), sequences.starts)


def test_micro_batches_add_up_to_the_batch(sets, tmp_path):
    settings = QUICK | {"max_steps": 3}
    one, many = (
        weights(fit(sets[0], "streaming", run_dir=tmp_path / str(size), **settings | {"micro_batch": size}))
        for size in (8, 3)
    )
    torch.testing.assert_close(one, many, rtol=1e-3, atol=1e-4)


def test_the_score_is_that_of_all_hours_with_a_target(sets, tmp_path):
    """Here without patches and with unknown static site features."""
    bare = [ds[["TA", "SW_IN", "NEE"]].drop_vars(["igbp", "lat", "lon", "elevation"]) for ds in sets]
    settings = QUICK | {"val_windows": 1000, "allow_leakage": True}
    model = fit(bare[0], "streaming", val=bare[1], run_dir=tmp_path, **settings)
    assert model.config.bands == ()
    inputs = model_inputs(bare[1], model.config.variables, state=model.config.state, target=["NEE"])
    sequences = sequences_of(inputs, model.config.statics, 64).samples
    batch = sequences.batch(sequences.starts)
    assert torch.isnan(batch.inputs.statics).all()
    with torch.no_grad():
        predicted = model.network(batch.inputs).mean
    mean, std = model.scaler.targets["NEE"]
    error = (predicted * std + mean - batch.target)[torch.isfinite(batch.target)]
    best = min(point["val_mse"] for point in model.provenance["curve"])
    assert error.square().mean().item() / std**2 == pytest.approx(best, rel=1e-4)


def test_what_cannot_be_trained_is_said(sets, tmp_path):
    train, _ = sets
    cases = {
        "at least the window of 8 hours": {"length": 7},
        "unknown settings": {"precision": "bf16-mixed"},
        "unknown settings.*spraed": {"network": TINY | {"spraed": True}},
        "none of 3 towers has 24 hours with GPP_DT": {"target": "GPP_DT", "length": 64},
        "window must be at least 1": {"network": TINY | {"window": 0}},
    }
    silent = train.assign(GPP_DT=train["NEE"] * np.nan)
    for message, settings in cases.items():
        with pytest.raises(ModelError, match=message):
            fit(silent, "streaming", run_dir=tmp_path / "run", **QUICK | settings)
    assert not (tmp_path / "run").exists()


def test_mean_weights_are_scored_and_saved(sets, tmp_path):
    """And the run goes on with its own weights: those of a run without averaging."""
    train, _ = sets
    plain = fit(train, "streaming", run_dir=tmp_path / "plain", averaging=0.0, **QUICK)
    mean = fit(train, "streaming", run_dir=tmp_path / "mean", averaging=0.9, **QUICK)
    assert torch.equal(last_weights(tmp_path / "plain"), last_weights(tmp_path / "mean"))
    kept = checkpoint(tmp_path / "mean")["average"]
    assert kept["n_averaged"] == QUICK["max_steps"]
    names = mean.network.state_dict()
    expected = torch.cat([kept[f"module.{name}"].flatten() for name in names])
    assert torch.equal(weights(mean), expected)
    assert not torch.equal(weights(mean), weights(plain))


def test_members_become_an_ensemble(sets, tmp_path):
    """Each has its seed; a run stopped in the second resumes there."""
    train, _ = sets
    settings = QUICK | {"max_steps": 4, "seed": 3, "members": 2}
    whole = fit(train, "streaming", run_dir=tmp_path / "whole", **settings)
    assert [each["seed"] for each in whole.provenance["members"]] == [6, 7]
    alone = fit(train, "streaming", run_dir=tmp_path / "alone", **QUICK | {"max_steps": 4, "seed": 7})
    assert torch.equal(weights(CarbonModel.load(tmp_path / "whole" / "member-1" / MODEL)), weights(alone))
    with interrupted(2, "member-1"):
        fit(train, "streaming", run_dir=tmp_path / "parts", **settings)
    with pytest.raises(ModelError, match="holds a run"):
        fit(train, "streaming", run_dir=tmp_path / "parts", **settings)
    with pytest.raises(ModelError, match=r"training\.members differ"):
        fit(train, "streaming", run_dir=tmp_path / "parts", resume=True, **settings | {"members": 3})
    resumed = fit(train, "streaming", run_dir=tmp_path / "parts", resume=True, **settings)
    assert torch.equal(weights(resumed), weights(whole))


def test_the_state_is_read_standardised_and_can_be_left_out(sets, tmp_path):
    """By default it is all that the training towers have."""
    train, val = sets
    settings = QUICK | {"max_steps": 3, "variables": ["DOY", "TA"], "bands": []}
    model = fit(train, "streaming", val=val, run_dir=tmp_path / "all", **settings)
    assert model.config.state == (*memory_features(["TA"]), "LAI")
    embedding = model.network.state
    inputs = model_inputs(train, ["DOY", "TA"], state=model.config.state, target=["NEE"])
    mean, std = sequences_of(inputs, (), 64).input_moments("state")
    known = mean.isfinite()
    torch.testing.assert_close(embedding.mean[known], mean[known])
    torch.testing.assert_close(embedding.std[known], std[known])
    climate = model.config.state.index("TA_CLIMATE")  # missing in a record of two months
    assert (embedding.mean[climate], embedding.std[climate]) == (0, 1)
    prediction = train.carbon.predict_nee(model).values
    observed = inputs["hourly"].sel(variable="TA").notnull().values
    assert np.isfinite(prediction[observed]).all() and observed[:, 0].any()
    assert np.abs(train.drop_vars("LAI").carbon.predict_nee(model).values - prediction)[observed].max() > 1e-3
    few = fit(train, "streaming", run_dir=tmp_path / "few", state=["TA_1D"], **settings)
    assert few.config.state == ("TA_1D",)
    none = fit(train, "streaming", run_dir=tmp_path / "none", state=[], **settings)
    assert none.config.state == () and none.network.state is None
    with pytest.raises(VariableError, match="TA_2D is not a state feature"):
        fit(train, "streaming", run_dir=tmp_path / "other", state=["TA_2D"], **settings)


def test_groups_of_the_state_are_masked_in_training(sets, tmp_path, monkeypatch):
    """With certain masking of the state it has no influence on the weights."""
    train, _ = sets
    settings = QUICK | {"max_steps": 3, "variables": ["DOY", "TA"], "bands": []}
    masked = []
    original = objective.drop_state

    def count(config, state, chance):
        found = original(config, state, chance)
        masked.append(torch.isnan(found).float().mean().item() - torch.isnan(state).float().mean().item())
        return found

    monkeypatch.setattr(objective, "drop_state", count)
    for share in (0.0, 0.5, 1.0):
        network = TINY | {"group_dropout": share}
        fit(train, "streaming", run_dir=tmp_path / str(share), **settings | {"network": network})
        assert masked and {0.0: max(masked) == 0, 0.5: min(masked) > 0, 1.0: min(masked) > 0.3}[share]
        masked.clear()
