"""``Dataset.carbon``: the functions of the package as methods of a Dataset."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import xarray as xr

from xcarbon.core.display import as_text, extent, paragraph
from xcarbon.core.docstrings import documented_by
from xcarbon.evaluation.scores import score
from xcarbon.io.location import Options
from xcarbon.io.store import to_store
from xcarbon.plotting import CarbonPlot
from xcarbon.prep.aggregate import aggregate
from xcarbon.prep.drivers import fill_drivers
from xcarbon.prep.quality import MAX_QC
from xcarbon.prep.satellite import join_satellite
from xcarbon.prep.spikes import despike
from xcarbon.prep.split import Split, split

if TYPE_CHECKING:
    from xcarbon.models.bundle import CarbonModel
    from xcarbon.quality import Report
    from xcarbon.training.batches import WindowBatches

PathLike = str | os.PathLike[str]


@xr.register_dataset_accessor("carbon")
class CarbonAccessor:
    """Methods for towers ``(site, time)`` or grids ``(time, lat, lon)`` in the data model.

    Each method calls the function of the same name, with the Dataset as its first argument.

    Parameters
    ----------
    ds : xarray.Dataset
        The Dataset, which xarray passes.
    """

    def __init__(self, ds: xr.Dataset) -> None:
        self._ds = ds

    def __repr__(self) -> str:
        methods = ", ".join(name for name in vars(type(self)) if name[0] != "_")
        rows = extent(self._ds) | {
            "methods": paragraph(methods),
            "help": "for example help(ds.carbon.gapfill)",
        }
        return as_text("Dataset.carbon, the methods of xcarbon", rows)

    @documented_by("prep/standardize/__init__.py:standardize")
    def standardize(
        self, *, derive: bool = False, utc_offset: float | None = None, **choices: str | None
    ) -> xr.Dataset:
        """Turn any CF Dataset into the data model."""
        from xcarbon.prep.standardize import standardize

        return standardize(self._ds, derive=derive, utc_offset=utc_offset, **choices)

    @documented_by("prep/split.py:split")
    def split(
        self,
        seed: int = 0,
        *,
        test: float | None = None,
        val: float = 0.2,
        by: str = "igbp",
        min_distance: float = 1.0,
    ) -> Split:
        """Split towers into train, val and test sets by IGBP class."""
        return split(self._ds, seed, test=test, val=val, by=by, min_distance=min_distance)

    @documented_by("prep/spikes.py:despike")
    def despike(
        self, target: str = "NEE", *, threshold: float = 5.5, mask: bool = False, max_qc: int = 0
    ) -> xr.Dataset:
        """Flag spikes of a flux."""
        return despike(self._ds, target, threshold=threshold, mask=mask, max_qc=max_qc)

    @documented_by("prep/aggregate.py:aggregate")
    def aggregate(self, resolution: str) -> xr.Dataset:
        """Aggregate hours or half-hours to longer periods."""
        return aggregate(self._ds, resolution)

    @documented_by("training/__init__.py:fit")
    def fit(
        self,
        model: str = "ecoperceiver",
        *,
        val: xr.Dataset | None = None,
        target: str | Sequence[str] = "NEE",
        variables: Sequence[str] | None = None,
        bands: Sequence[str] | None = None,
        state: Sequence[str] | None = None,
        max_qc: int = MAX_QC,
        seed: int = 0,
        run_dir: PathLike | None = None,
        resume: bool = False,
        allow_leakage: bool = False,
        min_distance: float = 1.0,
        **settings: Any,
    ) -> CarbonModel:
        """Train a model on these towers."""
        from xcarbon.training import fit

        return fit(
            self._ds,
            model,
            val=val,
            target=target,
            variables=variables,
            bands=bands,
            state=state,
            max_qc=max_qc,
            seed=seed,
            run_dir=run_dir,
            resume=resume,
            allow_leakage=allow_leakage,
            min_distance=min_distance,
            **settings,
        )

    @documented_by("training/batches.py:batches")
    def batches(
        self,
        context: int = 32,
        *,
        batch_size: int = 256,
        target: str = "NEE",
        variables: Sequence[str] | None = None,
        bands: Sequence[str] | None = None,
        state: Sequence[str] = (),
        max_qc: int = MAX_QC,
        shuffle: bool = True,
        pool: int = 8,
    ) -> WindowBatches:
        """Return batches of windows of hours as a torch dataset."""
        from xcarbon.training.batches import batches

        return batches(
            self._ds,
            context,
            batch_size=batch_size,
            target=target,
            variables=variables,
            bands=bands,
            state=state,
            max_qc=max_qc,
            shuffle=shuffle,
            pool=pool,
        )

    @documented_by("prediction/predict.py:predict")
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
        """Predict a flux lazily for every hour."""
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

    @documented_by("prediction/predict.py:predict")
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
        """Predict NEE [umol m-2 s-1] lazily for every hour."""
        return self.predict(
            "NEE",
            model,
            spread=spread,
            max_qc=max_qc,
            history=history,
            causal=causal,
            applicability=applicability,
        )

    @documented_by("prediction/predictable.py:predictable")
    def predictable(self, model: CarbonModel, *, max_qc: int | None = None) -> xr.Dataset:
        """Count hours that are not predicted, lazily."""
        from xcarbon.prediction.predictable import predictable

        return predictable(self._ds, model, max_qc=max_qc)

    @documented_by("prediction/files.py:predict_to")
    def predict_to(
        self,
        target: str,
        model: CarbonModel | PathLike,
        path: PathLike,
        *,
        spread: bool = False,
        history: xr.Dataset | None = None,
        causal: bool = False,
        applicability: bool = False,
        overwrite: bool = False,
        storage_options: Options | None = None,
    ) -> Path | str:
        """Predict a flux and write it to a file."""
        from xcarbon.prediction.files import predict_to

        return predict_to(
            self._ds,
            target,
            model,
            path,
            spread=spread,
            history=history,
            causal=causal,
            applicability=applicability,
            overwrite=overwrite,
            storage_options=storage_options,
        )

    @documented_by("budget/fill.py:gapfill")
    def gapfill(
        self,
        target: str = "NEE",
        model: CarbonModel | PathLike | None = None,
        *,
        max_qc: int = 0,
        driver_max_qc: int | None = 9,
        adapt: bool = True,
    ) -> xr.Dataset:
        """Fill the gaps of a flux."""
        from xcarbon.budget import gapfill

        return gapfill(
            self._ds,
            target,
            model,
            max_qc=max_qc,
            driver_max_qc=driver_max_qc,
            adapt=adapt,
        )

    @documented_by("prep/drivers/__init__.py:fill_drivers")
    def fill_drivers(
        self, era5: xr.Dataset, *, max_qc: int | None = None, min_hours: int = 2160
    ) -> xr.Dataset:
        """Fill gaps in the meteorology with ERA5."""
        return fill_drivers(self._ds, era5, max_qc=max_qc, min_hours=min_hours)

    @documented_by("budget/partitioning/partition.py:partition")
    def partition(
        self, method: Literal["nighttime", "daytime"] = "nighttime", *, max_qc: int = 0
    ) -> xr.Dataset:
        """Partition NEE into GPP and respiration."""
        from xcarbon.budget import partition

        return partition(self._ds, method, max_qc=max_qc)

    @documented_by("budget/balance.py:budget")
    def budget(
        self,
        model: CarbonModel | PathLike | None = None,
        *,
        resolution: str = "YY",
        thresholds: xr.Dataset | None = None,
        max_qc: int = 0,
        max_missing: float = 0.0,
    ) -> xr.Dataset:
        """Compute carbon sums of NEE, GPP and respiration with 90 % intervals."""
        from xcarbon.budget import budget

        return budget(
            self._ds,
            model,
            resolution=resolution,
            thresholds=thresholds,
            max_qc=max_qc,
            max_missing=max_missing,
        )

    @documented_by("budget/regions.py:regional_sums")
    def regional_sums(
        self,
        target: str = "NEE",
        resolution: str = "YY",
        *,
        area: xr.DataArray | None = None,
        max_missing: float = 0.0,
    ) -> xr.Dataset:
        """Sum a flux over the cells of a region."""
        from xcarbon.budget import regional_sums

        return regional_sums(self._ds, target, resolution, area=area, max_missing=max_missing)

    @documented_by("reports/budget.py:write_budget")
    def write_budget(
        self,
        folder: PathLike,
        model: CarbonModel | PathLike | None = None,
        *,
        thresholds: Mapping[str, xr.Dataset] | None = None,
        max_qc: int = 0,
        max_missing: float = 0.0,
        overwrite: bool = False,
    ) -> Path:
        """Write fluxes, sums, figures and a page on the carbon budget."""
        from xcarbon.reports.budget import write_budget

        return write_budget(
            self._ds,
            folder,
            model,
            thresholds=thresholds,
            max_qc=max_qc,
            max_missing=max_missing,
            overwrite=overwrite,
        )

    @documented_by("evaluation/scores.py:score")
    def score(
        self,
        prediction: xr.DataArray | xr.Dataset,
        by: str | None = "igbp",
        *,
        max_qc: int = MAX_QC,
        training_towers: str = "warn",
    ) -> xr.Dataset:
        """Score a prediction against the observations."""
        return score(self._ds, prediction, by, max_qc=max_qc, training_towers=training_towers)

    @documented_by("prediction/explain.py:explain")
    def explain(
        self,
        model: CarbonModel | PathLike,
        by: str | None = "igbp",
        *,
        target: str | None = None,
        groups: Mapping[str, Sequence[str]] | None = None,
        lagged: Sequence[str] | None = None,
        lags: Sequence[int] = (0, 1, 3, 6, 12, 24, 32, 64, 128, 256),
        hours: int = 200,
        seed: int = 0,
    ) -> xr.Dataset:
        """Compute lazily how important each input is."""
        from xcarbon.prediction.explain import explain

        return explain(
            self._ds,
            model,
            by,
            target=target,
            groups=groups,
            lagged=lagged,
            lags=lags,
            hours=hours,
            seed=seed,
        )

    @documented_by("io/store.py:to_store")
    def to_store(
        self, path: PathLike, *, overwrite: bool = False, storage_options: Options | None = None
    ) -> Path | str:
        """Write the towers to a Zarr store."""
        return to_store(self._ds, path, overwrite=overwrite, storage_options=storage_options)

    @documented_by("io/netcdf.py:write_netcdf")
    def to_netcdf(self, path: PathLike, *, overwrite: bool = False) -> Path:
        """Write all towers to one NetCDF file."""
        from xcarbon.io.netcdf import write_netcdf

        return write_netcdf(self._ds, path, overwrite=overwrite)

    @documented_by("io/netcdf.py:write_sites")
    def to_sites(self, folder: PathLike, *, overwrite: bool = False) -> list[Path]:
        """Write each tower to a NetCDF file of its own."""
        from xcarbon.io.netcdf import write_sites

        return write_sites(self._ds, folder, overwrite=overwrite)

    @documented_by("io/grid.py:write_years")
    def to_years(self, path: PathLike, *, overwrite: bool = False) -> list[Path]:
        """Write a grid to a NetCDF file for each year."""
        from xcarbon.io.grid import write_years

        return write_years(self._ds, path, overwrite=overwrite)

    @documented_by("prep/satellite/join.py:join_satellite")
    def join_satellite(self, series: xr.Dataset) -> xr.Dataset:
        """Join satellite series to these towers."""
        return join_satellite(self._ds, series)

    @documented_by("quality/checks.py:check")
    def check(self) -> Report:
        """Run the quality checks on these towers."""
        from xcarbon.quality import check

        return check(self._ds)

    @property
    def plot(self) -> CarbonPlot:
        """Figures of these towers; see :class:`xcarbon.plotting.CarbonPlot`."""
        return CarbonPlot(self._ds)
