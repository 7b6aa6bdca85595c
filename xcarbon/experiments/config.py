"""What to compare: models, seeds, towers and hours, as frozen dataclasses that refuse nonsense early."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xarray as xr

from xcarbon.core.errors import ModelError, OptionError, VariableError
from xcarbon.core.variables import PAPER_INPUTS, variable
from xcarbon.evaluation.baselines import diurnal_cycle, ridge
from xcarbon.prep.quality import MAX_QC


@dataclass(frozen=True)
class Kind:
    """A kind of model: its name for people, and the settings of an experiment that it takes over."""

    name: str
    shared: tuple[str, ...]


KINDS: dict[str, Kind] = {
    "ecoperceiver": Kind("EcoPerceiver", ("variables", "bands", "max_qc")),
    "streaming": Kind("streaming EcoPerceiver", ("variables", "bands", "max_qc")),
    "xgboost": Kind("XGBoost", ("variables", "bands", "max_qc")),
    "ridge": Kind("ridge regression", ("variables", "max_qc")),
    "diurnal_cycle": Kind("mean diurnal cycle", ("max_qc",)),
}
#: Those that are functions of training towers and towers to predict; the others are trained by ``fit``.
REFERENCES: dict[str, Callable[..., xr.DataArray]] = {"ridge": ridge, "diurnal_cycle": diurnal_cycle}

SPLITS = ("paper", "random")
HOURS = ("all", "best-year")
#: What scores of the predictions can be asked for beside those by class and tower.
EVALUATIONS = ("extremes", "time-scales")


@dataclass(frozen=True)
class Model:
    """One model of a comparison.

    Attributes
    ----------
    kind : {"ecoperceiver", "streaming", "xgboost", "ridge", "diurnal_cycle"}
        What ``Dataset.carbon.fit`` trains, or :func:`~xcarbon.evaluation.baselines.ridge` or
        :func:`~xcarbon.evaluation.baselines.diurnal_cycle`.
    label : str
        Its name in the results; by default that of the kind.
    by_class : bool
        Train a model for each IGBP class on the towers of the class alone.
    max_seeds : int or None
        Train with the first seeds of the experiment alone, where all of them would take too long.
    share : float
        Part of the towers to learn from that are given to it, drawn at random with the seed; a larger part
        holds the towers of a smaller one.
    settings : mapping
        Keyword arguments of ``fit`` or of the reference.

    Raises
    ------
    OptionError
        If the kind or a setting does not exist, or the value of one is not allowed.

    Examples
    --------
    >>> Model("ecoperceiver", "no dropout", settings={"network": {"dropout": 0.0}}).label
    'no dropout'
    """

    kind: str
    label: str = ""
    by_class: bool = False
    max_seeds: int | None = None
    share: float = 1.0
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_one_of("kind", self.kind, list(KINDS))
        if not isinstance(self.by_class, bool):
            raise OptionError(f"by_class must be true or false, found {self.by_class!r}")
        if self.max_seeds is not None and (type(self.max_seeds) is not int or self.max_seeds < 1):
            raise OptionError(f"max_seeds must be a whole number of 1 or more, found {self.max_seeds!r}")
        if not isinstance(self.share, int | float) or not 0 < self.share <= 1:
            raise OptionError(f"share must be a number in (0, 1], found {self.share!r}")
        object.__setattr__(self, "label", self.label or KINDS[self.kind].name)
        object.__setattr__(self, "settings", _frozen(self.settings))
        _check_settings(self)

    @property
    def uses_seed(self) -> bool:
        """Whether it would be another model with another seed."""
        return self.kind not in REFERENCES

    def with_defaults(self, defaults: Mapping[str, Any]) -> Model:
        """Take over settings where it has none, key by key within ``network``."""
        both = merge(defaults, self.settings)
        return dataclasses.replace(self, settings=both)


@dataclass(frozen=True)
class Experiment:
    """A comparison of models on the same towers and hours.

    Attributes
    ----------
    store : str
        Path or URL of a Zarr store of towers.
    out : pathlib.Path
        Folder to write: ``runs``, ``results.nc``, ``report.md`` and ``report.html``.
    models : tuple of Model
        The first is the one that the others are compared with.
    protocol : str or None
        Name of the protocol that the models come from.
    seeds : tuple of int
        Of training, and of the split if it is random.
    target : str
        Code of the variable to predict.
    variables, bands : tuple of str or None
        Predictors and patch bands; by default all of the paper's that the store has.
    max_qc : int
        Highest quality code that counts, in training and in scoring.
    split : {"paper", "random"}
        Coordinate ``paper_split`` of the store, or else the paper's lists of towers; or
        ``Dataset.carbon.split(seed)``.
    hours : {"all", "best-year"}
        Score all hours of a tower, or those of its calendar year with most observations.
    evaluate : tuple of {"extremes", "time-scales"}
        Further scores.
    draw : tuple of str
        Towers to draw a week of; by default those with most hours of the largest classes.

    Raises
    ------
    OptionError
        If a value is not allowed.
    VariableError
        If a variable is unknown.

    Examples
    --------
    >>> Experiment("towers.zarr", Path("out"), (Model("ridge"),)).seeds
    (0,)
    """

    store: str
    out: Path
    models: tuple[Model, ...]
    protocol: str | None = None
    seeds: tuple[int, ...] = (0,)
    target: str = "NEE"
    variables: tuple[str, ...] | None = None
    bands: tuple[str, ...] | None = None
    max_qc: int = MAX_QC
    split: str = "paper"
    hours: str = "all"
    evaluate: tuple[str, ...] = ()
    draw: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "out", Path(self.out).absolute())  # workers may stand elsewhere
        _check_one_of("split", self.split, SPLITS)
        _check_one_of("hours", self.hours, HOURS)
        _check_list("seeds", self.seeds, int)
        for name in ("variables", "bands", "evaluate", "draw"):
            _check_list(name, getattr(self, name), str)
        for name in self.evaluate:
            _check_one_of("evaluate", name, EVALUATIONS)
        if isinstance(self.max_qc, bool) or not isinstance(self.max_qc, int) or self.max_qc < 0:
            raise OptionError(f"max_qc must be a whole number of 0 or more, found {self.max_qc!r}")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise OptionError(f"seeds must be different numbers, at least one, found {list(self.seeds)}")
        if not variable(self.target).is_target:
            raise VariableError(f"{self.target} is a predictor and cannot be the target")
        for code in self.variables or ():
            variable(code)
        labels = [model.label for model in self.models]
        if not labels or len(set(labels)) < len(labels):
            raise OptionError(f"models must have different labels, at least one, found {labels}")

    @property
    def runs(self) -> Path:
        """Folder of all runs."""
        return self.out / "runs"

    @property
    def results(self) -> Path:
        """File of the results."""
        return self.out / "results.nc"

    def complete(self, model: Model) -> Model:
        """Give a model the settings that it takes over from the experiment."""
        shared = {name: getattr(self, name) for name in KINDS[model.kind].shared}
        return model.with_defaults({name: value for name, value in shared.items() if value is not None})


def merge(defaults: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Lay settings over defaults; tables such as ``network`` key by key.

    Examples
    --------
    >>> merge({"network": {"width": 16}, "max_steps": 10}, {"network": {"dropout": 0.0}})
    {'network': {'width': 16, 'dropout': 0.0}, 'max_steps': 10}
    """
    merged = dict(defaults)
    for name, value in own.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        merged[name] = {**merged[name], **value} if both else value
    return merged


def check_known(found: Iterable[str], known: Collection[str], where: str) -> None:
    """Refuse names that do not exist, and list those that do.

    Raises
    ------
    OptionError
        With both.
    """
    unknown = sorted(set(found) - set(known))
    if unknown:
        raise OptionError(f"{where}: unknown {unknown}; there are {sorted(known)}")


def _check_one_of(name: str, value: object, allowed: Collection[str]) -> None:
    if value not in allowed:
        raise OptionError(f"{name} must be one of {list(allowed)}, found {value!r}")


def _check_list(name: str, values: object, kind: type) -> None:
    if values is None:
        return
    wrong = isinstance(values, str) or not isinstance(values, tuple | list)
    if wrong or any(type(value) is not kind for value in values):  # type: ignore[attr-defined]
        what = {int: "whole numbers", str: "texts"}[kind]
        raise OptionError(f"{name} must be a list of {what}, found {values!r}")


def _frozen(value: Any) -> Any:
    """Lists become tuples: the same setting from TOML and from Python is the same."""
    if isinstance(value, Mapping):
        return {str(name): _frozen(inner) for name, inner in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def _check_settings(model: Model) -> None:
    """Find a misspelt setting before hours of training, not after."""
    where, settings = f"settings of {model.label!r}", dict(model.settings)
    if model.kind in REFERENCES:
        parameters = inspect.signature(REFERENCES[model.kind]).parameters.values()
        check_known(settings, [p.name for p in parameters if p.kind is p.KEYWORD_ONLY], where)
        return
    own = {name: value for name, value in settings.items() if name not in KINDS[model.kind].shared}
    try:
        _check_training(model.kind, own)
    except (ModelError, TypeError) as error:
        raise OptionError(f"{where}: {error}") from error


def _check_training(kind: str, settings: dict[str, Any]) -> None:
    """Build the classes that ``fit`` builds."""
    from xcarbon.training.task import configure

    reads = {"variables": PAPER_INPUTS, "bands": ()}
    if kind == "xgboost":
        from xcarbon.training.boosting_config import BoostingConfig

        configure(BoostingConfig, settings, seed=0)
        return
    network = dict(settings.pop("network", {}))
    if kind == "streaming":
        from xcarbon.models.streaming import StreamingConfig
        from xcarbon.training.streaming import FIXED, StreamingTraining

        configure(StreamingTraining, settings, also=["network"], seed=0, **FIXED)
        configure(StreamingConfig, network, **reads, targets=("NEE",), spread=False)
        return
    from xcarbon.models.ecoperceiver import EcoPerceiverConfig
    from xcarbon.training import TrainingConfig

    configure(TrainingConfig, settings, also=["network"], seed=0)
    configure(EcoPerceiverConfig, network, **reads)
