"""The quality tolerance removes values with higher flags and no others."""

import numpy as np
import pytest
import xarray as xr

from xcarbon.core.errors import OptionError
from xcarbon.prep.quality import MAX_QC, mask_quality
from xcarbon.testing import raise_on_compute

FLAGS = [-1, 0, 1, 2, 3]


def tower(flags=FLAGS, dtype="int8") -> xr.Dataset:
    """Return one value per flag, counted from 1."""
    values = np.arange(1, len(flags) + 1, dtype="float32")
    return xr.Dataset(
        {
            "NEE": ("time", values, {"units": "umol m-2 s-1"}),
            "NEE_QC": ("time", np.array(flags, dtype)),
            "TA": ("time", values),
        },
        attrs={"title": "a tower"},
    )


@pytest.mark.parametrize(
    ("max_qc", "kept"), [(0, [1, 2]), (1, [1, 2, 3]), (2, [1, 2, 3, 4]), (300, [1, 2, 3, 4, 5])]
)
def test_flags_up_to_the_tolerance_and_values_without_flag_stay(max_qc, kept):
    masked = mask_quality(tower(), ["NEE"], max_qc)["NEE"]
    np.testing.assert_array_equal(masked.dropna("time"), kept)
    assert masked.dtype == np.float32
    assert masked.attrs == {"units": "umol m-2 s-1"}


def test_default_is_the_papers_tolerance():
    assert MAX_QC == 1
    xr.testing.assert_identical(mask_quality(tower(), ["NEE"]), mask_quality(tower(), ["NEE"], 1))


def test_flag_that_was_decoded_to_nan_is_no_flag():
    masked = mask_quality(tower([np.nan, 0, 2], "float32"), ["NEE"])["NEE"]
    np.testing.assert_array_equal(masked, [1, 2, np.nan])


def test_missing_value_stays_missing():
    ds = tower()
    ds["NEE"][1] = np.nan
    assert np.isnan(mask_quality(ds, ["NEE"], 3)["NEE"][1])


def test_variable_without_flags_stays_whole():
    masked = mask_quality(tower(), ["TA", "NEE"], 0)
    assert list(masked) == ["TA", "NEE"]
    xr.testing.assert_identical(masked["TA"], tower()["TA"])
    assert masked.attrs == {"title": "a tower"}


def test_masking_is_lazy():
    with raise_on_compute():
        masked = mask_quality(tower().chunk(time=2), ["NEE", "TA"])
    assert masked["NEE"].chunks == ((2, 2, 1),)


def test_negative_tolerance_is_an_error():
    with pytest.raises(OptionError, match="max_qc must be 0 or more, found -1"):
        mask_quality(tower(), ["NEE"], -1)


@pytest.mark.parametrize("lazy", [False, True])
def test_implausible_values_are_missing_whatever_their_flags(lazy):
    ds = tower()
    ds["NEE"][:3] = [9999, 350, -100]
    masked = mask_quality(ds.chunk() if lazy else ds, ["NEE"], 3)["NEE"]
    np.testing.assert_array_equal(masked, [np.nan, np.nan, -100, 4, 5])
    assert masked.dtype == np.float32
