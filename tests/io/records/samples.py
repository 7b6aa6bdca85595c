"""Text of small tower files."""

from __future__ import annotations

import pandas as pd

from xcarbon.core.variables import VARIABLES

NAME = "FLX_DE-Tha_FLUXNET2015_FULLSET_HH_1996-2014_1-4.csv"
BASE = "AMF_US-CRT_BASE_HH_2-5.csv"
COMMENTS = "# Site: US-CRT\n# Version: 2-5\n"
STAMPS = ["TIMESTAMP_START", "TIMESTAMP_END"]
#: Added to small numbers, so that they are plausible.
LEVEL = {"PA": 60, "CO2": 390, "LW_IN": 290, "LW_OUT": 290}
COLUMNS = [(code, column) for code, known in VARIABLES.items() for column in known.columns]


def table(columns, start="1996-03-31", step=60):
    """Create the text of a file; a column is a list of cells, numbers or text."""
    rows = len(next(iter(columns.values())))
    begin = pd.date_range(start, periods=rows, freq=f"{step}min")
    times = zip(STAMPS, (begin, begin + pd.Timedelta(minutes=step)), strict=True)
    stamps = {name: time.strftime("%Y%m%d%H%M") for name, time in times}
    return pd.DataFrame(stamps | columns).to_csv(index=False)
