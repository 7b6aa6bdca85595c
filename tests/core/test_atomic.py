"""Tests of replacing files and folders, also if the writer fails."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from xcarbon.core.atomic import naming_full_disk, replacing
from xcarbon.core.errors import StoreError


def write(path, text: str, kind: str) -> None:
    with replacing(path) as temporary:
        if kind == "folder":
            temporary.mkdir()
            (temporary / "content").write_text(text)
        else:
            temporary.write_text(text)
        if text == "crash":
            raise RuntimeError("crash")


def read(path) -> str:
    return (path / "content" if path.is_dir() else path).read_text()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_writes_replaces_and_survives_a_crash(tmp_path, kind):
    path = tmp_path / "deep" / "thing"
    write(path, "first", kind)
    assert read(path) == "first"
    write(path, "second", kind)
    assert read(path) == "second"
    with pytest.raises(RuntimeError, match="crash"):
        write(path, "crash", kind)
    assert read(path) == "second"
    assert [entry.name for entry in path.parent.iterdir()] == ["thing"]


def test_a_failed_move_puts_the_old_folder_back(tmp_path, monkeypatch):
    path = tmp_path / "thing"
    write(path, "first", "folder")

    def refuse(*_):
        raise OSError("no space")

    monkeypatch.setattr("pathlib.Path.replace", refuse)
    with pytest.raises(OSError, match="no space"):
        write(path, "second", "folder")
    assert read(path) == "first"


def fill_disk(monkeypatch) -> None:
    """Let all writes to files fail as on a full disk."""

    def fail(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)


@pytest.mark.parametrize("error", [None, RuntimeError("NetCDF: HDF error")])
def test_full_disk_is_named_and_leaves_nothing(tmp_path, monkeypatch, error):
    fill_disk(monkeypatch)
    full = "thing cannot be written because the disk is full; it needs up to 2.5 MB before compression"
    with pytest.raises(StoreError, match=full), replacing(tmp_path / "thing", 2_500_000) as temporary:
        temporary.mkdir()
        if error is not None:
            raise error
        (temporary / "content").write_bytes(b"content")
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_found_behind_other_errors(tmp_path):
    path = tmp_path / "thing"
    with pytest.raises(StoreError, match="which continues from"), naming_full_disk(path, kept=tmp_path):
        try:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        except OSError as error:
            raise RuntimeError("the writer failed") from error


def test_other_errors_of_writing_stay_as_they_are(tmp_path):
    for error in (RuntimeError("NetCDF: HDF error"), PermissionError("no"), StoreError("exists")):
        with pytest.raises(type(error), match=str(error)), replacing(tmp_path / "thing"):
            raise error
    assert list(tmp_path.iterdir()) == []
