"""Everything xcarbon raises on purpose: one base class and its leaves.

Every message names what was found, where (file, site, variable, line) and what to do about it.
"""


class XCarbonError(Exception):
    """Base class of all errors that xcarbon raises on purpose."""


class FileFormatError(XCarbonError, ValueError):
    """A file is not what its name or its header promises."""


class TimestampError(FileFormatError):
    """The time axis is missing, duplicated, unsorted, irregular or not hourly."""


class MetadataError(XCarbonError, ValueError):
    """A tower lacks coordinates, or its metadata cannot be true."""


class VariableError(XCarbonError, KeyError):
    """A variable is unknown, or absent from a Dataset that needs it."""

    def __str__(self) -> str:
        # KeyError shows the repr of its argument, which turns a sentence into a quoted string.
        return str(self.args[0]) if self.args else ""


class BoundsError(XCarbonError, ValueError):
    """Scaling bounds are reversed, empty or not finite."""


class OptionError(XCarbonError, ValueError):
    """An option does not exist, or its value is not allowed."""


class StoreError(XCarbonError, OSError):
    """A store cannot be opened or written."""


class LeakageError(XCarbonError, ValueError):
    """Training and evaluation towers are the same, or stand too close together."""


class ModelError(XCarbonError, ValueError):
    """A model cannot be built, loaded, trained or applied to this data."""
