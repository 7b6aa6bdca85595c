"""A trained model with its scaling and its provenance, and the folder that it is saved to."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, cast

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from xcarbon.core.atomic import replacing
from xcarbon.core.display import as_html, as_text, count_classes, tower_map
from xcarbon.core.errors import ModelError
from xcarbon.core.variables import SPREAD, SUMS, variable
from xcarbon.models import live
from xcarbon.models.applicability import Applicability
from xcarbon.models.calibration import SpreadCalibration
from xcarbon.models.inputs import ModelInputs
from xcarbon.models.live import LiveState
from xcarbon.models.registry import KINDS, resolve
from xcarbon.models.towers import TrainingTowers

#: File of everything but the weights.
SETTINGS = "model.json"
#: File of the area of applicability, if the model has one.
AREA = "area.safetensors"
#: Number of the layout of the folder; it is increased when the layout changes.
FORMAT = 5


class ModelConfig(Protocol):
    """Settings of a model: a dataclass that lists at least the inputs of the model."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def variables(self) -> tuple[str, ...]:
        """Hourly inputs, in the order of the last axis of ``hourly``."""

    @property
    def bands(self) -> tuple[str, ...]:
        """Bands of a patch; empty for a model without patches."""

    @property
    def statics(self) -> tuple[str, ...]:
        """Static site features, in the order of the last axis of ``statics``."""

    @property
    def state(self) -> tuple[str, ...]:
        """State features, in the order of the last axis of ``state``."""

    @property
    def context(self) -> int:
        """Number T of hours in a window, which ends with the predicted hour."""

    @property
    def min_context(self) -> int:
        """Smallest number of these hours that the record must contain for a prediction."""


class Predictor(Protocol):  # numpydoc ignore=PR01
    """Interface of a predictor of any kind: numpy arrays in, numpy arrays out.

    Attributes
    ----------
    kind : str
        Key of the kind in :data:`xcarbon.models.registry.KINDS`.
    name : str
        Name of the kind for people.
    file : str
        Name of the file of the weights in the model's folder.
    """

    kind: ClassVar[str]
    name: ClassVar[str]
    file: ClassVar[str]

    @property
    def config(self) -> ModelConfig:
        """Settings of the model."""

    @property
    def has_spread(self) -> bool:
        """Whether the model also predicts the standard deviation of the error of each target."""

    def predict_series(
        self, inputs: ModelInputs[NDArray[Any]], wanted: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Predict as :meth:`CarbonModel.predict_series`, but in standardised units of the targets."""

    def to_bytes(self) -> bytes:
        """Return the weights in a format that cannot execute code when it is read."""

    @classmethod
    def from_bytes(cls, config: dict[str, Any], weights: bytes) -> Predictor:
        """Build the predictor; raise ModelError, TypeError or ValueError if weights and settings differ."""


@dataclass(frozen=True)
class Scaler:
    """Scaling between the values of a Dataset and the numbers of a model.

    The bounds of the predictors are those of the vocabulary. They are stored with the model so that loading
    fails if the vocabulary has changed since the training; the model would otherwise predict wrong values
    without a warning.

    Attributes
    ----------
    targets : dict of str to (float, float)
        Mean and standard deviation of each target over the training hours, in the units of the target. A
        network predicts ``(target - mean) / std``. Trees predict the target itself: mean 0, deviation 1.
    max_qc : int
        Highest quality flag of the predictors and targets that were used.
    bounds : dict of str to (float, float)
        Scaling bounds of each predictor, in its units.
    spread : dict of str to SpreadCalibration
        Calibration of the standard deviation of a target. The deviation of a target that is absent is not
        changed. See :func:`xcarbon.prediction.calibration.calibrate`.

    Raises
    ------
    ModelError
        If the standard deviation of a target is not positive.
    """

    targets: dict[str, tuple[float, float]]
    max_qc: int
    bounds: dict[str, tuple[float, float]]
    spread: dict[str, SpreadCalibration] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for code, (_, std) in self.targets.items():
            if not std > 0:
                raise ModelError(f"the standard deviation of the target {code} must be positive, found {std}")

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> Scaler:
        """Create the scaler from the dictionary that ``dataclasses.asdict`` returns, also after JSON."""
        pairs = {
            name: {code: (first, second) for code, (first, second) in settings[name].items()}
            for name in ("targets", "bounds")
        }
        spread = {code: SpreadCalibration.from_dict(each) for code, each in settings["spread"].items()}
        return cls(**(settings | pairs | {"spread": spread}))


@dataclass(repr=False)
class CarbonModel:
    """A trained predictor with its scaler and its provenance.

    Attributes
    ----------
    predictor : Predictor
        For example a :class:`~xcarbon.models.networks.StreamingPredictor`, or an instance of a class that was
        registered with :func:`xcarbon.models.registry.register`.
    scaler : Scaler
        Scaling of predictors and targets.
    provenance : dict
        Values that JSON can represent: the names of the training towers (``sites``), their ``lat``, ``lon``
        and ``igbp`` in the same order (``coordinates``), their citations, the settings, scores and versions.
        A fine-tuned model also has ``pretrained_sites`` and ``pretrained_coordinates``.
    area : Applicability or None
        The area of applicability, if it was computed
        (:func:`xcarbon.prediction.applicability.with_applicability`).
    """

    predictor: Predictor
    scaler: Scaler
    provenance: dict[str, Any] = field(default_factory=dict)
    area: Applicability | None = None

    @property
    def config(self) -> ModelConfig:
        """Settings of the predictor."""
        return self.predictor.config

    @property
    def targets(self) -> tuple[str, ...]:
        """Codes of the predicted variables."""
        return tuple(self.scaler.targets)

    @property
    def fluxes(self) -> tuple[str, ...]:
        """Codes of the variables that the model predicts: its targets, and sums of two of them."""
        sums = tuple(code for code, parts in SUMS.items() if set(parts) <= set(self.targets))
        return self.targets + sums

    @property
    def has_spread(self) -> bool:
        """Whether the model also predicts the standard deviation of its error."""
        return self.predictor.has_spread

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the rows of a prediction: the targets, then their standard deviations if there are any."""
        spreads = tuple(code + SPREAD for code in self.targets) if self.has_spread else ()
        return self.targets + spreads

    @property
    def network(self) -> Any:
        """The torch module; models that are not networks raise an AttributeError."""
        return cast(Any, self.predictor).network

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the training towers."""
        return tuple(self.provenance.get("sites", ()))

    @property
    def training_towers(self) -> TrainingTowers:
        """All towers that the weights depend on, also those of the training before a fine-tuning."""
        return TrainingTowers.from_provenance(self.provenance)

    def __repr__(self) -> str:
        return as_text(*self._summary())

    def _repr_html_(self) -> str:
        site, lat, lon, _ = self.training_towers
        return as_html(*self._summary(), tower_map(lat, lon, site))

    def _summary(self) -> tuple[str, dict[str, str]]:
        """Return a title, and the rows of a short description."""
        towers, config, data = self.training_towers, self.config, self.provenance.get("data", {})
        hourly = ", ".join(config.variables)
        others = {
            "state features": config.state,
            "patch bands": config.bands,
            "site features": config.statics,
        }
        inputs = [hourly, *(f"{len(names)} {what}" for what, names in others.items() if names)]
        classes = count_classes(towers.igbp)
        spread = ", with standard deviation" if self.has_spread else ""
        title = " ".join(filter(None, ["CarbonModel", self.provenance.get("name")]))
        return f"{title} ({self.predictor.name})", {
            "targets": ", ".join(self.fluxes) + spread,
            "inputs": "; ".join(inputs),
            "towers": f"{towers.site.size} in training" + f": {classes}" * bool(classes),
            "scores": self._scores(),
            "data": data.get("title", ""),
            "licence": f"{data['license']} (training data)" if "license" in data else "",
            "fingerprint": self.fingerprint(),
        }

    def _scores(self) -> str:
        """Describe the scores in the provenance: those of a test, or those at the validation towers."""
        if "scores" in self.provenance:
            known = dict(self.provenance["scores"])
            return f"{known.pop('of')}: " + ", ".join(f"{name} {value:.2f}" for name, value in known.items())
        errors = [point["val_mse"] for point in self.provenance.get("curve", ()) if "val_mse" in point]
        if not errors:
            return ""
        kept = errors[-1] if self.predictor.kind == "xgboost" else min(errors)
        return f"validation towers: NSE {1 - kept:.2f}"

    def predict_series(
        self, inputs: ModelInputs[NDArray[Any]], wanted: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Predict the last hour of each window in a series of consecutive hours.

        Parameters
        ----------
        inputs : ModelInputs
            The hours as numpy arrays, with ``hourly`` of the shape ``(hours + T - 1, V)``, float32. For a
            model with a ``min_context`` of less than T they may be fewer, if the record begins with the
            first one. Models without ``config.statics`` ignore ``statics``.
        wanted : numpy.ndarray
            Which windows to predict, bool, shape ``(hours,)``.

        Returns
        -------
        numpy.ndarray
            The ``outputs`` in the units of the targets, shape ``(len(outputs), hours)``, float32; NaN where
            ``wanted`` is False.
        """
        series = self.predictor.predict_series(inputs, wanted)
        mean, std = np.array(list(self.scaler.targets.values()), "float32").T[..., None]  # each (targets, 1)
        series[: len(std)] = series[: len(std)] * std + mean
        if self.has_spread:
            for code, scale, row in zip(self.targets, std, series[len(std) :], strict=True):
                calibration = self.scaler.spread.get(code, SpreadCalibration())
                row[:] = calibration.apply(row * scale, self.config, inputs)
        return series

    def begin(self, **place: Any) -> LiveState:
        """Return the state of a tower before its first hour, for predictions with :meth:`step`.

        Parameters
        ----------
        **place
            Static site features that are known: ``igbp``, ``lat``, ``lon`` and ``elevation``.

        Returns
        -------
        LiveState

        Raises
        ------
        ModelError
            If a feature is unknown, or the model reads satellite patches.
        MetadataError
            If ``igbp`` is not a class.
        """
        if self.config.bands:
            raise ModelError("a model with satellite patches does not predict hour by hour")
        return live.begin(self, place)

    def step(
        self, state: LiveState, hours: Mapping[str, Any]
    ) -> tuple[dict[str, NDArray[np.float32]], LiveState]:
        """Predict the next hour, or several hours, of a tower as they are measured.

        Parameters
        ----------
        state : LiveState
            State after the hour before: from :meth:`begin`, an earlier call, or a file.
        hours : mapping of str to array_like
            ``time``, the start of the hour in local standard time, and the hourly variables and satellite
            series in the units of the vocabulary, each a number or an array of shape ``(n,)`` for n
            consecutive hours. What is absent or NaN is missing. Quality flags ``<VAR>_QC`` are used as by
            ``ds.carbon.predict``. Hours between the state and the first of these hours are missing hours.

        Returns
        -------
        dict of str to numpy.ndarray
            The ``outputs`` of each hour in the units of the targets, float32, shape ``(n,)``.
        LiveState
            State after the last hour.

        Raises
        ------
        ModelError
            If the state belongs to another model.
        TimestampError
            If the hours do not follow each other or the state.

        Notes
        -----
        The predictions are those of ``ds.carbon.predict(..., causal=True)`` for the whole record, up to
        rounding. A past of years is summarised in one call: pass all its hours.

        Examples
        --------
        >>> import xcarbon
        >>> model = xcarbon.load("nee-fluxnet2015")
        >>> state = model.begin(igbp="ENF", lat=51.0, lon=13.6)
        >>> hour = {"time": np.datetime64("2014-07-01T12"), "TA": 20.0, "SW_IN": 700.0, "VPD": 10.0}
        >>> fluxes, state = model.step(state, hour)
        >>> sorted(fluxes)
        ['GPP_NT', 'GPP_NT_SE', 'NEE', 'NEE_SE']
        """
        after, inputs = live.advance(self, state, hours)
        count = len(np.atleast_1d(hours["time"]))
        context = self.config.context
        inputs = inputs.between(max(0, len(inputs.hourly) - count - context + 1), None)
        observed = np.pad(inputs.observed(self.config.variables), (context - 1, 0))
        wanted = np.asarray(np.lib.stride_tricks.sliding_window_view(observed, context).any(axis=1))
        wanted[: self.config.min_context - 1] = False
        found = self.predict_series(inputs, wanted[-count:])
        return dict(zip(self.outputs, found, strict=True)), after

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the model to a folder with a file of weights and a JSON file.

        The folder appears under its name when it is complete: a crash leaves no half-written model.

        Parameters
        ----------
        path : path-like
            Path of the folder; a model in this folder is replaced.

        Returns
        -------
        pathlib.Path
            The folder.

        Raises
        ------
        ModelError
            If ``path`` exists and is not a model folder.
        """
        path = Path(path)
        if path.exists() and not (path / SETTINGS).is_file():
            raise ModelError(f"{path} exists and is not a model folder: choose another path")
        settings = {
            "format": FORMAT,
            "kind": self.predictor.kind,
            "config": dataclasses.asdict(self.config),
            "scaler": dataclasses.asdict(self.scaler),
            "provenance": self.provenance,
        }
        settings, weights = json.loads(json.dumps(settings)), self.predictor.to_bytes()
        area = b"" if self.area is None else safetensors.numpy.save(self.area.to_arrays())
        settings["checksum"] = _checksum(settings, weights + area)
        with replacing(path) as folder:
            folder.mkdir()
            (folder / self.predictor.file).write_bytes(weights)
            if area:
                (folder / AREA).write_bytes(area)
            (folder / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n")
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CarbonModel:
        """Read a model that :meth:`save` wrote; no code in the folder is executed.

        Parameters
        ----------
        path : path-like
            Path of the folder.

        Returns
        -------
        CarbonModel

        Raises
        ------
        ModelError
            If ``path`` is not a model folder, its kind is not registered, its format is of another version,
            a file is damaged, the weights do not fit the settings, or the scaling bounds are not those of the
            vocabulary.
        """
        path = Path(path)
        try:
            settings = json.loads((path / SETTINGS).read_bytes())
            kind, checksum = settings.get("kind"), settings.pop("checksum", None)
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            raise ModelError(f"{path} is not a model folder with a file {SETTINGS}: {error}") from error
        if settings.get("format") != FORMAT:
            raise ModelError(
                f"{path} is a model of format {settings.get('format')}, but this version of xcarbon reads "
                f"format {FORMAT}: train the model again"
            )
        try:
            cls_predictor = predictor_class(kind)
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from error
        try:
            weights = (path / cls_predictor.file).read_bytes()
            area = (path / AREA).read_bytes() if (path / AREA).exists() else b""
            if checksum != _checksum(settings, weights + area):
                raise ModelError(
                    f"{path}: {SETTINGS}, {cls_predictor.file} or {AREA} is damaged or was edited, as they "
                    "do not have the checksum with which the model was saved: copy the folder again"
                )
            predictor = cls_predictor.from_bytes(as_tuples(settings["config"]), weights)
            scaler = Scaler.from_dict(settings["scaler"])
            limits = Applicability.from_arrays(safetensors.numpy.load(area)) if area else None
        except OSError as error:
            raise ModelError(f"{path} is not a model folder with {cls_predictor.file}: {error}") from error
        except (LookupError, TypeError, ValueError, zipfile.BadZipFile) as error:
            raise ModelError(f"{path}: settings and weights do not fit together: {error}") from error
        for code, found in scaler.bounds.items():
            known = scaling_bounds(code)
            if known != found:
                raise ModelError(
                    f"{path}: {code} was scaled with bounds {found} in training, but the vocabulary has "
                    f"{known}: train the model again"
                )
        return cls(predictor, scaler, settings["provenance"], limits)

    def fingerprint(self) -> str:
        """Return a hash of settings, scaler and weights; it is equal for models with equal predictions."""
        digest = hashlib.sha256(repr((self.config, self.scaler)).encode())
        # The archive of an ensemble takes a long time to compress, and depends on the version of zlib.
        for member in getattr(self.predictor, "members", [self]):
            digest.update(member.predictor.to_bytes())
        return digest.hexdigest()[:16]

    def __dask_tokenize__(self) -> str:
        """Make the names of Dask tasks depend on the model's content, not on its address in memory."""
        return f"CarbonModel-{self.fingerprint()}"


def predictor_class(kind: Any) -> type[Predictor]:
    """Return the class that reads the weights of a kind; raise a ModelError if the kind is unknown."""
    if not isinstance(kind, str) or kind not in KINDS or KINDS[kind].predictor is None:
        raise ModelError(
            f"a model of the unknown kind {kind!r}; the kinds are {list(KINDS)}: import the package that "
            "registers it"
        )
    return cast("type[Predictor]", resolve(KINDS[kind].predictor))


def as_tuples(config: dict[str, Any]) -> dict[str, Any]:
    """Turn the lists of settings that were read from JSON into tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in config.items()}


def _checksum(settings: dict[str, Any], weights: bytes) -> str:
    """Return a hash of the settings, as JSON without their checksum, and of the weights."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode() + weights).hexdigest()


def scaling_bounds(code: str) -> tuple[float, float]:
    """Return the bounds by which the vocabulary scales a predictor, in its units."""
    bounds = variable(code).bounds
    if bounds is None:
        raise ModelError(f"{code} has no scaling bounds, so it cannot be a predictor")
    return bounds.lower, bounds.upper
