"""NetCDF files are read in the units of the vocabulary, and mean seasonal cycles are recognised."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from tests.io.satellite.samples import flags, netcdf
from xcarbon.core.errors import FileFormatError, MetadataError
from xcarbon.core.variables import SATELLITE
from xcarbon.io.satellite import is_satellite, open_satellite


@pytest.mark.parametrize(
    ("name", "units", "value", "code", "expected"),
    [
        ("LST_DAY", "K", 283.15, "LST_DAY", 10.0),
        ("SNOW", "percent", 40.0, "SNOW_COVER", 0.4),
        ("FPAR", "1", 0.4, "FAPAR", 0.4),
        ("soil_moisture", "m3 m-3", 0.3, "SOIL_MOISTURE", 0.3),
    ],
)
def test_names_and_units_of_sources(tmp_path, name, units, value, code, expected):
    ds = open_satellite(netcdf(tmp_path / "a.nc", name, units, value=value))
    np.testing.assert_allclose(ds[code], expected, atol=1e-4)
    assert ds[code].attrs["units"] == SATELLITE[code].units


def test_unknown_units_are_refused(tmp_path):
    with pytest.raises(MetadataError, match=r"a\.nc: LST_DAY has units 'degF'"):
        open_satellite(netcdf(tmp_path / "a.nc", "LST_DAY", "degF"))


def cycle(path, name="LAI"):
    months = np.arange(1.0, 13)
    ds = xr.Dataset(
        {name: (("site", "month"), [months / 10, months / 20])}, {"site": ["A", "C"], "month": range(1, 13)}
    )
    ds.to_netcdf(path)
    return path


def test_seasonal_cycle_is_used_outside_the_period_of_satellite_values(tmp_path):
    months = netcdf(tmp_path / "months.nc")
    with xr.open_dataset(months) as ds:
        ds = ds.load()
    ds["LAI"][0, :6] = np.nan  # A begins in July 2005
    ds["LAI"][0, 20] = np.nan  # a gap
    ds.to_netcdf(months)
    ds = open_satellite([cycle(tmp_path / "cycle.nc"), months], years=(2004, 2008))
    assert flags(ds, "LAI", "A") == [2] * 18 + [0] * 14 + [-1] + [0] * 15 + [2] * 12
    assert flags(ds, "LAI", "B") == [-1] * 12 + [0] * 36 + [-1] * 12
    assert flags(ds, "LAI", "C") == [2] * 60
    np.testing.assert_allclose(ds["LAI"].sel(site="A")[:12], np.arange(1, 13) / 10, rtol=1e-6)


def test_seasonal_cycle_alone_needs_years(tmp_path):
    path = cycle(tmp_path / "cycle.nc")
    with pytest.raises(MetadataError, match="pass years"):
        open_satellite(path)
    assert open_satellite(path, years=(2001, 2002)).sizes["day"] == 24


def test_comment_describes_a_seasonal_cycle(tmp_path):
    comment = "before July 2005 and after February 2007 a mean seasonal cycle"
    ds = open_satellite(netcdf(tmp_path / "a.nc", comment=comment))
    assert flags(ds, "LAI") == [2] * 6 + [0] * 20 + [2] * 10


def test_values_of_modis_before_modis_are_a_seasonal_cycle(tmp_path):
    ds = open_satellite(netcdf(tmp_path / "a.nc", start="1999-01-01", long_name="leaf area index (MODIS)"))
    assert flags(ds, "LAI") == [2] * 14 + [0] * 22


def test_repeated_months_are_a_seasonal_cycle_and_constant_ones_are_not(tmp_path):
    path = netcdf(tmp_path / "a.nc", count=60)
    with xr.open_dataset(path) as ds:
        ds = ds.load()
    ds["LAI"][0, 12:24] = ds["LAI"][0, :12].values
    ds["LAI"][0, 40] = ds["LAI"][0, 52].values  # by chance
    ds["LAI"][1] = 0.0
    ds.to_netcdf(path)
    ds = open_satellite(path)
    assert flags(ds, "LAI", "A") == [2] * 24 + [0] * 36
    assert flags(ds, "LAI", "B") == [0] * 60


def test_damaged_netcdf_is_named(tmp_path):
    path = tmp_path / "series.nc"
    netcdf(path)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"OHDR", b"OHDX").replace(b"TREE", b"XREE"))
    with pytest.raises(FileFormatError, match=r"series\.nc: cannot be opened as NetCDF"):
        open_satellite(path)
    assert not is_satellite(path)
