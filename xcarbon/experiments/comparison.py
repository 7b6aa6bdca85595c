"""Run an experiment: train, predict, score and report."""

from __future__ import annotations

import xarray as xr
from tqdm.auto import tqdm

from xcarbon.core.atomic import replacing
from xcarbon.core.extras import require
from xcarbon.core.options import OPTIONS
from xcarbon.experiments import results
from xcarbon.experiments.config import Experiment
from xcarbon.experiments.report import report
from xcarbon.experiments.runs import RunList, perform, plan
from xcarbon.io.handles import LOCK, open_netcdf_file, write_file
from xcarbon.io.store import open_store


def run(experiment: Experiment) -> xr.Dataset:
    """Run an experiment and write its results and report. Steps that have been done before are skipped.

    Parameters
    ----------
    experiment : Experiment
        Models, towers and settings to compare.

    Returns
    -------
    xarray.Dataset
        Content of ``results.nc``, see :func:`xcarbon.experiments.results.collect`.

    Raises
    ------
    XCarbonError
        If the store cannot be opened, matplotlib is missing, or a model cannot be trained.
    KeyboardInterrupt
        On Ctrl-C; the same call continues the experiment.

    Examples
    --------
    >>> import tempfile, xcarbon
    >>> from pathlib import Path
    >>> from xcarbon.experiments.config import Model
    >>> from xcarbon.testing import synthetic_towers
    >>> towers = synthetic_towers(6, patches=False, variables=["TA", "SW_IN", "NEE"])
    >>> with tempfile.TemporaryDirectory() as folder, xcarbon.set_options(progress=False):
    ...     store = towers.carbon.to_store(f"{folder}/towers.zarr")
    ...     models = Model("diurnal_cycle"), Model("ridge")
    ...     results = run(Experiment(str(store), Path(folder, "out"), models, split="random"))
    >>> dict(results["nse"].sizes)
    {'model': 2, 'seed': 1}
    """
    require("reports of experiments", "plot", "matplotlib")
    todo = plan(experiment, open_store(experiment.store))
    _perform_all(experiment, todo)
    if not results.is_current(experiment, todo):
        with replacing(experiment.results) as path:
            write_file(results.collect(experiment, todo), path, {})
    with LOCK, open_netcdf_file(experiment.results) as written:
        found = written.load()
    report(experiment, todo, found).write(experiment.out)
    return found


def _perform_all(experiment: Experiment, todo: RunList) -> None:
    """Perform all runs one after the other, because training uses all cores."""
    labels = {each.name: label for (label, _), runs in todo.runs.items() for each in runs}
    progress = tqdm(todo.distinct.values(), "runs", unit="run", disable=not OPTIONS["progress"])
    for number, each in enumerate(progress, start=1):
        what = labels[each.name] if each.seed is None else f"{labels[each.name]}, seed {each.seed}"
        progress.set_postfix_str(what)
        try:
            perform(each, todo, experiment.runs)
        except KeyboardInterrupt:
            where = f"run {number} of {len(todo.distinct)}, {what}"
            raise KeyboardInterrupt(f"stopped in {where}; the same command continues from here") from None
