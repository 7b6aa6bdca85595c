"""From what people download to the store: one task for each tower, on one core or on a cluster.

The stages are a survey of all files, which reads hardly more than their names, headers and last lines;
a template, which is the whole store but its values; and the towers, each read, fused, joined with its
patches and written by one task. They work in a hidden folder beside the store, which takes the store's
place when it is complete. What was done of each tower, and from which input, stands in the folder's
group ``audit``: a build that was stopped goes on from there, and one whose input has changed does the
changed towers alone.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zarr

from xcarbon.core.atomic import move_into_place
from xcarbon.core.errors import FileFormatError, StoreError
from xcarbon.core.workers import executor, map_unordered
from xcarbon.io.badm import Metadata
from xcarbon.pipeline.survey import Plan, Problem, find, survey_towers
from xcarbon.pipeline.towers import (
    AUDIT,
    Task,
    build_tower,
    fingerprint,
    is_current,
    make_template,
    prepare,
    read_audit,
    stale,
)

__all__ = ["BuildReport", "Problem", "build", "read_audit"]

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build did.

    Attributes
    ----------
    store : pathlib.Path
        The store.
    built, kept : tuple of str
        Towers that were built, and those that an earlier build had done already.
    problems : tuple of Problem
        What was left out.
    """

    store: Path
    built: tuple[str, ...]
    kept: tuple[str, ...]
    problems: tuple[Problem, ...]

    def __str__(self) -> str:
        lines = [f"{self.store}: towers built: {len(self.built)}, kept: {len(self.kept)}"]
        lines += ["problems:", *(f"  {problem}" for problem in self.problems)] if self.problems else []
        return "\n".join(lines)


def build(
    raw: PathLike | Iterable[PathLike],
    store: PathLike,
    *,
    metadata: Metadata | None = None,
    uncertainty: bool = False,
    scheduler: str | None = None,
    strict: bool = False,
) -> BuildReport:
    """Build a store from the networks' raw files and satellite rasters.

    Parameters
    ----------
    raw : path-like or iterable of path-like
        Folders, archives and files: releases of towers (see :mod:`xcarbon.io.networks`), tables of
        towers (``site_data.csv``, BADM/BIF, SITEINFO), MODIS rasters (see :mod:`xcarbon.io.modis.patches`),
        satellite series (point samples of AppEEARS and NetCDF files, see :func:`xcarbon.open_satellite`).
        What is none of them is ignored.
    store : path-like
        The Zarr store to write, or to bring up to date if ``build`` wrote it.
    metadata : path-like, SiteMetadata or mapping, optional
        What is known of the towers beyond the tables, as for :func:`xcarbon.open_fluxnet`.
    uncertainty : bool
        Also keep the random uncertainty of NEE and its percentiles.
    scheduler : str, optional
        Address of a Dask cluster whose workers see the same files. Default: the cluster that is
        connected, if any, or else threads.
    strict : bool
        Stop at the first bad file, instead of leaving it out and reporting it.

    Returns
    -------
    BuildReport

    Raises
    ------
    StoreError
        If there is something else at ``store``, or there is no tower to build.
    XCarbonError
        With ``strict``, for the first bad file.

    Notes
    -----
    Each tower's series are fused as :func:`xcarbon.open_fluxnet` does, and written as
    :func:`xcarbon.io.store.to_store` does. The audit of a tower, from which files and columns its
    values come, is the JSON of the Zarr group ``audit/<site>``: see :func:`read_audit`.

    Examples
    --------
    >>> import tempfile, xcarbon
    >>> from xcarbon.testing import synthetic_towers, write_fluxnet_csv
    >>> towers = synthetic_towers(2, patches=False, variables=["TA", "NEE"])
    >>> place = dict(lat=50.0, lon=10.0, igbp="ENF", utc_offset=1)
    >>> with tempfile.TemporaryDirectory() as folder, xcarbon.set_options(progress=False):
    ...     for site in towers["site"].values:
    ...         name = f"{folder}/raw/FLX_{site}_FLUXNET2015_SUBSET_HH_2010-2010_1-4.csv"
    ...         Path(name).parent.mkdir(exist_ok=True)
    ...         _ = write_fluxnet_csv(towers, site, name)
    ...     report = build(f"{folder}/raw", f"{folder}/store.zarr", metadata={"SY-001": place})
    ...     xcarbon.open_store(report.store).sizes["site"], report.problems[0].where
    (1, 'SY-002')
    """
    store = Path(store)
    if store.exists() and not (store / AUDIT).is_dir():
        raise StoreError(f"{store} exists and is no store that xcarbon.build wrote: choose another path")
    with executor(scheduler) as pool:
        found = find(raw)
        _refuse(found.problems, strict)
        plan, problems = survey_towers(found, metadata, pool, uncertainty=uncertainty)
        problems = [*found.problems, *problems]
        _refuse(problems, strict)
        built: set[str] = set()
        is_complete = False
        while not is_complete:
            if not plan.towers:
                reasons = "; ".join(str(problem) for problem in problems[:3])
                raise StoreError(f"no tower to build a store from in {raw}{reasons and f': {reasons}'}")
            failed, wrong = _build_towers(plan, store, pool, built, strict=strict)
            problems += wrong
            is_complete = not failed
            plan = plan.without(failed)
    sites = [tower.site for tower in plan.towers]
    return BuildReport(
        store,
        tuple(site for site in sites if site in built),
        tuple(site for site in sites if site not in built),
        tuple(dict.fromkeys(problems)),
    )


def _build_towers(
    plan: Plan, store: Path, pool: Executor, built: set[str], *, strict: bool
) -> tuple[set[str], list[Problem]]:
    """Build a plan, unless towers fail: then name them and what went wrong; add what is new to ``built``."""
    template, work = make_template(plan), store.with_name(f".{store.name}.building")
    prints = [plan.fingerprint(index) for index in range(len(plan.towers))]
    if is_current(template, prints, store):
        _clear(work)
        return set(), _known_problems(store, template.sites)
    prepare(template, work)
    earlier = tuple(path for path in (*stale(work), store) if path.exists())
    columns = zip(plan.towers, plan.sites, plan.rasters, prints, plan.satellite, strict=True)
    tasks = [Task(work, earlier, template.layout, index, *of) for index, of in enumerate(columns)]
    todo = [task for task in tasks if fingerprint(work, task.tower.site) != task.fingerprint]
    failed: set[str] = set()
    problems: list[Problem] = []
    for task, outcome in map_unordered(pool, build_tower, todo, "building"):
        _refuse(outcome.problems, strict)
        if not outcome.is_done:
            failed.add(task.tower.site)
            problems += outcome.problems
        elif outcome.is_new:
            built.add(task.tower.site)
    if not failed:
        problems += _known_problems(work, template.sites)
        _finish(work, store, template.sites)
    return failed, problems


def _refuse(problems: Sequence[Problem], strict: bool) -> None:
    """Stop at a problem if that is wanted."""
    if strict and problems:
        raise FileFormatError(str(problems[0]))


def _known_problems(folder: Path, sites: Iterable[str]) -> list[Problem]:
    """Give the problems with towers that are in a store none the less."""
    return [Problem(**problem) for site in sites for problem in read_audit(folder, site)["problems"]]


def _finish(work: Path, store: Path, sites: Iterable[str]) -> None:
    """Add what only the towers told, and put the store into its place."""
    shares = [[of["equal_halves"] for of in read_audit(work, site)["releases"]] for site in sites]
    halves = [max((share for share in of if share is not None), default=np.nan) for of in shares]
    zarr.open_array(work, path="equal_halves", mode="r+")[:] = np.array(halves, np.float32)
    for partial in work.rglob("*.partial"):  # of a worker that was killed while it wrote
        partial.unlink()
    move_into_place(work, store)
    _clear(work)


def _clear(work: Path) -> None:
    """Remove what stopped builds left."""
    for folder in (*stale(work), work):
        shutil.rmtree(folder, ignore_errors=True)
