"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import dask
import hypothesis
import pytest
import xarray as xr
from distributed.utils import get_mp_context

import xcarbon
from xcarbon.quality.cf import cf_findings_in_file
from xcarbon.testing import synthetic_towers

# A busy machine may slow down single examples, so there is no deadline for each of them.
hypothesis.settings.register_profile("xcarbon", deadline=None)
hypothesis.settings.load_profile("xcarbon")

ROOT = Path(__file__).parent.parent


def pytest_configure() -> None:
    """Use one thread per process, since the models of tests are small, and let Ctrl-C interrupt tests."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch and XGBoost are imported
    # A shell starts background jobs with SIGINT ignored, and child processes would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def quick_workers() -> Iterator[None]:
    """Start the worker processes of clusters as copies of a process that has imported everything."""
    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        get_mp_context().set_forkserver_preload(
            ["xcarbon.models.networks", "xcarbon.pipeline", "xcarbon.training.boosting"]
        )
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real data, or skip with a message that names the missing folder."""
    folder = Path(os.environ.get("XCARBON_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set XCARBON_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def real_towers(real_data: Path) -> xr.Dataset:
    """180 real towers, nothing loaded."""
    return xcarbon.open_store(real_data / "fluxnet2015_hourly.zarr")


@pytest.fixture(scope="session")
def towers() -> xr.Dataset:
    """Twelve synthetic towers of one year with patches, in memory but chunked."""
    return synthetic_towers(12, seed=1).persist()


@pytest.fixture
def findings(tmp_path: Path) -> Callable[[xr.Dataset], list[str]]:
    """Return a function that writes a Dataset to NetCDF and lists its departures from CF."""

    def check(ds: xr.Dataset) -> list[str]:
        path = tmp_path / "checked.nc"
        ds.to_netcdf(path)
        return [finding.message for finding in cf_findings_in_file(path)]

    return check


@pytest.fixture(autouse=True)
def no_progress() -> Iterator[None]:
    """Keep progress bars out of the test report."""
    with xcarbon.set_options(progress=False):
        yield
