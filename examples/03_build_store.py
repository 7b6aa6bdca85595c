"""Build a store from raw files of several networks, list the problems, check the store, and train on it.

To use real files, pass the folder of the downloads and the path of the store:

    python 03_build_store.py RAW STORE

Without arguments, the script first writes four synthetic towers in the formats of the networks.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import xarray as xr

import xcarbon
from xcarbon.io.modis.grid import georeference
from xcarbon.pipeline import read_audit
from xcarbon.testing import synthetic_towers, write_release


def write_raw(folder: Path) -> None:
    """Write files like those that networks provide: releases of towers, a table of metadata, and images."""
    towers = synthetic_towers(4, years=2, seed=2)
    early, late = towers.sel(time=slice("2010")), towers.sel(time=slice("2010-07", "2011"))
    write_release(early, "SY-001", folder, "FLUXNET2015_FULLSET")
    write_release(late, "SY-001", folder, "ICOS-L2")  # a newer release, which overlaps by half a year
    write_release(early, "SY-002", folder, "AmeriFlux-BASE")
    write_release(early, "SY-003", folder, "FLUXNET-CH4")
    damaged = write_release(early, "SY-004", folder, "FLUXNET")
    damaged.write_bytes(damaged.read_bytes()[:-1000])  # an incomplete download
    columns = {"SITE_ID": "site", "LOCATION_LAT": "lat", "LOCATION_LON": "lon", "LOCATION_ELEV": "elevation"}
    columns |= {"IGBP": "igbp", "UTC_OFFSET": "utc_offset"}
    table = pd.DataFrame({column: towers[name] for column, name in columns.items()})
    table.to_csv(folder / "site_data.csv", index=False)
    for area in range(3):
        write_images(towers.isel(site=area, day=slice(180, 220, 5)), folder, area + 1)


def write_images(tower: xr.Dataset, folder: Path, area: int) -> None:
    """Write patches of a tower as AppEEARS exports them, one GeoTIFF per band and day."""
    for day in georeference(tower)["reflectance"].load():
        stamp = day["day"].dt.strftime("doy%Y%j").item()
        for band in day:
            layer = f"Nadir_Reflectance_Band{band['band'].item()[1:]}"
            band.rio.to_raster(folder / f"MCD43A4.061_{layer}_{stamp}_aid{area:04}.tif")


def main(raw: Path, store: Path) -> None:
    """Build a store, check it, and run one training step."""
    report = xcarbon.build(raw, store)
    print(report)  # the towers in the store, and the problems

    ds = xcarbon.open_store(store)
    print(ds)
    for release in read_audit(store, ds["site"].values[0])["releases"]:
        nee = release["kept"].get("NEE", 0)
        name, hours, start = (release[key] for key in ("release", "hours", "first_hour"))
        print(f"{name}: {hours} hours from {start}; NEE was kept in {nee} hours")

    print(xcarbon.check(ds))  # warns that both halves of each hour are equal, as they are in synthetic files

    small = {"width": 32, "heads": 4, "cross_blocks": 2, "self_layers": 1}
    model = ds.carbon.fit(network=small, max_steps=1, batch_size=16)
    print("trained for one step on:", ", ".join(model.sites))


xcarbon.set_options(progress=sys.stderr.isatty())
if len(sys.argv) > 2:
    main(Path(sys.argv[1]), Path(sys.argv[2]))
else:
    with TemporaryDirectory() as folder:
        raw = Path(folder, "raw")
        raw.mkdir()
        write_raw(raw)
        main(raw, Path(folder, "carbonsense.zarr"))
