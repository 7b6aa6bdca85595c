"""Read pickles of plain data, and refuse all others before anything in them runs.

A pickle is a program: it may name any function of any module and have it called. Here it may name what
stands in one table, and do what plain data needs: numbers, text, bytes, lists, tuples, dictionaries, dates,
and numpy arrays of numbers, dates or text. Functions of numpy and pandas are not called on a file's word
either, for numpy believes what a pickled type says of memory: the table holds functions of this module
that do their work with checks.
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

#: What protocols 2 to 5 need for plain data. Persistent identifiers, extension codes, instances of classes
#: and buffers outside the file are not among it.
_OPERATIONS = {
    "PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "MEMOIZE",
    "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT",
    "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8",
    "EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3",
    "APPEND", "APPENDS", "SETITEM", "SETITEMS", "BINGET", "LONG_BINGET", "BINPUT", "LONG_BINPUT",
    "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD",
}  # fmt: skip
_OPERATION_NAMES = {ord(operation.code): operation.name for operation in pickletools.opcodes}
#: Types of an array: numbers, truth values, dates, text; no objects, records or raw memory.
_TYPE = re.compile(r"[biufcmMSU]\d+")
#: Units of a pandas Timestamp, by the number that stands for them in a pickle.
_UNITS: dict[int, Any] = {7: "s", 8: "ms", 9: "us", 10: "ns"}
#: Stands for ``numpy.ndarray``, which a pickle names without calling it.
_NDARRAY = object()


def load(path: str | os.PathLike[str]) -> Any:
    r"""Read a pickle of plain data.

    Parameters
    ----------
    path : path-like
        A pickle of protocol 2 to 5, by any version of numpy and pandas.

    Returns
    -------
    object
        Made of ``None``, numbers, ``str``, ``bytes``, ``bytearray``, ``list``, ``tuple``, ``dict``,
        ``OrderedDict``, ``date``, ``datetime``, ``timedelta``, ``pandas.Timestamp`` (without time zone), and
        numpy arrays, scalars and types of numbers, dates or text (not of objects or records).

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FileFormatError
        If the file holds anything else, with the name of what was refused; or if it is truncated or no
        pickle. Nothing that is refused has been imported or called.

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
    xcarbon.core.errors.FileFormatError: ...patches.pkl: refused, for it names os.system, which is no...
    """
    content = io.BytesIO(Path(path).read_bytes())
    try:
        return _PlainUnpickler(content).load()
    except _Refused as refused:
        raise FileFormatError(f"{path}: refused, for it {refused}, which is no plain data") from None
    except Exception as error:  # whatever a damaged program stumbles over
        raise FileFormatError(f"{path}: truncated, damaged, or no pickle ({error!r})") from error


class _Refused(Exception):
    """What a pickle names or does beyond plain data."""


# What stands in for the functions that pickles name


def _encode(text: str, encoding: str) -> bytes:
    """Make bytes of the text that protocol 2 writes them as."""
    if encoding != "latin1":
        raise _Refused(f"encodes text as {encoding!r}")
    return text.encode("latin1")


def _empty_bytes() -> bytes:
    return b""


def _timestamp(value: int, freq: None = None, tz: None = None, unit: int = 10) -> pd.Timestamp:
    if freq is not None or tz is not None:
        raise _Refused("has a time stamp with frequency or time zone")
    return pd.Timestamp(np.datetime64(value, _UNITS[unit]))


def _dtype(code: str, align: bool = False, copy: bool = True) -> np.dtype[Any]:
    """Make a type of its own (numpy's are shared), whose byte order or unit BUILD completes."""
    if not (isinstance(code, str) and _TYPE.fullmatch(code)):
        raise _Refused(f"has an array of type {code!r}")
    return np.dtype(code, copy=True)


def _check_type(dtype: object) -> np.dtype[Any]:
    if not isinstance(dtype, np.dtype):
        raise _Refused("has an array without a type")
    return dtype


def _reconstruct(subtype: object, shape: object, code: object) -> NDArray[Any]:
    """Make the empty array that BUILD fills."""
    if subtype is not _NDARRAY:
        raise _Refused("has an array of another class")
    return np.empty(0, "int8")


def _frombuffer(data: bytes, dtype: object, shape: tuple[int, ...], order: Any) -> NDArray[Any]:
    return np.frombuffer(data, _check_type(dtype)).reshape(shape, order=order)


def _scalar(dtype: object, data: bytes) -> Any:
    return np.ndarray((), _check_type(dtype), data)[()]


#: Everything that a pickle may name, and what it gets for it.
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
    """Give an array its shape, type and values; numpy checks that they fit each other."""
    _, shape, dtype, _, data = state
    _check_type(dtype)
    if not isinstance(data, bytes) or any(size < 0 for size in shape):
        raise _Refused("has an array of objects, or of a negative size")
    array.__setstate__(state)


def _complete_type(dtype: Any, state: tuple[Any, ...]) -> None:
    """Complete a type with its byte order and unit, if numpy would write this very state for it."""
    head, unit = state[:8], state[8:]
    plain = dtype
    if unit:
        ((metadata, (name, count, *_)),) = unit
        plain = np.dtype(f"{dtype.char}8[{count}{name.decode('ascii')}]")
        unit = ((metadata or None, *unit[0][1:]),)  # numpy 1 wrote {} for None
    if (*head, *unit) != plain.newbyteorder(head[1]).__reduce__()[2]:
        raise _Refused("has a type with a state that numpy does not give it")
    dtype.__setstate__(state)


# The machine


def _refuse_operation(code: int) -> Callable[[Any], NoReturn]:
    def refuse(unpickler: Any) -> NoReturn:
        raise _Refused(f"does {_OPERATION_NAMES[code]}")

    return refuse


class _PlainUnpickler(pickle._Unpickler):
    """The unpickler that is written in Python, for its table of operations can be narrowed."""

    dispatch: ClassVar[dict[int, Any]] = {
        code: run if _OPERATION_NAMES[code] in _OPERATIONS else _refuse_operation(code)
        for code, run in pickle._Unpickler.dispatch.items()
    }
    stack: list[Any]

    def find_class(self, module: str, name: str) -> Any:
        """Give what stands in the table for a name, and import nothing."""
        if (module, name) not in _GLOBALS:
            raise _Refused(f"names {module}.{name}")
        return _GLOBALS[module, name]

    def load_build(self) -> None:
        """Set the state of an array or of a type, and of nothing else."""
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, np.ndarray):
            _fill_array(target, state)
        elif isinstance(target, np.dtype):
            _complete_type(target, state)
        else:
            raise _Refused(f"sets the state of a {type(target).__name__}")

    dispatch[pickle.BUILD[0]] = load_build
