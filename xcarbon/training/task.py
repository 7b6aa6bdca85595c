"""The task of a training, which is the same for every kind of model: towers, targets and predictors."""

from __future__ import annotations

import dataclasses
import datetime as dt
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xcarbon._version import __version__
from xcarbon.core.errors import ModelError
from xcarbon.models.bundle import Scaler, scaling_bounds
from xcarbon.models.towers import coordinates
from xcarbon.prep.inputs import model_inputs
from xcarbon.prep.split import near_groups
from xcarbon.prep.state import state_features

Config = TypeVar("Config")


@dataclass(frozen=True)
class Task:
    """The arguments of :func:`xcarbon.training.fit` that all kinds of models have in common.

    Attributes
    ----------
    train : xarray.Dataset
        Training towers.
    val : xarray.Dataset or None
        Validation towers.
    targets : tuple of str
        Codes of the variables to predict.
    variables, bands : tuple of str
        Hourly predictors and patch bands.
    state : tuple of str or None
        State features; None for the choice of the kind of model.
    max_qc, min_distance, seed, resume
        As for :func:`xcarbon.training.fit`.
    run_dir : pathlib.Path
        Folder for the model and the checkpoints.
    """

    train: xr.Dataset
    val: xr.Dataset | None
    targets: tuple[str, ...]
    variables: tuple[str, ...]
    bands: tuple[str, ...]
    state: tuple[str, ...] | None
    max_qc: int
    min_distance: float
    seed: int
    run_dir: Path
    resume: bool

    @property
    def target(self) -> str:
        """The only target; several raise a ModelError."""
        if len(self.targets) != 1:
            raise ModelError(
                f"this kind of model predicts one target, found {list(self.targets)}: only a streaming "
                "EcoPerceiver, an hourly network and XGBoost predict several"
            )
        return self.targets[0]

    def available_state(self) -> tuple[str, ...]:
        """Return the chosen state features, by default all that the training towers have."""
        return state_features(self.train, self.variables) if self.state is None else self.state

    def inputs(self, ds: xr.Dataset, target: str | Sequence[str], state: tuple[str, ...] = ()) -> xr.Dataset:
        """Prepare the inputs and one or several targets of the training or validation towers, lazily."""
        if ds.sizes.get("site") == 0:
            raise ModelError("there are no towers in the training or in the validation set")
        inputs = model_inputs(ds, self.variables, self.bands, state=state, target=target, max_qc=self.max_qc)
        if self.bands and "patch" not in inputs:
            raise ModelError(f"the model has bands {list(self.bands)}, but the Dataset has no reflectance")
        return inputs

    def check_hours(self, hours: int, sites: int, context: int) -> None:
        """Raise a ModelError if there are no hours to train on."""
        if not hours:
            raise ModelError(
                f"none of {sites} towers has an hour with {', '.join(self.targets)} at a quality flag of at "
                f"most {self.max_qc} and {context} hours before it: use other towers or raise max_qc"
            )

    def groups(self) -> NDArray[np.int64]:
        """Return the number of the group of near towers of each training tower, shape ``(towers,)``."""
        lat, lon = (self._known(name, np.nan) for name in ("lat", "lon"))
        return near_groups(lat, lon, self.min_distance)

    def coordinates(self) -> dict[str, list[Any]]:
        """Return the coordinates and classes of the training towers for the provenance."""
        return coordinates(self._known("lat", np.nan), self._known("lon", np.nan), self._known("igbp", ""))

    def _known(self, name: str, unknown: object) -> NDArray[Any]:
        """Return a coordinate of the training towers, shape ``(towers,)``; ``unknown`` if it is absent."""
        if name in self.train.coords:
            return np.atleast_1d(self.train[name].values)
        return np.full(self.train.sizes.get("site", 1), unknown)

    def scaler(self, moments: Sequence[tuple[float, float]]) -> Scaler:
        """Return the scaler for targets with these means and standard deviations."""
        targets = dict(zip(self.targets, moments, strict=True))
        return Scaler(targets, self.max_qc, {code: scaling_bounds(code) for code in self.variables})

    def provenance(self, training: Any, library: str) -> dict[str, Any]:
        """Return the provenance of a model: towers, data, citations, settings (a dataclass) and versions."""
        ds = self.train
        citations = np.atleast_1d(ds["citation"].values) if "citation" in ds.coords else ()
        return {
            "created": dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            **self.towers(),
            "coordinates": self.coordinates(),
            "data": {
                name: ds.attrs[name]
                for name in ("title", "source", "license", "references")
                if name in ds.attrs
            },
            "citations": sorted({str(text) for text in citations if text}),
            "training": dataclasses.asdict(training),
            "versions": {
                "xcarbon": __version__,
                library: str(import_module(library).__version__),
                "numpy": np.__version__,
                "xarray": xr.__version__,
                "python": platform.python_version(),
            },
        }

    def towers(self) -> dict[str, list[str]]:
        """Return the names of the training and validation towers."""
        return {
            "sites": site_names(self.train),
            "val_sites": [] if self.val is None else site_names(self.val),
        }


def configure(cls: type[Config], settings: dict[str, Any], also: Sequence[str] = (), **fixed: Any) -> Config:
    """Build a dataclass of settings; a ModelError lists the settings if the user gave an unknown one.

    ``also`` are names of settings that the caller handles itself, ``fixed`` fields that users cannot set.
    """
    fields = [field.name for field in dataclasses.fields(cls) if field.init]  # type: ignore[arg-type]
    known = [*also, *(name for name in fields if name not in fixed)]
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise ModelError(f"unknown settings {unknown}; {cls.__name__} has {known}")
    return cls(**settings, **fixed)


def site_names(ds: xr.Dataset) -> list[str]:
    """Return the names of the towers of a Dataset, an empty list for a tower without a name."""
    return [str(site) for site in np.atleast_1d(ds["site"].values)] if "site" in ds.coords else []
