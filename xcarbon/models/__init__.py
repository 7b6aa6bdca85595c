"""Models on numpy arrays and torch tensors; this folder does not import xarray.

The networks and their settings are attributes of this package. They are imported when they are first used,
because torch takes long to import.
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
