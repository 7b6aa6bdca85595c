"""Several processes, each with a part of the towers, train the same model as one process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import lightning_fabric
import numpy as np
import pytest
import torch
import xarray as xr

from tests.training.samples import checkpoint, interrupted, windows_of
from xcarbon.models.bundle import CarbonModel
from xcarbon.prep.inputs import model_inputs
from xcarbon.testing import synthetic_towers
from xcarbon.training import fit
from xcarbon.training.checkpoints import MODEL
from xcarbon.training.distributed import join_processes
from xcarbon.training.moments import pooled
from xcarbon.training.windows import load_windows

SETTINGS = {
    "variables": ("DOY", "TOD", "TA", "SW_IN"), "bands": ("B1", "B2"),
    "state": ("TA_1D", "SW_IN_7D"), "batch_size": 16, "micro_batch": 4,
    "max_steps": 4, "eval_every": 2, "val_windows": 64, "learning_rate": 3e-2,
    "network": {"width": 16, "heads": 2, "cross_blocks": 2, "self_layers": 1, "context": 30, "octaves": 4},
}  # fmt: skip
#: Of the kinds of networks that learn from sequences; one averages its weights, one is an ensemble.
OTHERS = {
    "streaming": {
        "variables": SETTINGS["variables"], "bands": ("B1",), "batch_size": 8, "micro_batch": 3,
        "max_steps": 6, "eval_every": 3, "val_windows": 20, "length": 32, "averaging": 0.5,
        "network": {"width": 16, "heads": 2, "window": 8, "octaves": 4, "layers": 1, "cross_blocks": 1},
    },
    "hourly": {
        "variables": SETTINGS["variables"], "batch_size": 64, "max_steps": 6, "eval_every": 3, "members": 2,
        "network": {"width": 16},
    },
}  # fmt: skip
#: One of two processes has nothing to learn from.
IDLE = SETTINGS | {"batch_size": 1, "max_steps": 3, "eval_every": 3}

#: On two processes: a whole run, the second half of one that began on one, and the first half of another.
SCRIPT = f"""
import os, signal, sys
import xcarbon, xarray as xr
from pathlib import Path
from xcarbon.training import fit
from xcarbon.training import ecoperceiver
from xcarbon.training.distributed import Shard

folder, settings = Path(sys.argv[1]), {SETTINGS}
train, val = (xr.open_dataset(folder / f"{{name}}.nc") for name in ("train", "val"))
fit(train, val=val, run_dir=folder / "two", **settings)
fit(train, val=val, run_dir=folder / "one-two", resume=True, **settings)
fit(train, val=val, run_dir=folder / "idle-two", **{IDLE})
for kind, others in {OTHERS}.items():
    model = fit(train, kind, val=val, run_dir=folder / f"{{kind}}-two", **others)
    (folder / f"{{kind}}-{{os.environ['RANK']}}").write_text(model.fingerprint())
tuned = fit(train, "pretrained", start=model, run_dir=folder / "tuned-two", max_steps=2, length=32)

step = ecoperceiver.EcoPerceiverRun._step
def press(run, *arguments):
    if run.step == 1 and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGINT)
    return step(run, *arguments)
ecoperceiver.EcoPerceiverRun._step = press
shard = Shard.__init__
def tell(self, *arguments):
    shard(self, *arguments)
    held = [] if self._samples is None else list(self.samples.counts)
    (folder / f"held-{{os.environ['RANK']}}-{{len(self)}}").write_text(str(held))
Shard.__init__ = tell
try:
    fit(train, val=val, run_dir=folder / "two-one", **settings)
except KeyboardInterrupt as error:
    (folder / f"stopped-{{os.environ['RANK']}}").write_text(str(error))
"""


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> tuple[xr.Dataset, xr.Dataset, Path]:
    """Three towers to train on, one of them short, and one to validate; also as files."""
    towers = synthetic_towers(4, seed=3).isel(time=slice(0, 1500), day=slice(0, 70)).compute()
    train, val = towers.isel(site=[0, 1, 2]), towers.isel(site=[3])
    train["NEE"][1, 700:] = np.nan
    folder = tmp_path_factory.mktemp("two")
    for name, part in {"train": train, "val": val}.items():
        part.to_netcdf(folder / f"{name}.nc")
    return train, val, folder


@pytest.fixture(scope="module")
def curves(sets) -> dict[str, list[dict[str, float]]]:
    """Learning curves on one process, on two, and on one after the other."""
    train, val, folder = sets
    fit(train, val=val, run_dir=folder / "one", **SETTINGS)
    fit(train, val=val, run_dir=folder / "idle-one", **IDLE)
    with interrupted(2):
        fit(train, val=val, run_dir=folder / "one-two", **SETTINGS)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    (folder / "script.py").write_text(SCRIPT)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*command, folder / "script.py", folder], check=True, env=environment, timeout=120)
    shutil.copytree(folder / "two-one", folder / "two-stopped")
    fit(train, val=val, run_dir=folder / "two-one", resume=True, **SETTINGS)
    for kind, others in OTHERS.items():
        model = fit(train, kind, val=val, run_dir=folder / f"{kind}-one", **others)
    fit(train, "pretrained", start=model, run_dir=folder / "tuned-one", max_steps=2, length=32)
    names = ["one", "two", "one-two", "two-one", "idle-one", "idle-two", "streaming-one", "streaming-two"]
    names += [
        f"{kind}-{n}/member-{i}" for kind in ("hourly", "tuned") for n in ("one", "two") for i in (0, 1)
    ]
    return {name: checkpoint(folder / name)["curve"] for name in names}


@pytest.mark.parametrize("name", ["two", "one-two", "two-one"])
def test_any_number_of_processes_gives_the_same_curve(curves, name):
    assert [point["step"] for point in curves[name]] == [2, 4]
    for point, expected in zip(curves[name], curves["one"], strict=True):
        assert point == pytest.approx(expected, rel=1e-4)
    assert curves["one"][0]["val_mse"] != pytest.approx(curves["one"][-1]["val_mse"], rel=1e-3)


@pytest.mark.parametrize(
    "name", ["streaming-{}", *(f"{k}-{{}}/member-{i}" for k in ("hourly", "tuned") for i in (0, 1))]
)
def test_networks_on_sequences_have_the_same_curve_on_two_processes(curves, name):
    one, two = (curves[name.format(number)] for number in ("one", "two"))
    assert len(one) == len(two) >= 1
    for point, expected in zip(two, one, strict=True):
        assert point == pytest.approx(expected, rel=1e-3)
    assert len({point["train_loss"] for point in one}) == len(one)


@pytest.mark.parametrize("kind", OTHERS)
def test_all_processes_return_the_same_model(curves, sets, kind):
    folder = sets[2]
    saved = CarbonModel.load(folder / f"{kind}-two" / MODEL).fingerprint()
    assert saved == (folder / f"{kind}-0").read_text() == (folder / f"{kind}-1").read_text()


def test_a_process_without_windows_in_a_batch_takes_part(curves):
    for point, expected in zip(curves["idle-two"], curves["idle-one"], strict=True):
        assert point == pytest.approx(expected, rel=1e-4)


def test_each_process_holds_a_part_of_the_towers(curves, sets):
    train, _, folder = sets
    inputs = model_inputs(train, ["TA"], target="NEE")
    count = len(windows_of(inputs, 30))
    held = [eval((folder / f"held-{rank}-{count}").read_text()) for rank in (0, 1)]
    assert sorted(held[0] + held[1]) == [0, 1, 2]
    assert [1] not in held  # the short one is not alone


def test_ctrl_c_at_one_process_stops_all_after_the_same_step(curves, sets):
    folder = sets[2]
    assert checkpoint(folder / "two-stopped")["step"] == 2
    told = {(folder / f"stopped-{rank}").read_text() for rank in (0, 1)}
    assert len(told) == 1
    assert "stopped after step 2 of 4; resume=True continues" in told.pop()


def test_one_process_holds_all_windows_in_order(sets):
    inputs = model_inputs(sets[0], ["TA"], target="NEE")
    shard = windows_of(inputs, 30)
    index = torch.tensor([5, 0, len(shard) - 1])
    own, rows = shard.find(index)
    assert own.tolist() == index.tolist()
    assert rows.tolist() == [0, 1, 2]
    known = shard.samples.batch(torch.arange(len(shard))).target[:, -1].double().numpy()
    assert shard.target_moments() == [pytest.approx((known.mean(), known.std(ddof=1)), rel=1e-12)]


def test_moments_of_the_state_are_those_of_the_hours_of_the_windows(sets):
    """For any division of the towers between processes; a feature without any value has none."""
    inputs = model_inputs(sets[0], ["TA"], state=["TA_1D", "LAI", "SW_IN_7D"], target="NEE")
    shard = windows_of(inputs, 30)
    mean, std = shard.input_moments("state")
    blocks = shard.samples._state.double().numpy().reshape(-1, 3)[:, [0, 2]]
    np.testing.assert_allclose(mean[[0, 2]], np.nanmean(blocks, 0), rtol=1e-6)
    np.testing.assert_allclose(std[[0, 2]], np.nanstd(blocks, 0), rtol=1e-6)
    assert torch.isnan(mean[1]) and torch.isnan(std[1])
    parts = [load_windows(inputs, 30, sites) for sites in ([2, 0], [1])]
    towers = sum(part.moments.by_tower("state", 3, 3) for part in parts)
    np.testing.assert_array_equal(pooled(towers, ddof=0)[0].astype("f4"), mean)
    without = windows_of(inputs.drop_dims("feature"), 30)
    assert [len(part) for part in without.input_moments("state")] == [0, 0]


def test_a_target_that_does_not_vary_is_not_divided_by_zero(sets):
    inputs = model_inputs(sets[0], ["TA"], target="NEE").compute()
    inputs["target"] = inputs["target"] * 0 + 2
    assert windows_of(inputs, 30).target_moments() == [(2.0, 1.0)]


def test_without_torchrun_there_is_one_process():
    fabric = join_processes("32-true")
    assert isinstance(fabric, lightning_fabric.Fabric)
    assert fabric.world_size == 1
