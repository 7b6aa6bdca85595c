"""Records of files with the headers of real files, and of those with uncertainties."""

from __future__ import annotations

import numpy as np
import pytest

from tests.io.records.samples import BASE, LEVEL, STAMPS, table
from xcarbon.core.conventions import QC
from xcarbon.core.variables import VARIABLES, quality_column
from xcarbon.io.columns import Source
from xcarbon.io.networks import recognise
from xcarbon.io.records import read_hours, survey
from xcarbon.testing import synthetic_towers, write_release


def test_uncertainties_are_read_on_request(write):
    columns = [f"NEE_VUT_{percentile}" for percentile in ("05", "16", "25", "50", "75", "84", "95")]
    release = write(table({name: [1, 2] for name in ["NEE_VUT_REF", "NEE_VUT_REF_RANDUNC", *columns]}))
    assert list(survey(release).columns) == ["NEE"]
    assert list(survey(release, uncertainty=True).columns) == ["NEE", "NEE_RANDUNC", *columns]


def real_header(folder, name):
    lines = (folder / "headers" / name).read_text().splitlines()
    return [line for line in lines if line[0] != "#"], [line for line in lines if line[0] == "#"]


def test_real_fullset_header_serves_all_but_methane_and_water_table(real_data, tmp_path):
    header, _ = real_header(real_data, "fluxnet_fullset_hh.txt")
    assert len(header) == 267
    ds = synthetic_towers(1, seed=3, patches=False).isel(time=slice(48)).load()
    path = write_release(ds, "SY-001", tmp_path, columns=header)
    record = survey(recognise(Source(str(path))), uncertainty=True)
    absent = {"DOY", "TOD", "WTD", "FCH4"}
    assert set(record.columns) == set(VARIABLES) - absent
    for code, columns in record.columns.items():
        assert columns == tuple(name for name in VARIABLES[code].columns if name in header)
        for column in columns:
            expected = quality_column(column)
            assert record.flags.get(column) == (expected if expected in header else None)
    assert record.flags["RECO_DT_VUT_REF"] == record.flags["NEE_VUT_REF"] == "NEE_VUT_REF_QC"
    hours = read_hours(record).options
    for code in set(ds.data_vars) & set(VARIABLES) - absent:
        np.testing.assert_allclose(hours[code].values, ds[code][0], rtol=1e-5, err_msg=code)
        if f"{code}{QC}" in ds:
            np.testing.assert_array_equal(hours[code].flags, ds[f"{code}{QC}"][0], err_msg=code)
    for code in {"SWC_1", "TS_5", "NEE_RANDUNC"}:  # in the header, but without values
        assert np.isnan(hours[code].values).all() and (hours[code].flags == -1).all()


def test_real_base_header(real_data, write):
    header, comments = real_header(real_data, "ameriflux_base_hh.txt")
    assert len(comments) == 2
    level = {name: LEVEL.get(name, 0) for name in header}
    columns = {name: [level[name] + n / 10] * 2 for n, name in enumerate(header) if name not in STAMPS}
    record = survey(write("\n".join([*comments, table(columns, step=30)]), BASE))
    hours = read_hours(record).options
    assert set(hours) == {
        *(
            "TA",
            "P",
            "RH",
            "PA",
            "CO2",
            "SW_IN",
            "SW_OUT",
            "LW_IN",
            "LW_OUT",
            "NETRAD",
            "PPFD_IN",
            "WS",
            "WD",
        ),
        *("USTAR", "SWC_1", "TS_1", "WTD", "G", "H", "LE", "NEE", "FCH4"),
    }
    named = {"NEE": "NEE_PI", "SWC_1": "SWC", "TS_1": "TS_1_1_1", "G": "G_1_1_1"}
    for code, option in hours.items():
        number = header.index(named.get(code, code)) / 10 + LEVEL.get(code, 0)
        assert option.values.tolist() == pytest.approx([number * (2 if code == "P" else 1)])
        assert option.flags.tolist() == [0]
    assert record.columns["G"] == ("G_1_1_1", "G_2_1_1")
    assert record.columns["TS_1"] == ("TS_1_1_1", "TS_2_1_1")
