"""The Dask graphs of predictions grow in proportion to the blocks, and contain the weights once."""

from __future__ import annotations

import pickle
from unittest import mock

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import xcarbon
from xcarbon.io import regions
from xcarbon.prediction.compressed import CompressedModel
from xcarbon.testing import synthetic_grid, synthetic_towers

#: Hours of a block.
HOURS = 48
#: Largest number of tasks per block, for a model with memory of three variables and no satellite series.
MOST = 40


@pytest.fixture(scope="module")
def model():
    return xcarbon.load("nee-fluxnet2015")


@pytest.fixture(scope="module")
def tower() -> xr.Dataset:
    return synthetic_towers(1, patches=False, variables=["TA", "SW_IN", "VPD"], gaps=False).load()


def cut(ds: xr.Dataset, towers: int, blocks: int, chunk: int = HOURS) -> xr.Dataset:
    """Repeat a tower, and cut the hours of some blocks into chunks."""
    many = xr.concat([ds.isel(time=slice(blocks * HOURS))] * towers, "site")
    return many.assign_coords(site=[f"SY-{n:03d}" for n in range(towers)]).chunk(site=1, time=chunk)


def count(*collections) -> int:
    return len(dict(dask.optimize(*collections)[0].__dask_graph__()))


@settings(deadline=None, max_examples=10)
@given(towers=st.integers(1, 4), blocks=st.integers(1, 8))
def test_tasks_of_towers_are_bounded(model, tower, towers, blocks):
    assert count(cut(tower, towers, blocks).carbon.predict_nee(model)) <= MOST * towers * blocks + 20


@settings(deadline=None, max_examples=10)
@given(hours=st.integers(1, 5), rows=st.integers(1, 3))
def test_tasks_of_grids_are_bounded(model, hours, rows):
    grid = synthetic_grid(2 * rows, 2)[["TA", "SW_IN", "VPD"]].isel(time=slice(hours * HOURS))
    grid = grid.chunk(time=HOURS, lat=2, lon=2)
    assert count(grid.carbon.predict_nee(model)) <= MOST * hours * rows + 40


@settings(deadline=None, max_examples=5)
@given(towers=st.integers(1, 3), blocks=st.integers(2, 8))
def test_a_block_of_a_longer_chunk_adds_few_tasks(model, tower, towers, blocks):
    """The block is one task, and the name of its values another; the chunk of the record is prepared once."""
    whole = cut(tower, towers, blocks, chunk=-1)
    with mock.patch("xcarbon.prediction.blocks.BLOCK", HOURS):
        assert count(whole.carbon.predict_nee(model)) <= (MOST + 2 * blocks) * towers + 20


def test_predict_to_adds_one_task_per_region(model, tower, tmp_path, monkeypatch):
    """A region is one tower; writing it is one task, whatever the number of its blocks."""
    numbers = {}

    def record(ds, draft, what):
        tasks = [task for _, task in regions._tasks(ds, draft)]
        numbers["tasks"], numbers["regions"] = (
            len(dask.base.collections_to_expr(tasks).__dask_graph__()),
            len(tasks),
        )
        raise InterruptedError

    monkeypatch.setattr("xcarbon.prediction.files.write_regions", record)
    ds = cut(tower, 3, 5)
    with pytest.raises(InterruptedError):
        ds.carbon.predict_to("NEE", model, tmp_path / "nee.zarr")
    assert numbers["regions"] == 3
    assert numbers["tasks"] <= MOST * 15 + 3 + 10


def test_weights_are_in_the_graph_once(model, tower):
    """The graph of many blocks is hardly larger than the compressed model."""
    alone = len(pickle.dumps(CompressedModel(model)))
    small, large = (
        len(
            pickle.dumps(
                dict(dask.optimize(cut(tower, 1, blocks).carbon.predict_nee(model))[0].__dask_graph__())
            )
        )
        for blocks in (1, 8)
    )
    assert alone < small < large < 1.5 * alone
    assert alone < 0.6 * len(pickle.dumps(model))


def test_model_stays_compressed_until_it_is_opened(model):
    """The bytes that a scheduler passes on are those that it got; locally nothing is copied."""
    assert CompressedModel(model).open() is model
    arrived = pickle.loads(pickle.dumps(CompressedModel(model)))
    assert pickle.dumps(arrived) == pickle.dumps(pickle.loads(pickle.dumps(arrived)))
    assert arrived.open().fingerprint() == model.fingerprint()


def test_empty_state_is_not_in_the_graph(model):
    """The state before the first hour has a size per cell, and is made by the task of the first chunk."""
    cell = synthetic_grid(1, 1)[["TA", "SW_IN", "VPD"]].isel(time=slice(HOURS)).load()
    grid = cell.isel(lat=[0] * 64, lon=[0] * 64)
    grid = grid.assign_coords(lat=50 - 0.25 * np.arange(64), lon=8 + 0.25 * np.arange(64)).chunk()
    graph = {
        key: task
        for key, task in dict(grid.carbon.predict_nee(model).__dask_graph__()).items()
        if "memory" in str(key)
    }
    assert graph
    assert len(pickle.dumps(graph)) < np.zeros((64, 64)).nbytes
