"""Warnings of columns that are not read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.io.records.samples import table
from xcarbon.io.networks import UNNAMED
from xcarbon.io.records import survey


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["TA_F (degC)"], r"rename 'TA_F \(degC\)' to TA_F to read"),
        (
            ["ta_1_1_1", "NEE.VUT.REF"],
            "'ta_1_1_1' to TA_1_1_1, 'NEE.VUT.REF' to NEE",
        ),
    ],
)
def test_columns_that_are_spelled_otherwise_are_named(write, names, message):
    columns = {"SW_IN_F": [1.0, 2.0], "H2O": [1.0, 2.0]} | {name: [1.0, 2.0] for name in names}
    with pytest.warns(UserWarning, match=f"some columns are not read; .*{message}"):
        survey(write(table(columns)))


def test_columns_of_a_file_of_others_are_named_if_main_variables_are_absent(write):
    release = write(table({"VPD": [1.0, 2.0], "NEE": [1.0, 2.0], "Tair": [1.0, 2.0], "Rg": [1.0, 2.0]}))
    survey(release)  # files of the networks have many other columns
    with pytest.warns(UserWarning, match=r"no column of TA, SW_IN, and the columns \['Tair', 'Rg'\] are not"):
        survey(replace(release, product=UNNAMED))
