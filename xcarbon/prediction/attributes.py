"""CF attributes of predictions."""

from __future__ import annotations

from xcarbon._version import __version__
from xcarbon.core import conventions
from xcarbon.models.bundle import CarbonModel

#: Root attributes that a prediction inherits from its data.
INHERITED = ("license", "references", "acknowledgement", "history")


def flux_attrs(target: str, model: CarbonModel) -> dict[str, str]:
    """CF attributes of a predicted flux; the name is short enough for an axis."""
    attrs = conventions.variable_attrs(target) | provenance_attrs(model)
    attrs["long_name"], _, detail = attrs["long_name"].partition(", ")
    attrs["comment"] = "; ".join(filter(None, [detail, attrs["comment"]]))
    return attrs


def spread_attrs(target: str) -> dict[str, str]:
    """CF attributes of a target's predicted standard deviation."""
    attrs = conventions.variable_attrs(target)
    attrs["long_name"] = "standard deviation of the error"
    if "standard_name" in attrs:
        attrs["standard_name"] += " standard_error"
    return attrs


def provenance_attrs(model: CarbonModel) -> dict[str, str]:
    """Return the CF attributes that describe the origin of a prediction.

    Parameters
    ----------
    model : CarbonModel
        The model of the prediction.

    Returns
    -------
    dict
        The attributes ``source``, ``references``, ``comment`` and ``training_sites``.
    """
    sites = model.sites
    data = model.provenance.get("data", {})
    described = data.get("title") or "unnamed data"
    name = f"{model.provenance['name']}: " if "name" in model.provenance else ""
    attrs = {
        "source": f"{name}{model.predictor.name} model {model.fingerprint()}, xcarbon {__version__}",
        "references": "arXiv:2406.04940",
        "comment": f"predicted by a model trained on {len(sites)} towers of: {described}",
        "training_sites": " ".join(sites),
    }
    if "references" in data:
        attrs["references"] += f"; {data['references']}"
    return attrs
