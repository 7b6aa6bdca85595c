"""Point samples of NASA's AppEEARS: the columns of MODIS products and their quality bits.

AppEEARS names a column ``<product>_<collection>_<layer>`` and applies the scale factor of the layer. Fill
values appear as they are stored or scaled, and are missing in both forms.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xcarbon.core.conventions import MISSING_FLAG
from xcarbon.core.errors import FileFormatError, reading
from xcarbon.io.composites import GOOD, USABLE, Composites, centre, compose
from xcarbon.prep.satellite.vegetation import INDICES

Floats = NDArray[np.float64]
Flags = NDArray[np.int8]
#: What a product gives: code, values, flags, and the layers they come from.
Decoded = Iterator[tuple[str, Floats, Flags, str]]
Layers = dict[str, Floats]

_COLUMN = re.compile(r"(?P<product>M[OC]D\d\d[A-Z]\d[A-Z]?)_(?P<collection>\d{3})_+(?P<layer>.+)")
SITE, DATE = "ID", "Date"


def _bits(quality: Floats, first: int, count: int) -> NDArray[np.int64]:
    """Return ``count`` bits from bit ``first`` on; fill is all ones."""
    whole = np.where(np.isfinite(quality), quality, -1).astype(np.int64)
    return (whole >> first) & ((1 << count) - 1)


def _classify(is_good: NDArray[np.bool_], is_usable: NDArray[np.bool_]) -> Flags:
    return np.where(is_good, GOOD, np.where(is_usable, USABLE, MISSING_FLAG)).astype(np.int8)


def _unknown(values: Floats) -> Flags:
    """Return the flags of values whose quality layer is not in the file."""
    return np.full(values.shape, USABLE, np.int8)


def _without_fill(values: Floats, fills: range | tuple[int, ...], scale: float) -> Floats:
    """Return values with fill as NaN, whether the scale factor was applied to it or not."""
    raw = np.array(fills, np.float64)
    is_fill = np.isclose(values[:, np.newaxis], np.concatenate([raw, raw * scale]), rtol=1e-6, atol=1e-6)
    return np.where(is_fill.any(axis=1), np.nan, values)


def fpar_lai_flags(quality: Floats) -> Flags:
    """Return the quality flags of ``FparLai_QC`` of MCD15A2H and MCD15A3H.

    Bits 5 to 7 (SCF_QC): 0 is the main algorithm, 1 the main algorithm with saturation, 2 and 3 the backup
    algorithm, 4 not produced. Bits 3 and 4: 0 is clear, 1 cloudy, 2 mixed, 3 not defined and assumed clear.
    Bit 2 marks dead detectors. Source: MODIS Collection 6.1 LAI/FPAR Product User's Guide, table of
    FparLai_QC (lpdaac.usgs.gov/documents/926).

    Good is the main algorithm without clouds and with all detectors; others that were produced are usable.

    Parameters
    ----------
    quality : numpy.ndarray
        Values of ``FparLai_QC``, shape ``(samples,)``; NaN where missing.

    Returns
    -------
    numpy.ndarray
        Quality flags, shape ``(samples,)``, int8: 0 good, 1 usable, -1 missing.

    Examples
    --------
    >>> fpar_lai_flags(np.array([0, 2, 8, 97, 157, np.nan])).tolist()
    [0, 0, 1, 1, -1, -1]
    """
    algorithm, cloud, dead = _bits(quality, 5, 3), _bits(quality, 3, 2), _bits(quality, 2, 1)
    is_good = (algorithm <= 1) & ((cloud == 0) | (cloud == 3)) & (dead == 0)
    return _classify(is_good, algorithm <= 3)


def vegetation_index_flags(quality: Floats | None, reliability: Floats | None) -> Flags:
    """Return the quality flags of ``VI_Quality`` and ``pixel_reliability`` of MOD13Q1.

    Bits 0 and 1 of VI_Quality: 0 is good, 1 produced but to be checked, 2 produced but most probably cloudy,
    3 not produced. Pixel reliability: -1 is fill, 0 good, 1 marginal, 2 snow or ice, 3 cloudy. Source: MODIS
    Vegetation Index User's Guide, Collection 6.1, tables of VI_Quality and of pixel reliability.

    The reliability, which summarises the other bits, decides where it is there. Marginal and snow are usable,
    and clouds and pixels that were not produced are missing.

    Parameters
    ----------
    quality : numpy.ndarray or None
        Values of ``VI_Quality``, shape ``(samples,)``, NaN where missing; None if the table has none.
    reliability : numpy.ndarray or None
        Values of ``pixel_reliability`` in the same form.

    Returns
    -------
    numpy.ndarray
        Quality flags, shape ``(samples,)``, int8: 0 good, 1 usable, -1 missing.

    Examples
    --------
    >>> vegetation_index_flags(np.array([0, 1, 1, 2, 3]), np.array([0, 0, 2, 1, 0])).tolist()
    [0, 0, 1, -1, -1]
    >>> vegetation_index_flags(None, np.array([-1, 0, 1, 2, 3])).tolist()
    [-1, 0, 1, 1, -1]
    """
    if reliability is None:
        assert quality is not None
        return _classify(_bits(quality, 0, 2) == 0, _bits(quality, 0, 2) <= 1)
    produced = np.ones(reliability.shape, bool) if quality is None else _bits(quality, 0, 2) <= 1
    is_usable = (reliability == 1) | (reliability == 2)
    return _classify(produced & (reliability == 0), produced & is_usable)


def temperature_flags(quality: Floats) -> Flags:
    """Return the quality flags of ``QC_Day`` and ``QC_Night`` of MOD11A2.

    Bits 0 and 1: 0 is good, 1 produced but of other quality, 2 not produced because of clouds, 3 not produced
    for other reasons. Bits 6 and 7: the mean error is at most 1 K, 2 K or 3 K, and 3 is a larger error.
    Source: Wan (2013), Collection-6 MODIS Land Surface Temperature Products Users' Guide, table 13.

    A mean error above 3 K is missing.

    Parameters
    ----------
    quality : numpy.ndarray
        Values of ``QC_Day`` or ``QC_Night``, shape ``(samples,)``; NaN where missing.

    Returns
    -------
    numpy.ndarray
        Quality flags, shape ``(samples,)``, int8: 0 good, 1 usable, -1 missing.

    Examples
    --------
    >>> temperature_flags(np.array([0, 65, 129, 193, 2, 3])).tolist()
    [0, 1, 1, -1, -1, -1]
    """
    mandatory, error = _bits(quality, 0, 2), _bits(quality, 6, 2)
    return _classify(mandatory == 0, (mandatory == 1) & (error < 3))


def reflectance_flags(qualities: list[Floats]) -> Flags:
    """Return the quality flags of ``BRDF_Albedo_Band_Mandatory_Quality`` of MCD43A4, the worst of the bands.

    0 is a full BRDF inversion, 1 a magnitude inversion, 255 fill. Source: MODIS BRDF/Albedo/NBAR Product User
    Guide (Schaaf), MCD43A4 V6.1.

    Parameters
    ----------
    qualities : list of numpy.ndarray
        Values of the mandatory quality of each band, shape ``(samples,)`` each; NaN where missing.

    Returns
    -------
    numpy.ndarray
        Quality flags, shape ``(samples,)``, int8: 0 good, 1 usable, -1 missing.

    Examples
    --------
    >>> reflectance_flags([np.array([0, 0, 0]), np.array([0, 1, 255])]).tolist()
    [0, 1, -1]
    """
    worst = np.max([np.where(np.isfinite(quality), quality, 255) for quality in qualities], axis=0)
    return _classify(worst == 0, worst == 1)


def _fpar_lai(layers: Layers) -> Decoded:
    # Values from 249 on are classes without vegetation (water, snow, urban and others) and fill.
    for code, layer, scale in (("FAPAR", "Fpar_500m", 0.01), ("LAI", "Lai_500m", 0.1)):
        if layer in layers:
            values = _without_fill(layers[layer], range(249, 256), scale)
            quality = layers.get("FparLai_QC")
            yield code, values, _unknown(values) if quality is None else fpar_lai_flags(quality), layer


def _vegetation_index(layers: Layers) -> Decoded:
    prefix = "250m_16_days_"
    if (layer := f"{prefix}EVI") in layers:
        values = _without_fill(layers[layer], (-3000,), 1e-4)
        qualities = [layers.get(f"{prefix}{name}") for name in ("VI_Quality", "pixel_reliability")]
        is_known = any(quality is not None for quality in qualities)
        yield "EVI", values, vegetation_index_flags(*qualities) if is_known else _unknown(values), layer


def _temperature(layers: Layers) -> Decoded:
    for part in ("Day", "Night"):
        if (layer := f"LST_{part}_1km") in layers:
            values = _without_fill(layers[layer], (0,), 0.02) - 273.15  # K to degC
            quality = layers.get(f"QC_{part}")
            flags = _unknown(values) if quality is None else temperature_flags(quality)
            yield f"LST_{part.upper()}", values, flags, layer


def _reflectance(layers: Layers) -> Decoded:
    name, mandatory = "Nadir_Reflectance_Band", "BRDF_Albedo_Band_Mandatory_Quality_Band"
    for code, (function, bands) in INDICES.items():
        numbers = [band.removeprefix("B") for band in bands]
        if all(f"{name}{number}" in layers for number in numbers):
            values = function(*(_without_fill(layers[f"{name}{n}"], (32767,), 1e-4) for n in numbers))
            qualities = [layers[f"{mandatory}{n}"] for n in numbers if f"{mandatory}{n}" in layers]
            flags = reflectance_flags(qualities) if len(qualities) == len(numbers) else _unknown(values)
            yield code, values, flags, f"{name}{'+'.join(numbers)}"


@dataclass(frozen=True, slots=True)
class Product:
    """Length of the composites [days], days from the date of a row to their centre, and decoder."""

    days: float
    to_centre: int
    decode: Callable[[Layers], Decoded]


#: Products that are read. The date of a row is the first day of the composite, and for MCD43A4 the ninth of
#: the sixteen days of its observations.
PRODUCTS = {
    "MCD15A2H": Product(8, 4, _fpar_lai),
    "MCD15A3H": Product(4, 2, _fpar_lai),
    "MOD13Q1": Product(16, 8, _vegetation_index),
    "MOD11A2": Product(8, 4, _temperature),
    "MCD43A4": Product(16, 0, _reflectance),
}


def columns_of(header: list[str]) -> dict[str, dict[str, str]]:
    """Return the columns of each product by layer; empty if the header is not one of AppEEARS.

    If a file has several collections of a product, the newest is used.

    Examples
    --------
    >>> columns_of(["ID", "Latitude", "Date", "MCD15A2H_061_Fpar_500m"])
    {'MCD15A2H': {'Fpar_500m': 'MCD15A2H_061_Fpar_500m'}}
    """
    if SITE not in header or DATE not in header:
        return {}
    matches = [match for column in header if (match := _COLUMN.fullmatch(column))]
    found: dict[str, dict[str, str]] = {}
    # Collection 6.1 is written 061 and collection 6 is written 006.
    for match in sorted(
        matches, key=lambda match: (len(match["collection"].strip("0")), match["collection"])
    ):
        if match["product"] in PRODUCTS:
            found.setdefault(match["product"], {})[match["layer"]] = match[0]
    return found


def read(path: str, columns: dict[str, dict[str, str]]) -> Iterator[Composites]:
    """Read the composites of all sites of a point sample."""
    columns = {name: {k: v for k, v in layers.items() if _is_read(k)} for name, layers in columns.items()}
    needed = [column for layers in columns.values() for column in layers.values()]
    with reading(f"{path}: cannot be read as CSV"):
        frame = pd.read_csv(path, usecols=[SITE, DATE, *needed], dtype={SITE: str}, low_memory=False)
    dates, sites = parse_dates(frame[DATE], path, DATE), frame[SITE].to_numpy(str)
    read_any = False
    for name, layers in columns.items():
        product = PRODUCTS[name]
        numbers = {layer: to_numbers(frame[column], path, column, sites) for layer, column in layers.items()}
        day = centre(dates, 0) + np.timedelta64(product.to_centre, "D")
        for code, values, flags, layer in product.decode(numbers):
            read_any = True
            source = f"{path}: {name} {layer}"
            for site, rows in group(sites, day, path, np.isfinite(values)):
                yield compose(code, site, day[rows], values[rows], flags[rows], product.days, source)
    if not read_any:
        raise FileFormatError(
            f"{path}: none of the layers of {list(columns)} gives a satellite series; the file has {needed}"
        )


def _is_read(layer: str) -> bool:
    """Return whether a layer is one that the decoders use; AppEEARS adds columns of text."""
    names = r"Fpar_500m|Lai_500m|FparLai_QC|250m_16_days_(EVI|VI_Quality|pixel_reliability)"
    names += r"|LST_(Day|Night)_1km|QC_(Day|Night)"
    names += r"|(Nadir_Reflectance|BRDF_Albedo_Band_Mandatory_Quality)_Band[1-7]"
    return re.fullmatch(names, layer) is not None


def parse_dates(column: pd.Series, path: str, name: str) -> NDArray[np.datetime64]:
    """Return a column of dates [datetime64[D]]; raise FileFormatError naming the first that is none."""
    dates = pd.to_datetime(column, errors="coerce", format="ISO8601")
    if dates.isna().any():
        row = int(np.flatnonzero(dates.isna())[0])
        raise FileFormatError(
            f"{path}: column {name!r}, row {row + 1}: {column.iloc[row]!r} is no date; write it as 2010-01-31"
        )
    return dates.to_numpy("datetime64[D]")


def to_numbers(column: pd.Series, path: str, name: str, sites: NDArray[np.str_]) -> Floats:
    """Return a column as float64; raise FileFormatError naming the first value that is no number."""
    values = pd.to_numeric(column, errors="coerce")
    wrong = np.flatnonzero(values.isna() & column.notna())
    if wrong.size:
        row = int(wrong[0])
        raise FileFormatError(
            f"{path}: column {name!r}, site {sites[row]}, row {row + 1}: {column.iloc[row]!r} is no number; "
            "leave missing values empty"
        )
    return values.to_numpy(np.float64)


def group(
    sites: NDArray[np.str_], day: NDArray[np.datetime64], path: str, there: NDArray[np.bool_]
) -> Iterator[tuple[str, NDArray[np.intp]]]:
    """Yield each site and the positions of its rows with a value, in order of days; refuse days twice."""
    names, number = np.unique(sites, return_inverse=True)
    order = np.lexsort((day, number))
    order = order[there[order]]
    limits = np.searchsorted(number[order], np.arange(1, len(names)))
    for site, rows in zip(names, np.split(order, limits), strict=True):
        twice = np.flatnonzero(np.diff(day[rows]) == np.timedelta64(0))
        if twice.size:
            raise FileFormatError(
                f"{path}: site {site} has two values of one variable for the composite around "
                f"{day[rows][twice[0]]}; keep one row per site and date"
            )
        yield str(site), rows
