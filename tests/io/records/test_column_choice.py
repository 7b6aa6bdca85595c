"""Columns of each variable, and their order."""

from __future__ import annotations

import numpy as np
import pytest

from xcarbon.io.records import choose_columns


def test_net_exchange_of_the_team_goes_before_the_flux_at_the_sensor():
    assert choose_columns(["FC", "NEE_PI", "FC_1_1_1", "SC"]) == {"NEE": ("NEE_PI",)}
    assert choose_columns(["NEE_PI_1_1_1", "NEE_PI_F"]) == {"NEE": ("NEE_PI_1_1_1", "NEE_PI_F")}
    assert choose_columns(["NEE_PI_F_1_1_1"]) == {"NEE": ("NEE_PI_F_1_1_1",)}


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        (["FC"], ["FC"]),
        (["SC", "FC"], ["FC + SC", "FC"]),
        (["SC"], None),
        (["FC_1_1_1", "SC_1_1_1"], ["FC_1_1_1 + SC_1_1_1", "FC_1_1_1"]),
        (["FC_1_2_1", "FC_1_1_1", "SC_1_2_1"], ["FC_1_1_1", "FC_1_2_1 + SC_1_2_1", "FC_1_2_1"]),
        (["FC_1_1_1", "SC"], ["FC_1_1_1 + SC", "FC_1_1_1"]),
        (["FC", "SC_1_1_1"], ["FC + SC_1_1_1", "FC"]),
        (["FC_1", "SC_1"], ["FC_1 + SC_1", "FC_1"]),
        (["FC", "NEE_PI_F"], ["FC", "NEE_PI_F"]),
        (["FC", "SC", "NEE"], ["NEE"]),
        (["FC_SSITC_TEST", "FC_QC"], None),
    ],
)
def test_flux_at_the_sensor_and_storage_are_nee_where_there_is_none(header, columns):
    assert choose_columns(header).get("NEE") == (columns and tuple(columns))


def test_constant_threshold_replaces_the_variable_one_that_a_file_lacks(read):
    flags = {"NEE_CUT_REF_QC": [0, 2, -9999]}
    for code, column in [
        ("NEE", "NEE_CUT_REF"),
        ("GPP_DT", "GPP_DT_CUT_REF"),
        ("RECO_NT", "RECO_NT_CUT_REF"),
        ("NEE_RANDUNC", "NEE_CUT_REF_RANDUNC"),
    ]:
        found = read(code, **{column: [1, 2, 3]}, **flags)
        np.testing.assert_array_equal(found.values, [1, 2, 3])
        np.testing.assert_array_equal(found.flags, [0, 2, 3])
        assert choose_columns([column, column.replace("CUT", "VUT")], uncertainty=True)[code] == (
            column.replace("CUT", "VUT"),
        )


def test_percentiles_of_constant_thresholds_replace_those_of_variable_ones():
    found = choose_columns(["NEE_CUT_16", "NEE_CUT_84", "NEE_VUT_84", "RECO_NT_CUT_16"], uncertainty=True)
    assert found == {
        "NEE_VUT_16": ("NEE_CUT_16",),
        "NEE_VUT_84": ("NEE_VUT_84",),
        "RECO_NT_VUT_16": ("RECO_NT_CUT_16",),
    }


def test_layers_follow_the_sensors():
    header = [
        "TA_2",
        "TA_1",
        "TA_1_2_1",
        "FCH4_1",
        "SWC_1",
        "SWC_PI_1",
        "TS_7",
        "TA_1_SD",
        "SWC_1_1_1",
        "SWC_2",
    ]
    assert choose_columns(header) == {
        "TA": ("TA_1_2_1", "TA_1", "TA_2"),
        "SWC_1": ("SWC_1", "SWC_1_1_1", "SWC_PI_1"),
        "SWC_2": ("SWC_2",),
        "FCH4": ("FCH4_1",),
    }


def test_vertical_position_is_depth_in_the_soil_and_height_elsewhere():
    header = [
        "TS_1_2_1",
        "TS_1_1_1",
        "TS_2_1_1",
        "TS_1_6_1",
        "SWC_1_10_1",
        "TA_1_2_1",
        "TA_1_1_2",
        "TA_1_1_1",
    ]
    header += ["TA_2_1_1", "TA_1_1_A", "G_2_1_1", "G_1_1_1", "TA_1_10_1", "TA_PI_F_1_1_1", "TA_1_1_1_SD"]
    assert choose_columns(header) == {
        "TA": ("TA_1_1_1", "TA_1_1_2", "TA_1_1_A", "TA_2_1_1", "TA_1_2_1", "TA_1_10_1"),
        "TS_1": ("TS_1_1_1", "TS_2_1_1"),
        "TS_2": ("TS_1_2_1",),
        "G": ("G_1_1_1", "G_2_1_1"),
    }


def test_soil_without_a_position_is_the_shallowest():
    assert choose_columns(["SWC", "TS"]) == {"SWC_1": ("SWC",), "TS_1": ("TS",)}
