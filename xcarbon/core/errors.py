"""The errors that xcarbon raises on purpose.

Every message states what was found, where (file, site, variable, line) and what to do about it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class XCarbonError(Exception):
    """Base class of all errors that xcarbon raises on purpose."""


class FileFormatError(XCarbonError, ValueError):
    """A file does not have the format that its name or its header states."""


class TimestampError(FileFormatError):
    """The time axis is missing, duplicated, unsorted, irregular or not hourly."""


class MetadataError(XCarbonError, ValueError):
    """The metadata of a tower is missing or impossible."""


class VariableError(XCarbonError, KeyError):
    """A variable is unknown, or absent from a Dataset that needs it."""

    def __str__(self) -> str:
        # KeyError shows the repr of its argument, which puts quotes around the message.
        return str(self.args[0]) if self.args else ""


class BoundsError(XCarbonError, ValueError):
    """Scaling bounds are reversed, empty or not finite."""


class OptionError(XCarbonError, ValueError):
    """An option does not exist, or its value is not allowed."""


class StoreError(XCarbonError, OSError):
    """A store cannot be opened or written."""


class DownloadError(XCarbonError, OSError):
    """A file cannot be downloaded, or the downloaded file is not the expected one."""


class MissingPackageError(XCarbonError, ImportError):
    """An optional package is not installed; the message names the extra of xcarbon that installs it."""


class LeakageError(XCarbonError, ValueError):
    """A tower is in the training set and in an evaluation set, or two such towers are too close."""


class ModelError(XCarbonError, ValueError):
    """A model cannot be built, loaded, trained or applied to this data."""


@contextmanager
def reading(fault: str, kind: type[XCarbonError] = FileFormatError) -> Iterator[None]:
    """Raise any error of a library that reads a damaged file as an error of the package.

    Libraries raise errors of almost any class for damaged files. ``fault`` begins the message: the file and
    what failed. Errors of the package, of absent files and of lack of memory are raised unchanged.
    """
    try:
        yield
    except (XCarbonError, FileNotFoundError, PermissionError, MemoryError):
        raise
    except Exception as error:
        detail = " ".join(str(error).split())[:300] or type(error).__name__
        raise kind(
            f"{fault} ({detail}); it is damaged, or not what its name states: copy or download it again"
        ) from error
