"""One tower: read a FLUXNET file, predict NEE with the model of the package, and write it to NetCDF.

To use your own tower, pass the path of a FLUXNET2015 file:

    python 01_one_tower.py FLX_DE-Tha_FLUXNET2015_SUBSET_HH_1996-2014_1-4.csv

Without a path, the script first writes a synthetic tower in the same format.
"""

import sys

import xcarbon
from xcarbon.testing import synthetic_towers, write_fluxnet_csv

xcarbon.set_options(progress=sys.stderr.isatty())

if len(sys.argv) > 1:
    path, metadata = sys.argv[1], None  # reads site_data.csv or a BIF file in the same folder
else:
    path = "FLX_SY-009_FLUXNET2015_SUBSET_HH_2010-2010_1-4.csv"
    towers = synthetic_towers(9, patches=False, seed=3)
    write_fluxnet_csv(towers, "SY-009", path)
    site = towers.sel(site="SY-009")
    metadata = {name: site[name].item() for name in ("lat", "lon", "igbp", "elevation", "utc_offset")}

# Time stamps are read at once, values when they are needed; .load() keeps them in memory.
tower = xcarbon.open_fluxnet(path, metadata=metadata).load()
print(tower)

# The trained weights of the package; the prediction and its standard deviation are computed lazily.
nee = tower.carbon.predict_nee(spread=True).compute()
nee.to_netcdf("nee.nc")

# A warning is printed if the model was trained on this tower: the scores are then better than elsewhere.
print(tower.carbon.score(nee, by="site").compute().to_dataframe().round(2))

axes = tower.carbon.plot.series(nee)
axes.figure.savefig("nee.png", dpi=150, bbox_inches="tight")
print("wrote nee.nc and nee.png")
