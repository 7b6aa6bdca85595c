"""``Dataset.carbon``: the functions of the package as methods of a Dataset."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import xarray as xr

from xcarbon.evaluation.scores import score
from xcarbon.io.store import to_store
from xcarbon.plotting import CarbonPlot
from xcarbon.prep.aggregate import aggregate
from xcarbon.prep.satellite import join_satellite
from xcarbon.prep.spikes import despike
from xcarbon.prep.split import Split, split

if TYPE_CHECKING:
    from xcarbon.models.bundle import CarbonModel
    from xcarbon.quality import Report

PathLike = str | os.PathLike[str]


@xr.register_dataset_accessor("carbon")
class CarbonAccessor:
    """Methods for towers ``(site, time)`` or grids ``(time, lat, lon)`` in the data model.

    Each method calls the function of the same name, with the Dataset as its first argument.
    """

    def __init__(self, ds: xr.Dataset) -> None:
        self._ds = ds

    def standardize(self, **settings: Any) -> xr.Dataset:
        """Turn any CF Dataset into the data model; see :func:`xcarbon.prep.standardize.standardize`."""
        from xcarbon.prep.standardize import standardize

        return standardize(self._ds, **settings)

    def split(self, seed: int = 0, **settings: Any) -> Split:
        """Split towers into train, val and test sets by IGBP class; see :func:`xcarbon.prep.split.split`."""
        return split(self._ds, seed, **settings)

    def despike(self, target: str = "NEE", **settings: Any) -> xr.Dataset:
        """Flag spikes of a flux; see :func:`xcarbon.prep.spikes.despike`."""
        return despike(self._ds, target, **settings)

    def aggregate(self, resolution: str) -> xr.Dataset:
        """Aggregate hours to days, weeks, months or years; see :func:`xcarbon.prep.aggregate.aggregate`."""
        return aggregate(self._ds, resolution)

    def fit(self, model: str = "ecoperceiver", **settings: Any) -> CarbonModel:
        """Train a model on these towers; see :func:`xcarbon.training.fit`."""
        from xcarbon.training import fit

        return fit(self._ds, model, **settings)

    def predict(
        self,
        target: str,
        model: CarbonModel | PathLike | None = None,
        *,
        spread: bool = False,
        max_qc: int | None = None,
        history: xr.Dataset | None = None,
        causal: bool = False,
        applicability: bool = False,
    ) -> xr.DataArray | xr.Dataset:
        """Predict a flux lazily for every hour; see :func:`xcarbon.prediction.predict.predict`."""
        from xcarbon.prediction.predict import predict

        return predict(
            self._ds,
            target,
            model,
            spread=spread,
            max_qc=max_qc,
            history=history,
            causal=causal,
            applicability=applicability,
        )

    def predict_nee(
        self,
        model: CarbonModel | PathLike | None = None,
        *,
        spread: bool = False,
        max_qc: int | None = None,
        history: xr.Dataset | None = None,
        causal: bool = False,
        applicability: bool = False,
    ) -> xr.DataArray | xr.Dataset:
        """Predict NEE [umol m-2 s-1] lazily; see :func:`xcarbon.prediction.predict.predict`."""
        return self.predict(
            "NEE",
            model,
            spread=spread,
            max_qc=max_qc,
            history=history,
            causal=causal,
            applicability=applicability,
        )

    def predictable(self, model: CarbonModel, *, max_qc: int | None = None) -> xr.Dataset:
        """Count hours that are not predicted; see :func:`xcarbon.prediction.predictable.predictable`."""
        from xcarbon.prediction.predictable import predictable

        return predictable(self._ds, model, max_qc=max_qc)

    def predict_to(self, target: str, model: CarbonModel | PathLike, path: PathLike, **settings: Any) -> Path:
        """Predict a flux and write it to a file; see :func:`xcarbon.prediction.files.predict_to`."""
        from xcarbon.prediction.files import predict_to

        return predict_to(self._ds, target, model, path, **settings)

    def gapfill(
        self, target: str = "NEE", model: CarbonModel | PathLike | None = None, **settings: Any
    ) -> xr.Dataset:
        """Fill the gaps of a flux; see :func:`xcarbon.budget.gapfill`."""
        from xcarbon.budget import gapfill

        return gapfill(self._ds, target, model, **settings)

    def partition(
        self, method: Literal["nighttime", "daytime"] = "nighttime", *, max_qc: int = 0
    ) -> xr.Dataset:
        """Partition NEE into GPP and respiration; see :func:`xcarbon.budget.partition`."""
        from xcarbon.budget import partition

        return partition(self._ds, method, max_qc=max_qc)

    def score(self, prediction: xr.DataArray, by: str | None = "igbp", **settings: Any) -> xr.Dataset:
        """Score a prediction against the observations; see :func:`xcarbon.evaluation.scores.score`."""
        return score(self._ds, prediction, by, **settings)

    def explain(self, model: CarbonModel | PathLike, by: str | None = "igbp", **settings: Any) -> xr.Dataset:
        """Compute lazily how important each input is; see :func:`xcarbon.prediction.explain.explain`."""
        from xcarbon.prediction.explain import explain

        return explain(self._ds, model, by, **settings)

    def to_store(self, path: PathLike, *, overwrite: bool = False) -> Path:
        """Write the towers to a Zarr store; see :func:`xcarbon.io.store.to_store`."""
        return to_store(self._ds, path, overwrite=overwrite)

    def to_netcdf(self, path: PathLike, *, overwrite: bool = False) -> Path:
        """Write all towers to one NetCDF file; see :func:`xcarbon.io.netcdf.write_netcdf`."""
        from xcarbon.io.netcdf import write_netcdf

        return write_netcdf(self._ds, path, overwrite=overwrite)

    def to_sites(self, folder: PathLike, *, overwrite: bool = False) -> list[Path]:
        """Write each tower to a NetCDF file of its own; see :func:`xcarbon.io.netcdf.write_sites`."""
        from xcarbon.io.netcdf import write_sites

        return write_sites(self._ds, folder, overwrite=overwrite)

    def join_satellite(self, series: xr.Dataset) -> xr.Dataset:
        """Join satellite series to these towers; see :func:`xcarbon.prep.satellite.join_satellite`."""
        return join_satellite(self._ds, series)

    def check(self) -> Report:
        """Run the quality checks on these towers; see :func:`xcarbon.check`."""
        from xcarbon.quality import check

        return check(self._ds)

    @property
    def plot(self) -> CarbonPlot:
        """Figures of these towers; see :class:`xcarbon.plotting.CarbonPlot`."""
        return CarbonPlot(self._ds)
