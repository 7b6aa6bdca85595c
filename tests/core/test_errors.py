"""Errors of libraries become errors of the package that name the file."""

from __future__ import annotations

import pytest

from xcarbon.core.errors import FileFormatError, MetadataError, ModelError, reading


@pytest.mark.parametrize(
    "error", [RuntimeError("NetCDF: HDF error"), TypeError("no list"), OverflowError(), NotImplementedError()]
)
def test_any_error_of_a_library_is_named(error):
    message = r"a\.zip cannot be read \(.+\); it is damaged"
    with pytest.raises(ModelError, match=message) as caught, reading("a.zip cannot be read", ModelError):
        raise error
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [MetadataError("no lat"), FileNotFoundError("a"), MemoryError()])
def test_errors_that_are_not_damage_are_unchanged(error):
    with pytest.raises(type(error)) as caught, reading("a.zip cannot be read"):
        raise error
    assert caught.value is error


def test_long_messages_of_libraries_are_one_line():
    with pytest.raises(FileFormatError) as caught, reading("a.nc cannot be read"):
        raise ValueError("\n".join(["x"] * 1000))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
