"""Simulate towers with the structure of real ones, and write them in the formats of the networks.

Simulated towers have the variables, quality flags, gaps and satellite patches of the data model, so that code
can be tested and documented without measurements. Their values are plausible, but they are not data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Literal, NoReturn

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import xarray as xr
from numpy.typing import NDArray

from xcarbon.core.conventions import MISSING_FLAG, QC, apply, quality_attrs
from xcarbon.core.errors import OptionError, VariableError
from xcarbon.core.variables import (
    IGBP_CLASSES,
    PAPER_INPUTS,
    PATCH_BANDS,
    REFLECTANCE_BANDS,
    TARGETS,
    TIME_FEATURES,
    VARIABLES,
    is_gap_filled,
    quality_column,
    variable,
)
from xcarbon.io.modis.grid import PATCH_PIXELS, patch_centre, patch_grid
from xcarbon.io.store import CHUNK
from xcarbon.prep.satellite import join_satellite
from xcarbon.testing.simulation import (
    COMPOSITE_DAYS,
    SERIES,
    SIMULATED,
    Period,
    Site,
    composite_days,
    draw_site,
    flag_scheme,
    tower_patches,
    tower_rows,
    tower_series,
)


def synthetic_towers(
    n_sites: int = 12,
    years: int = 1,
    seed: int = 0,
    *,
    patches: bool = True,
    satellite: bool = False,
    variables: Sequence[str] | None = None,
    gaps: bool = True,
    start: str = "2010-01-01",
) -> xr.Dataset:
    """Simulate flux towers in the full data model, lazily.

    Parameters
    ----------
    n_sites : int
        Number of towers. The first twelve are three each of evergreen needleleaf forest, deciduous broadleaf
        forest, grassland and cropland; the following ones include other IGBP classes.
    years : int
        Length of the record [years].
    seed : int
        Random seed for the simulation. A tower depends only on ``seed``, its position, ``years`` and
        ``start``, so the first twelve of a hundred towers are the same as twelve towers.
    patches : bool
        Whether to add ``reflectance``, ``snow`` and ``water``.
    satellite : bool
        Whether to add the satellite series ``FAPAR`` and ``LAI`` of composites of eight days, with their
        quality flags.
    variables : sequence of str, optional
        Codes of the variables. Default: the inputs of the paper and the targets; ``SW_IN_POT``, ``SWC_1`` and
        ``TS_1`` can be selected as well. Variables that have quality flags in FLUXNET have them here.
    gaps : bool
        Whether to simulate gaps of sensors and clouds. If false, every value is measured.
    start : str
        First day, as ``"YYYY-MM-DD"``.

    Returns
    -------
    xarray.Dataset
        Float32 series ``(site, time)`` in the units of the vocabulary with int8 quality flags, ``reflectance
        (site, day, band, y, x)`` [1], and int8 flags ``snow`` and ``water (site, day, y, x)``. One Dask task
        simulates one tower; nothing is computed yet.

    Raises
    ------
    VariableError
        If a variable is unknown or cannot be simulated.
    OptionError
        If ``n_sites`` or ``years`` is less than 1.

    Examples
    --------
    >>> ds = synthetic_towers(n_sites=2)
    >>> dict(ds.sizes)
    {'site': 2, 'time': 8760, 'day': 365, 'band': 7, 'y': 8, 'x': 8, 'bnds': 2}
    >>> ds.igbp.values.tolist()
    ['ENF', 'DBF']
    >>> bool((ds.SW_IN.isel(time=0) == 0).all())
    True
    """
    if n_sites < 1 or years < 1:
        raise OptionError(f"n_sites and years must be at least 1, found {n_sites=} and {years=}")
    codes = select(variables)
    sites = [draw_site(seed, index) for index in range(n_sites)]
    period = Period(start, years)
    ds = xr.Dataset(
        _series(sites, period, codes, gaps=gaps),
        coords={"time": period.hours, **_site_coords(sites)},
        attrs={
            "title": "Synthetic flux towers: simulated, not measured",
            "source": f"xcarbon.testing.synthetic_towers, seed {seed}",
            "license": "CC0-1.0",
        },
    )
    if patches:
        ds = ds.merge(_patch_dataset(sites, period, gaps=gaps))
    ds = apply(ds)
    return join_satellite(ds, _series_dataset(sites, period, gaps=gaps)) if satellite else ds


@contextmanager
def raise_on_compute() -> Iterator[None]:  # numpydoc ignore=YD01
    """Raise an error for every Dask computation in a ``with`` block, to test that code is lazy.

    Raises
    ------
    AssertionError
        If a Dask graph is computed in the block.

    Examples
    --------
    >>> ds = synthetic_towers(1)
    >>> with raise_on_compute():
    ...     celsius = ds.TA + 273.15
    ...     celsius.mean().load()
    Traceback (most recent call last):
    ...
    AssertionError: a Dask graph was computed in a block that must be lazy
    """
    with dask.config.set(scheduler=_refuse):
        yield


def _refuse(*args: object, **kwargs: object) -> NoReturn:
    """Replace a Dask scheduler."""
    raise AssertionError("a Dask graph was computed in a block that must be lazy")


def write_fluxnet_csv(ds: xr.Dataset, site: str, path: str | PathLike[str]) -> Path:
    r"""Write a tower to a half-hourly CSV file in the layout of FLUXNET2015.

    Parameters
    ----------
    ds : xarray.Dataset
        Series on ``(site, time)``. Patches and coordinates are not written.
    site : str
        Identifier of the tower.
    path : path-like
        Path of the file. If it ends in ``.gz``, the file is compressed.

    Returns
    -------
    pathlib.Path
        The file. Each hour is written as two equal half-hours, with half of the precipitation each; -9999
        stands for missing values.

    Raises
    ------
    KeyError
        If ``ds`` does not contain the tower.

    Examples
    --------
    >>> import tempfile
    >>> ds = synthetic_towers(1, variables=["TA"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = write_fluxnet_csv(ds, "SY-001", f"{folder}/FLX_SY-001_FLUXNET2015_SUBSET_HH.csv")
    ...     print(file.read_text().partition("\n")[0])
    TIMESTAMP_START,TIMESTAMP_END,TA_F,TA_F_QC
    """
    _write_cells(_half_hours(ds, site, _Form()), path)
    return Path(path)


@dataclass(frozen=True, slots=True)
class _Form:
    """Layout of a product."""

    # Whether gap-filled values are in the same column as measured ones, with quality flags, in separate
    # columns (``_F``) without flags, or absent.
    gap_filled: Literal["same", "separate", "absent"] = "same"
    renames: Mapping[str, str | None] = field(default_factory=dict)  # None: the product lacks the variable
    comment: str = ""  # lines before the header


_FLUXNET = _Form(renames={"FCH4": None})
_METHANE = _Form("separate", {"SWC_1": "SWC"})
_BASE = _Form(
    "absent",
    {
        "NEE": "NEE_PI", "TA": "TA_1_1_1", "G": "G_1_1_1", "SWC_1": "SWC_1_1_1", "TS_1": "TS_1_1_1",
        **dict.fromkeys(("SW_IN_POT", "GPP_DT", "GPP_NT", "RECO_DT", "RECO_NT")),
    },
    "# Site: {site}\n# Version: 1-5\n",
)  # fmt: skip
#: Name and layout of the half-hourly file of each product.
_RELEASES = {
    "AmeriFlux-BASE": ("AMF_{site}_BASE_HH_1-5", _BASE),
    "FLUXNET2015_SUBSET": ("FLX_{site}_FLUXNET2015_SUBSET_HH_{years}_1-4", _FLUXNET),
    "FLUXNET2015_FULLSET": ("FLX_{site}_FLUXNET2015_FULLSET_HH_{years}_1-4", _FLUXNET),
    "FLUXNET-CH4": ("FLX_{site}_FLUXNET-CH4_HH_{years}_1-1", _METHANE),
    "ICOS-Warm-Winter-2020": ("FLX_{site}_FLUXNET2015_FULLSET_HH_{years}_beta-3", _FLUXNET),
    "AmeriFlux-FLUXNET": ("AMF_{site}_FLUXNET_FULLSET_HH_{years}_3-5", _FLUXNET),
    "ICOS-L2": ("ICOSETC_{site}_FLUXNET_HH_L2", _FLUXNET),
    "FLUXNET": ("AMF_{site}_FLUXNET_FLUXMET_HH_{years}_v1.3_r1", _FLUXNET),
}
_MISSING = -9999


def write_release(
    ds: xr.Dataset,
    site: str,
    folder: str | PathLike[str],
    product: str = "FLUXNET2015_FULLSET",
    *,
    columns: Sequence[str] | None = None,
) -> Path:
    """Write a tower to a file with the layout and name of a network's product.

    Parameters
    ----------
    ds : xarray.Dataset
        Series on ``(site, time)``. Patches and coordinates are not written.
    site : str
        Identifier of the tower.
    folder : path-like
        Folder in which the file is written.
    product : str
        ``"FLUXNET2015_FULLSET"``, ``"FLUXNET2015_SUBSET"``, ``"ICOS-Warm-Winter-2020"``, ``"ICOS-L2"``,
        ``"AmeriFlux-FLUXNET"`` and ``"FLUXNET"`` contain gap-filled values with quality flags.
        ``"FLUXNET-CH4"`` contains measured values, and gap-filled ones without flags in separate columns.
        ``"AmeriFlux-BASE"`` contains only measured values, after two lines of comments. Variables that a
        product lacks are left out.
    columns : sequence of str, optional
        Names of the columns to write. Columns that the tower lacks contain missing values only.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    KeyError
        If ``ds`` does not contain the tower.
    OptionError
        If the product is unknown.

    Examples
    --------
    >>> import tempfile
    >>> ds = synthetic_towers(1, variables=["TA", "NEE"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = write_release(ds, "SY-001", folder, "AmeriFlux-BASE")
    ...     print(file.name, file.read_text().splitlines()[:3])
    AMF_SY-001_BASE_HH_1-5.csv ['# Site: SY-001', '# Version: 1-5', 'TIMESTAMP_START,TIMESTAMP_END,...
    """
    if product not in _RELEASES:
        raise OptionError(f"unknown product {product!r}: the products are {sorted(_RELEASES)}")
    name, form = _RELEASES[product]
    cells = _half_hours(ds, site, form)
    if columns is not None:
        missing = np.full(2 * ds.sizes["time"], _MISSING)
        cells = {column: cells.get(column, missing) for column in columns}
    first, last = ds["time"].dt.year.values[[0, -1]]
    path = Path(folder, name.format(site=site, years=f"{first}-{last}") + ".csv")
    _write_cells(cells, path, form.comment.format(site=site))
    return path


def _half_hours(ds: xr.Dataset, site: str, form: _Form) -> dict[str, NDArray[Any]]:
    """Return the columns of a half-hourly file, with each hour twice."""
    codes = [code for code in VARIABLES if code in ds and code not in TIME_FEATURES]
    names = [name for code in codes for name in (code, f"{code}{QC}") if name in ds]
    tower = ds[names].sel(site=site).load()
    begin = np.repeat(tower["time"].values.astype("M8[m]"), 2)
    begin[1::2] += 30
    cells = {"TIMESTAMP_START": _stamps(begin), "TIMESTAMP_END": _stamps(begin + 30)}
    for code in codes:
        share = 0.5 if variable(code).cell_method == "sum" else 1.0
        values = np.repeat(tower[code].values.astype("float32") * np.float32(share), 2)
        flags = np.repeat(tower[f"{code}{QC}"].values.astype("int16"), 2) if f"{code}{QC}" in tower else None
        for column, numbers in _columns(code, values, flags, form).items():
            cells.setdefault(column, numbers)
    return cells


def _columns(
    code: str, values: NDArray[np.float32], flags: NDArray[np.int16] | None, form: _Form
) -> dict[str, NDArray[Any]]:
    """Return the columns of one variable."""
    known = variable(code).columns
    column = form.renames.get(code, known[0] if form.gap_filled == "same" else code)
    values = np.where(np.isnan(values), np.float32(_MISSING), values)
    if column is None:
        return {}
    if flags is None or (form.gap_filled != "same" and is_gap_filled(column)):
        return {column: values}
    if form.gap_filled == "same":
        return {column: values, quality_column(column): np.where(flags == MISSING_FLAG, _MISSING, flags)}
    measured = {column: np.where(flags == 0, values, np.float32(_MISSING))}
    filled = f"{column}_F"
    return measured | ({filled: values} if form.gap_filled == "separate" and filled in known else {})


def _stamps(minutes: NDArray[np.datetime64]) -> NDArray[np.int64]:
    """Format times as YYYYMMDDHHMM."""
    return pd.DatetimeIndex(minutes).strftime("%Y%m%d%H%M").to_numpy().astype("int64")


def _write_cells(cells: dict[str, NDArray[Any]], path: str | PathLike[str], comment: str = "") -> None:
    """Write columns to a CSV file, with a comment before the header."""
    table = pa.table(cells)
    with pa.output_stream(str(path)) as stream:
        stream.write(f"{comment}{','.join(cells)}\n".encode())
        pyarrow.csv.write_csv(table, stream, pyarrow.csv.WriteOptions(include_header=False))


# --- The Dataset --------------------------------------------------------------


def select(variables: Sequence[str] | None) -> list[str]:
    """Return the codes to simulate, in the order of the vocabulary."""
    wanted = (*PAPER_INPUTS, *TARGETS) if variables is None else variables
    wanted = [variable(code).code for code in wanted if code not in TIME_FEATURES]
    unknown = [code for code in wanted if code not in SIMULATED]
    if unknown:
        raise VariableError(f"{unknown} cannot be simulated: choose from {sorted(SIMULATED)}")
    return [code for code in VARIABLES if code in wanted]


def _site_coords(sites: list[Site]) -> dict[str, tuple[str, NDArray[Any]]]:
    ids = [f"SY-{site.index + 1:03d}" for site in sites]
    names = [f"synthetic {IGBP_CLASSES[site.igbp]} {tower}" for site, tower in zip(sites, ids, strict=True)]
    return {
        "site": ("site", np.array(ids)),
        "lat": ("site", np.array([site.lat for site in sites])),
        "lon": ("site", np.array([site.lon for site in sites])),
        "elevation": ("site", np.array([site.elevation for site in sites], np.float32)),
        "igbp": ("site", np.array([site.igbp for site in sites])),
        "utc_offset": ("site", np.array([site.utc_offset for site in sites], np.float32)),
        "site_name": ("site", np.array(names)),
    }


def per_site(
    kernel: Callable[..., NDArray[np.float32]],
    sites: list[Site],
    shape: tuple[int, ...],
    **kwargs: Any,
) -> da.Array:
    """Return a lazy float32 array ``(site, *shape)``, with one task per tower."""
    return da.map_blocks(
        _run_kernel,
        da.from_array(np.array(sites, dtype=object), chunks=1),
        kernel=kernel,
        new_axis=list(range(1, len(shape) + 1)),
        chunks=((1,) * len(sites), *((size,) for size in shape)),
        meta=np.empty((0,) * (len(shape) + 1), np.float32),
        **kwargs,
    )


def _run_kernel(
    block: NDArray[np.object_], kernel: Callable[..., NDArray[np.float32]], **kwargs: Any
) -> NDArray[np.float32]:
    return kernel(block[0], **kwargs)[np.newaxis]


def _series(sites: list[Site], period: Period, codes: list[str], *, gaps: bool) -> dict[str, Any]:
    """Return lazy variables and quality flags, which are parts of one array ``(site, row, time)``."""
    rows = [row for code in codes for row in (code, *([f"{code}{QC}"] if flag_scheme(code) else []))]
    shape = (len(rows), period.hours.size)
    stack = per_site(tower_rows, sites, shape, period=period, rows=rows, gaps=gaps)
    stack = stack.rechunk({2: CHUNK["time"]})
    series: dict[str, Any] = {}
    for position, row in enumerate(rows):
        scheme = flag_scheme(row.removesuffix(QC))
        if row.endswith(QC) and scheme:
            attrs = quality_attrs(row.removesuffix(QC), scheme)
            series[row] = (("site", "time"), stack[:, position].astype("int8"), attrs)
        else:
            series[row] = (("site", "time"), stack[:, position])
    return series


def _series_dataset(sites: list[Site], period: Period, *, gaps: bool) -> xr.Dataset:
    """Return lazy satellite series, which are parts of one array ``(site, row, day)``."""
    day = composite_days(period)
    stack = per_site(tower_series, sites, (len(SERIES), day.size), period=period, gaps=gaps)
    ds = xr.Dataset(coords={"day": day, "site": _site_coords(sites)["site"]})
    for number, name in enumerate(SERIES):
        flags = name.endswith(QC)
        values = stack[:, number].astype("int8") if flags else stack[:, number]
        attrs = {} if flags else {"composite_days": float(COMPOSITE_DAYS)}
        ds[name] = (("site", "day"), values, attrs)
    return apply(ds)


def _patch_dataset(sites: list[Site], period: Period, *, gaps: bool) -> xr.Dataset:
    """Return lazy patches, which are parts of one array ``(site, day, band, y, x)``, and their grid."""
    day = period.days
    shape = (day.size, len(PATCH_BANDS), PATCH_PIXELS, PATCH_PIXELS)
    stack = per_site(tower_patches, sites, shape, period=period, gaps=gaps)
    patch_x, patch_y = patch_centre([site.lat for site in sites], [site.lon for site in sites])
    dims = ("site", "day", "y", "x")
    snow, water = (stack[:, :, PATCH_BANDS.index(flag)].astype("int8") for flag in ("snow", "water"))
    return xr.Dataset(
        {
            "reflectance": (
                ("site", "day", "band", "y", "x"),
                stack[:, :, : len(REFLECTANCE_BANDS)],
            ),
            "snow": (dims, snow),
            "water": (dims, water),
        },
        coords=patch_grid() | {"day": day, "patch_x": ("site", patch_x), "patch_y": ("site", patch_y)},
    )
