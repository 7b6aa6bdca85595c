"""Models on numpy arrays and torch tensors, without xarray: networks, boosted trees and ensembles.

``bundle`` is a trained model with its scaling and provenance, ``registry`` lists the kinds of models, and
``inputs`` contains what a model reads. The networks and their settings are attributes of this package. They
are imported when they are first used, because torch takes long to import. This folder may import ``core``
and ``prep``.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xcarbon.models.ecoperceiver import EcoPerceiver, EcoPerceiverConfig
    from xcarbon.models.streaming import StreamingConfig, StreamingEcoPerceiver

__all__ = ["EcoPerceiver", "EcoPerceiverConfig", "StreamingConfig", "StreamingEcoPerceiver"]


def __getattr__(name: str) -> Any:
    """Import a network or its settings when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "ecoperceiver" if name.startswith("EcoPerceiver") else "streaming"
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)
