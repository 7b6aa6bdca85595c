"""Files with a row of units under the header."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.io.records.samples import NAME
from xcarbon.core.errors import FileFormatError
from xcarbon.io.columns import Source
from xcarbon.io.networks import recognise
from xcarbon.io.records import read_hours, survey

UNITS = {
    "TIMESTAMP_START": "YYYYMMDDHHMM", "TA": "K", "VPD": "kPa", "NEE": "gC m-2 d-1", "P": "mm s-1", "RH": "-",
    "SW_IN": "Wm-2", "PA": "", "H": "[W+1m-2]", "WS": "ms-1", "CO2": "umolCO2 mol-1", "NEE_QC": "-",
}  # fmt: skip


def test_row_of_units_converts_the_values(write):
    rows = {"TIMESTAMP_START": ["199603310000", "199603310030", "199603310100", "199603310130"]}
    cells = dict(
        TA=288.15, VPD=0.5, NEE=1.0377507, P=1 / 3600, RH=60, SW_IN=500, PA=99, H=50, WS=3, CO2=400, NEE_QC=0
    )
    frame = pd.DataFrame(rows | cells)
    frame.loc[2, ["TA", "VPD"]] = -9999.99
    header, text = frame.to_csv(index=False).split("\n", 1)
    units = ",".join(UNITS[name] for name in frame.columns)
    record = survey(write(f"{header}\n{units}\n{text}"))
    expected = dict(TA=15, VPD=5, NEE=1, P=1, RH=60, SW_IN=500, PA=99, H=50, WS=3, CO2=400)
    for code, value in expected.items():
        missing = code in ("TA", "VPD")
        values = read_hours(record).options[code].values
        np.testing.assert_allclose(values, [value, np.nan if missing else value], rtol=1e-5, err_msg=code)


@pytest.mark.parametrize(
    ("column", "units", "message"),
    [
        (
            "SW_IN",
            "umol m-2 s-1",
            "column SW_IN: units 'umol m-2 s-1' cannot be converted to 'W m-2'",
        ),
        ("NEE", "mg m-2 s-1", "line 2, column NEE: .*what the mass is made of.*correct the row of units"),
        ("TA", "warm", "line 2, column TA: units 'warm' cannot be read"),
    ],
)
def test_row_of_units_that_cannot_be_converted_is_an_error(write, column, units, message):
    text = f"TIMESTAMP_START,{column}\nYYYYMMDDHHMM,{units}\n199603310000,1\n199603310100,2\n"
    with pytest.raises(FileFormatError, match=message):
        survey(write(text))


def test_flux_and_storage_must_have_the_same_units(write):
    rows = "199603310000,1,2\n199603310100,2,3\n"
    record = survey(write(f"TIMESTAMP_START,FC,SC\n-,nmol m-2 s-1,nmol m-2 s-1\n{rows}"))
    np.testing.assert_allclose(read_hours(record).options["NEE"].values, [0.003, 0.005])
    with pytest.raises(FileFormatError, match=r"line 2: the units .* of FC \+ SC differ"):
        survey(write(f"TIMESTAMP_START,FC,SC\n-,nmol m-2 s-1,umol m-2 s-1\n{rows}"))


def test_units_may_be_written_by_windows(write, tmp_path):
    path = tmp_path / NAME
    text = "TIMESTAMP_START,TA,NEE\n-,\xb0C,\xb5mol m\xb2\n199603310000,1,2\n199603310100,2,3\n"
    path.write_bytes(text.replace(" m\xb2", " m-2 s-1").encode("cp1252"))
    assert survey(recognise(Source(str(path)))).conversions == {}
