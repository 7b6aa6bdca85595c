"""Build a store from downloaded files, with one task for each tower, on threads or on a Dask cluster.

There are three stages. The survey reads names, headers and last lines of all files. The template is the
whole store without values. Then one task for each tower reads and fuses its files, adds its patches and
writes them as a region of the template. All this happens in a draft (see :mod:`xcarbon.io.drafts`), which
replaces the store when it is complete. The Zarr group ``audit`` of the draft lists the towers that are
complete and their input files. An interrupted build continues from there, and a build with changed input
files builds only the towers concerned. This folder may import ``io`` and the folders below it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import zarr
from zarr.storage import StoreLike

from xcarbon.core.errors import FileFormatError, StoreError
from xcarbon.core.workers import executor, map_unordered
from xcarbon.io.badm import Metadata
from xcarbon.io.drafts import Draft, discard, drafting
from xcarbon.io.location import Location, Options
from xcarbon.pipeline.survey import Plan, Problem, find, survey_towers
from xcarbon.pipeline.towers import (
    Task,
    audit,
    build_tower,
    fingerprint,
    is_current,
    make_template,
    read_audit,
    root,
    write,
)

__all__ = ["BuildReport", "Problem", "build", "read_audit"]

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class BuildReport:
    """Result of a build.

    Attributes
    ----------
    store : pathlib.Path or str
        Path or URL of the store.
    built : tuple of str
        Towers that were built.
    kept : tuple of str
        Towers that an earlier build had completed.
    problems : tuple of Problem
        Files and towers that were left out.
    skipped : tuple of Problem
        Files that ``build`` does not read (daily files, copies, documents), with the reason.
    """

    store: Path | str
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
    storage_options: Options | None = None,
) -> BuildReport:
    """Build a store from the networks' raw files and satellite rasters.

    Parameters
    ----------
    raw : path-like or iterable of path-like
        Folders, archives and files: releases of towers (see :mod:`xcarbon.io.networks`), tables of
        towers (``site_data.csv``, BADM/BIF, SITEINFO), MODIS rasters (see
        :mod:`xcarbon.io.modis.patches`) and satellite series (see :func:`xcarbon.open_satellite`). Other
        files are listed in the report as ``skipped``.
    store : path-like or URL
        Zarr store to write, or to update if ``build`` wrote it: a folder, or a URL as for
        :func:`xcarbon.io.store.to_store`.
    metadata : path-like, SiteMetadata or mapping, optional
        Metadata of towers in addition to the tables, as for :func:`xcarbon.open_fluxnet`.
    uncertainty : bool
        Whether to write the random uncertainty and percentiles of NEE.
    strict : bool
        Whether to stop at the first file that cannot be read. By default it is left out and reported.
    storage_options : mapping, optional
        How the URL of ``store`` is accessed, as for :func:`xcarbon.open_store`.

    Returns
    -------
    BuildReport
        The towers that were built, and the files and towers that were left out.

    Raises
    ------
    FileNotFoundError
        If ``raw`` does not exist.
    StoreError
        If ``store`` exists and was not written by ``build``, if there is no tower to build, or if another
        process has written to the same store in a bucket in the meantime.
    OptionError
        If ``storage_options`` are not those of the storage, or if ``store`` is a local folder.
    MissingPackageError
        If the store is in a bucket, and the extra ``cloud`` is not installed.
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
    location = Location.of(store, storage_options)
    if location.exists() and not _is_built(location):
        raise StoreError(f"{location} exists and was not written by xcarbon.build: choose another path")
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
            failed, wrong = _build_towers(plan, location, pool, built, strict=strict)
            problems += wrong
            is_complete = not failed
            plan = plan.without(failed)
    sites = [tower.site for tower in plan.towers]
    return BuildReport(
        location.returned,
        tuple(site for site in sites if site in built),
        tuple(site for site in sites if site not in built),
        tuple(dict.fromkeys(problems)),
        tuple(found.skipped),
    )


def _is_built(location: Location) -> bool:
    """Return whether there is a store that ``build`` wrote."""
    try:
        return bool(root(location.open().store))
    except (StoreError, ValueError):
        return False


def _build_towers(
    plan: Plan, location: Location, pool: Executor, built: set[str], *, strict: bool
) -> tuple[set[str], list[Problem]]:
    """Build all towers of a plan, and return those that failed and why; add new towers to ``built``."""
    template = make_template(plan)
    prints = [plan.fingerprint(index) for index in range(len(plan.towers))]
    current = [location.open()] if location.exists() else []
    if current and is_current(template, prints, current[0].store):
        discard(location, "building")
        return set(), _known_problems(current[0].store, template.sites)
    failed: set[str] = set()
    problems: list[Problem] = []
    with drafting(location, "building", template.key, partial(write, template)) as draft:
        earlier = (*draft.earlier, *current)
        columns = zip(plan.towers, plan.sites, plan.rasters, prints, plan.satellite, strict=True)
        tasks = [Task(draft.target, earlier, template.layout, index, *of) for index, of in enumerate(columns)]
        begun = draft.opened.store
        todo = [task for task in tasks if fingerprint(begun, task.tower.site) != task.fingerprint]
        for task, outcome in map_unordered(
            pool, build_tower, todo, "building", lambda task: f"tower {task.tower.site}"
        ):
            _refuse(outcome.problems, strict)
            draft.add(outcome.part)
            if not outcome.is_done:
                failed.add(task.tower.site)
                problems += outcome.problems
            elif outcome.is_new:
                built.add(task.tower.site)
        if not failed:
            problems += _finish(draft, template.sites)
    return failed, problems


def _refuse(problems: Sequence[Problem], strict: bool) -> None:
    """Raise FileFormatError for the first problem of a strict build."""
    if strict and problems:
        raise FileFormatError(str(problems[0]))


def _known_problems(store: StoreLike, sites: Iterable[str]) -> list[Problem]:
    """Return the problems with single files of towers that are in a store."""
    return [Problem(**problem) for site in sites for problem in audit(store, site)["problems"]]


def _finish(draft: Draft, sites: Sequence[str]) -> list[Problem]:
    """Write the coordinate that depends on all towers, and publish the draft; return the known problems."""

    def write_halves(store: StoreLike) -> None:
        shares = [[of["equal_halves"] for of in audit(store, site)["releases"]] for site in sites]
        halves = [max((share for share in of if share is not None), default=np.nan) for of in shares]
        zarr.open_array(store, path="equal_halves", mode="r+")[:] = np.array(halves, np.float32)

    draft.edit(write_halves)
    problems = _known_problems(draft.opened.store, sites)
    draft.publish()
    draft.remove(others=True)
    return problems
