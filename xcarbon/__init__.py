"""xcarbon: carbon fluxes of land ecosystems with xarray.

Importing the package registers ``Dataset.carbon``. torch is imported when a model is first used.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"  # before the imports: provenance reads it

from xcarbon import accessor as _accessor  # noqa: F401 - registers Dataset.carbon
from xcarbon import options
from xcarbon.io.fluxnet import open_fluxnet
from xcarbon.io.store import open_store
from xcarbon.options import set_options

if TYPE_CHECKING:
    from xcarbon.models.bundle import CarbonModel

__all__ = ["CarbonModel", "open_fluxnet", "open_store", "options", "set_options"]


def __getattr__(name: str) -> Any:
    """Import what needs torch when it is first used."""
    if name == "CarbonModel":
        from xcarbon.models.bundle import CarbonModel

        return CarbonModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
