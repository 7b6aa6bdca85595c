"""CarbonSense, generated from synthetic towers with the method of its authors."""

from __future__ import annotations

import contextlib
import json
import pickle
import sqlite3
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from xcarbon.core.variables import TARGETS

#: First and last dates of the periods of each site.
PERIODS = {
    "SY-001": [("2010-01-01", "2010-01-08"), ("2010-02-01", "2010-02-05")],
    "SY-002": [("2010-01-05", "2010-01-12")],
}

#: Columns of v1 with lower and upper bounds, from its normalization_config.yml.
V1 = {
    "TA": ("TA_F", -80, 80), "P": ("P_F", 0, 300), "RH": ("RH", 0, 100), "VPD": ("VPD_F", 0, 110),
    "PA": ("PA_F", 20, 150), "CO2": ("CO2_F_MDS", 0, 2000), "SW_IN": ("SW_IN_F", 0, 2000),
    "SW_OUT": ("SW_OUT", -100, 2000), "LW_IN": ("LW_IN_F", 0, 2000), "LW_OUT": ("LW_OUT", -100, 2000),
    "NETRAD": ("NETRAD", -1000, 2000), "PPFD_IN": ("PPFD_IN", -200, 3000),
    "PPFD_OUT": ("PPFD_OUT", -200, 3000), "WS": ("WS_F", 0, 100), "WD": ("WD", 0, 360),
    "USTAR": ("USTAR", 0, 10), "G": ("G_F_MDS", -1000, 2000), "H": ("H_F_MDS", -1000, 2000),
    "LE": ("LE_F_MDS", -1000, 2000),
}  # fmt: skip

TARGETS_V1 = {
    "NEE": "NEE_VUT_REF", "GPP_DT": "GPP_DT_VUT_REF", "GPP_NT": "GPP_NT_VUT_REF",
    "RECO_DT": "RECO_DT_VUT_REF", "RECO_NT": "RECO_NT_VUT_REF",
}  # fmt: skip

#: Bounds of v2, from its stage_4.py.
V2 = {
    "TA": (-80, 80), "P": (0, 100), "RH": (0, 100), "VPD": (0, 110), "PA": (0, 110), "CO2": (0, 750),
    "SW_IN": (-1500, 1500), "SW_IN_POT": (-1500, 1500), "SW_OUT": (-500, 500), "LW_IN": (-1000, 1000),
    "LW_OUT": (-1000, 1000), "NETRAD": (-1000, 1000), "PPFD_IN": (-2500, 2500), "PPFD_OUT": (-1000, 1000),
    "WS": (-100, 100), "WD": (0, 360), "USTAR": (-4, 4), "TS_1": (-40, 40), "G": (-700, 700),
    "H": (-700, 700), "LE": (-700, 700),
}  # fmt: skip

SCHEMA = """
    CREATE TABLE ec_data (id INTEGER PRIMARY KEY AUTOINCREMENT, site TEXT NOT NULL,
        timestamp INTEGER NOT NULL, DOY REAL, TOD REAL, ODD REAL, SWC_1 REAL, {columns});
    CREATE INDEX idx_ec_site ON ec_data(site);
    CREATE TABLE modis_data (id INTEGER PRIMARY KEY AUTOINCREMENT, row_id INTEGER, data BLOB);
    CREATE INDEX idx_modis_row_id ON modis_data(row_id);
    CREATE TABLE site_data (site TEXT PRIMARY KEY, lat REAL, lon REAL, elev REAL, igbp TEXT);
"""


def scaled(values: np.ndarray, lower: float, upper: float, cyclic: bool) -> np.ndarray:
    inside = np.where((values >= lower) & (values <= upper), values.astype(float), np.nan)
    return (inside - (lower + upper) / 2) / ((upper - lower) / (2 if cyclic else 1))


def patches_of(tower: xr.Dataset, size: int) -> dict[pd.Timestamp, np.ndarray]:
    """Patches by noon, with 8 or 10 pixels, without days of which more than half are fill pixels."""
    bands = tower["reflectance"].transpose("day", "band", "y", "x").fillna(-1)
    stacked = np.concatenate([bands, np.stack([tower["snow"], tower["water"]], axis=1)], axis=1)
    edge = ((0, 0), (0, 0), *((((size - 8) // 2,) * 2),) * 2)
    patches = np.pad(stacked.astype("float32"), edge, constant_values=0.77)
    noon = tower["day"].values + np.timedelta64(12, "h")
    good = (bands == -1).mean(("band", "y", "x")).values <= 0.5
    return {
        pd.Timestamp(time).as_unit("ns"): patch
        for time, patch, keep in zip(noon, patches, good, strict=True)
        if keep
    }


def write_period(ds: xr.Dataset, folder: Path, site: str, start: str, end: str, size: int = 10) -> Path:
    tower = ds.sel(site=site, time=slice(start, end), day=slice(start, end))
    time = tower["time"].to_index().rename("timestamp")
    clock = {"DOY": (time.day_of_year - 184) / 183, "TOD": (time.hour - 12) / 12}
    predictors = {
        column: scaled(tower[code].values, lower, upper, code == "WD")
        for code, (column, lower, upper) in V1.items()
    }
    targets = {column: tower[code].values for code, column in TARGETS_V1.items()}
    period = folder / site / f"{start}_{end}"
    period.mkdir(parents=True)
    pd.DataFrame(clock | {"PPFD_DIF": 0.1} | predictors, index=time).to_csv(period / "predictors.csv")
    pd.DataFrame(targets, index=time).to_csv(period / "targets.csv")
    (period / "modis.pkl").write_bytes(pickle.dumps(patches_of(tower, size)))
    meta = {
        "SITE_ID": site,
        "LOCATION_LAT": float(tower["lat"]),
        "LOCATION_LON": float(tower["lon"]),
        "LOCATION_ELEV": None if site == "SY-002" else float(tower["elevation"]),
        "IGBP": str(tower["igbp"].values),
        "SOURCES": "ameriflux,fluxnet",
        "TIME": [start, end],
    }
    (period / "meta.json").write_text(json.dumps(meta))
    return period


def write_v1(ds: xr.Dataset, folder: Path) -> Path:
    for site, periods in PERIODS.items():
        for start, end in periods:
            write_period(ds, folder, site, start, end)
    (folder / "README.txt").write_text("CarbonSense")
    return folder


def write_v2(ds: xr.Dataset, folder: Path, shift: str = "0min") -> Path:
    folder.mkdir()
    codes = [*V2, *TARGETS]
    path = folder / "carbonsense_v2.sql"
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(SCHEMA.format(columns=", ".join(f"{code} REAL" for code in codes)))
        for site, ((start, _), *_) in PERIODS.items():
            tower = ds.sel(site=site, time=slice(start, PERIODS[site][-1][1]))
            stamps = (tower["time"].to_index() + pd.Timedelta(shift)).strftime("%Y%m%d%H%M").astype(int)
            columns = [
                scaled(tower[code].values, *V2[code], code == "WD") if code in V2 else tower[code].values
                for code in codes
            ]
            rows = [
                (site, stamp, *(None if np.isnan(value) else float(value) for value in values))
                for stamp, *values in zip(stamps.tolist(), *columns, strict=True)
            ]
            marks = ", ".join("?" * (len(codes) + 2))
            connection.executemany(
                f"INSERT INTO ec_data (site, timestamp, {', '.join(codes)}) VALUES ({marks})", rows
            )
            ids = dict(connection.execute("SELECT timestamp, id FROM ec_data WHERE site = ?", [site]))
            patches = patches_of(tower.sel(day=slice(start, PERIODS[site][-1][1])), 8)
            keyed = [(int(time.strftime("%Y%m%d1200")), patch.tobytes()) for time, patch in patches.items()]
            connection.executemany(
                "INSERT INTO modis_data (row_id, data) VALUES (?, ?)",
                [(ids[key], patch) for key, patch in keyed if key in ids],
            )
            place = (float(tower["lat"]), float(tower["lon"]), -9999.0, str(tower["igbp"].values))
            connection.execute("INSERT INTO site_data VALUES (?, ?, ?, ?, ?)", [site, *place])
    return folder


def expected_of(ds: xr.Dataset, path: Path) -> xr.Dataset:
    """Values of the source that the dataset contains, on the axes of all towers."""
    is_v1 = (path / "SY-001").is_dir()
    bounds = {code: limits for code, (_, *limits) in V1.items()} if is_v1 else V2
    days = slice("2010-01-01", "2010-02-05")
    expected = ds[[*bounds, *(TARGETS_V1 if is_v1 else TARGETS), "reflectance", "snow", "water"]]
    expected = expected.sel(time=days, day=days)
    for code, (lower, upper) in bounds.items():
        expected[code] = expected[code].where((expected[code] >= lower) & (expected[code] <= upper))
    dates = {site: [span(*of) for of in periods] for site, periods in PERIODS.items()}
    if not is_v1:  # v2 has rows in the gaps between periods
        dates = {site: [span(periods[0][0], periods[-1][1])] for site, periods in PERIODS.items()}
    hours, day = (
        xr.concat([expected[dim].dt.floor("D").isin(np.concatenate(of)) for of in dates.values()], "site")
        for dim in ("time", "day")
    )
    day = day & (expected["reflectance"].isnull().mean(("band", "y", "x")) <= 0.5)
    for name, array in expected.items():
        missing = -1 if name in ("snow", "water") else np.nan
        expected[name] = array.where(day if "day" in array.dims else hours, missing)
    return expected


def span(start: str, end: str) -> np.ndarray:
    return np.arange(start, np.datetime64(end) + 1, dtype="M8[D]")


def change(path: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)
