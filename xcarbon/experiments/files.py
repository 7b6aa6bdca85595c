"""TOML files of experiments."""

from __future__ import annotations

import dataclasses
import json
import os
import tomllib
from pathlib import Path
from typing import Any

from xcarbon.core.atomic import replacing
from xcarbon.core.errors import OptionError, VariableError
from xcarbon.experiments import paper
from xcarbon.experiments.config import Experiment, Model, check_known, kinds
from xcarbon.experiments.protocols import PROTOCOLS, Protocol

_TEMPLATE = """\
# {question}
protocol = {protocol}
store = {store}
out = "."
seeds = {seeds}
split = "paper"
hours = "all"

# For a short training, and for scores of one year of each tower:
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
        Path of the file. Its keys are the attributes of :class:`Experiment`. ``models`` is a list of tables,
        in which all keys except ``kind``, ``label``, ``by_class``, ``max_seeds`` and ``share`` are settings.
        ``[settings.KIND]`` contains settings of all models of a kind. Paths are relative to the file.

    Returns
    -------
    Experiment
        Experiment with the models of the protocol followed by those of the file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    OptionError
        If the file is not valid TOML, a key or the protocol does not exist, or a value is not allowed.

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
        raise OptionError(f"{path} is not valid TOML: {error}") from error
    except (OptionError, VariableError) as error:
        raise OptionError(f"{path}: {error}") from error


def write_protocol(name: str, store: str | os.PathLike[str], out: str | os.PathLike[str]) -> Path:
    """Write a protocol as a TOML file, which can be edited; an existing file is kept.

    Parameters
    ----------
    name : str
        One of :data:`~xcarbon.experiments.protocols.PROTOCOLS`.
    store : path-like or URL
        Zarr store of towers.
    out : path-like
        Folder of the experiment.

    Returns
    -------
    pathlib.Path
        Path of ``experiment.toml`` in the folder.

    Raises
    ------
    OptionError
        If there is no such protocol, or if an existing file is for another protocol or another store.
    """
    protocol, path = _protocol(name), Path(out, "experiment.toml")
    store = _resolve(os.fspath(store), Path())
    if path.exists():
        there = read_experiment(path)
        if (there.protocol, there.store) != (name, store):
            found = f"{there.protocol} of {there.store}"
            raise OptionError(f"{path} is {found}: give its path to run it, or choose another folder")
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
    """Experiment of the content of a file in a folder."""
    fields = {field.name for field in dataclasses.fields(Experiment)}
    check_known(content, fields | {"settings"}, "keys")
    for key in ("store", "out", "protocol", "target", "split", "hours"):
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
    of_kind = content.pop("settings", {})
    if not isinstance(of_kind, dict) or not all(isinstance(table, dict) for table in of_kind.values()):
        raise OptionError(f"settings must be tables named by kind, found {of_kind!r}")
    check_known(of_kind, kinds(), "settings")
    values = defaults | content
    values |= {
        "models": tuple(_with_settings(model, of_kind.get(model.kind, {})) for model in models),
        "store": _resolve(values["store"], folder),
        "out": folder / values["out"],
    }
    frozen: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
    return Experiment(**frozen)


def _protocol(name: object) -> Protocol:
    """Protocol of this name; raise an OptionError if there is none."""
    if name not in PROTOCOLS:
        raise OptionError(f"there is no protocol {name!r}; the protocols are {list(PROTOCOLS)}")
    return PROTOCOLS[str(name)]


def _models(content: dict[str, Any]) -> tuple[Model, ...]:
    """Models that the file lists itself, without those of the protocol."""
    tables = content.pop("models", [])
    if not isinstance(tables, list) or not all(isinstance(each, dict) and "kind" in each for each in tables):
        raise OptionError(f"models must be tables with a kind, one of {kinds()}, found {tables!r}")
    own = ("kind", "label", "by_class", "max_seeds", "share")
    return tuple(
        Model(
            **{key: table[key] for key in own if key in table},
            settings={key: value for key, value in table.items() if key not in own},
        )
        for table in tables
    )


def _with_settings(model: Model, of_kind: dict[str, Any]) -> Model:
    """Model with the settings of its kind where it has none itself."""
    settings = {name: value for name, value in of_kind.items() if name != "max_seeds"}
    max_seeds = of_kind.get("max_seeds") if model.max_seeds is None else model.max_seeds
    return dataclasses.replace(model.with_defaults(settings), max_seeds=max_seeds)


def _resolve(store: str, folder: Path) -> str:
    """Path of a store relative to a folder, as an absolute path; a URL is returned unchanged."""
    return store if "://" in store else str((folder / store).resolve())
