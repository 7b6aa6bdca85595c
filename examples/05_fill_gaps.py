"""Fill the gaps of a tower, and sum its years up with their uncertainty.

Give the path of a FLUXNET2015 file to fill your own tower with a model that is fine-tuned on it:

    python 05_fill_gaps.py FLX_DE-Tha_FLUXNET2015_SUBSET_HH_1996-2014_1-4.csv

Without one, a synthetic tower is filled by marginal distribution sampling: models of real towers know no
synthetic ones.
"""

import sys

import xcarbon
from xcarbon.budget import annual_sums, artificial_gaps, gapfill
from xcarbon.testing import synthetic_towers

xcarbon.set_options(progress=sys.stderr.isatty())

if len(sys.argv) > 1:
    tower, model = xcarbon.open_fluxnet(sys.argv[1]).load(), None
else:
    tower, model = synthetic_towers(1, years=3, patches=False).load(), "mds"

# Measured hours stay as they are. What was gap-filled already in the file is filled anew.
filled = gapfill(tower, model=model).compute()
print(filled["NEE_FILLED"].to_series().value_counts().rename(filled["NEE_FILLED"].attrs["flag_meanings"]))
filled.to_netcdf("filled.nc")

# Hide some measured hours, fill them in the same way, and see how far off that is.
hidden = artificial_gaps(tower, "week")
trial = gapfill(tower.assign(NEE=tower["NEE"].where(~hidden)), model=model).compute()
truth = tower.assign(NEE=tower["NEE"].where(hidden))
print(truth.carbon.score(trial["NEE_MODEL"].rename("NEE"), by=None, max_qc=0).compute().round(2).to_pandas())

# The errors in these hours tell how uncertain the sums are.
print(annual_sums(filled, trial=trial).to_dataframe()[["NEE", "NEE_SE", "share_filled"]].round(2))
print("wrote filled.nc")
