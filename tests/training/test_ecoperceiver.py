"""Training reproduces, resumes, stops and refuses as promised."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr

import xcarbon
from tests.training.samples import checkpoint, interrupted, last_weights, weights, windows_of
from xcarbon.core.errors import LeakageError, ModelError
from xcarbon.models.bundle import CarbonModel, Scaler
from xcarbon.models.ecoperceiver import EcoPerceiver, EcoPerceiverConfig
from xcarbon.models.inputs import ModelInputs
from xcarbon.prep.inputs import model_inputs
from xcarbon.testing import synthetic_towers
from xcarbon.training import TrainingConfig, ecoperceiver, fit
from xcarbon.training import run as runs
from xcarbon.training.checkpoints import CHECKPOINT, MODEL, RUN
from xcarbon.training.schedule import BETAS
from xcarbon.training.windows import Batch

TINY = {"width": 16, "heads": 2, "cross_blocks": 1, "self_layers": 1, "context": 8, "octaves": 4}
QUICK = {
    "network": TINY, "batch_size": 32, "micro_batch": 16, "max_steps": 8, "eval_every": 2,
    "val_windows": 64, "learning_rate": 1e-3,
}  # fmt: skip


@pytest.fixture(scope="module")
def sets(towers):
    return towers.isel(site=slice(0, 3)), towers.isel(site=slice(3, 5))


def test_schedule_is_the_paper_s():
    config = TrainingConfig()
    assert (config.max_epochs, config.batch_size, config.learning_rate) == (20, 4096, 8e-5)
    assert (config.weight_decay, BETAS, config.warmup_epochs) == (0.05, (0.9, 0.95), 1)
    total = config.total_steps(100)
    assert total == 2000
    rates = [config.rate(step, total) for step in range(total)]
    assert np.argmax(rates) in (99, 100)
    assert max(rates) == pytest.approx(8e-5)
    assert (np.diff(rates[:100]) > 0).all()
    assert (np.diff(rates[100:]) < 0).all()
    assert rates[1050] == pytest.approx(4e-5, rel=1e-3)


def test_fit_learns_and_remembers_where_it_comes_from(sets, tmp_path):
    train, val = sets
    settings = QUICK | {"max_steps": 120, "eval_every": 40, "learning_rate": 1e-2, "loss": "window"}
    model = train.carbon.fit(val=val, run_dir=tmp_path, **settings)
    curve = [point["val_mse"] for point in model.provenance["curve"]]
    assert min(curve) < 0.7  # of the variance of the training towers
    assert model.sites == tuple(train["site"].values)
    assert model.provenance["val_sites"] == list(val["site"].values)
    assert model.provenance["data"]["title"] == train.attrs["title"]
    assert model.provenance["versions"]["xcarbon"] == xcarbon.__version__
    assert len(model.config.variables) == 21
    assert model.config.bands == ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "snow", "water")
    assert CarbonModel.load(tmp_path / MODEL).fingerprint() == model.fingerprint()


def test_seeds_reproduce(sets, tmp_path):
    train, _ = sets
    first, again, other = (
        weights(fit(train, run_dir=tmp_path / name, seed=seed, **QUICK))
        for name, seed in (("first", 1), ("again", 1), ("other", 2))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_training_leaves_the_global_random_state_alone(sets, tmp_path):
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    fit(sets[0], run_dir=tmp_path, **QUICK | {"max_steps": 2})
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("after", [3, 4])
def test_interrupted_and_resumed_ends_with_the_same_weights(sets, tmp_path, after):
    train, val = sets
    whole = fit(train, val=val, run_dir=tmp_path / "whole", **QUICK)
    with interrupted(after):
        fit(train, val=val, run_dir=tmp_path / "parts", **QUICK)
    assert checkpoint(tmp_path / "parts")["step"] == after
    CarbonModel.load(tmp_path / "parts" / MODEL)  # usable as it is
    resumed = fit(train, val=val, run_dir=tmp_path / "parts", resume=True, **QUICK)
    assert torch.equal(last_weights(tmp_path / "parts"), last_weights(tmp_path / "whole"))
    assert torch.equal(weights(resumed), weights(whole))
    assert resumed.provenance["curve"] == whole.provenance["curve"]


def test_long_epochs_are_checkpointed_by_the_clock(sets, tmp_path, monkeypatch):
    steps = []
    monkeypatch.setattr(runs, "CHECKPOINT_SECONDS", -1)
    monkeypatch.setattr(ecoperceiver.EcoPerceiverRun, "_checkpoint", lambda run: steps.append(run.step))
    fit(sets[0], run_dir=tmp_path, **QUICK | {"eval_every": 4})
    assert steps == list(range(1, 9))
    steps.clear()
    monkeypatch.setattr(runs, "CHECKPOINT_SECONDS", 3600)
    fit(sets[0], run_dir=tmp_path / "other", **QUICK | {"eval_every": 4})
    assert steps == [4, 8]


def test_the_order_is_drawn_once_an_epoch(sets, tmp_path, monkeypatch):
    drawn = []
    order = runs._order
    monkeypatch.setattr(runs, "_order", lambda *args: drawn.append(args[-1]) or order(*args))
    one = sets[0].isel(site=[0], time=slice(100))
    fit(one, run_dir=tmp_path, **QUICK | {"max_steps": None, "max_epochs": 3, "eval_every": 100})
    assert drawn == [0, 1, 2]


def test_resuming_a_finished_run_returns_its_model(sets, tmp_path):
    model = fit(sets[0], run_dir=tmp_path, **QUICK)
    assert torch.equal(weights(fit(sets[0], run_dir=tmp_path, resume=True, **QUICK)), weights(model))


def test_resume_refuses_another_run(sets, tmp_path):
    train, val = sets
    with pytest.raises(ModelError, match="no run to resume"):
        fit(train, run_dir=tmp_path / "new", resume=True, **QUICK)
    fit(train, run_dir=tmp_path / "run", **QUICK)
    with pytest.raises(ModelError, match="holds a run"):
        fit(train, run_dir=tmp_path / "run", **QUICK)
    with pytest.raises(ModelError, match=r"training\.seed, val_sites differ"):
        fit(train, val=val, run_dir=tmp_path / "run", resume=True, seed=5, **QUICK)


def test_micro_batches_add_up_to_the_batch(sets, tmp_path):
    settings = QUICK | {"max_steps": 3}
    one, many = (
        weights(fit(sets[0], run_dir=tmp_path / str(size), **settings | {"micro_batch": size}))
        for size in (32, 5)
    )
    torch.testing.assert_close(one, many, rtol=1e-3, atol=1e-4)


def test_early_stopping_keeps_the_best_weights(sets, tmp_path):
    train, val = sets
    settings = QUICK | {"max_steps": 200, "learning_rate": 0.5, "patience": 2}
    model = fit(train, val=val, run_dir=tmp_path, **settings)
    state = checkpoint(tmp_path)
    assert state["step"] < 200
    scores = [point["val_mse"] for point in state["curve"]]
    assert np.argmin(scores) == len(scores) - 3
    assert model.provenance["curve"][-1]["val_mse"] == min(scores)


def test_the_loss_of_the_window_learns_from_every_hour(sets, tmp_path):
    run = fit(sets[0], run_dir=tmp_path, loss="window", **QUICK)
    assert run.provenance["training"]["loss"] == "window"
    assert all(
        point.keys() == {"step", "train_loss"} for point in run.provenance["curve"]
    )  # no towers to check


def test_window_and_last_hour_losses():
    """The last-hour loss ignores errors before the last hour; the window loss includes them."""
    run = object.__new__(ecoperceiver.EcoPerceiverRun)
    run.model = SimpleNamespace(scaler=Scaler({"NEE": (1.0, 2.0)}, 1, {}))
    run.network = lambda *_: torch.tensor([[3.0, 9.0, 1.0]])
    batch = Batch(None, torch.tensor([[3.0, torch.nan, 3.0]]))  # standardised: 1, none, 1
    assert runs.loss(*run._compared(batch, "last")).item() == 0
    assert runs.loss(*run._compared(batch, "window")).item() == 4.0


def test_towers_on_both_sides_are_leakage(sets, tmp_path):
    train, _ = sets
    with pytest.raises(LeakageError, match="SY-001"):
        fit(train, val=train.isel(site=[0]), run_dir=tmp_path / "no", **QUICK)
    near = train.isel(site=[0]).assign_coords(site=["NEAR"])
    with pytest.raises(LeakageError, match="km apart"):
        fit(train, val=near, run_dir=tmp_path / "no", **QUICK)
    fit(train, val=near, run_dir=tmp_path / "yes", allow_leakage=True, **QUICK)
    assert not (tmp_path / "no").exists()


def test_what_cannot_be_trained_is_said(sets, towers, tmp_path):
    train, _ = sets
    cases = {
        "no model 'oracle'": (train, {"model": "oracle"}),
        "unknown settings": (train, {"learning_speed": 1}),
        "there are no towers": (train.isel(site=[]), {}),
        "no reflectance": (train.drop_vars("reflectance"), {"bands": ("B1",)}),
        "none of 3 towers has an hour": (train.assign(NEE=train["NEE"] * np.nan), {}),
        "at least 1": (train, {"batch_size": 0}),
        "cannot be predictors": (train, {"variables": ["TA", "GPP_DT"]}),
    }
    for message, (ds, settings) in cases.items():
        with pytest.raises((ModelError, xcarbon.core.errors.XCarbonError), match=message):
            fit(ds, run_dir=tmp_path / "run", **QUICK | settings)


def test_a_loss_that_explodes_is_reported(sets, tmp_path):
    with pytest.raises(ModelError, match="lower learning_rate"):
        fit(sets[0], run_dir=tmp_path, **QUICK | {"learning_rate": 1e30})


def test_run_folder_says_what_was_run(sets, tmp_path):
    fit(sets[0], run_dir=tmp_path, **QUICK)
    run = json.loads((tmp_path / RUN).read_text())
    assert run["network"]["width"] == 16
    assert run["training"]["seed"] == 0
    assert {path.name for path in tmp_path.iterdir()} == {MODEL, CHECKPOINT, RUN}


def test_a_tower_on_time_alone_can_be_trained_on(sets, tmp_path):
    model = fit(sets[0].isel(site=0), run_dir=tmp_path, **QUICK)
    assert model.sites == ("SY-001",)


def test_real_towers(real_towers: xr.Dataset, tmp_path):
    ds = real_towers.sel(site=["US-Wi2", "DE-Lkb"])
    model = fit(ds, run_dir=tmp_path, **QUICK)
    assert model.config.variables == ("DOY", "TOD", "TA", "VPD", "SW_IN")
    assert model.config.bands == ()


def test_a_state_is_read_if_it_is_chosen(tmp_path):
    """It is standardised over the training towers and masked by groups; the paper's model has none."""
    codes = ["TA", "SW_IN", "NEE"]
    ds = synthetic_towers(2, patches=False, satellite=True, variables=codes).isel(time=slice(3000)).load()
    settings = QUICK | {"max_steps": 3, "variables": ["DOY", "TA"]}
    plain = fit(ds, "ecoperceiver", run_dir=tmp_path / "plain", **settings)
    assert plain.config.state == () and plain.network.embed.state is None
    state = ["TA_30D", "LAI", "TA_1D"]
    model = fit(ds, "ecoperceiver", val=ds, allow_leakage=True, state=state, run_dir=tmp_path, **settings)
    assert model.config.state == tuple(state)
    inputs = model_inputs(ds, ["DOY", "TA"], state=state, target="NEE")
    mean, std = windows_of(inputs, 8).input_moments("state")
    torch.testing.assert_close(model.network.embed.state.mean, mean)
    torch.testing.assert_close(model.network.embed.state.std, std)
    prediction = ds.carbon.predict_nee(model).values
    without = ds.drop_vars("LAI").carbon.predict_nee(model).values
    assert np.isfinite(prediction).any() and np.nanmax(np.abs(prediction - without)) > 1e-6


@pytest.mark.parametrize(("dropout", "shares"), [(0.0, (0, 0)), (0.3, (0.25, 0.8)), (0.999, (0.9, 1))])
def test_groups_of_the_state_are_masked_in_whole_windows(dropout, shares):
    config = EcoPerceiverConfig(("DOY", "TA"), (), ("TA_1D", "TA_30D", "LAI"), group_dropout=dropout, **TINY)
    run = object.__new__(ecoperceiver.EcoPerceiverRun)
    run.model = SimpleNamespace(config=config, network=EcoPerceiver(config))
    assert run._dropout_shape() == (8, 2 + 5)
    chance = torch.rand(400, *run._dropout_shape(), generator=torch.Generator().manual_seed(0))
    batch = Batch(ModelInputs(torch.zeros(400, 8, 2), state=torch.ones(400, 8, 3)), torch.zeros(400, 8))
    found = run._mask(batch, chance).inputs
    gone = torch.isnan(found.state)
    assert (gone == gone[:, :1]).all()  # in all hours or in none
    assert shares[0] <= gone.float().mean() <= shares[1]
    assert (gone[..., 0] == gone[..., 1]).all()
    assert torch.isnan(found.hourly[..., 1]).float().mean().item() == pytest.approx(0.3, abs=0.05)
    bare = run._mask(batch._replace(inputs=ModelInputs(batch.inputs.hourly)), chance).inputs
    assert bare.state is None and torch.equal(bare.hourly.isnan(), found.hourly.isnan())
