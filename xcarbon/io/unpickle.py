"""Safe reader for pickles of plain data; all other pickles are rejected before any of their code runs.

A pickle is a program that can call any function of any module. This reader only accepts the functions in one
table and the operations that plain data needs: numbers, text, bytes, lists, tuples, dictionaries, dates, and
numpy arrays of numbers, dates or text. The functions of numpy and pandas are not called directly, because
numpy trusts the memory layout that a pickled type describes; the table contains functions of this module
that check their arguments.
"""

from __future__ import annotations

import collections
import datetime as dt
import io
import os
import pickle
import pickletools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xcarbon.core.errors import FileFormatError

#: Operations of protocols 2 to 5 that plain data needs. Persistent identifiers, the extension registry,
#: instances of classes and buffers outside the file are excluded.
_OPERATIONS = {
    "PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "MEMOIZE",
    "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT",
    "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8",
    "EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3",
    "APPEND", "APPENDS", "SETITEM", "SETITEMS", "BINGET", "LONG_BINGET", "BINPUT", "LONG_BINPUT",
    "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD",
}  # fmt: skip
_OPERATION_NAMES = {ord(operation.code): operation.name for operation in pickletools.opcodes}
#: Array types: numbers, booleans, dates and text, but not objects, records or raw memory.
_TYPE = re.compile(r"[biufcmMSU]\d+")
#: Units of a pandas Timestamp by their number in a pickle.
_UNITS: dict[int, Any] = {7: "s", 8: "ms", 9: "us", 10: "ns"}
#: Placeholder for ``numpy.ndarray``, which a pickle names without calling it.
_NDARRAY = object()


def load(path: str | os.PathLike[str]) -> Any:
    r"""Read a pickle of plain data, protocol 2 to 5, written with any version of numpy and pandas.

    Plain data consists of ``None``, numbers, ``str``, ``bytes``, ``bytearray``, ``list``, ``tuple``,
    ``dict``, ``OrderedDict``, ``date``, ``datetime``, ``timedelta``, ``pandas.Timestamp`` without time zone,
    and numpy arrays, scalars and types of numbers, dates or text. Any other pickle raises a FileFormatError,
    and nothing that it names is imported or called.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "patches.pkl")
    ...     _ = path.write_bytes(pickle.dumps({"B1": np.zeros(2)}))
    ...     load(path)
    ...     _ = path.write_bytes(b"cos\nsystem\n(S'ls'\ntR.")
    ...     load(path)
    Traceback (most recent call last):
    ...
    xcarbon.core.errors.FileFormatError: ...patches.pkl: rejected, because the pickle names os.system, ...
    """
    content = io.BytesIO(Path(path).read_bytes())
    try:
        return _PlainUnpickler(content).load()
    except _Rejected as rejected:
        raise FileFormatError(
            f"{path}: rejected, because the pickle {rejected}, which is not plain data"
        ) from None
    except Exception as error:  # a damaged pickle can raise any error
        raise FileFormatError(
            f"{path}: the file is truncated, damaged or not a pickle ({error!r})"
        ) from error


class _Rejected(Exception):
    """A pickle names or does something that plain data does not need."""


# Replacements for the functions that pickles name


def _encode(text: str, encoding: str) -> bytes:
    """Encode text to bytes; protocol 2 writes bytes as text."""
    if encoding != "latin1":
        raise _Rejected(f"encodes text as {encoding!r}")
    return text.encode("latin1")


def _empty_bytes() -> bytes:
    return b""


def _timestamp(value: int, freq: None = None, tz: None = None, unit: int = 10) -> pd.Timestamp:
    if freq is not None or tz is not None:
        raise _Rejected("contains a time stamp with frequency or time zone")
    return pd.Timestamp(np.datetime64(value, _UNITS[unit]))


def _dtype(name: str, align: bool = False, copy: bool = True) -> np.dtype[Any]:
    """Create a copy of a numpy type, because BUILD sets its byte order or unit and numpy shares its types."""
    if not (isinstance(name, str) and _TYPE.fullmatch(name)):
        raise _Rejected(f"contains an array of type {name!r}")
    return np.dtype(name, copy=True)


def _check_type(dtype: object) -> np.dtype[Any]:
    if not isinstance(dtype, np.dtype):
        raise _Rejected("contains an array without a type")
    return dtype


def _reconstruct(subtype: object, shape: object, kind: object) -> NDArray[Any]:
    """Create the empty array that BUILD fills."""
    if subtype is not _NDARRAY:
        raise _Rejected("contains an array of another class")
    return np.empty(0, "int8")


def _frombuffer(data: bytes, dtype: object, shape: tuple[int, ...], order: Any) -> NDArray[Any]:
    return np.frombuffer(data, _check_type(dtype)).reshape(shape, order=order)


def _scalar(dtype: object, data: bytes) -> Any:
    return np.ndarray((), _check_type(dtype), data)[()]


#: All names that a pickle may use, and their replacements.
_GLOBALS: dict[tuple[str, str], Any] = {
    ("_codecs", "encode"): _encode,
    ("builtins", "complex"): complex,
    ("__builtin__", "complex"): complex,
    ("__builtin__", "bytes"): _empty_bytes,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("datetime", "date"): dt.date,
    ("datetime", "datetime"): dt.datetime,
    ("datetime", "timedelta"): dt.timedelta,
    ("pandas._libs.tslibs.timestamps", "Timestamp"): _timestamp,
    ("pandas._libs.tslibs.timestamps", "_unpickle_timestamp"): _timestamp,
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _dtype,
} | {
    (f"numpy.{core}.{module}", name): function  # numpy 1 and numpy 2
    for core in ("core", "_core")
    for module, name, function in (
        ("multiarray", "_reconstruct", _reconstruct),
        ("multiarray", "scalar", _scalar),
        ("numeric", "_frombuffer", _frombuffer),
    )
}


# States of arrays and types


def _fill_array(array: NDArray[Any], state: tuple[Any, ...]) -> None:
    """Set the shape, type and values of an array; numpy checks that they are consistent."""
    _, shape, dtype, _, data = state
    _check_type(dtype)
    if not isinstance(data, bytes) or any(size < 0 for size in shape):
        raise _Rejected("contains an array of objects or with a negative size")
    array.__setstate__(state)


def _complete_type(dtype: Any, state: tuple[Any, ...]) -> None:
    """Set the byte order and unit of a type if numpy writes exactly this state for it."""
    head, unit = state[:8], state[8:]
    plain = dtype
    if unit:
        ((metadata, (name, count, *_)),) = unit
        plain = np.dtype(f"{dtype.char}8[{count}{name.decode('ascii')}]")
        unit = ((metadata or None, *unit[0][1:]),)  # numpy 1 wrote {} for None
    if (*head, *unit) != plain.newbyteorder(head[1]).__reduce__()[2]:
        raise _Rejected("contains a type with a state that numpy does not write")
    dtype.__setstate__(state)


# Unpickler


def _reject_operation(operation: int) -> Callable[[Any], NoReturn]:
    def reject(unpickler: Any) -> NoReturn:
        raise _Rejected(f"does {_OPERATION_NAMES[operation]}")

    return reject


class _PlainUnpickler(pickle._Unpickler):
    """The Python implementation of the unpickler, whose table of operations can be restricted."""

    dispatch: ClassVar[dict[int, Any]] = {
        operation: run if _OPERATION_NAMES[operation] in _OPERATIONS else _reject_operation(operation)
        for operation, run in pickle._Unpickler.dispatch.items()
    }
    stack: list[Any]

    def find_class(self, module: str, name: str) -> Any:
        """Return the replacement for a name from the table, without any import."""
        if (module, name) not in _GLOBALS:
            raise _Rejected(f"names {module}.{name}")
        return _GLOBALS[module, name]

    def load_build(self) -> None:
        """Set the state of an array or a type; other objects are rejected."""
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, np.ndarray):
            _fill_array(target, state)
        elif isinstance(target, np.dtype):
            _complete_type(target, state)
        else:
            raise _Rejected(f"sets the state of a {type(target).__name__}")

    dispatch[pickle.BUILD[0]] = load_build
