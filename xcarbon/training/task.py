"""What is to be learnt from which towers: the same for every kind of model."""

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
from xcarbon.core.variables import VARIABLES
from xcarbon.models.bundle import Scaler
from xcarbon.prep.inputs import model_inputs
from xcarbon.prep.split import near_groups

Config = TypeVar("Config")


@dataclass(frozen=True)
class Task:
    """What is to be learnt from which towers.

    Attributes
    ----------
    train : xarray.Dataset
        Towers to learn from.
    val : xarray.Dataset or None
        Towers to score by.
    targets : tuple of str
        Codes of the variables to predict.
    variables, bands : tuple of str
        What to predict it from.
    max_qc : int
        Highest quality code that counts.
    min_distance : float
        Towers nearer than this [km] are not independent.
    seed : int
        Of all that is random.
    run_dir : pathlib.Path
        Folder to write to.
    resume : bool
        Whether to continue what is there.
    """

    train: xr.Dataset
    val: xr.Dataset | None
    targets: tuple[str, ...]
    variables: tuple[str, ...]
    bands: tuple[str, ...]
    max_qc: int
    min_distance: float
    seed: int
    run_dir: Path
    resume: bool

    @property
    def target(self) -> str:
        """The only target.

        Raises
        ------
        ModelError
            If there are several.
        """
        if len(self.targets) != 1:
            raise ModelError(
                f"this model predicts one target, found {list(self.targets)}: only a streaming EcoPerceiver "
                "learns several"
            )
        return self.targets[0]

    def inputs(self, ds: xr.Dataset, target: str | Sequence[str]) -> xr.Dataset:
        """Prepare one of the two sets, lazily, with one target or with several.

        Raises
        ------
        ModelError
            If there are no towers, or no patches for a model with bands.
        """
        if ds.sizes.get("site") == 0:
            raise ModelError("there are no towers in the training or in the validation set")
        inputs = model_inputs(ds, self.variables, self.bands, target=target, max_qc=self.max_qc)
        if self.bands and "patch" not in inputs:
            raise ModelError(f"the model has bands {list(self.bands)}, but the Dataset has no reflectance")
        return inputs

    def check_hours(self, hours: int, sites: int, context: int) -> None:
        """Make sure that there is something to learn from.

        Raises
        ------
        ModelError
            If there are no hours.
        """
        if not hours:
            raise ModelError(
                f"none of {sites} towers has an hour with {', '.join(self.targets)} at quality "
                f"<= {self.max_qc} and {context} hours before it"
            )

    def groups(self) -> NDArray[np.int64]:
        """Number of the group of near towers that each training tower belongs to, shape ``(towers,)``."""
        known = self.train.coords
        missing = np.full(self.train.sizes.get("site", 1), np.nan)
        lat, lon = (
            np.atleast_1d(known[name].values) if name in known else missing for name in ("lat", "lon")
        )
        return near_groups(lat, lon, self.min_distance)

    def scaler(self, moments: Sequence[tuple[float, float]]) -> Scaler:
        """Give the scaling of the predictors, and of targets with these means and deviations."""
        targets = dict(zip(self.targets, moments, strict=True))
        return Scaler(targets, self.max_qc, {code: _bounds(code) for code in self.variables})

    def provenance(self, training: Any, library: str) -> dict[str, Any]:
        """Tell what a reader of the model's predictions should be able to find out.

        Parameters
        ----------
        training : dataclass
            The settings.
        library : str
            The package that trains the model.
        """
        ds = self.train
        citations = np.atleast_1d(ds["citation"].values) if "citation" in ds.coords else ()
        return {
            "created": dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            **self.towers(),
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
        """Name the towers of both sets."""
        return {
            "sites": site_names(self.train),
            "val_sites": [] if self.val is None else site_names(self.val),
        }


def configure(cls: type[Config], settings: dict[str, Any], also: Sequence[str] = (), **fixed: Any) -> Config:
    """Build a settings class from what the user gave.

    Parameters
    ----------
    cls : type
        A dataclass.
    settings : dict
        What the user gave.
    also : sequence of str
        Settings that exist beside those of the class, for the error.
    **fixed
        What is not for the user to give here.

    Raises
    ------
    ModelError
        If there is no such setting; it lists what there is.
    """
    fields = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    known = [*also, *(name for name in fields if name not in fixed)]
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise ModelError(f"unknown settings {unknown}; {cls.__name__} takes {known}")
    return cls(**settings, **fixed)


def site_names(ds: xr.Dataset) -> list[str]:
    """Names of the towers of a Dataset; none for a tower without a name."""
    return [str(site) for site in np.atleast_1d(ds["site"].values)] if "site" in ds.coords else []


def _bounds(code: str) -> tuple[float, float]:
    bounds = VARIABLES[code].bounds
    if bounds is None:
        raise ModelError(f"{code} is a target and cannot be a predictor")
    return bounds.lower, bounds.upper
