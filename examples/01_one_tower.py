"""One tower: read a FLUXNET file, predict NEE, and write the prediction to NetCDF.

To use your own tower, pass the path of a FLUXNET2015 file:

    python 01_one_tower.py FLX_DE-Tha_FLUXNET2015_SUBSET_HH_1996-2014_1-4.csv

Without a path, the script first writes a synthetic tower in the same format.
"""

import sys

import xcarbon
from xcarbon.core import conventions
from xcarbon.testing import synthetic_towers, write_fluxnet_csv

xcarbon.set_options(progress=sys.stderr.isatty())
towers = synthetic_towers(9, patches=False, seed=3)

if len(sys.argv) > 1:
    path, metadata = sys.argv[1], None  # reads site_data.csv or a BIF file in the same folder
else:
    path = "FLX_SY-009_FLUXNET2015_SUBSET_HH_2010-2010_1-4.csv"
    write_fluxnet_csv(towers, "SY-009", path)
    site = towers.sel(site="SY-009")
    metadata = {name: site[name].item() for name in ("lat", "lon", "igbp", "elevation", "utc_offset")}

# Time stamps are read at once, values when they are needed; .load() keeps them in memory.
tower = xcarbon.open_fluxnet(path, metadata=metadata).load()
print(tower)

# A small network, trained for seconds on eight synthetic towers. Training on real towers takes days.
model = towers.isel(site=slice(8)).carbon.fit(
    variables=["DOY", "TOD", "TA", "SW_IN", "VPD"],
    network={"width": 32, "heads": 4, "cross_blocks": 2, "self_layers": 1},
    max_steps=200,
    batch_size=64,
    learning_rate=3e-3,
    loss="window",
)

weeks = tower.isel(time=slice(24 * 150, 24 * 206))
nee = weeks.carbon.predict_nee(model).compute()
conventions.apply(nee.to_dataset()).to_netcdf("nee.nc")
print(weeks.carbon.score(nee, by="site").compute().to_dataframe().round(2))

axes = weeks.carbon.plot.series(nee)
axes.figure.savefig("nee.png", dpi=150, bbox_inches="tight")
print("wrote nee.nc and nee.png")
