"""The towers that a model was trained on, in its provenance."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xcarbon.core.variables import IGBP_CLASSES


class TrainingTowers(NamedTuple):
    """Towers of a training: their names, coordinates and classes, each of the shape ``(towers,)``.

    Attributes
    ----------
    site : numpy.ndarray
        Name; empty where unknown.
    lat, lon : numpy.ndarray
        Latitude [degrees_north] and longitude [degrees_east]; NaN where unknown.
    igbp : numpy.ndarray
        IGBP class; empty where unknown.
    """

    site: NDArray[np.str_]
    lat: NDArray[np.float64]
    lon: NDArray[np.float64]
    igbp: NDArray[np.str_]

    @classmethod
    def from_provenance(cls, provenance: dict[str, Any]) -> TrainingTowers:
        """Read the towers of a training and, for a fine-tuned model, those of the training before it."""
        columns: dict[str, list[Any]] = {name: [] for name in cls._fields}
        for prefix in ("", "pretrained_"):
            known = provenance.get(f"{prefix}coordinates", {})
            count = len(known.get("lat", provenance.get(f"{prefix}sites", ())))
            columns["site"] += provenance.get(f"{prefix}sites") or [""] * count
            for name in ("lat", "lon", "igbp"):
                columns[name] += known.get(name, [None] * count)
        texts = (np.array([text or "" for text in columns[name]], str) for name in ("site", "igbp"))
        site, igbp = texts
        return cls(site, np.array(columns["lat"], float), np.array(columns["lon"], float), igbp)


def coordinates(lat: ArrayLike, lon: ArrayLike, igbp: ArrayLike) -> dict[str, list[Any]]:
    """Return coordinates and classes as the provenance holds them: lists with None where unknown."""
    places = {"lat": lat, "lon": lon}
    numbers = {
        name: [float(value) if np.isfinite(value) else None for value in np.ravel(values)]
        for name, values in places.items()
    }
    return numbers | {"igbp": [str(name) if str(name) in IGBP_CLASSES else None for name in np.ravel(igbp)]}
