"""``Dataset.carbon``: the whole package from a Dataset; every method delegates."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from xcarbon.evaluation.scores import score
from xcarbon.io.store import to_store
from xcarbon.plotting import CarbonPlot
from xcarbon.prep.split import Split, split

if TYPE_CHECKING:
    from xcarbon.models.bundle import CarbonModel
    from xcarbon.quality.checks import Report


@xr.register_dataset_accessor("carbon")
class CarbonAccessor:
    """Carbon fluxes of the towers in a Dataset of the data model."""

    def __init__(self, ds: xr.Dataset) -> None:
        self._ds = ds

    def split(self, seed: int = 0, **settings: Any) -> Split:
        """Split towers into train, val and test; see :func:`xcarbon.prep.split.split`."""
        return split(self._ds, seed, **settings)

    def fit(self, model: str = "ecoperceiver", **settings: Any) -> CarbonModel:
        """Train a model on these towers; see :func:`xcarbon.training.fit`."""
        from xcarbon.training import fit

        return fit(self._ds, model, **settings)

    def predict(
        self, target: str, model: CarbonModel | str | os.PathLike[str] | None = None, *, spread: bool = False
    ) -> xr.DataArray | xr.Dataset:
        """Predict a flux lazily; see :func:`xcarbon.prediction.predict.predict`."""
        from xcarbon.prediction.predict import predict

        return predict(self._ds, target, model, spread=spread)

    def predict_nee(
        self, model: CarbonModel | str | os.PathLike[str] | None = None, *, spread: bool = False
    ) -> xr.DataArray | xr.Dataset:
        """Predict NEE [umol m-2 s-1] lazily; see :func:`xcarbon.prediction.predict.predict`."""
        return self.predict("NEE", model, spread=spread)

    def predict_to(
        self,
        target: str,
        model: CarbonModel | str | os.PathLike[str],
        path: str | os.PathLike[str],
        **settings: Any,
    ) -> Path:
        """Predict a flux and write it, resumably; see :func:`xcarbon.prediction.files.predict_to`."""
        from xcarbon.prediction.files import predict_to

        return predict_to(self._ds, target, model, path, **settings)

    def gapfill(
        self, target: str = "NEE", model: CarbonModel | str | os.PathLike[str] | None = None, **settings: Any
    ) -> xr.Dataset:
        """Fill the gaps of a flux; see :func:`xcarbon.budget.gapfill`."""
        from xcarbon.budget import gapfill

        return gapfill(self._ds, target, model, **settings)

    def score(self, prediction: xr.DataArray, by: str | None = "igbp", **settings: Any) -> xr.Dataset:
        """Score a prediction against these towers; see :func:`xcarbon.evaluation.scores.score`."""
        return score(self._ds, prediction, by, **settings)

    def explain(
        self, model: CarbonModel | str | os.PathLike[str], by: str | None = "igbp", **settings: Any
    ) -> xr.Dataset:
        """Tell what a model reads, lazily; see :func:`xcarbon.prediction.explain.explain`."""
        from xcarbon.prediction.explain import explain

        return explain(self._ds, model, by, **settings)

    def to_store(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write a Zarr store; see :func:`xcarbon.io.store.to_store`."""
        return to_store(self._ds, path, overwrite=overwrite)

    def to_netcdf(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write all towers to one NetCDF file; see :func:`xcarbon.io.netcdf.write_netcdf`."""
        from xcarbon.io.netcdf import write_netcdf

        return write_netcdf(self._ds, path, overwrite=overwrite)

    def to_sites(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> list[Path]:
        """Write a NetCDF file for each tower; see :func:`xcarbon.io.netcdf.write_sites`."""
        from xcarbon.io.netcdf import write_sites

        return write_sites(self._ds, folder, overwrite=overwrite)

    def check(self) -> Report:
        """Look for what is wrong with these towers; see :func:`xcarbon.check`."""
        from xcarbon.quality.checks import check

        return check(self._ds)

    @property
    def plot(self) -> CarbonPlot:
        """Figures of these towers; see :class:`xcarbon.plotting.CarbonPlot`."""
        return CarbonPlot(self._ds)
