"""Training data on disk: the same results as in memory, no files left, and a line that reports it."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import xcarbon
from tests.processes import exit_code
from tests.training.samples import interrupted, last_weights, weights
from tests.training.test_ecoperceiver import QUICK as WINDOWS
from tests.training.test_streaming import QUICK as SEQUENCES
from xcarbon.core.errors import StoreError
from xcarbon.prep.inputs import model_inputs
from xcarbon.testing import synthetic_towers
from xcarbon.training import arrays as arrays_module
from xcarbon.training import fit
from xcarbon.training.arrays import Arrays, memory_limit
from xcarbon.training.moments import TowerMoments, pooled
from xcarbon.training.run import prefetch
from xcarbon.training.windows import Windows, load_windows

SETTINGS = {
    "ecoperceiver": WINDOWS | {"state": ["TA_1D"]}, "streaming": SEQUENCES,
    "hourly": {"max_steps": 4, "batch_size": 64},
}  # fmt: skip


@pytest.fixture(scope="module")
def sets():
    towers = synthetic_towers(5, seed=2).isel(time=slice(0, 1440), day=slice(0, 60)).compute()
    return towers.isel(site=slice(0, 3)), towers.isel(site=slice(3, 5))


def limit_memory(monkeypatch, size: int) -> None:
    monkeypatch.setattr(arrays_module, "memory_limit", lambda: size)


@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=8),
    columns=st.integers(0, 3),
    limit=st.sampled_from([0, 60, 10**9]),
)
def test_arrays_hold_all_rows_in_memory_and_on_disk(tmp_path_factory, sizes, columns, limit):
    folder = tmp_path_factory.getbasetemp()
    rows = [np.random.default_rng(i).random((size, columns), "f4") for i, size in enumerate(sizes)]
    with pytest.MonkeyPatch.context() as patch, xcarbon.set_options(progress=False):
        limit_memory(patch, limit)
        grown = Arrays(folder)
        for part in rows:
            grown.append(values=part, number=np.arange(len(part)), none=None)
        assert grown.on_disk == (sum(part.nbytes + 8 * len(part) for part in rows) > limit)
        found = grown.tensors()
    assert found.keys() == {"values", "number"}
    np.testing.assert_array_equal(found["values"], np.concatenate(rows))
    np.testing.assert_array_equal(found["number"], np.concatenate([np.arange(n) for n in sizes]))
    assert found["number"].dtype == torch.int64


@pytest.mark.parametrize("kind", SETTINGS)
@pytest.mark.parametrize("limit", [0, 200_000])
def test_training_from_disk_ends_with_the_same_weights(sets, tmp_path, monkeypatch, capsys, kind, limit):
    """Also if the data moves to disk in the middle of loading; no file is left, and a line reports it."""
    train, val = sets
    capsys.readouterr()
    in_memory = fit(train, kind, val=val, run_dir=tmp_path / "memory", **SETTINGS[kind])
    limit_memory(monkeypatch, limit)
    with xcarbon.set_options(progress=True):
        on_disk = fit(train, kind, val=val, run_dir=tmp_path / "disk", **SETTINGS[kind])
    assert torch.equal(weights(on_disk), weights(in_memory))
    assert torch.equal(last_weights(tmp_path / "disk"), last_weights(tmp_path / "memory"))
    assert on_disk.provenance["curve"] == in_memory.provenance["curve"]
    files = [{path.name for path in (tmp_path / name).iterdir()} for name in ("memory", "disk")]
    assert files[0] == files[1] == {"model", "last.ckpt", "run.json"}
    lines = [line for line in capsys.readouterr().err.splitlines() if "GB)" in line]
    assert [line.split(" (")[0] for line in lines] == ["The training data", "The validation data"]
    assert f"stored on disk in {tmp_path / 'disk'}" in lines[0]


def test_ctrl_c_leaves_no_file_and_the_run_resumes_from_disk(sets, tmp_path, monkeypatch):
    train, _ = sets
    whole = fit(train, "streaming", run_dir=tmp_path / "whole", **SEQUENCES)
    limit_memory(monkeypatch, 0)
    with interrupted(3):
        fit(train, "streaming", run_dir=tmp_path / "parts", **SEQUENCES)
    assert {path.name for path in (tmp_path / "parts").iterdir()} == {"model", "last.ckpt", "run.json"}
    resumed = fit(train, "streaming", run_dir=tmp_path / "parts", resume=True, **SEQUENCES)
    assert torch.equal(weights(resumed), weights(whole))


def append_and_die(folder: Path, mapped: bool) -> None:
    """Write data to disk, and kill the own process."""
    arrays_module.memory_limit = lambda: 0
    grown = Arrays(folder)
    grown.append(values=np.ones(1000))
    assert not mapped or grown.tensors()["values"].sum() == 1000
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("mapped", [False, True])
def test_a_killed_process_leaves_no_file(tmp_path, mapped):
    """Killed while the data is written, and while it is mapped."""
    assert exit_code(append_and_die, tmp_path, mapped) == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_error_that_names_the_folder(tmp_path, monkeypatch):
    limit_memory(monkeypatch, 0)
    grown = Arrays(tmp_path / "run")
    grown.append(values=np.ones(3))

    def write(values):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(grown._parts["values"], "file", SimpleNamespace(write=write))
    with pytest.raises(StoreError, match=r"run cannot be written because the disk is full"):
        grown.append(values=np.ones(3))


def test_the_limit_is_half_of_what_the_machine_and_the_cgroup_leave(monkeypatch):
    from distributed import system

    assert 0 < memory_limit() <= arrays_module.psutil.virtual_memory().total / 2
    used = arrays_module.psutil.Process().memory_info()
    monkeypatch.setattr(system, "MEMORY_LIMIT", used.rss - getattr(used, "shared", 0) + 2**30)
    assert memory_limit() == pytest.approx(2**29, rel=0.1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert memory_limit() == pytest.approx(2**27, rel=0.1)
    monkeypatch.setattr(system, "MEMORY_LIMIT", 0)
    assert memory_limit() == 0


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs the list of mappings of Linux")
def test_only_positions_stay_in_memory(sets, tmp_path, monkeypatch):
    limit_memory(monkeypatch, 0)
    inputs = model_inputs(sets[0], ["TA"], ["B1"], state=["TA_1D"], target="NEE")
    windows = load_windows(inputs, 32, arrays=Arrays(tmp_path))
    lines = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(tmp_path) in line]
    files = [range(*(int(end, 16) for end in line.split()[0].split("-"))) for line in lines]
    tensors = {name: value for name, value in vars(windows).items() if isinstance(value, torch.Tensor)}
    mapped = {name for name, value in tensors.items() if any(value.data_ptr() in file for file in files)}
    assert mapped == {"_hourly", "_target", "_patch_index", "_state", "patches"}
    resident = sum(tensors[name].nbytes for name in tensors.keys() - mapped)
    blocks = len(windows._hourly)
    assert resident == 8 * len(windows) + 16 * blocks


def test_every_target_is_used_once_in_an_epoch(sets, tmp_path, monkeypatch):
    limit_memory(monkeypatch, 0)
    train, seen = sets[0], []
    batch = Windows.batch
    monkeypatch.setattr(Windows, "batch", lambda self, index: seen.append(index) or batch(self, index))
    settings = WINDOWS | {"max_steps": None, "max_epochs": 1, "batch_size": 512, "eval_every": 100}
    fit(train, run_dir=tmp_path, **settings)
    inputs = model_inputs(train, ["TA"], target="NEE")
    count = len(load_windows(inputs, WINDOWS["network"]["context"]))
    assert torch.equal(torch.cat(seen).sort().values, torch.arange(count))


def test_an_error_while_batches_are_gathered_ends_the_training(sets, tmp_path, monkeypatch):
    batch, calls = Windows.batch, []

    def fail(self, index):
        calls.append(index)
        if len(calls) > 5:
            raise OSError("the disk is gone")
        return batch(self, index)

    monkeypatch.setattr(Windows, "batch", fail)
    with pytest.raises(OSError, match="the disk is gone"):
        fit(sets[0], run_dir=tmp_path, **WINDOWS)
    assert (tmp_path / "run.json").exists()


def test_items_are_made_one_ahead_in_order():
    made = []

    def items():
        for number in range(5):
            made.append(number)
            yield number

    found = []
    for item in prefetch(items()):
        found.append(item)
        assert len(made) <= item + 2
    assert found == made == list(range(5))


def test_moments_of_towers_are_those_of_all_values():
    values = np.random.default_rng(0).normal(5, 2, (3, 50, 2)).astype("f4")
    values[0, ::3], values[1, :, 1] = np.nan, np.nan
    parts = [TowerMoments(), TowerMoments()]
    for site, tower in enumerate(values):
        parts[site % 2].add(site, state=tower, none=None)
    mean, std = pooled(sum(part.by_tower("state", 3, 2) for part in parts), ddof=1)
    every = values.reshape(-1, 2).astype("f8")
    np.testing.assert_allclose(mean, np.nanmean(every, 0), rtol=1e-12)
    np.testing.assert_allclose(std, np.nanstd(every, 0, ddof=1), rtol=1e-12)
    empty, width = pooled(TowerMoments().by_tower("state", 3, 2), ddof=1)
    assert np.isnan([empty, width]).all()
