"""Weights of EcoPerceiver from version 1 of the code of the paper's authors (arXiv 2406.04940).

Both implementations compute the same function: with the same weights their predictions differ by rounding
alone. The authors' state dict names the modules differently, repeats the shared block for each of its
applications, and contains the causal mask.
"""

from __future__ import annotations

import itertools
import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from xcarbon.core.errors import ModelError, reading
from xcarbon.core.variables import PAPER_INPUTS, PATCH_BANDS
from xcarbon.models.bundle import CarbonModel, Scaler, scaling_bounds
from xcarbon.models.ecoperceiver import EcoPerceiver, EcoPerceiverConfig
from xcarbon.models.networks import EcoPerceiverPredictor

#: Keys under which training scripts store the state dict beside that of the optimiser.
_WRAPPERS = ("model", "state_dict", "model_state_dict")
#: Names of the modules outside the layers: the authors', then ours.
_MODULES = {
    "input_embeddings.weight": "embed.variable",
    "spectral_embeddings.weight": "embed.band",
    "layer_norm_ec.weight": "embed.without_patch.weight",
    "layer_norm_ec.bias": "embed.without_patch.bias",
    "layer_norm_eo.weight": "embed.with_patch.weight",
    "layer_norm_eo.bias": "embed.with_patch.bias",
    "latent_embeddings.weight": "latents",
    "output_proj.weight": "head.weight",
    "output_proj.bias": "head.bias",
}
#: Applications of the shared block, and self-attention layers after them.
CROSS_BLOCKS, SELF_LAYERS = 8, 4
#: Quality tolerance of the authors' training data (paper, section 3).
MAX_QC = 1
_LAYER_NAME = re.compile(r"layers\.(?P<number>\d+)\.(?P<rest>.+)")
#: Names of the modules in a layer: the authors', then ours.
_LAYER = {
    "layernorm_1": "norm",
    "attention.query": "query",
    "attention.key": "key",
    "attention.value": "value",
    "attention.dense": "out",
    "layernorm_2": "mlp.norm",
    "ffn.0": "mlp.expand",
    "ffn.2": "mlp.contract",
}


def load_checkpoint(
    path: str | os.PathLike[str],
    *,
    variables: tuple[str, ...] = PAPER_INPUTS,
    bands: tuple[str, ...] = PATCH_BANDS,
    targets: Mapping[str, tuple[float, float]] | None = None,
) -> CarbonModel:
    """Load a checkpoint of the authors' EcoPerceiver, version 1; no code in the file is executed.

    Parameters
    ----------
    path : path-like
        File that ``torch.save`` wrote: the state dict of the model, or a dict that contains it as ``model``,
        ``state_dict`` or ``model_state_dict``.
    variables : tuple of str
        Hourly inputs in the order of the training; by default the paper's 21. They must have been scaled by
        the bounds of :data:`xcarbon.core.variables.VARIABLES`, which are the paper's.
    bands : tuple of str
        Patch bands in the order of the training; by default the seven bands of MCD43A4, snow and water.
    targets : mapping of str to (float, float), optional
        The predicted variable, and the mean and standard deviation by which it was standardised, in its
        units. By default NEE [umol m-2 s-1], not standardised.

    Returns
    -------
    CarbonModel
        It predicts, saves and loads as a model that was trained here. Its provenance contains no towers,
        because the file does not list them.

    Raises
    ------
    ModelError
        If the file cannot be read without executing code, a weight is absent, unknown or of another shape,
        or copies of the shared block differ. The message names the first such weight.

    Notes
    -----
    The layers must be 8 applications of one shared block (cross-attention, self-attention) and 4
    self-attention layers, as in the paper. Layers 0, 2, ..., 14 of the file are the copies of the shared
    cross-attention, layers 1, 3, ..., 15 those of the shared self-attention.
    """
    path = Path(path)
    weights = _read(path)
    _check_copies(path, weights)
    latents, embeddings, mask = (
        _get(path, weights, name)
        for name in ("latent_embeddings.weight", "input_embeddings.weight", "causal_mask")
    )
    if len(embeddings) != len(variables):
        raise ModelError(
            f"{path}: the model has {len(embeddings)} hourly inputs, but {len(variables)} are named: pass "
            "variables= in the order of the training"
        )
    projection = _get(path, weights, "spectral_projections.0.weight")
    config = EcoPerceiverConfig(
        variables=variables,
        bands=bands,
        context=len(latents),
        octaves=len(projection) // 2,
        embedding=embeddings.shape[1],
        width=latents.shape[1],
        mlp_ratio=len(_get(path, weights, "layers.0.ffn.0.weight")) // latents.shape[1],
        cross_blocks=CROSS_BLOCKS,
        self_layers=SELF_LAYERS,
        causal=bool(mask.any()),
    )
    with torch.random.fork_rng():
        network = EcoPerceiver(config)
    found = _rename(path, weights, len(bands))
    expected = network.state_dict()
    for name, (theirs, tensor) in found.items():
        if tensor.shape != expected[name].shape:
            shapes = f"{tuple(tensor.shape)}, expected {tuple(expected[name].shape)}"
            raise ModelError(f"{path}: {theirs} has the shape {shapes}")
    network.load_state_dict({name: tensor for name, (_, tensor) in found.items()})
    bounds = {code: scaling_bounds(code) for code in variables}
    scaler = Scaler(dict(targets or {"NEE": (0.0, 1.0)}), MAX_QC, bounds)
    provenance = {"name": path.stem, "references": "Fortier et al. 2024, arXiv:2406.04940"}
    return CarbonModel(EcoPerceiverPredictor(network.eval()), scaler, provenance)


def _read(path: Path) -> dict[str, Tensor]:
    """Return the state dict in a file, without the prefix of a distributed run."""
    fault = (
        f"{path} is not a file of tensors that torch.save wrote, or contains other objects, which are not "
        "loaded because that could execute code; save model.state_dict() alone"
    )
    try:
        with reading(fault, ModelError):
            if zipfile.is_zipfile(path):  # torch does not verify the checksums of its archives
                with zipfile.ZipFile(path) as archive:
                    if (member := archive.testzip()) is not None:
                        raise zipfile.BadZipFile(f"the checksum of {member} is wrong")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error}") from error
    for key in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ModelError(f"{path}: there is no state dict, nor one under the keys {', '.join(_WRAPPERS)}")
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}


def _get(path: Path, weights: dict[str, Tensor], name: str) -> Tensor:
    """Return a weight by the authors' name."""
    if name not in weights:
        raise ModelError(
            f"{path}: there is no {name}, so this is not version 1 of the authors' EcoPerceiver; the file "
            f"contains {', '.join(sorted(weights)[:5])}, ..."
        )
    return weights[name]


def _check_copies(path: Path, weights: dict[str, Tensor]) -> None:
    """Refuse a state dict in which the copies of the shared block differ."""
    for name, tensor in weights.items():
        match = _LAYER_NAME.fullmatch(name)
        if match and 2 <= int(match["number"]) < 2 * CROSS_BLOCKS:
            first = f"layers.{int(match['number']) % 2}.{match['rest']}"
            if not torch.equal(tensor, _get(path, weights, first)):
                raise ModelError(
                    f"{path}: {name} differs from {first}, but the paper's model shares these weights; it "
                    "was trained with weight_sharing: false"
                )


def _rename(path: Path, weights: dict[str, Tensor], bands: int) -> dict[str, tuple[str, Tensor]]:
    """Return each of our weights with the authors' name and the tensor; refuse what is left over."""
    layers = {0: "cross", 1: "mix"} | {2 * CROSS_BLOCKS + n: f"layers.{n}" for n in range(SELF_LAYERS)}
    names = dict(_MODULES)
    for number, ours in layers.items():
        for module, renamed in _LAYER.items():
            for part in ("weight", "bias"):
                names[f"layers.{number}.{module}.{part}"] = f"{ours}.{renamed}.{part}"
    found = {ours: (theirs, _get(path, weights, theirs)) for theirs, ours in names.items()}
    maps = [[f"spectral_projections.{band}.{part}" for band in range(bands)] for part in ("weight", "bias")]
    weight, bias = (torch.stack([_get(path, weights, name) for name in group]) for group in maps)
    found["embed.band_weight"] = ("spectral_projections", weight.transpose(1, 2).contiguous())  # (C, 64, 2K)
    found["embed.band_bias"] = ("spectral_projections", bias)
    copies = {
        name for name in weights if (m := _LAYER_NAME.fullmatch(name)) and int(m["number"]) < 2 * CROSS_BLOCKS
    }
    unknown = sorted(weights.keys() - names.keys() - set(itertools.chain(*maps)) - copies - {"causal_mask"})
    if unknown:
        raise ModelError(f"{path}: {unknown[0]} is not a weight of version 1 of the authors' EcoPerceiver")
    return found
