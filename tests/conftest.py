"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
import xarray as xr

import xcarbon
from xcarbon.quality.checks import cf_findings_in_file
from xcarbon.testing import synthetic_towers

# Busy machines are slow now and then; what a test takes in all is watched elsewhere.
hypothesis.settings.register_profile("xcarbon", deadline=None)
hypothesis.settings.load_profile("xcarbon")

ROOT = Path(__file__).parent.parent


def pytest_configure() -> None:
    """Leave one thread to each process: models of tests are too small for more."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch and XGBoost are imported


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real data, or a skip that says where it was looked for."""
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
    """Return a function that writes a Dataset to NetCDF, and lists what of it is not CF."""

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
