"""Tests of the folder with the carbon budget of towers."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import xcarbon
from tests.budget.samples import towers
from xcarbon.core.errors import StoreError
from xcarbon.reports.budget import table, write_budget


@pytest.fixture(scope="module")
def fluxes() -> xr.Dataset:
    from xcarbon.budget import fill_and_partition

    return fill_and_partition(towers(1), "mds").compute()


@pytest.fixture(scope="module")
def folder(fluxes: xr.Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_budget(fluxes, tmp_path_factory.mktemp("report") / "budget")


def test_the_page_needs_no_other_file(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png;base64,") == len(list((folder / "figures").glob("*.png"))) >= 6
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    for text in ("SY-001", "marginal distribution sampling", "Pastorello", "90 % intervals", "xarray"):
        assert text in page


def test_tables_have_the_sums_of_the_budget(folder: Path, fluxes: xr.Dataset) -> None:
    annual, monthly = (pd.read_csv(folder / f"{name}.csv") for name in ("annual", "monthly"))
    assert (len(annual), len(monthly)) == (1, 12)
    sums = fluxes.carbon.budget()
    for name in ("NEE", "NEE_LOWER", "NEE_UPPER", "GPP_NT", "share_filled"):
        assert annual[name][0] == pytest.approx(float(sums[name].squeeze()), rel=1e-5)
    terms = sums["NEE_SE_TERMS"].squeeze()
    assert annual["NEE_SE_filling"][0] == pytest.approx(float(terms.sel(term="filling")), rel=1e-5)
    assert np.isnan(annual["NEE_SE_method"][0])
    assert list(table(sums).columns[:3]) == ["site", "time", "NEE"]


def test_the_fluxes_are_those_of_the_sums(folder: Path, fluxes: xr.Dataset) -> None:
    written = xcarbon.open_netcdf(folder / "fluxes.nc")
    for name in ("NEE", "NEE_FILLED", "GPP_NT", "RECO_DT"):
        np.testing.assert_array_equal(written[name], fluxes[name])


def test_an_error_leaves_the_old_folder(
    folder: Path, fluxes: xr.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(path.stat().st_mtime_ns for path in folder.rglob("*"))
    with pytest.raises(StoreError, match=r"budget exists"):
        write_budget(fluxes, folder)
    monkeypatch.setattr("xcarbon.reports.budget._page", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_budget(fluxes, folder, overwrite=True)
    assert before == sorted(path.stat().st_mtime_ns for path in folder.rglob("*"))
    assert list(folder.parent.iterdir()) == [folder]


def test_a_record_without_a_complete_year_has_a_page(fluxes: xr.Dataset, tmp_path: Path) -> None:
    folder = write_budget(fluxes.isel(time=slice(1000, 2500)), tmp_path / "part")
    assert "No calendar year has a value in each hour" in (folder / "report.html").read_text()
    assert pd.read_csv(folder / "annual.csv")["NEE"].isna().all()
