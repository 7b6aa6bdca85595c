"""Tests of setting options for a block or for the session, and of options that are not allowed."""

import pytest

import xcarbon
from xcarbon.core.errors import OptionError
from xcarbon.core.options import OPTIONS


def test_block_restores_what_was_set_before():
    with xcarbon.set_options(device="cpu"):
        with xcarbon.set_options(device="mps", progress=True):
            assert OPTIONS == {"device": "mps", "progress": True}
        assert OPTIONS == {"device": "cpu", "progress": False}
    assert OPTIONS["device"] == "auto"


def test_block_that_fails_restores_too():
    with pytest.raises(ZeroDivisionError), xcarbon.set_options(device="cpu"):
        _ = 1 / 0
    assert OPTIONS["device"] == "auto"


def test_options_can_be_set_for_good():
    try:
        xcarbon.set_options(device="cpu")
        assert OPTIONS["device"] == "cpu"
    finally:
        xcarbon.set_options(device="auto")


def test_unknown_option_lists_the_known_ones():
    with pytest.raises(OptionError, match=r"unknown option 'colour'.*'device', 'progress'"):
        xcarbon.set_options(colour="red")


@pytest.mark.parametrize("wrong", [{"progress": "yes"}, {"device": "tpu"}, {"device": ["cpu"]}])
def test_wrong_value_is_refused_and_changes_nothing(wrong):
    with pytest.raises(OptionError, match="is not allowed: set it to"):
        xcarbon.set_options(**{"progress": True, **wrong})
    assert OPTIONS == {"device": "auto", "progress": False}
