"""Satellite series of towers from point samples, tables and NetCDF files."""

from __future__ import annotations

import glob
import os
import warnings
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from xcarbon.core import conventions
from xcarbon.core.errors import FileFormatError, reading
from xcarbon.io import appeears
from xcarbon.io.composites import Composites, SeasonalCycle
from xcarbon.io.handles import LOCK, open_netcdf_file
from xcarbon.io.satellite.netcdf import names_of_series, read_netcdf
from xcarbon.io.satellite.series import expand_cycles, label_series, mask_implausible
from xcarbon.io.satellite.tables import header_of, read_table

PathLike = str | os.PathLike[str]
_ROOT = ("title", "license", "references")


def open_satellite(
    paths: PathLike | Iterable[PathLike],
    *,
    columns: Mapping[str, str] | None = None,
    composite_days: float | None = None,
    years: tuple[int, int] | None = None,
) -> xr.Dataset:
    r"""Read satellite series of towers from files, at once.

    Parameters
    ----------
    paths : path-like or iterable of path-like
        Files; patterns such as ``"satellite/*.csv"`` stand for all files that they match. Each file is one of

        - a point sample of AppEEARS (``.csv``) of MCD15A2H, MCD15A3H, MOD13Q1, MOD11A2 or MCD43A4, whose
          column ``ID`` contains the site;
        - any other ``.csv`` or ``.csv.gz`` with ``columns``;
        - a NetCDF file of variables that have the names of :data:`xcarbon.core.variables.SATELLITE`, on
          ``site`` and ``time`` (first days of composites), ``site`` and ``day`` (centres of composites, as in
          the result of this function), or ``site`` and ``month`` (a mean seasonal cycle).
    columns : mapping of str to str, optional
        Columns of tables that are not point samples: ``site``, ``date`` (first day of the composite), codes
        of variables in the units of the vocabulary, and where there are any their quality flags, for example
        ``{"site": "tower", "date": "day", "FAPAR": "fpar", "FAPAR_QC": "quality"}``.
    composite_days : float, optional
        Length of the composites [days] of tables and NetCDF files that do not state it in an attribute
        ``composite_days``. Default: a month if all dates are the first of a month, else the median of the
        steps between dates.
    years : tuple of int, optional
        First and last year for which a mean seasonal cycle is used. Default: those of the other series.

    Returns
    -------
    xarray.Dataset
        Each variable on ``(site, day)``, float32, in the units of the vocabulary, with its quality flags
        ``<VAR>_QC`` (int8): 0 is a good composite, 1 a usable one (backup algorithm or lower quality), 2 a
        mean seasonal cycle, -1 missing. ``day`` is the day at the centre of the composite, rounded down to
        whole days: the first day plus half the length, the 16th of a month (15th in February). The attribute
        ``composite_days`` is the length [days]; if the series is made of composites of several lengths, it is
        the longest, and ``<VAR>_DAYS (site, day)`` has the length of each. A month counts as 31 days.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FileFormatError
        If a file is none of these, lacks a column, or contains text where a number or date is needed.
    MetadataError
        If a variable has units that cannot be converted, or the length of composites is unknown.

    Warns
    -----
    UserWarning
        If values are beyond the plausibility limits; they become missing.

    Notes
    -----
    - Several files may have the same variable at the same site. Of two composites the shorter is used, and a
      longer one where no shorter one with a value has its centre within it; of composites of equal length and
      day that of the first file is used.
    - A mean seasonal cycle is used only before the first and after the last satellite value of the variable
      at the site. Besides variables on ``month``, these values are a mean seasonal cycle: those that the
      ``comment`` of a NetCDF variable describes as such ("before July 2002 a mean seasonal cycle"), those of
      products that use MODIS (by their ``long_name``) before 18 February 2000, and months that repeat the
      same months of another year for a year or longer.
    - The quality bits of point samples are decoded as :mod:`xcarbon.io.appeears` describes. Values without
      any information on quality have the flag 0, and those of point samples without their quality layer 1.
    - NIRV, NDWI and EVI are computed from the bands of MCD43A4: see :mod:`xcarbon.prep.satellite`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = Path(folder, "fapar.csv")
    ...     _ = table.write_text("tower,day,fpar\nDE-Tha,2010-01-01,0.6\nDE-Tha,2010-01-09,0.7\n")
    ...     ds = open_satellite(table, columns={"site": "tower", "date": "day", "FAPAR": "fpar"})
    >>> ds["day"].values.astype("datetime64[D]").astype(str).tolist(), ds["FAPAR"].attrs["composite_days"]
    (['2010-01-05', '2010-01-13'], 8.0)
    """
    files = _files(paths)
    parts: list[Composites] = []
    cycles: list[SeasonalCycle] = []
    roots: list[dict[str, Any]] = []
    for path in files:
        if path.endswith((".csv", ".csv.gz")):
            parts += read_table(path, columns, composite_days)
        else:
            series, seasons, root = read_netcdf(path, composite_days)
            parts, cycles, roots = parts + series, cycles + seasons, [*roots, root]
    implausible: list[str] = []
    parts = [mask_implausible(part, implausible) for part in parts]
    parts += expand_cycles(cycles, parts, years, implausible)
    if implausible:
        counts = pd.Series(implausible).value_counts(sort=False)
        text = "; ".join(f"{what}: {count}" for what, count in counts.items())
        warnings.warn(f"values beyond the plausibility limits became missing: {text}", stacklevel=2)
    if not any(np.isfinite(part.values).any() for part in parts):
        raise FileFormatError(f"{', '.join(files)}: there is no value of a satellite series")
    ds = label_series(parts)
    ds.attrs = {
        name: "; ".join(texts)
        for name in _ROOT
        if (texts := dict.fromkeys(str(root[name]) for root in roots if name in root))
    }
    names = ", ".join(Path(path).name for path in files)
    return conventions.apply(ds, history=f"read by xcarbon.open_satellite from {names}")


def is_satellite(path: PathLike) -> bool:
    """Return whether a file contains satellite series that :func:`open_satellite` reads without ``columns``.

    Examples
    --------
    >>> is_satellite("site_data.xlsx")
    False
    """
    path = os.fspath(path)
    with suppress(FileFormatError, OSError), reading(path):
        if path.endswith((".csv", ".csv.gz")):
            return bool(appeears.columns_of(header_of(path)))
        if path.endswith((".nc", ".nc4")):
            with LOCK, open_netcdf_file(path, decode_times=False) as ds:
                return bool(names_of_series(ds))
    return False


def _files(paths: PathLike | Iterable[PathLike]) -> list[str]:
    """Return the files that paths and patterns stand for."""
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not given:
        raise FileNotFoundError("there is no file to open: the list of paths is empty")
    found = [match for path in given for match in sorted(glob.glob(os.fspath(path))) or [os.fspath(path)]]
    for path in found:
        if not os.path.isfile(path):
            raise FileNotFoundError(f"{path}: no such file")
    return list(dict.fromkeys(found))
