"""The files of the documentation: the tower-year, and code that the build of the pages does not run."""

import importlib.util
import os
import stat
from pathlib import Path

import pandas as pd
import pytest
import xarray as xr

import xcarbon
from xcarbon.testing import synthetic_towers, write_release

DOCS = Path(__file__).parents[1] / "docs"
SITE = dict(site="DE-Abc", lat=47.66, lon=7.39, igbp="ENF", utc_offset=0)


def test_tower_year_is_small_and_complete() -> None:
    files = list((DOCS / "data").iterdir())
    assert sum(file.stat().st_size for file in files) < 500_000
    tower = xcarbon.open_fluxnet(DOCS / "data" / "FLX_DE-Tha_FLUXNET2015_SUBSET_HH_2009-2009.csv.gz")
    assert tower.sizes["time"] == 8760
    assert tower.attrs["license"] == "CC-BY-4.0"
    assert "10.1038/s41597-020-0534-3" in tower.attrs["references"]
    assert tower.notnull().all().compute().to_array().all()
    assert 0.4 < float((tower["NEE_QC"] == 0).mean()) < 0.6  # measured


def test_fluxnet_output_of_eddypro_has_the_flux_without_storage(tmp_path: Path) -> None:
    """The first columns of EddyPro's file, and a sensor of the biomet data."""
    start = pd.date_range("2020-01-01", periods=4, freq="30min")
    table = pd.DataFrame(
        {
            "TIMESTAMP_START": start.strftime("%Y%m%d%H%M"),
            "TIMESTAMP_END": (start + pd.Timedelta(minutes=30)).strftime("%Y%m%d%H%M"),
            "DOY_START": 1.0,
            "DOY_END": 1.0,
            "FILENAME_HF": "raw.ghg",
            "FC": [1.0, 3.0, -9999, 1.0],
            "SC_SINGLE": 10.0,
            "USTAR": 0.3,
            "TA_EP": 5.0,
            "VPD_EP": 1.0,
            "SW_IN_1_1_1": 100.0,
        }
    )
    path = tmp_path / "eddypro_DE-Abc_fluxnet_2020-01-02T000000_adv.csv"
    table.to_csv(path, index=False)
    with pytest.warns(UserWarning, match=r"no column of TA, VPD, .* 'TA_EP', 'VPD_EP'\] are not read"):
        tower = xcarbon.open_fluxnet(path, metadata=SITE).load()
    assert set(tower.data_vars) == {"NEE", "USTAR", "SW_IN"}
    assert tower["NEE"].values[0, 0] == 2.0
    assert tower["NEE"].isnull().values.tolist() == [[False, True]]


#: Commands in place of those of SLURM, which run a job at once on this machine. As that of SLURM, sbatch
#: keeps a copy of the script, which dask-jobqueue removes.
SBATCH = """#!/bin/bash
script=$(mktemp "$0.XXXX")
cp "$1" "$script"
bash "$script" >"$script.log" 2>&1 &
echo "Submitted batch job $!"
"""
SCANCEL = '#!/bin/bash\nkill "$@" 2>/dev/null || true\n'


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_slurm_script_builds_and_predicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {"sbatch": SBATCH, "scancel": SCANCEL}.items():
        command = tmp_path / "bin" / name
        command.parent.mkdir(exist_ok=True)
        command.write_text(text)
        command.chmod(command.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    towers = synthetic_towers(2, patches=False, gaps=False, variables=["TA", "SW_IN", "VPD", "NEE"])
    towers = towers.sel(time="2010-07")
    raw = tmp_path / "raw"
    raw.mkdir()
    for site in towers["site"].values:
        write_release(towers, site, raw)
    columns = {"SITE_ID": "site", "LOCATION_LAT": "lat", "LOCATION_LON": "lon", "IGBP": "igbp"}
    table = pd.DataFrame({column: towers[name] for column, name in columns.items()})
    table.to_csv(raw / "site_data.csv", index=False)

    spec = importlib.util.spec_from_file_location("slurm_page", DOCS / "howto" / "slurm.py")
    assert spec and spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.JOB = dict(cores=1, processes=1, memory="4GB", interface="lo", local_directory=str(tmp_path))
    script.JOBS = 1
    store, prediction = tmp_path / "towers.zarr", tmp_path / "nee.zarr"
    script.main(str(raw), str(store), str(prediction))
    assert xr.open_zarr(prediction)["NEE"].notnull().sum() == 2 * 31 * 24
