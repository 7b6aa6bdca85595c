"""The second and third stage of a build: write the template of the store, and write each tower into it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from zarr.storage import StoreLike

from xcarbon._version import __version__
from xcarbon.core import conventions
from xcarbon.core.conventions import MISSING_FLAG
from xcarbon.core.errors import StoreError
from xcarbon.io import counts
from xcarbon.io.badm import SiteMetadata
from xcarbon.io.drafts import BranchTarget, FolderTarget, Part
from xcarbon.io.location import Location, Opened, Options, PathLike
from xcarbon.io.modis import patches as modis
from xcarbon.io.modis.patches import Patches
from xcarbon.io.modis.rasters import Raster
from xcarbon.io.records import Hours, Record, read_hours
from xcarbon.io.regions import write_region, write_template
from xcarbon.io.store import encode, read_store
from xcarbon.io.towers import RELEASE, Series, Tower, fuse_records, label, labels, stack_releases, terms
from xcarbon.pipeline.survey import BAD, Plan, Problem
from xcarbon.prep.satellite import join_satellite

#: Zarr group of a store that lists the input files of each tower.
AUDIT = "audit"


def read_audit(store: PathLike, site: str, *, storage_options: Options | None = None) -> dict[str, Any]:
    """Read from which files and columns the values of a tower come.

    Parameters
    ----------
    store : path-like or URL
        A store that was written by :func:`xcarbon.build`.
    site : str
        Identifier of the tower.
    storage_options : mapping, optional
        As for :func:`xcarbon.open_store`.

    Returns
    -------
    dict
        ``releases`` lists the files of the tower, each as a dict with ``release``, ``file``, ``first_hour``,
        ``hours``, ``columns`` (number of hours that each column contributed to each variable before fusion),
        ``kept`` (number of hours of each variable after fusion), ``beyond_limits`` (see
        :func:`xcarbon.io.fluxnet.audit_fluxnet`) and ``equal_halves`` (share of hours whose two measured
        half-hours are equal [1]). ``patches`` is the number of days with a patch, ``composites`` the number
        of days with a value of a satellite series, and ``problems`` lists the files that were left out.

    Raises
    ------
    StoreError
        If the store has no audit of the tower.

    Examples
    --------
    >>> import tempfile, xcarbon
    >>> from xcarbon.testing import synthetic_towers, write_release
    >>> towers = synthetic_towers(1, patches=False, variables=["TA", "NEE"])
    >>> place = dict(lat=50.0, lon=10.0, igbp="ENF", utc_offset=1)
    >>> with tempfile.TemporaryDirectory() as folder, xcarbon.set_options(progress=False):
    ...     _ = write_release(towers, "SY-001", folder)
    ...     report = xcarbon.build(folder, f"{folder}/store.zarr", metadata={"SY-001": place})
    ...     read_audit(report.store, "SY-001")["releases"][0]["hours"]
    8760
    """
    try:
        return audit(Location.of(store, storage_options).open().store, site)
    except FileNotFoundError:
        raise StoreError(f"{store} has no audit of {site}: was it written by xcarbon.build?") from None


def audit(store: StoreLike, site: str) -> dict[str, Any]:
    """Read the audit of a tower from a store that is open."""
    return dict(zarr.open_group(store, path=f"{AUDIT}/{site}", mode="r").attrs)


# The template


@dataclass(frozen=True, slots=True)
class Layout:
    """Axes and variables of a store, which are the same for all towers."""

    start: np.datetime64  # first hour
    hours: int
    day: NDArray[np.datetime64]  # days of patches and composites; empty if no tower has any
    releases: tuple[str, ...]  # names of the flags of the variable ``release``
    names: tuple[str, ...]  # data variables
    codes: tuple[str, ...]  # labels of the dim ``code``; empty if no tower has several releases

    @property
    def key(self) -> str:
        """Hash; the files of a tower can be moved between stores with the same layout."""
        return _hash(str(self.start), self.hours, self.day.tolist(), self.releases, self.names, self.codes)


@dataclass(frozen=True, slots=True)
class Template:
    """A store without values."""

    ds: xr.Dataset
    layout: Layout

    @property
    def sites(self) -> list[str]:
        """Names of the towers, in the order of the store."""
        return [str(site) for site in self.ds["site"].values]

    @property
    def key(self) -> str:
        """Hash; a working folder with the same template can be continued."""
        # The time axis is part of the key of the layout.
        coords = {
            str(name): str(coord.values.tolist())
            for name, coord in self.ds.coords.items()
            if "time" not in coord.dims
        }
        attrs = {str(name): str(array.attrs) for name, array in self.ds.variables.items()}
        return _hash(self.layout.key, sorted(coords.items()), sorted(attrs.items()))


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()


def make_template(plan: Plan) -> Template:
    """Describe the whole store without reading or computing values."""
    ds, day = label(plan.towers, plan.sites), plan.days
    if plan.patch_days.size:
        ds = ds.merge(modis.template(ds, day))
    if plan.series is not None:
        ds = join_satellite(ds, plan.series)
    unknown = np.full(len(plan.sites), np.nan, np.float32)
    ds = ds.assign_coords(equal_halves=("site", unknown))
    ds = conventions.apply(ds, source=f"see the group {AUDIT}", **terms(plan.towers))
    layout = Layout(
        ds["time"].values[0].astype("M8[h]"),
        ds.sizes["time"],
        day,
        tuple(labels(plan.towers)),
        tuple(map(str, ds.data_vars)),
        tuple(ds["code"].values.tolist()) if RELEASE in ds else (),
    )
    return Template(ds, layout)


def write(template: Template, store: StoreLike) -> None:
    """Write the template to a draft."""
    ds = conventions.apply(template.ds.drop_encoding(), history=f"xcarbon.build, xcarbon {__version__}")
    write_template(encode(ds), store)
    root = {"template": template.key, "layout": template.layout.key, "sites": template.sites}
    zarr.create_group(store, path=AUDIT, attributes=root)


def is_current(template: Template, fingerprints: list[str], store: StoreLike) -> bool:
    """Check whether a store contains all towers, built from the same files."""
    if root(store).get("template") != template.key:
        return False
    return [fingerprint(store, site) for site in template.sites] == fingerprints


def root(store: StoreLike) -> dict[str, Any]:
    """Attributes of the group ``audit``; there are none in a store that ``build`` did not write."""
    try:
        return dict(zarr.open_group(store, path=AUDIT, mode="r").attrs)
    except FileNotFoundError:
        return {}


def fingerprint(store: StoreLike, site: str) -> str | None:
    """Hash of the files that a tower of a store was built from; None if it was not built."""
    try:
        return str(audit(store, site)["fingerprint"])
    except (FileNotFoundError, KeyError):
        return None


# The towers


@dataclass(frozen=True, slots=True)
class Task:
    """One tower to build on a worker."""

    target: FolderTarget | BranchTarget  # where the tower is written
    earlier: tuple[Opened, ...]  # stores of earlier builds, which may contain the tower
    layout: Layout
    index: int  # position of the tower along ``site``
    tower: Tower
    site: SiteMetadata
    rasters: list[Raster]  # those that cover the tower
    fingerprint: str  # hash of the files of the tower
    series: xr.Dataset | None  # satellite series of the tower, in memory


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of a task: a tower is done if at least one of its files could be read."""

    is_done: bool
    is_new: bool = True
    problems: tuple[Problem, ...] = ()
    part: Part | None = None  # what was written, if it is not in the store yet


def build_tower(task: Task) -> Outcome:
    """Copy a tower from an earlier build, or read, fuse and write it."""
    site = task.tower.site
    for opened in task.earlier:
        if fingerprint(opened.store, site) == task.fingerprint:
            known = audit(opened.store, site)
            part = task.target.write(site, partial(_copy_tower, task, opened, known))
            return Outcome(True, False, tuple(Problem(**problem) for problem in known["problems"]), part)
    problems: list[Problem] = []
    series = _read_series(task, problems)
    if series is None:
        return Outcome(False, problems=tuple(problems))
    ds, patches = _label_series(series, task.layout), 0
    if "reflectance" in task.layout.names:
        values = modis.read_patches(
            task.rasters,
            task.site.lat,
            task.site.lon,
            on_error=lambda error: problems.append(Problem(site, str(error))),
        )
        ds = ds.merge(_label_patches(values, task.layout))
        patches = int(np.isfinite(values.reflectance).any(axis=(1, 2, 3)).sum())
    if task.series is not None:
        ds = join_satellite(ds.assign_coords(site=[site], day=task.layout.day.astype("M8[ns]")), task.series)
    ds = ds[[name for name in task.layout.names if name in ds]]
    made = {
        "fingerprint": task.fingerprint,
        "releases": series.audit,
        "patches": patches,
        "composites": 0 if task.series is None else task.series.sizes["day"],
        "problems": [asdict(problem) for problem in problems],
    }
    part = task.target.write(site, partial(_write_tower, task, ds, made))
    return Outcome(True, problems=tuple(problems), part=part)


def _write_tower(task: Task, ds: xr.Dataset, made: dict[str, Any], store: StoreLike) -> None:
    """Write the series and patches of one tower, ``(1, ...)``, into the template, and its audit."""
    arrays = {name: (array.dims, array.values) for name, array in ds.items()}
    write_region(arrays, store, {"site": slice(task.index, task.index + 1)})
    _finish(task, made, store)


def _finish(task: Task, made: dict[str, Any], store: StoreLike) -> None:
    """Write the audit of a tower, which marks it as complete."""
    # It is replaced at once: a task may run again, after the loss of a worker, while others read the audit.
    zarr.open_group(store, path=f"{AUDIT}/{task.tower.site}", mode="a").attrs.put(made)


def _read_series(task: Task, problems: list[Problem]) -> Series | None:
    """Read and fuse the records of a tower; add those that cannot be read to ``problems``."""
    read: list[tuple[Record, Hours]] = []
    for record in task.tower.records:
        try:
            read.append((record, read_hours(record)))
        except BAD as error:
            problems.append(Problem(str(record.release.source), str(error)))
    if not read:
        return None
    records, hours = zip(*read, strict=True)
    layout = task.layout
    return fuse_records(records, hours, layout.start, layout.hours, layout.releases)


def _label_series(series: Series, layout: Layout) -> xr.Dataset:
    """Label the series of one tower with the dims of the store."""
    names = [name for name in layout.names if name in series.arrays]
    ds = xr.Dataset({name: (("site", "time"), series.arrays[name][np.newaxis]) for name in names})
    if layout.codes:
        ds[RELEASE] = (("site", "code", "time"), stack_releases(series, layout.codes))
    return ds


def _label_patches(patches: Patches, layout: Layout) -> xr.Dataset:
    """Label the patches of one tower with the dims of the store, on all days of the store."""
    position = np.searchsorted(layout.day, patches.day)

    def place(values: NDArray[Any], missing: Any) -> NDArray[Any]:
        placed = np.full((1, layout.day.size, *values.shape[1:]), missing, values.dtype)
        placed[0, position] = values
        return placed

    flags = ("site", "day", "y", "x")
    return xr.Dataset(
        {
            "reflectance": (("site", "day", "band", "y", "x"), place(patches.reflectance, np.nan)),
            "snow": (flags, place(patches.snow, MISSING_FLAG)),
            "water": (flags, place(patches.water, MISSING_FLAG)),
        }
    )


# Towers of earlier builds


def _copy_tower(task: Task, opened: Opened, made: dict[str, Any], store: StoreLike) -> None:
    """Copy a tower from an earlier build."""
    known = root(opened.store)
    if known["layout"] == task.layout.key and isinstance(store, Path) and isinstance(opened.store, str):
        _link(task, Path(opened.store), known["sites"].index(task.tower.site), store)
        _finish(task, made, store)
    else:
        _write_tower(task, _read_site(opened, task.tower.site, task.layout), made, store)


def _link(task: Task, folder: Path, index: int, store: Path) -> None:
    """Link the files of a tower; this is safe because files are replaced and never changed."""
    for name in task.layout.names:
        old, new = (at / name / "c" / str(i) for at, i in ((folder, index), (store, task.index)))
        if old.exists():
            shutil.copytree(old, new, copy_function=_link_or_copy, dirs_exist_ok=True)
    counts.copy(folder, index, store, task.index)


def _link_or_copy(source: str, target: str) -> None:
    Path(target).unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # the file system has no hard links
        shutil.copy2(source, target)


def _read_site(opened: Opened, site: str, layout: Layout) -> xr.Dataset:
    """Read a tower from an earlier build, and reindex it to the axes of this one."""
    ds = read_store(opened).sel(site=[site])
    ds = ds[[name for name in layout.names if name in ds]].load()
    if layout.codes:
        ds[RELEASE] = _renumber(ds, audit(opened.store, site)["releases"], layout)
    axes = {
        "time": (layout.start + np.arange(layout.hours)).astype("M8[ns]"),
        "day": layout.day.astype("M8[ns]"),
        "code": list(layout.codes),
    }
    fill = {name: np.nan if array.dtype.kind == "f" else MISSING_FLAG for name, array in ds.items()}
    return ds.reindex({dim: axis for dim, axis in axes.items() if dim in ds.dims}, fill_value=fill)


def _renumber(ds: xr.Dataset, audits: list[dict[str, Any]], layout: Layout) -> xr.DataArray:
    """Replace the numbers of releases in an earlier store by those in this store."""
    if RELEASE not in ds:  # no tower of the earlier store had several releases
        (only,) = {audit["release"] for audit in audits}
        present = ds[[code for code in layout.codes if code in ds]].notnull().to_dataarray("code")
        flags = xr.where(present, np.int8(layout.releases.index(only)), MISSING_FLAG)
        return flags.transpose("site", "code", "time")
    names = ds[RELEASE].attrs["flag_meanings"].split()[1:]
    numbers = [layout.releases.index(name) if name in layout.releases else MISSING_FLAG for name in names]
    return ds[RELEASE].copy(data=np.array([*numbers, MISSING_FLAG], np.int8)[ds[RELEASE].values])
