"""A model in a Dask graph, compressed on its way to the workers."""

from __future__ import annotations

import pickle
import zlib

import cloudpickle
from dask.base import tokenize

from xcarbon.models.bundle import CarbonModel


class CompressedModel:
    """A model that is compressed when it is pickled, and stays compressed until a worker opens it.

    The scheduler of a cluster unpickles graphs and pickles tasks; it passes on the bytes and
    does not build the model. Without a cluster the model is neither pickled nor copied.
    """

    def __init__(self, model: CarbonModel) -> None:
        self._content: CarbonModel | bytes = model

    def open(self) -> CarbonModel:
        """Return the model."""
        content = self._content
        return pickle.loads(zlib.decompress(content)) if isinstance(content, bytes) else content

    def __getstate__(self) -> bytes:
        content = self._content
        return content if isinstance(content, bytes) else zlib.compress(cloudpickle.dumps(content))

    def __setstate__(self, content: bytes) -> None:
        self._content = content

    def __dask_tokenize__(self) -> str:
        return tokenize(self._content)
