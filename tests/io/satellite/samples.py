"""Tables and NetCDF files with satellite series."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

CATEGORY = {"Category": "tower", "Latitude": 50.0, "Longitude": 10.0, "MODIS_Tile": "h18v03"}


def sample(path, sites, dates, **columns):
    """Write a point sample as AppEEARS names its columns; columns are values by date."""
    rows = [
        {"ID": site} | CATEGORY | {"Date": date} | {name: of[i] for name, of in columns.items()}
        for site in sites
        for i, date in enumerate(dates)
    ]
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def days(ds: xr.Dataset) -> list[str]:
    return ds["day"].values.astype("datetime64[D]").astype(str).tolist()


def flags(ds: xr.Dataset, code: str, site: str = "A") -> list[int]:
    return ds[f"{code}_QC"].sel(site=site).values.tolist()


def table(path, **columns):
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


def netcdf(path, name="LAI", units="1", start="2005-01-01", count=36, value=None, **attrs):
    """Write months of one variable at the sites A and B."""
    time = pd.date_range(start, periods=count, freq="MS")
    values = (
        np.random.default_rng(0).uniform(0.1, 0.9, (2, count))
        if value is None
        else np.full((2, count), value)
    )
    ds = xr.Dataset(
        {name: (("site", "time"), values, {"units": units} | attrs)}, {"site": ["A", "B"], "time": time}
    )
    ds.to_netcdf(path)
    return path
