"""Trained models that come with the package."""

from __future__ import annotations

import os
from pathlib import Path

from xcarbon.core.errors import ModelError
from xcarbon.core.spelling import did_you_mean
from xcarbon.core.variables import TARGETS
from xcarbon.models.bundle import SETTINGS, CarbonModel

#: Folder with one model folder for each model, which also contains a ``card.md``.
WEIGHTS = Path(__file__).parent / "weights"


def names() -> list[str]:
    """Return the names of the models that come with the package.

    Returns
    -------
    list of str
        Names that :func:`load` accepts, sorted.

    Examples
    --------
    >>> names()
    ['nee-fluxnet2015']
    """
    return sorted(path.parent.name for path in WEIGHTS.glob(f"*/{SETTINGS}"))


def load(model: CarbonModel | str | os.PathLike[str]) -> CarbonModel:
    """Load a model that comes with the package, or one from a folder.

    Parameters
    ----------
    model : str, path-like or CarbonModel
        A name that ``xcarbon models`` lists; a folder that a model was saved to; or a file ``*.pth`` with
        weights of the authors' EcoPerceiver (:func:`xcarbon.models.authors.load_checkpoint`). A model is
        returned unchanged.

    Returns
    -------
    CarbonModel
        The model with its scaler and provenance.

    Raises
    ------
    ModelError
        If there is no such model. The message lists the models that come with the package.

    Examples
    --------
    >>> load("nee-fluxnet2015").targets
    ('NEE', 'GPP_NT')
    """
    if isinstance(model, CarbonModel):
        return model
    if str(model) in names():
        return CarbonModel.load(WEIGHTS / model)
    path = Path(model)
    if path.suffix in (".pt", ".pth") and path.is_file():
        from xcarbon.models.authors import load_checkpoint

        return load_checkpoint(path)
    if not path.exists():
        hint = did_you_mean(str(model), names())
        raise ModelError(f"{model} is not a model folder, nor one of the models {names()} of xcarbon{hint}")
    return CarbonModel.load(path)


def default(target: str) -> CarbonModel:
    """Load the model of the package that predicts a flux.

    Parameters
    ----------
    target : str
        Code of the flux.

    Returns
    -------
    CarbonModel
        The first model, in the order of :func:`names`, that predicts the flux.

    Raises
    ------
    ModelError
        If no model of the package predicts it.

    Examples
    --------
    >>> default("NEE").provenance["name"]
    'nee-fluxnet2015'
    """
    for name in names():
        model = load(name)
        if target in model.fluxes:
            return model
    hint = did_you_mean(target, TARGETS) if target not in TARGETS else ""
    advice = hint or f": train one with ds.carbon.fit(target={target!r})"
    raise ModelError(f"no model of xcarbon predicts {target}{advice}")


def card(name: str) -> str:
    """Read the description of a model of the package: its data, scores, limits and licence.

    Parameters
    ----------
    name : str
        One of :func:`names`.

    Returns
    -------
    str
        Text in Markdown.

    Raises
    ------
    ModelError
        If there is no such model.
    """
    if name not in names():
        raise ModelError(f"there is no model {name!r}; the models of the package are {names()}")
    return (WEIGHTS / name / "card.md").read_text()
