"""xcarbon: carbon fluxes of land ecosystems with xarray.

Importing the package registers ``Dataset.carbon``. Modules that take long to import, such as those that need
torch, are imported when they are first used.
"""

import importlib
import warnings
from typing import TYPE_CHECKING, Any

from xcarbon import accessor as _accessor  # noqa: F401 - registers Dataset.carbon
from xcarbon._version import __version__
from xcarbon.core.options import set_options
from xcarbon.io.fluxnet import open_fluxnet
from xcarbon.io.store import open_store, store_versions

if TYPE_CHECKING:
    from xcarbon import budget, evaluation, experiments
    from xcarbon.io.carbonsense import open_carbonsense
    from xcarbon.io.era5 import open_era5
    from xcarbon.io.fetch import fetch
    from xcarbon.io.landcover import open_landcover
    from xcarbon.io.modis import open_modis
    from xcarbon.io.netcdf import open_netcdf
    from xcarbon.io.satellite import open_satellite
    from xcarbon.models.bundle import CarbonModel
    from xcarbon.models.ensemble import ensemble
    from xcarbon.models.pretrained import load
    from xcarbon.pipeline import build
    from xcarbon.quality import check

__all__ = [
    "CarbonModel",
    "__version__",
    "budget",
    "build",
    "check",
    "ensemble",
    "evaluation",
    "experiments",
    "fetch",
    "load",
    "open_carbonsense",
    "open_era5",
    "open_fluxnet",
    "open_landcover",
    "open_modis",
    "open_netcdf",
    "open_satellite",
    "open_store",
    "set_options",
    "store_versions",
]

# Zarr issues it for each store that xarray writes, because the index of a store is not standardised yet.
warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part of the Zarr format 3")

#: Submodules that are attributes of the package without an import of their own.
_SUBMODULES = (
    "budget",
    "cli",
    "core",
    "evaluation",
    "experiments",
    "io",
    "models",
    "pipeline",
    "plotting",
    "prediction",
    "prep",
    "quality",
    "reports",
    "testing",
    "training",
)
#: Modules of the names that are imported when they are first used, because they take long to import.
_MODULES = {
    "CarbonModel": "models.bundle",
    "build": "pipeline",
    "check": "quality",
    "ensemble": "models.ensemble",
    "fetch": "io.fetch",
    "load": "models.pretrained",
    "open_carbonsense": "io.carbonsense",
    "open_era5": "io.era5",
    "open_landcover": "io.landcover",
    "open_modis": "io.modis",
    "open_netcdf": "io.netcdf",
    "open_satellite": "io.satellite",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names and submodules, also those that are not imported yet."""
    return sorted({*__all__, *_SUBMODULES})
