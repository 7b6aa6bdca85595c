"""Scores of the weights where some of their inputs are missing, and with other satellite values.

Run ``python -m benchmarks.weights.missing STORE SATELLITE OUT`` when ``train.py`` has trained the members of
the split ``train`` with the first seed. The command removes inputs from the towers of the split ``val``, and
trains trees that never had these inputs. It prints the NSE of NEE in Markdown: over all hours, as the mean of
the classes, and of the median tower, and the differences from these trees with 95 % intervals over towers.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import xcarbon
from benchmarks.weights.score import Tower, interval, score
from benchmarks.weights.train import MEMBERS, VARIABLES, fit, open_towers, parts, train
from xcarbon.core.variables import SATELLITE, STATICS, memory_features
from xcarbon.models.bundle import CarbonModel
from xcarbon.models.inputs import ModelInputs
from xcarbon.prep.quality import mask_quality

MEMORY = memory_features(VARIABLES)
SERIES = tuple(SATELLITE)
#: Inputs that are removed, by the name of the row: variables and coordinates, and state features.
CASES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "all inputs": ((), ()),
    "no satellite series": ((), SERIES),
    "no memory": ((), MEMORY),
    "neither": ((), (*MEMORY, *SERIES)),
    "no place": (tuple(STATICS), ()),
    "no VPD": (("VPD",), memory_features(["VPD"])),
    "no SW_IN": (("SW_IN",), memory_features(["SW_IN"])),
    "no TA": (("TA",), memory_features(["TA"])),
    "no place, no satellite series": (tuple(STATICS), SERIES),
}
#: Cases for which trees are trained that never had the missing inputs.
SPECIALISTS = ("no satellite series", "no memory", "neither", "no place")


class Without:
    """A predictor whose input lacks some state features."""

    def __init__(self, predictor: Any, features: Sequence[str]) -> None:
        self.predictor, self.features = predictor, features

    def __getattr__(self, name: str) -> Any:
        return getattr(self.predictor, name)

    def predict_series(self, inputs: ModelInputs[Any], wanted: np.ndarray) -> np.ndarray:
        if inputs.state is not None:
            absent = np.isin(self.config.state, self.features)
            inputs = dataclasses.replace(inputs, state=np.where(absent, np.float32(np.nan), inputs.state))
        return np.asarray(self.predictor.predict_series(inputs, wanted))

    def to_bytes(self) -> bytes:
        return bytes(self.predictor.to_bytes()) + repr(self.features).encode()


def predict(
    model: CarbonModel, val: xr.Dataset, features: Sequence[str], causal: bool = False
) -> list[Tower]:
    """Predict the NEE of the towers with a model that lacks some state features."""
    poor = dataclasses.replace(model, predictor=Without(model.predictor, features))
    with xcarbon.set_options(progress=False):  # the table is printed, notes are not
        prediction = val.carbon.predict("NEE", poor, causal=causal)
    towers = []
    for site in val["site"].values:
        observed = mask_quality(val.sel(site=site), ["NEE"])["NEE"].values
        known = np.isfinite(observed)
        if known.any():
            means = {"model": prediction.sel(site=site).values[known][np.newaxis, :, np.newaxis]}
            igbp = str(val_classes(val)[site])
            towers.append(Tower(str(site), igbp, observed[known, np.newaxis], means))
    return towers


def of_model(tower: Tower) -> np.ndarray:
    """Predicted NEE, ``(n,)``."""
    return tower.means["model"][0, :, 0]


def difference(towers: Sequence[Tower], specialist: Sequence[Tower]) -> str:
    """Differences of the scores from those of a specialist, with 95 % intervals over towers."""
    scores = [score(each, of_model) for each in (towers, specialist)]
    both = [
        ours._replace(means=ours.means | {"specialist": theirs.means["model"]})
        for ours, theirs in zip(towers, specialist, strict=True)
    ]
    found = interval(both, of_model, lambda tower: tower.means["specialist"][0, :, 0])
    texts = [
        f"{getattr(scores[0], name) - getattr(scores[1], name):+.3f} [{low:+.3f}, {high:+.3f}]"
        for name, (low, high) in found.items()
    ]
    return "; ".join(texts)


def val_classes(val: xr.Dataset) -> dict[str, str]:
    """Classes of the towers, also if the coordinate was removed from the inputs."""
    return dict(zip(val["site"].values, val["class_of_tower"].values, strict=True))


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("satellite", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--trial", action="store_true", help="train for some seconds")
    arguments = parser.parse_args(argv)
    ds = open_towers(arguments.store, arguments.satellite)
    ds = ds.assign_coords(class_of_tower=ds["igbp"])
    towers, val = parts(ds)["val"]
    assert val is not None
    trial = {"n_estimators": 2} if arguments.trial else {}
    folder = arguments.out / "val"
    network, trees = (train(towers, kind, folder)[0] for kind in MEMBERS)
    model = xcarbon.ensemble([network, trees])
    print(
        "| inputs | trees and network | trees | trees that never had the missing inputs | "
        "trees and network minus these trees: all hours; median tower |\n|---|---|---|---|---|"
    )
    for name, (removed, features) in CASES.items():
        left = val.drop_vars(removed)
        compared = [model, trees] if name in ("all inputs", *SPECIALISTS) else [model]
        found = [predict(each, left, features) for each in compared]
        cells = [_text(each) for each in found]
        if name in SPECIALISTS:
            state = tuple(feature for feature in trees.config.state if feature not in features)
            variables = [code for code in VARIABLES if code not in removed]
            own = {"variables": variables, "state": state}
            specialist = fit(
                towers.drop_vars(removed),
                "xgboost",
                folder / f"xgboost-{name.replace(' ', '-')}",
                **(own | trial),
            )
            of_specialist = predict(specialist, left, ())
            cells += [_text(of_specialist), difference(found[0], of_specialist)]
        cells += [""] * (4 - len(cells))
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    print(f"| causal satellite series | {_text(predict(model, val, (), causal=True))} | | | |", flush=True)


def _text(towers: Sequence[Tower]) -> str:
    scores = score(towers, of_model)
    return f"{scores.hours:.3f} / {scores.classes:.2f} / {scores.median:.3f}"


if __name__ == "__main__":
    main()
