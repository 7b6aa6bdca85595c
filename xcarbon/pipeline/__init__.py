"""Build a store from downloaded files, with one task for each tower, on threads or on a Dask cluster.

There are three stages. The survey reads names, headers and last lines of all files. The template is the whole
store without values. Then one task for each tower reads and fuses its files, adds its patches and writes them
as a region of the template. All this happens in a hidden folder beside the store, which replaces the store
when it is complete. The Zarr group ``audit`` of the folder lists the towers that are complete and their input
files. An interrupted build continues from there, and a build with changed input files builds only the towers
concerned.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zarr

from xcarbon.core.atomic import move_into_place, naming_full_disk
from xcarbon.core.errors import FileFormatError, StoreError
from xcarbon.core.workers import executor, map_unordered
from xcarbon.io.badm import Metadata
from xcarbon.io.regions import remove_partial_files
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
    """Result of a build.

    Attributes
    ----------
    store : pathlib.Path
        Path of the store.
    built : tuple of str
        Towers that were built.
    kept : tuple of str
        Towers that an earlier build had completed.
    problems : tuple of Problem
        Files and towers that were left out.
    skipped : tuple of Problem
        Files that ``build`` does not read (daily files, copies, documents), with the reason.
    """

    store: Path
    built: tuple[str, ...]
    kept: tuple[str, ...]
    problems: tuple[Problem, ...]
    skipped: tuple[Problem, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.store}: towers built: {len(self.built)}, kept: {len(self.kept)}"]
        lines += ["problems:", *(f"  {problem}" for problem in self.problems)] if self.problems else []
        counts = Counter(skip.reason for skip in self.skipped)
        lines += ["passed over:"] if counts else []
        for reason, count in counts.most_common():
            first = next(skip.where for skip in self.skipped if skip.reason == reason)
            lines.append(f"  {count} x {reason}: {first}{', ...' if count > 1 else ''}")
        return "\n".join(lines)


def build(
    raw: PathLike | Iterable[PathLike],
    store: PathLike,
    *,
    metadata: Metadata | None = None,
    uncertainty: bool = False,
    strict: bool = False,
) -> BuildReport:
    """Build a store from the networks' raw files and satellite rasters.

    Parameters
    ----------
    raw : path-like or iterable of path-like
        Folders, archives and files: releases of towers (see :mod:`xcarbon.io.networks`), tables of
        towers (``site_data.csv``, BADM/BIF, SITEINFO), MODIS rasters (see
        :mod:`xcarbon.io.modis.patches`) and satellite series (see :func:`xcarbon.open_satellite`). Other
        files are listed in the report as ``skipped``.
    store : path-like
        Zarr store to write, or to update if ``build`` wrote it.
    metadata : path-like, SiteMetadata or mapping, optional
        Metadata of towers in addition to the tables, as for :func:`xcarbon.open_fluxnet`.
    uncertainty : bool
        Whether to write the random uncertainty and percentiles of NEE.
    strict : bool
        Whether to stop at the first file that cannot be read. By default it is left out and reported.

    Returns
    -------
    BuildReport
        The towers that were built, and the files and towers that were left out.

    Raises
    ------
    FileNotFoundError
        If ``raw`` does not exist.
    StoreError
        If ``store`` exists and was not written by ``build``, or if there is no tower to build.
    KeyboardInterrupt
        On Ctrl-C. The same call builds only the towers that are missing.
    XCarbonError
        With ``strict``, for the first file that cannot be read; or if workers were killed repeatedly.

    Notes
    -----
    Towers are built by the connected Dask cluster, if there is one, and otherwise by threads. Workers must
    have access to the same files. Series are fused as by :func:`xcarbon.open_fluxnet` and written as by
    :func:`xcarbon.io.store.to_store`. The Zarr group ``audit/<site>`` lists from which files and columns the
    values of a tower come, see :func:`read_audit`.

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
        raise StoreError(f"{store} exists and was not written by xcarbon.build: choose another path")
    with executor() as pool:
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
                raise StoreError(f"there is no tower to build in {raw}{reasons and f': {reasons}'}")
            with naming_full_disk(store, kept=_work(store)):
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
        tuple(found.skipped),
    )


def _build_towers(
    plan: Plan, store: Path, pool: Executor, built: set[str], *, strict: bool
) -> tuple[set[str], list[Problem]]:
    """Build all towers of a plan, and return those that failed and why; add new towers to ``built``."""
    template, work = make_template(plan), _work(store)
    prints = [plan.fingerprint(index) for index in range(len(plan.towers))]
    if is_current(template, prints, store):
        _clear(work)
        return set(), _known_problems(store, template.sites)
    try:
        prepare(template, work)
    except OSError:
        shutil.rmtree(work, ignore_errors=True)
        raise
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


def _work(store: Path) -> Path:
    """Return the folder in which a store is built until it is complete."""
    return store.with_name(f".{store.name}.building")


def _refuse(problems: Sequence[Problem], strict: bool) -> None:
    """Raise FileFormatError for the first problem of a strict build."""
    if strict and problems:
        raise FileFormatError(str(problems[0]))


def _known_problems(folder: Path, sites: Iterable[str]) -> list[Problem]:
    """Return the problems with single files of towers that are in a store."""
    return [Problem(**problem) for site in sites for problem in read_audit(folder, site)["problems"]]


def _finish(work: Path, store: Path, sites: Iterable[str]) -> None:
    """Write the coordinate that depends on all towers, and move the store into place."""
    shares = [[of["equal_halves"] for of in read_audit(work, site)["releases"]] for site in sites]
    halves = [max((share for share in of if share is not None), default=np.nan) for of in shares]
    zarr.open_array(work, path="equal_halves", mode="r+")[:] = np.array(halves, np.float32)
    remove_partial_files(work)
    move_into_place(work, store)
    _clear(work)


def _clear(work: Path) -> None:
    """Remove the working folders of interrupted builds."""
    for folder in (*stale(work), work):
        shutil.rmtree(folder, ignore_errors=True)
