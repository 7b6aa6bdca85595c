"""Damage to files: each function returns damaged bytes, and draws what it does from a random generator."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable
from random import Random
from typing import Any

#: Names and contents of the files of an input.
Files = dict[str, bytes]
Damage = Callable[[Random, bytes], bytes]

# Any file


def _block(rng: Random, data: bytes, longest: int = 4096) -> tuple[int, int]:
    """Draw the start and the end of a block."""
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + rng.randint(1, rng.choice((4, 64, longest))))


def _flip_bits(rng: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 3, 30)) if data else 0):
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _truncate(rng: Random, data: bytes) -> bytes:
    return data[: rng.choice((0, rng.randrange(len(data) + 1), max(0, len(data) - rng.randrange(64))))]


def _delete_block(rng: Random, data: bytes) -> bytes:
    start, end = _block(rng, data)
    return data[:start] + data[end:]


def _duplicate_block(rng: Random, data: bytes) -> bytes:
    start, end = _block(rng, data)
    return data[:end] + data[start:end] + data[end:]


def _swap_blocks(rng: Random, data: bytes) -> bytes:
    first, second, third, fourth = sorted((*_block(rng, data), *_block(rng, data)))
    return data[:first] + data[third:fourth] + data[second:third] + data[first:second] + data[fourth:]


def _insert_bytes(rng: Random, data: bytes) -> bytes:
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.randbytes(rng.choice((1, 8, 512))) + data[place:]


def _insert_controls(rng: Random, data: bytes) -> bytes:
    """Insert carriage returns, NULs, the mark of the end of a text file, or a byte-order mark."""
    found = rng.choice((b"\r", b"\0", b"\r\r\n", b"\x1a", b"\0" * 64, b"\xef\xbb\xbf"))
    for _ in range(rng.choice((1, 1, 20))):
        place = rng.randrange(len(data) + 1)
        data = data[:place] + found + data[place:]
    return data


def _overwrite_block(rng: Random, data: bytes) -> bytes:
    """Overwrite a block with one byte, as failed disks and downloads do."""
    start, end = _block(rng, data)
    return data[:start] + rng.choice((b"\0", b"\xff")) * (end - start) + data[end:]


_ANY = (
    _flip_bits, _flip_bits, _truncate, _delete_block, _duplicate_block, _swap_blocks, _insert_bytes,
    _insert_controls, _overwrite_block,
)  # fmt: skip

# Text and tables

_ODD_CELLS = (
    b"", b"-9999", b"nan", b"1e400", b"-1e308", b"inf", b"0x1F", b"abc", b"1,5", b'"', b"'", b"\xb5",
    b"\xff\xfe", b"9" * 20, b"-1", b"999912312330", b"0" * 12, b"201002300000", b"2010-01-01", b"=A1+B2",
    b"1_0", "١٢".encode(), b"None", b"true", b"\t", b" ", b"#", b"9999-12-31", b"0001-01-01", b"1e11",
)  # fmt: skip


def _lines(data: bytes) -> list[bytes]:
    return data.splitlines(keepends=True) or [b""]


def _change_lines(rng: Random, data: bytes) -> bytes:
    """Delete, repeat, swap or empty lines."""
    lines = _lines(data)
    first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
    match rng.randrange(5):
        case 0:
            del lines[first]
        case 1:
            lines.insert(second, lines[first])
        case 2:
            lines[first], lines[second] = lines[second], lines[first]
        case 3:
            lines[first] = b"\n"
        case _:
            del lines[min(first, second) : max(first, second)]
    return b"".join(lines)


def _change_cell(rng: Random, data: bytes) -> bytes:
    """Replace a cell in one line, or in a column of all lines."""
    lines, odd = _lines(data), rng.choice(_ODD_CELLS)
    number = rng.randrange(len(lines))
    column, everywhere = rng.randrange(1 + max(map(lines[number].count, (b",", b";")))), rng.random() < 0.2
    for place in range(1, len(lines)) if everywhere else [number]:
        cells = re.split(rb"([,;])", lines[place].rstrip(b"\n"))
        if 2 * column < len(cells):
            cells[2 * column] = odd
        lines[place] = b"".join(cells) + b"\n"
    return b"".join(lines)


def _change_number(rng: Random, data: bytes) -> bytes:
    """Replace one number by another one."""
    numbers = list(re.finditer(rb"\d+(\.\d+)?", data))
    if not numbers:
        return data
    found = rng.choice(numbers)
    number = rng.choice((b"0", b"-1", b"1e9", b"1e300", b"9" * 30, b"%d" % rng.randrange(10**12)))
    return data[: found.start()] + number + data[found.end() :]


def _change_heading(rng: Random, data: bytes) -> bytes:
    """Rename, repeat, remove or empty a heading."""
    lines = _lines(data)
    separator = b";" if lines[0].count(b";") > lines[0].count(b",") else b","
    names = lines[0].rstrip(b"\r\n").split(separator)
    place = rng.randrange(len(names))
    name = names[place]
    other = rng.choice(
        (b"", name.lower(), name + b" ", b'"' + name, rng.choice(names), name[:-1], b"\xe9" + name)
    )
    names[place : place + 1] = rng.choice(([other], [other], [], [name, name]))
    return b"".join([separator.join(names) + b"\n", *lines[1:]])


def _swap_columns(rng: Random, data: bytes) -> bytes:
    """Swap two columns of the rows, but not their headings."""
    lines = _lines(data)
    rows = [line.rstrip(b"\r\n").split(b",") for line in lines[1:]]
    width = min(map(len, rows), default=0)
    if width:
        first, second = rng.randrange(width), rng.randrange(width)
        for row in rows:
            row[first], row[second] = row[second], row[first]
    return b"".join([lines[0], *(b",".join(row) + b"\n" for row in rows)])


def _change_encoding(rng: Random, data: bytes) -> bytes:
    """Write text in another encoding, with an accented letter in the header or another line."""
    text = data.decode("latin1")
    place = rng.randrange(min(len(text), 200) + 1)
    text = text[:place] + rng.choice(("é", "µ", "Å", "𝛅", "\u2028", "")) + text[place:]
    encoding = rng.choice(("utf-16", "utf-16-le", "utf-32", "cp1252", "mac_roman", "cp037", "utf-8-sig"))
    return text.encode(encoding, "replace")


def _change_separators(rng: Random, data: bytes) -> bytes:
    old, new = rng.choice(
        ((b",", b";"), (b",", b"\t"), (b".", b","), (b"\n", b"\r"), (b"\n", b"\r\n"), (b",", b" "))
    )
    return data.replace(old, new)


_TEXT = (
    _change_lines, _change_cell, _change_cell, _change_number, _change_heading, _swap_columns,
    _change_encoding, _change_separators,
)  # fmt: skip

# JSON

_ODD_VALUES: tuple[Any, ...] = (
    None, True, [], {}, "", "text", 0, -1, 1e308, float("nan"), float("inf"), 10**30, [[]], {"a": None},
    [1, "2"],
)  # fmt: skip


def _change_json(rng: Random, data: bytes) -> bytes:
    """Replace a value by one of another type, remove it, or rename its key."""
    try:
        tree = json.loads(data)
    except ValueError:
        return data
    nodes: list[Any] = [tree]
    for node in nodes:  # grows
        children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        nodes += [child for child in children if isinstance(child, dict | list) and child]
    node = rng.choice(nodes)
    if not isinstance(node, dict | list) or not node:
        return json.dumps(rng.choice(_ODD_VALUES)).encode()
    key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
    value = node[key]
    match rng.randrange(4):
        case 0:
            del node[key]
        case 1 if isinstance(node, dict):
            node[f"{key}_"] = node.pop(key)
        case 2 if isinstance(value, str | int | float):
            node[key] = str(value) if not isinstance(value, str) else [value]
        case _:
            node[key] = rng.choice(_ODD_VALUES)
    return json.dumps(tree).encode()


# Zip archives


def _change_zip_header(rng: Random, data: bytes) -> bytes:
    """Change a field in a header of an archive, such as the version needed, the method and the sizes."""
    headers = [(match.start(), match[0]) for match in re.finditer(rb"PK(\x01\x02|\x03\x04|\x05\x06)", data)]
    if not headers:
        return data
    start, kind = rng.choice(headers)
    first = start + (6 if kind == b"PK\x01\x02" else 4)
    changed = bytearray(data)
    place = first + rng.choice((0, 2, 4, *range(26)))
    changed[place : place + 2] = rng.choice(
        (b"\x63\0", b"\xff\xff", b"\0\0", b"\x01\0", b"\x08\0", rng.randbytes(2))
    )
    return bytes(changed)


def repack(data: bytes, damage: Callable[[Files], Files]) -> bytes:
    """Damage the members of an archive and pack them again, so that all checksums are right."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except Exception:  # damaged before
        return data
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, member in damage(members).items():
            archive.writestr(name, member)
    return content.getvalue()


# Inputs


def _damage_file(rng: Random, name: str, data: bytes, *, members: bool) -> bytes:
    suffix = name.rpartition(".")[2].lower()
    if suffix in ("zip", "npz", "pth", "xlsx") and rng.random() < 0.6:
        if members and rng.random() < 0.7:
            return repack(data, lambda found: damage(rng, found, members=members))
        return _change_zip_header(rng, data)
    kinds: tuple[Damage, ...] = _ANY
    if suffix == "json" and rng.random() < 0.6:
        kinds = (_change_json,)
    elif suffix in ("csv", "xml", "json") and rng.random() < 0.7:
        kinds = _TEXT
    return rng.choice(kinds)(rng, data)


def damage(rng: Random, files: Files, *, members: bool) -> Files:
    """Damage one or two files of an input, or remove, empty or swap files if there are several.

    ``members`` is whether members of archives are damaged, too, with checksums that fit the damage.
    """
    names, files = sorted(files), dict(files)
    for _ in range(rng.choice((1, 1, 1, 2))):
        name, other = rng.choice(names), rng.choice(names)
        if name not in files or other not in files:
            continue
        if len(names) > 1 and rng.random() < 0.15:
            match rng.randrange(3):
                case 0:
                    del files[name]
                case 1:
                    files[name] = b""
                case _:
                    files[name], files[other] = files[other], files[name]
        else:
            files[name] = _damage_file(rng, name, files[name], members=members)
    return files
