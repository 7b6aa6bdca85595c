"""Text that several commands print."""

from __future__ import annotations

import xarray as xr


def score_table(scores: xr.Dataset, overall: xr.Dataset) -> str:
    """Format the scores by class and over all hours."""
    frame = scores.to_dataframe()[["nse", "rmse", "bias", "n"]]
    frame.loc["all"] = [float(overall[name]) for name in frame.columns]
    return frame.astype({"n": int}).to_string(float_format="{:.3f}".format)


def count(towers: xr.Dataset | xr.DataArray) -> str:
    """Format the number of towers."""
    number = towers.sizes["site"]
    return f"{number} tower{'s' if number != 1 else ''}"
