"""Experiments as TOML files."""

from __future__ import annotations

import dataclasses
import json
import os
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from xcarbon.core.atomic import replacing
from xcarbon.core.errors import OptionError, VariableError
from xcarbon.experiments import paper
from xcarbon.experiments.config import KINDS, Experiment, Model, check_known, merge
from xcarbon.experiments.protocols import PROTOCOLS, Protocol

#: Name of the file of a protocol in its folder.
FILE = "experiment.toml"
#: Keys whose value is a text.
_TEXTS = ("store", "out", "protocol", "target", "split", "hours")
_TEMPLATE = """\
# {question}
protocol = {protocol}
store = {store}
out = "."
seeds = {seeds}
split = "paper"
hours = "all"

# For training at a small scale, and for scoring one year of each tower:
# hours = "best-year"
# [settings.ecoperceiver]
# max_steps = 2000
# batch_size = 64
# learning_rate = 5e-4
# max_seeds = 2
"""


def read_experiment(path: str | os.PathLike[str]) -> Experiment:
    r"""Read an experiment from a TOML file.

    Parameters
    ----------
    path : path-like
        The file. Its keys are the attributes of :class:`Experiment`; ``models`` is a list of tables, in
        which all keys but ``kind``, ``label``, ``by_class``, ``max_seeds`` and ``share`` are settings;
        ``[settings.KIND]`` holds settings of all models of a kind. Paths are relative to the file.

    Returns
    -------
    Experiment
        Models of the protocol, then those of the file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    OptionError
        If it is no TOML, a key or the protocol does not exist, or a value is not allowed.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "experiment.toml")
    ...     _ = path.write_text('store = "towers.zarr"\nout = "out"\nmodels = [{kind = "ridge"}]')
    ...     read_experiment(path).models[0].label
    'ridge regression'
    """
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text())
        return _experiment(content, path.parent)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OptionError(f"{path} is no TOML: {error}") from error
    except (OptionError, VariableError) as error:
        raise OptionError(f"{path}: {error}") from error


def write_protocol(name: str, store: str | os.PathLike[str], out: str | os.PathLike[str]) -> Path:
    """Write a protocol as a TOML file to run and to change, unless there is one already.

    Parameters
    ----------
    name : str
        One of :data:`~xcarbon.experiments.protocols.PROTOCOLS`.
    store : path-like or URL
        The store.
    out : path-like
        Folder of the experiment.

    Returns
    -------
    pathlib.Path
        ``experiment.toml`` in the folder.

    Raises
    ------
    OptionError
        If there is no such protocol, or the file that is there is for another one or another store.
    """
    protocol, path = _protocol(name), Path(out, FILE)
    store = _resolve(os.fspath(store), Path())
    if path.exists():
        there = read_experiment(path)
        if (there.protocol, there.store) != (name, store):
            found = f"{there.protocol} of {there.store}"
            raise OptionError(f"{path} is {found}: run it by its path, or choose another folder")
        return path
    text = _TEMPLATE.format(
        question=protocol.question,
        protocol=json.dumps(name),
        store=json.dumps(store),
        seeds=list(paper.SEEDS),
    )
    with replacing(path) as temporary:
        temporary.write_text(text)
    return path


def _experiment(content: dict[str, Any], folder: Path) -> Experiment:
    fields = {field.name for field in dataclasses.fields(Experiment)}
    check_known(content, fields | {"settings"}, "keys")
    for key in _TEXTS:
        if not isinstance(content.get(key, ""), str):
            raise OptionError(f"{key} must be a text, found {content[key]!r}")
    missing = sorted({"store", "out"} - set(content))
    if missing:
        raise OptionError(f"the keys {missing} are missing")
    name = content.get("protocol")
    models, defaults = _models(content), {}
    if name is not None:
        protocol = _protocol(name)
        defaults = {"seeds": paper.SEEDS, "evaluate": protocol.evaluate}
        models = (*protocol.models(), *models)
    of_kind = _settings(content.pop("settings", {}))
    values = defaults | content
    values |= {
        "models": tuple(_with_settings(model, of_kind.get(model.kind, {})) for model in models),
        "store": _resolve(values["store"], folder),
        "out": folder / values["out"],
    }
    frozen: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
    return Experiment(**frozen)


def _protocol(name: object) -> Protocol:
    if name not in PROTOCOLS:
        raise OptionError(f"there is no protocol {name!r}; there are {list(PROTOCOLS)}")
    return PROTOCOLS[str(name)]


def _models(content: dict[str, Any]) -> tuple[Model, ...]:
    """Models of the file itself."""
    tables = content.pop("models", [])
    if not _is_list_of_tables(tables) or any("kind" not in table for table in tables):
        raise OptionError(f"models must be tables with a kind, out of {list(KINDS)}, found {tables!r}")
    own = ("kind", "label", "by_class", "max_seeds", "share")
    return tuple(
        Model(
            **{key: table[key] for key in own if key in table},
            settings={key: value for key, value in table.items() if key not in own},
        )
        for table in tables
    )


def _with_settings(model: Model, of_kind: dict[str, Any]) -> Model:
    """Take over what a model does not say itself from the settings of its kind."""
    settings = {name: value for name, value in of_kind.items() if name != "max_seeds"}
    max_seeds = of_kind.get("max_seeds") if model.max_seeds is None else model.max_seeds
    return dataclasses.replace(model.with_defaults(settings), max_seeds=max_seeds)


def _is_list_of_tables(value: object) -> bool:
    return isinstance(value, Iterable) and all(isinstance(table, dict) for table in value)


def _settings(tables: Any) -> dict[str, dict[str, Any]]:
    """Settings of all models of a kind."""
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise OptionError(f"settings must be tables named by kind, found {tables!r}")
    check_known(tables, KINDS, "settings")
    return {kind: merge({}, table) for kind, table in tables.items()}


def _resolve(store: str, folder: Path) -> str:
    """Path of a store as seen from a file in a folder; a URL stays."""
    return store if "://" in store else str((folder / store).resolve())
