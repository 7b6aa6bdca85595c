"""Predictions hour by hour, as the weather is measured.

The state of a tower after an hour has a fixed size: the memory, and the inputs of the last hours that a
prediction depends on. Advancing it by an hour gives the same prediction as one pass over the whole record.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xcarbon.core.atomic import replacing
from xcarbon.core.conventions import HOUR, QC
from xcarbon.core.errors import ModelError, TimestampError, reading
from xcarbon.core.validation import check_igbp
from xcarbon.core.variables import IGBP_CLASSES, MEMORY, STATICS, TIME_FEATURES, VARIABLES, memory_code
from xcarbon.models.inputs import ModelInputs
from xcarbon.prep.limits import apply_limits
from xcarbon.prep.memory import MemoryState, update
from xcarbon.prep.scale import clock_features, scale


@dataclass(frozen=True)
class LiveState:
    """State of one tower after an hour, from which the next hours are predicted.

    Attributes
    ----------
    model : str
        Hash of the inputs and the context of the model that the state belongs to.
    time : numpy.datetime64
        Start of the last hour, in local standard time; NaT before the first one.
    total, weight : numpy.ndarray
        State of the memory (:class:`~xcarbon.prep.memory.MemoryState`) of each variable with a memory,
        float64, shape ``(codes, time constants)``.
    hourly, features : numpy.ndarray
        Scaled variables and state features of the last hours, at most the context of the model less one,
        float32, shapes ``(hours, V)`` and ``(hours, M)``.
    statics : numpy.ndarray
        Static site features, float32, shape ``(S,)``; NaN where unknown.
    """

    model: str
    time: np.datetime64
    total: NDArray[np.float64]
    weight: NDArray[np.float64]
    hourly: NDArray[np.float32]
    features: NDArray[np.float32]
    statics: NDArray[np.float32]

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the state to a file, atomically.

        Parameters
        ----------
        path : path-like
            File to write, ``.npz``; an existing file is replaced.

        Returns
        -------
        pathlib.Path
            The file.
        """
        content = io.BytesIO()
        np.savez(content, **vars(self))  # strings and dates become arrays of zero dims
        with replacing(Path(path)) as temporary:
            temporary.write_bytes(content.getvalue())
        return Path(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LiveState:
        """Read a state that :meth:`save` wrote; no code in the file is executed.

        Parameters
        ----------
        path : path-like
            The file.

        Returns
        -------
        LiveState

        Raises
        ------
        ModelError
            If the file is not a state, or is damaged.
        """
        fault = f"{path} is not a state that was saved with LiveState.save"
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise ModelError(f"{fault}: {error}") from error
        with (
            reading(fault, ModelError),
            np.load(io.BytesIO(content), allow_pickle=False) as file,
        ):
            if (member := file.zip.testzip()) is not None:  # numpy verifies only what it reads
                raise zipfile.BadZipFile(f"the checksum of {member} is wrong")
            arrays: dict[str, Any] = {field.name: file[field.name] for field in dataclasses.fields(cls)}
            arrays["model"] = str(arrays["model"])
            arrays["time"] = arrays["time"][()]
            return cls(**arrays)


def begin(model: Any, place: Mapping[str, Any]) -> LiveState:
    """Return the state before the first hour; see :meth:`xcarbon.models.bundle.CarbonModel.begin`."""
    unknown = set(place) - set(STATICS)
    if unknown:
        raise ModelError(f"unknown static site features {sorted(unknown)}; use {list(STATICS)}")
    config, known = model.config, dict(place)
    if "igbp" in known:
        known["igbp"] = list(IGBP_CLASSES).index(check_igbp(str(known["igbp"]), "the place"))
    memory = np.zeros((len(_memory_codes(config)), len(MEMORY)))
    return LiveState(
        _inputs_of(model),
        np.datetime64("NaT"),
        memory,
        memory,
        np.empty((0, len(config.variables)), np.float32),
        np.empty((0, len(config.state)), np.float32),
        np.array([known.get(name, np.nan) for name in config.statics], np.float32),
    )


def advance(model: Any, state: LiveState, hours: Mapping[str, Any]) -> tuple[LiveState, ModelInputs[Any]]:
    """Advance the state by consecutive hours; see :meth:`xcarbon.models.bundle.CarbonModel.step`.

    ``hours`` maps ``time`` and codes to arrays of shape ``(n,)``. The inputs returned with the new state are
    those of the last hours before and of these hours.
    """
    if state.model != _inputs_of(model):
        raise ModelError("the state belongs to a model with other inputs: begin again with this model")
    config = model.config
    values = _fill_gap(state.time, {name: np.atleast_1d(np.asarray(each)) for name, each in hours.items()})
    time = values["time"]
    codes = _memory_codes(config)
    measured = {
        code: apply_limits(
            np.asarray(values.get(code, np.full(len(time), np.nan)), np.float64), VARIABLES[code].limits
        )
        for code in dict.fromkeys([*config.variables, *codes])
        if code not in TIME_FEATURES
    }
    memory = MemoryState(state.total, state.weight)
    means = np.empty((0, len(time), len(MEMORY)), np.float32)
    if codes:
        # Values pass through single precision, as in the record of a tower.
        memory, means = update(memory, np.stack([measured[code].astype(np.float32) for code in codes]))
    hourly = np.concatenate([state.hourly, _scaled(model, measured | clock_features(time), values)])
    own = _state_features(config, dict(zip(codes, means, strict=True)), values)
    features = np.concatenate([state.features, own])
    inputs = ModelInputs(
        hourly,
        statics=state.statics if len(state.statics) else None,
        state=features if config.state else None,
    )
    kept = slice(max(0, len(inputs.hourly) - config.context + 1), None)
    after = dataclasses.replace(
        state,
        time=time[-1],
        total=memory.total,
        weight=memory.weight,
        hourly=hourly[kept].copy(),
        features=features[kept].copy(),
    )
    return after, inputs


def _scaled(
    model: Any, measured: Mapping[str, NDArray[Any]], values: Mapping[str, NDArray[Any]]
) -> NDArray[np.float32]:
    """Return the scaled predictors ``(n, V)``; those with a quality flag above the tolerance are missing."""
    columns = []
    for code in model.config.variables:
        column = np.asarray(measured[code], np.float32)
        if f"{code}{QC}" in values:
            column = np.where(values[f"{code}{QC}"] > model.scaler.max_qc, np.nan, column)
        columns.append(scale(column, VARIABLES[code]))
    return np.stack(columns, axis=1).astype(np.float32)


def _state_features(
    config: Any, means: Mapping[str, NDArray[np.float32]], values: Mapping[str, NDArray[Any]]
) -> NDArray[np.float32]:
    """Return the state features ``(n, M)`` from the means of the past, ``(n, time constant)`` each."""
    features = np.full((len(values["time"]), len(config.state)), np.nan, np.float32)
    for number, name in enumerate(config.state):
        code = memory_code(name)
        if code is not None:
            features[:, number] = means[code][:, list(MEMORY).index(name.rpartition("_")[2])]
        elif name in values:
            features[:, number] = values[name]
    return features


def _inputs_of(model: Any) -> str:
    """Return a hash of what a state depends on: the inputs, their scaling and the context of a model."""
    config, scaler = model.config, model.scaler
    inputs = (config.variables, config.statics, config.state, config.context, scaler.max_qc, scaler.bounds)
    return hashlib.sha256(repr(inputs).encode()).hexdigest()[:16]


def _memory_codes(config: Any) -> list[str]:
    """Return the hourly variables that have a memory, in the order of the state features."""
    return list(dict.fromkeys(code for name in config.state if (code := memory_code(name)) is not None))


def _fill_gap(last: np.datetime64, values: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Check that hours follow each other, and add missing hours if the first does not follow ``last``."""
    if "time" not in values:
        raise TimestampError(f"an hour needs its start under the name 'time', found {sorted(values)}")
    time = values["time"].astype("datetime64[s]")
    if np.isnat(time).any() or (np.diff(time) != HOUR).any():
        raise TimestampError(f"the hours must follow each other without gaps, found {time}")
    if np.isnat(last):
        return values | {"time": time}
    missing = int((time[0] - last) / HOUR) - 1
    if missing < 0 or (time[0] - last) % HOUR != np.timedelta64(0):
        raise TimestampError(
            f"the state ends with the hour {last}; the next hour must be whole hours later, found {time[0]}"
        )
    filled = {
        name: np.concatenate([np.full(missing, np.nan), each])
        for name, each in values.items()
        if name != "time"
    }
    return filled | {"time": time[0] + np.arange(-missing, len(time)) * HOUR}
