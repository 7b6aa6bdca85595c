"""xcarbon: carbon fluxes of land ecosystems with xarray.

Importing the package registers ``Dataset.carbon``. What takes long to import, such as torch, is
imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"  # before the imports: provenance reads it

from xcarbon import accessor as _accessor  # noqa: F401 - registers Dataset.carbon
from xcarbon import options
from xcarbon.io.fluxnet import open_fluxnet
from xcarbon.io.store import open_store
from xcarbon.options import set_options

if TYPE_CHECKING:
    from xcarbon import evaluation, experiments, gapfilling
    from xcarbon.checks import check
    from xcarbon.io.carbonsense import open_carbonsense
    from xcarbon.io.era5 import open_era5
    from xcarbon.io.modis import open_modis
    from xcarbon.io.netcdf import open_netcdf
    from xcarbon.models.bundle import CarbonModel
    from xcarbon.models.ensemble import ensemble
    from xcarbon.models.pretrained import load
    from xcarbon.pipeline import build

__all__ = [
    "CarbonModel",
    "build",
    "check",
    "ensemble",
    "evaluation",
    "experiments",
    "gapfilling",
    "load",
    "open_carbonsense",
    "open_era5",
    "open_fluxnet",
    "open_modis",
    "open_netcdf",
    "open_store",
    "options",
    "set_options",
]

#: Rooms to be used by their names, without an import of their own.
_ROOMS = ("evaluation", "experiments", "gapfilling")
#: Where names live that are imported when they are first used: what they need takes a second to import.
_HOMES = {
    "CarbonModel": "models.bundle",
    "build": "pipeline",
    "check": "checks",
    "ensemble": "models.ensemble",
    "load": "models.pretrained",
    "open_carbonsense": "io.carbonsense",
    "open_era5": "io.era5",
    "open_modis": "io.modis",
    "open_netcdf": "io.netcdf",
}


def __getattr__(name: str) -> Any:
    """Import what takes long when it is first used."""
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
