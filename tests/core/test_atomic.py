"""Tests of replacing files and folders, also if the writer fails."""

from __future__ import annotations

import pytest

from xcarbon.core.atomic import replacing


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
