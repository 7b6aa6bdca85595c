"""Stack static site features as numbers that models read."""

from __future__ import annotations

from collections.abc import Sequence

import dask.array as da
import numpy as np
import xarray as xr

from xcarbon.core.validation import check_igbp
from xcarbon.core.variables import IGBP_CLASSES

#: Names, in capitals, that tables and models use for an unknown class.
UNKNOWN = ("", "?", "NA", "NAN", "NONE", "NULL", "UNK", "UNKNOWN", "-9999")


def stack_statics(
    inputs: xr.Dataset, names: Sequence[str], chunks: tuple[tuple[int, ...], ...] | None = None
) -> da.Array:
    """Stack static site features of towers or grid cells to float32 ``(*place, S)``, lazily.

    ``inputs`` are those of :func:`xcarbon.prep.inputs.model_inputs`, ``names`` the features in the
    model's order, among :data:`xcarbon.core.variables.STATICS`, and ``chunks`` those along ``place``, the
    dims of towers or cells; by default those of ``inputs``. ``igbp`` becomes the position of the class in
    ``IGBP_CLASSES``. Unknown features are NaN, such as the class on most grids.

    Examples
    --------
    >>> from xcarbon.prep.inputs import model_inputs
    >>> from xcarbon.testing import synthetic_towers
    >>> inputs = model_inputs(synthetic_towers(2), ["TA"])
    >>> stack_statics(inputs, ["igbp", "elevation"]).shape
    (2, 2)
    """
    hourly = inputs["hourly"]
    place = hourly.dims[:-2]
    shape = tuple(hourly.sizes[dim] for dim in place)
    chunks = chunks or hourly.data.chunks[: len(place)]
    layers = []
    for name in names:
        # Dims on which the feature does not depend have length 1 until a chunk is computed.
        values = da.asarray(_numbers(inputs, name).set_dims(place).data)
        cut = {axis: chunks[axis] for axis, size in enumerate(shape) if values.shape[axis] == size}
        layers.append(da.broadcast_to(values.rechunk(cut), shape, chunks=chunks))
    return da.stack(layers, axis=-1).rechunk({len(place): -1})


def _numbers(inputs: xr.Dataset, name: str) -> xr.Variable:
    """Return one coordinate as float32, NaN where unknown; lazy if the coordinate is."""
    if name not in inputs.coords:
        return xr.Variable((), np.float32(np.nan))
    found = inputs[name].variable.to_base_variable()
    if name != "igbp":
        return found.astype("float32")
    positions: xr.Variable = xr.apply_ufunc(_position, found, dask="parallelized", output_dtypes=["float32"])
    return positions


def _position(igbp: np.ndarray) -> np.ndarray:
    """Return the positions of classes in ``IGBP_CLASSES`` as float32, NaN for unknown classes."""
    known = {name: position for position, name in enumerate(IGBP_CLASSES)}
    names = [str(name).strip().upper() for name in np.asarray(igbp).flat]
    found = [np.nan if name in UNKNOWN else known[check_igbp(name, "the Dataset")] for name in names]
    return np.array(found, "float32").reshape(np.shape(igbp))
