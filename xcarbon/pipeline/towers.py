"""The second and third stage: a template of the store, and the towers, one task each, into it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from xcarbon._version import __version__
from xcarbon.core import conventions
from xcarbon.core.conventions import MISSING_FLAG
from xcarbon.core.errors import FileFormatError, StoreError
from xcarbon.io.badm import SiteMetadata
from xcarbon.io.modis import patches as modis
from xcarbon.io.modis.patches import Patches
from xcarbon.io.modis.rasters import Raster
from xcarbon.io.records import Hours, Record, read_hours
from xcarbon.io.store import open_store, write_site, write_template
from xcarbon.io.towers import RELEASE, Series, Tower, fuse_records, label, labels, stack_releases, terms
from xcarbon.pipeline.survey import BAD, Plan, Problem

PathLike = str | os.PathLike[str]

#: Group of a store that tells of each tower from which files it was built.
AUDIT = "audit"


def read_audit(store: PathLike, site: str) -> dict[str, Any]:
    """Read from which files and columns the values of a tower come.

    Parameters
    ----------
    store : path-like
        A store that :func:`build` wrote.
    site : str
        Identifier of the tower.

    Returns
    -------
    dict
        ``releases``: of each file its ``release``, ``file``, ``first_hour`` and ``hours``, in
        ``columns`` how many hours each column gave to each variable before fusion, in ``kept`` how
        many hours of each variable are from it, and in ``equal_halves`` the share of hours whose two
        measured half-hours are equal; ``beyond_limits`` as :func:`xcarbon.io.fluxnet.audit_fluxnet`
        explains. ``patches``: number of days. ``problems``: files left out.

    Raises
    ------
    StoreError
        If there is no such audit.
    """
    try:
        return dict(zarr.open_group(os.fspath(store), path=f"{AUDIT}/{site}", mode="r").attrs)
    except FileNotFoundError:
        raise StoreError(f"{store} has no audit of {site}: was it written by xcarbon.build?") from None


# The template


@dataclass(frozen=True, slots=True)
class Layout:
    """What all towers of a store have in common.

    Attributes
    ----------
    start : numpy.datetime64
        First hour.
    hours : int
        Number of hours.
    day : numpy.ndarray
        Days of the patches [datetime64[D]]; empty where no tower has any.
    releases : tuple of str
        What the flags of the release count.
    names : tuple of str
        Variables of the store.
    codes : tuple of str
        Variables along ``code``; empty where no tower has several releases.
    """

    start: np.datetime64
    hours: int
    day: NDArray[np.datetime64]
    releases: tuple[str, ...]
    names: tuple[str, ...]
    codes: tuple[str, ...]

    @property
    def key(self) -> str:
        """Tell layouts apart: of equal ones the files of a tower fit from store to store."""
        return _hash(str(self.start), self.hours, self.day.tolist(), self.releases, self.names, self.codes)


@dataclass(frozen=True, slots=True)
class Template:
    """A store without its values."""

    ds: xr.Dataset
    layout: Layout

    @property
    def sites(self) -> list[str]:
        """Its towers in order."""
        return [str(site) for site in self.ds["site"].values]

    @property
    def key(self) -> str:
        """Tell templates apart: of equal ones nothing has to be written again."""
        # The hours, which are many, follow from the layout.
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
    """Describe the whole store, without reading or computing any of it."""
    ds, day = label(plan.towers, plan.sites), plan.days
    if day.size:
        ds = ds.merge(modis.template(ds, day))
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


def prepare(template: Template, work: Path) -> None:
    """Make sure that the working folder holds the template; what was done for another one is kept."""
    if _root(work).get("template") == template.key:
        return
    if work.exists():
        work.rename(work.with_name(f"{work.name}-{len(stale(work))}"))
    ds = conventions.log(template.ds, f"xcarbon.build, xcarbon {__version__}")
    write_template(ds, work)
    # Last of all: a folder without it is taken for no template.
    root = {"template": template.key, "layout": template.layout.key, "sites": template.sites}
    zarr.create_group(work, path=AUDIT, attributes=root)


def stale(work: Path) -> list[Path]:
    """Find working folders of builds that were stopped and whose template fits no longer."""
    return sorted(work.parent.glob(f"{work.name}-*"))


def is_current(template: Template, fingerprints: list[str], store: Path) -> bool:
    """Tell whether a store holds all towers already, built from the same files."""
    if _root(store).get("template") != template.key:
        return False
    return [fingerprint(store, site) for site in template.sites] == fingerprints


def _root(folder: Path) -> dict[str, Any]:
    """What a store says of itself as a whole."""
    try:
        return dict(zarr.open_group(folder, path=AUDIT, mode="r").attrs)
    except FileNotFoundError:
        return {}


def fingerprint(folder: Path, site: str) -> str | None:
    """Tell from which files a tower of a store was built, if it was."""
    try:
        return str(read_audit(folder, site)["fingerprint"])
    except (StoreError, KeyError):
        return None


# The towers


@dataclass(frozen=True, slots=True)
class Task:
    """One tower, for a worker.

    Attributes
    ----------
    work : pathlib.Path
        The folder to write to.
    earlier : tuple of pathlib.Path
        Stores of earlier builds that may hold the tower already.
    layout : Layout
        Of all towers.
    index : int
        Position of the tower.
    tower : Tower
        Its records.
    site : SiteMetadata
        Its place.
    rasters : list of Raster
        Those that cover it.
    fingerprint : str
        Of its files.
    """

    work: Path
    earlier: tuple[Path, ...]
    layout: Layout
    index: int
    tower: Tower
    site: SiteMetadata
    rasters: list[Raster]
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a tower: it is in the working folder, if any of its files could be read."""

    is_done: bool
    is_new: bool = True
    problems: tuple[Problem, ...] = ()


def build_tower(task: Task) -> Outcome:
    """Take a tower over from an earlier build, or else read, fuse and write it."""
    site = task.tower.site
    for folder in task.earlier:
        if fingerprint(folder, site) == task.fingerprint:
            _take_over(task, folder)
            audit = read_audit(folder, site)
            _finish(task, audit)
            return Outcome(True, False, tuple(Problem(**problem) for problem in audit["problems"]))
    problems: list[Problem] = []
    series = _read_series(task, problems)
    if series is None:
        return Outcome(False, problems=tuple(problems))
    ds, patches = _label_series(series, task.layout), 0
    if task.layout.day.size:

        def note(error: FileFormatError) -> None:
            problems.append(Problem(site, str(error)))

        values = modis.read_patches(task.rasters, task.site.lat, task.site.lon, on_error=note)
        ds = ds.merge(_label_patches(values, task.layout))
        patches = int(np.isfinite(values.reflectance).any(axis=(1, 2, 3)).sum())
    write_site(ds, task.work, task.index)
    audit = {
        "fingerprint": task.fingerprint,
        "releases": series.audit,
        "patches": patches,
        "problems": [asdict(problem) for problem in problems],
    }
    _finish(task, audit)
    return Outcome(True, problems=tuple(problems))


def _finish(task: Task, audit: dict[str, Any]) -> None:
    """Say that a tower is complete."""
    path = f"{AUDIT}/{task.tower.site}"
    zarr.create_group(task.work, path=path, attributes=audit, overwrite=True)


def _read_series(task: Task, problems: list[Problem]) -> Series | None:
    """Read and fuse all records of a tower that can be read."""
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
    """Label the series of one tower as in the store."""
    names = [name for name in layout.names if name in series.arrays]
    ds = xr.Dataset({name: (("site", "time"), series.arrays[name][np.newaxis]) for name in names})
    if layout.codes:
        ds[RELEASE] = (("site", "code", "time"), stack_releases(series, layout.codes))
    return ds


def _label_patches(patches: Patches, layout: Layout) -> xr.Dataset:
    """Label the patches of one tower as in the store, on all its days."""
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


# Towers that were built before


def _take_over(task: Task, folder: Path) -> None:
    """Copy a tower from an earlier build."""
    root = _root(folder)
    if root["layout"] == task.layout.key:
        _link(task, folder, root["sites"].index(task.tower.site))
    else:
        write_site(_read_site(folder, task.tower.site, task.layout), task.work, task.index)


def _link(task: Task, folder: Path, index: int) -> None:
    """Give the files of a tower a second name: they are never changed, only replaced."""
    for name in task.layout.names:
        old, new = (at / name / "c" / str(i) for at, i in ((folder, index), (task.work, task.index)))
        if old.exists():
            shutil.copytree(old, new, copy_function=_link_or_copy, dirs_exist_ok=True)


def _link_or_copy(source: str, target: str) -> None:
    Path(target).unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)


def _read_site(folder: Path, site: str, layout: Layout) -> xr.Dataset:
    """Read a tower from an earlier build, on the axes of this one."""
    ds = open_store(folder).sel(site=[site])
    ds = ds[[name for name in layout.names if name in ds]].load()
    if layout.codes:
        ds[RELEASE] = _renumber(ds, read_audit(folder, site)["releases"], layout)
    axes = {
        "time": (layout.start + np.arange(layout.hours)).astype("M8[ns]"),
        "day": layout.day.astype("M8[ns]"),
        "code": list(layout.codes),
    }
    fill = {name: np.nan if array.dtype.kind == "f" else MISSING_FLAG for name, array in ds.items()}
    return ds.reindex({dim: axis for dim, axis in axes.items() if dim in ds.dims}, fill_value=fill)


def _renumber(ds: xr.Dataset, audits: list[dict[str, Any]], layout: Layout) -> xr.DataArray:
    """Give the flags of one tower's releases the numbers that they have in this store."""
    if RELEASE not in ds:  # no tower of that store had several
        (only,) = {audit["release"] for audit in audits}
        present = ds[[code for code in layout.codes if code in ds]].notnull().to_dataarray("code")
        flags = xr.where(present, np.int8(layout.releases.index(only)), MISSING_FLAG)
        return flags.transpose("site", "code", "time")
    names = ds[RELEASE].attrs["flag_meanings"].split()[1:]
    numbers = [layout.releases.index(name) if name in layout.releases else MISSING_FLAG for name in names]
    return ds[RELEASE].copy(data=np.array([*numbers, MISSING_FLAG], np.int8)[ds[RELEASE].values])
