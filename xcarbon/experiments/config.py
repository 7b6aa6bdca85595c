"""Configuration of an experiment: models, seeds, towers and hours, checked before anything is trained."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import xarray as xr

from xcarbon.core.errors import ModelError, OptionError, VariableError
from xcarbon.core.validation import check_range
from xcarbon.core.variables import PAPER_INPUTS, variable
from xcarbon.evaluation.baselines import diurnal_cycle, ridge
from xcarbon.models import registry
from xcarbon.prep.quality import MAX_QC
from xcarbon.training.task import configure


class Baseline(NamedTuple):
    """A simple comparison model: its name for people, and its function of training and scored towers."""

    name: str
    predict: Callable[..., xr.DataArray]

    @property
    def settings(self) -> list[str]:
        """Names of the keyword arguments of the function."""
        parameters = inspect.signature(self.predict).parameters.values()
        return [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]


BASELINES = {
    "ridge": Baseline("ridge regression", ridge),
    "diurnal_cycle": Baseline("mean diurnal cycle", diurnal_cycle),
}
#: Settings of an experiment that are also settings of its models.
_SHARED = ("variables", "bands", "max_qc")
#: Fields of dataclasses of settings that ``fit`` sets, with values for the check.
_SET_BY_FIT = {"seed": 0, "variables": PAPER_INPUTS, "bands": (), "targets": ("NEE",)}


def kinds() -> list[str]:
    """Return the kinds of models that can be compared: trained ones that can be saved, and baselines."""
    return [*(kind for kind in registry.trainable() if registry.KINDS[kind].predictor), *BASELINES]


@dataclass(frozen=True)
class Model:
    """One model of a comparison.

    Attributes
    ----------
    kind : {"ecoperceiver", "streaming", "xgboost", "ridge", "diurnal_cycle"} or str
        Kind of model that ``Dataset.carbon.fit`` trains, which may be one that was added with
        :func:`xcarbon.models.registry.register`; or one of the baselines
        :func:`~xcarbon.evaluation.baselines.ridge` and :func:`~xcarbon.evaluation.baselines.diurnal_cycle`.
    label : str
        Name of the model in the results; by default the name of the kind.
    by_class : bool
        Whether to train one model for each IGBP class, on the towers of this class only.
    max_seeds : int or None
        Number of seeds of the experiment that are used, for models whose training takes long; None for all.
    share : float
        Share of the training towers, in (0, 1], drawn at random with the seed. A larger share contains the
        towers of a smaller one.
    settings : mapping
        Keyword arguments of ``fit`` or of the baseline.

    Raises
    ------
    OptionError
        If the kind or a setting does not exist, or the value of a setting is not allowed.

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
        _check_one_of("kind", self.kind, kinds())
        if not isinstance(self.by_class, bool):
            raise OptionError(f"by_class must be true or false, found {self.by_class!r}")
        if self.max_seeds is not None and (type(self.max_seeds) is not int or self.max_seeds < 1):
            raise OptionError(f"max_seeds must be a whole number of 1 or more, found {self.max_seeds!r}")
        check_range(self, "share", gt=0, le=1, error=OptionError)
        object.__setattr__(self, "label", self.label or self.kind_name)
        object.__setattr__(self, "settings", _frozen(self.settings))
        _check_settings(self)

    @property
    def kind_name(self) -> str:
        """Name of the kind for people."""
        return (BASELINES.get(self.kind) or registry.KINDS[self.kind]).name

    @property
    def shared(self) -> tuple[str, ...]:
        """Names of the settings of an experiment that the model takes over."""
        if self.kind not in BASELINES:
            return _SHARED
        return tuple(name for name in _SHARED if name in BASELINES[self.kind].settings)

    def with_defaults(self, defaults: Mapping[str, Any]) -> Model:
        """Return the model with further settings where it has none, key by key within ``network``."""
        settings = dict(defaults)
        for name, value in self.settings.items():
            is_table = isinstance(value, Mapping) and isinstance(settings.get(name), Mapping)
            settings[name] = {**settings[name], **value} if is_table else value
        return dataclasses.replace(self, settings=settings)


@dataclass(frozen=True)
class Experiment:
    """A comparison of models on the same towers and hours.

    Attributes
    ----------
    store : str
        Path or URL of a Zarr store of towers.
    out : pathlib.Path
        Folder for ``runs``, ``results.nc``, ``report.md`` and ``report.html``.
    models : tuple of Model
        Models to compare; the others are compared with the first.
    protocol : str or None
        Name of the protocol that lists the models.
    seeds : tuple of int
        Random seeds of the training, and of the split if it is random.
    target : str
        Code of the variable to predict.
    variables, bands : tuple of str or None
        Predictors and patch bands; by default all of the paper's that the store has.
    max_qc : int
        Highest quality flag of the hours that are used, in training and in scoring.
    split : {"paper", "random"}
        ``"paper"`` uses the coordinate ``paper_split`` of the store or, without it, the paper's lists of
        towers; ``"random"`` uses ``Dataset.carbon.split(seed)``.
    hours : {"all", "best-year"}
        Score all hours of a tower, or the calendar year with the most observations.
    evaluate : tuple of {"extremes", "time-scales"}
        Further scores.
    draw : tuple of str
        Towers of which the report shows a week; by default those with the most hours in the largest classes.

    Raises
    ------
    OptionError
        If the value of a setting is not allowed.
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
        # Workers of a cluster may run in another folder.
        object.__setattr__(self, "out", Path(self.out).absolute())
        _check_one_of("split", self.split, ("paper", "random"))
        _check_one_of("hours", self.hours, ("all", "best-year"))
        _check_list("seeds", self.seeds, int)
        for name in ("variables", "bands", "evaluate", "draw"):
            _check_list(name, getattr(self, name), str)
        for name in self.evaluate:
            _check_one_of("evaluate", name, ("extremes", "time-scales"))
        if type(self.max_qc) is not int or self.max_qc < 0:
            raise OptionError(f"max_qc must be a whole number of 0 or more, found {self.max_qc!r}")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise OptionError(f"seeds must be one or more different numbers, found {list(self.seeds)}")
        if not variable(self.target).is_target:
            raise VariableError(f"{self.target} is a predictor and cannot be the target")
        for code in self.variables or ():
            variable(code)
        labels = [model.label for model in self.models]
        if not labels or len(set(labels)) < len(labels):
            raise OptionError(f"models must be at least one, with different labels, found {labels}")

    @property
    def runs(self) -> Path:
        """Folder of all runs."""
        return self.out / "runs"

    @property
    def results(self) -> Path:
        """File of the results."""
        return self.out / "results.nc"


def check_known(found: Iterable[str], known: Collection[str], where: str) -> None:
    """Raise an OptionError for names that do not exist; it lists the names that do."""
    unknown = sorted(set(found) - set(known))
    if unknown:
        raise OptionError(f"{where}: unknown {unknown}; the known names are {sorted(known)}")


def _check_one_of(name: str, value: object, allowed: Collection[str]) -> None:
    """Raise an OptionError for a value that is not allowed."""
    if value not in allowed:
        raise OptionError(f"{name} must be one of {list(allowed)}, found {value!r}")


def _check_list(name: str, values: object, kind: type) -> None:
    """Raise an OptionError unless values are None or a list of integers or texts."""
    is_list = isinstance(values, tuple | list) and all(type(value) is kind for value in values)
    if values is not None and not is_list:
        what = {int: "whole numbers", str: "texts"}[kind]
        raise OptionError(f"{name} must be a list of {what}, found {values!r}")


def _frozen(value: Any) -> Any:
    """Replace lists by tuples, so that settings from TOML and from Python are equal."""
    if isinstance(value, Mapping):
        return {str(name): _frozen(inner) for name, inner in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def _check_settings(model: Model) -> None:
    """Raise an OptionError for settings that ``fit`` or the baseline would refuse after hours of training."""
    where = f"settings of {model.label!r}"
    if model.kind in BASELINES:
        check_known(model.settings, BASELINES[model.kind].settings, where)
        return
    entry, also = registry.KINDS[model.kind], list(model.shared)
    try:
        if entry.network is not None:
            _build(entry.network, dict(model.settings.get("network", {})))
            also.append("network")
        own = {name: value for name, value in model.settings.items() if name not in also}
        if entry.training is not None:
            _build(entry.training, own, also)
        else:
            check_known(own, also, where)
    except (ModelError, TypeError) as error:
        raise OptionError(f"{where}: {error}") from error


def _build(reference: type[Any] | str, settings: dict[str, Any], also: Collection[str] = ()) -> None:
    """Build a dataclass of settings as ``fit`` does."""
    cls = registry.resolve(reference)
    names = {each.name for each in dataclasses.fields(cls)}
    configure(cls, settings, list(also), **{name: _SET_BY_FIT[name] for name in names & set(_SET_BY_FIT)})
