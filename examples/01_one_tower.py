"""One tower: a FLUXNET CSV in, a prediction of NEE in NetCDF out.

Give the path of a FLUXNET2015 file to run it on your own tower:

    python 01_one_tower.py FLX_DE-Tha_FLUXNET2015_SUBSET_HH_1996-2014_1-4.csv

Without one, a synthetic tower is written in the same format first.
"""

import sys

import xcarbon
from xcarbon.core import conventions
from xcarbon.testing import synthetic_towers, write_fluxnet_csv

xcarbon.set_options(progress=sys.stderr.isatty())
towers = synthetic_towers(9, patches=False, seed=3)

if len(sys.argv) > 1:
    path, metadata = sys.argv[1], None  # looks for site_data.csv or a BIF file beside it
else:
    path = "FLX_SY-009_FLUXNET2015_SUBSET_HH_2010-2010_1-4.csv"
    write_fluxnet_csv(towers, "SY-009", path)
    place = towers.sel(site="SY-009")
    metadata = {name: place[name].item() for name in ("lat", "lon", "igbp", "elevation", "utc_offset")}

# Reads the stamps now and the values when they are needed; .load() keeps them in memory.
tower = xcarbon.open_fluxnet(path, metadata=metadata).load()
print(tower)

# A small network, trained for seconds on eight synthetic towers, in place of a model that took days.
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
