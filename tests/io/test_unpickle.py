"""Plain data is read from pickles; other pickles are rejected, and nothing in them runs."""

from __future__ import annotations

import collections
import copyreg
import datetime as dt
import io
import os
import pickle
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xcarbon.core.errors import FileFormatError
from xcarbon.io import unpickle

PROTOCOLS = st.integers(2, pickle.HIGHEST_PROTOCOL)
PATCHES = {
    pd.Timestamp(2010, 6, day, 12).as_unit("ns"): np.full((9, 10, 10), day, "float32") for day in (1, 2)
}


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    """Path that is created if a pickle runs code."""
    path = tmp_path / "pwned"
    yield path
    assert not path.exists()


def load(folder: Path, content: bytes) -> Any:
    path = folder / "data.pkl"
    path.write_bytes(content)
    return unpickle.load(path)


def assert_rejected(folder: Path, content: bytes, what: str) -> None:
    with pytest.raises(FileFormatError, match=rf"data\.pkl: rejected, because the pickle {what}"):
        load(folder, content)


def same(one: Any, other: Any) -> bool:
    """Compare values and types recursively."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, np.ndarray | np.generic):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    return bool(one == other)


# Accepted pickles

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.complex_numbers(allow_nan=False),
    st.text(),
    st.binary(),
    st.dates(),
    st.datetimes(),
    st.timedeltas(),
    st.datetimes(min_value=dt.datetime(1700, 1, 1), max_value=dt.datetime(2200, 1, 1)).map(pd.Timestamp),
)
types = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    hnp.complex_number_dtypes(endianness="?"),
    hnp.datetime64_dtypes(endianness="?"),
    hnp.timedelta64_dtypes(endianness="?"),
    hnp.unicode_string_dtypes(endianness="?"),
    hnp.byte_string_dtypes(),
)
arrays = hnp.arrays(types, hnp.array_shapes(min_dims=0, min_side=0, max_side=4))
plain = st.recursive(
    st.one_of(scalars, arrays, arrays.map(np.asfortranarray), types),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(scalars, inner, max_size=4),
        st.dictionaries(st.text(), inner, max_size=4).map(collections.OrderedDict),
    ),
    max_leaves=8,
)


@given(data=plain, protocol=PROTOCOLS)
def test_plain_data_comes_back_in_every_protocol(tmp_path_factory, data, protocol):
    content = pickle.dumps(data, protocol)
    assert same(load(tmp_path_factory.getbasetemp(), content), pickle.loads(content))


@given(array=arrays.filter(lambda array: array.size), protocol=PROTOCOLS)
def test_scalar_comes_back(tmp_path_factory, array, protocol):
    content = pickle.dumps(array.reshape(-1)[0], protocol)
    assert same(load(tmp_path_factory.getbasetemp(), content), pickle.loads(content))


def pickle_as_numpy_1(data: Any, protocol: int) -> bytes:
    """Pickle with the module names of numpy before version 2."""
    content = pickle.dumps(data, protocol)
    if protocol < 4:
        return content.replace(b"numpy._core.", b"numpy.core.")
    content = content[:2] + content[11:]  # without the frame, whose length has changed
    for module in (b"multiarray", b"numeric"):
        old, new = b"numpy.core." + module, b"numpy._core." + module
        content = content.replace(bytes([len(new)]) + new, bytes([len(old)]) + old)
    return content


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_patches_of_old_and_new_numpy_come_back(tmp_path, protocol):
    old, new = pickle_as_numpy_1(PATCHES, protocol), pickle.dumps(PATCHES, protocol)
    assert b"numpy._core." in new
    assert b"numpy.core." in old
    assert b"numpy._core." not in old
    assert same(load(tmp_path, new), PATCHES)
    assert same(load(tmp_path, old), PATCHES)


def test_timestamps_of_old_pandas_come_back(tmp_path):
    when = pd.Timestamp("2010-06-01T12").as_unit("ns")
    for name, state in (("Timestamp", "NN"), ("_unpickle_timestamp", "NN"), ("_unpickle_timestamp", "NNK\n")):
        value = pickle.LONG1 + b"\x08" + struct.pack("<q", when.value)
        content = f"cpandas._libs.tslibs.timestamps\n{name}\n(".encode() + value + state.encode() + b"tR."
        assert same(load(tmp_path, b"\x80\x02" + content), when)


def test_an_array_is_shared_as_before(tmp_path):
    array = np.arange(3.0)
    one, other = load(tmp_path, pickle.dumps([array, array]))
    assert one is other


# Rejected pickles


class Call:
    """Object whose pickle calls a function."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


class Stateful:
    """Object whose pickle creates an instance and sets its state."""

    def __setstate__(self, state: dict[str, str]) -> None:
        Path(state["path"]).touch()

    def __getstate__(self) -> dict[str, str]:
        return {"path": "nowhere"}


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_call_of_a_function_is_rejected_before_it_runs(tmp_path, marker, protocol):
    content = pickle.dumps([PATCHES, Call(os.mkdir, str(marker))], protocol)
    pickle.loads(content)
    marker.rmdir()  # the pickle would otherwise run
    assert_rejected(tmp_path, content, rf"names {os.name}\.mkdir")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("posix", "system"),
        ("subprocess", "Popen"),
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("builtins", "__import__"),
        ("builtins", "bytes"),
        ("__builtin__", "exec"),
        ("importlib", "import_module"),
        ("copyreg", "_reconstructor"),
        ("copy_reg", "__newobj__"),
        ("pickle", "loads"),
        ("numpy", "load"),
        ("numpy", "fromfile"),
        ("numpy", "memmap"),
        ("numpy", "frombuffer"),
        ("numpy", "ndarray.tofile"),
        ("numpy", "dtype.__class__"),
        ("numpy.testing._private.utils", "runstring"),
        ("numpy.f2py.crackfortran", "myeval"),
        ("numpy._core.multiarray", "os"),
        ("numpy._core.multiarray", "_reconstruct.__self__"),
        ("numpy.matrixlib.defmatrix", "matrix"),
        ("numpy.ma.core", "_mareconstruct"),
        ("pandas", "read_pickle"),
        ("pandas.core.frame", "DataFrame"),
        ("pandas._libs.tslibs.timestamps", "Timestamp.now"),
        ("collections", "defaultdict"),
        ("collections", "OrderedDict.fromkeys"),
        ("datetime", "datetime.fromisoformat"),
        ("datetime", "sys"),
        ("xcarbon.io.unpickle", "load"),
        ("no.such.module", "at_all"),
    ],
)
@pytest.mark.parametrize("stacked", [False, True])
def test_only_exact_names_are_found(tmp_path, module, name, stacked):
    before = set(sys.modules)
    if stacked:
        texts = (pickle.SHORT_BINUNICODE + bytes([len(text)]) + text.encode() for text in (module, name))
        content = b"\x80\x04" + b"".join(texts) + pickle.STACK_GLOBAL
    else:
        content = b"\x80\x02" + f"c{module}\n{name}\n".encode()
    assert_rejected(tmp_path, content + b")R.", f"names {module}.{name}")
    assert set(sys.modules) == before


def test_instance_of_a_class_is_rejected(tmp_path):
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert_rejected(
            tmp_path, pickle.dumps(Stateful(), protocol), r"names tests\.io\.test_unpickle\.Stateful"
        )
    assert_rejected(tmp_path, pickle.dumps({1, 2}), "does EMPTY_SET")
    assert_rejected(tmp_path, pickle.dumps(collections.defaultdict(list)), r"names collections\.defaultdict")


def test_state_of_other_objects_is_rejected(tmp_path):
    names = b"\x80\x02ccollections\nOrderedDict\n"
    assert_rejected(tmp_path, names + b")R}b.", "sets the state of a OrderedDict")
    assert_rejected(tmp_path, b"\x80\x02c_codecs\nencode\n}b.", "sets the state of a function")
    assert_rejected(tmp_path, b"\x80\x02cdatetime\ndate\n}b.", "sets the state of a type")


@pytest.mark.parametrize(
    ("content", "operation"),
    [
        (b"Pmarker\n.", "PERSID"),
        (b"\x80\x02NQ.", "BINPERSID"),
        (b"(ios\nsystem\n.", "INST"),
        (b"\x80\x02(cdatetime\ndate\no.", "OBJ"),
        (b"\x80\x02cdatetime\ndate\n)\x81.", "NEWOBJ"),
        (b"\x80\x04cdatetime\ndate\n)}\x92.", "NEWOBJ_EX"),
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"\x80\x02\x83\x01\x00.", "EXT2"),
        (b"\x80\x02\x84\x01\x00\x00\x00.", "EXT4"),
        (b"\x80\x05\x97.", "NEXT_BUFFER"),
        (b"\x80\x02N2.", "DUP"),
        (b"S'text'\n.", "STRING"),
    ],
)
def test_other_operations_are_rejected(tmp_path, content, operation):
    assert_rejected(tmp_path, content, f"does {operation},")


def test_registered_extension_is_rejected(tmp_path, marker):
    module = Path.__module__  # pathlib._local since Python 3.13
    copyreg.add_extension(module, "Path", 0x7001)
    try:
        content = pickle.dumps(Call(Path, str(marker)), 2)
        assert pickle.EXT2 in content
        assert_rejected(tmp_path, content, "does EXT2")
    finally:
        copyreg.remove_extension(module, "Path", 0x7001)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    ("array", "what"),
    [
        (np.array([Path("x")], object), "(names pathlib|contains an array of type 'O8')"),
        (np.array([None], object), "contains an array of type 'O8'"),
        (np.zeros(2, [("a", "f4")]), "contains an array of type 'V4'"),
        (np.zeros(2, "V4"), "contains an array of type 'V4'"),
        (np.ma.masked_array([1.0]), r"names numpy\.ma"),
    ],
)
def test_other_arrays_are_rejected(tmp_path, array, what, protocol):
    assert_rejected(tmp_path, pickle.dumps(array, protocol), what)


def test_time_zone_is_rejected(tmp_path):
    with pytest.raises(FileFormatError, match="rejected"):
        load(tmp_path, pickle.dumps(pd.Timestamp("2010-01-01", tz="UTC")))


class Forged:
    """Object whose pickle looks like an array or type of numpy with another state."""

    def __init__(self, value: Any, state: tuple[Any, ...]) -> None:
        self.value, self.state = value, state

    def __reduce__(self) -> Any:
        return *self.value.__reduce__()[:2], self.state


FLOAT = np.dtype("f4")
TEXT = np.dtype("U2")
DATE = np.dtype("M8[ns]")


@pytest.mark.parametrize(
    "forged",
    [
        Forged(FLOAT, (3, "<", None, ("a",), {"a": (FLOAT, 100)}, -1, -1, 0)),  # a field beyond the end
        Forged(FLOAT, (3, "<", (FLOAT, (9,)), None, None, -1, -1, 0)),  # nine values in the memory of one
        Forged(FLOAT, (3, "<", None, None, None, 400, -1, 0)),
        Forged(FLOAT, (3, "<", None, None, None, -1, -1, 63)),  # the flags of objects
        Forged(TEXT, (3, "<", None, None, None, 4000, 4, 8)),
        Forged(DATE, (4, "<", None, None, None, -1, -1, 0, ({"a": 1}, (b"ns", 1, 1, 1)))),
        Forged(np.zeros(2), (1, (-1, -2), np.dtype("f8"), False, bytes(16))),
        Forged(np.zeros(2), (1, (2,), np.dtype("f8"), False, [0.0, 0.0])),
        Forged(np.zeros(2), (1, (2,), "f8", False, bytes(16))),
    ],
)
def test_forged_state_never_reaches_numpy(tmp_path, forged):
    assert_rejected(tmp_path, pickle.dumps(forged, 4), "contains ")


def test_shape_that_does_not_fit_is_damage(tmp_path):
    for shape in ((3,), (2**40,), (2**62, 2**62)):
        forged = Forged(np.zeros(2), (1, shape, np.dtype("f8"), False, bytes(16)))
        with pytest.raises(FileFormatError, match="damaged"):
            load(tmp_path, pickle.dumps(forged, 4))


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_truncated_file_is_an_error_that_names_it(tmp_path, protocol):
    content = pickle.dumps(PATCHES, protocol)
    for size in (*range(0, 400, 7), len(content) // 2, len(content) - 1):
        with pytest.raises(FileFormatError, match=r"data\.pkl: (the file is truncated, damaged|rejected)"):
            load(tmp_path, content[:size])


@given(noise=st.binary(max_size=60), protocol=PROTOCOLS, place=st.integers(0, 300))
def test_damaged_file_is_an_error_or_data(tmp_path_factory, noise, protocol, place):
    content = bytearray(pickle.dumps(PATCHES, protocol))
    content[place : place + len(noise)] = noise
    try:
        load(tmp_path_factory.getbasetemp(), bytes(content))
    except FileFormatError as error:
        assert "data.pkl" in str(error)


def test_other_files_are_an_error(tmp_path):
    with io.BytesIO() as stream:
        np.save(stream, np.zeros(3))
        with pytest.raises(FileFormatError, match="not a pickle"):
            load(tmp_path, stream.getvalue())
    with pytest.raises(FileNotFoundError):
        unpickle.load(tmp_path / "nothing.pkl")
