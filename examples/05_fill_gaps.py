"""Fill the gaps of a tower, and compute annual sums and their uncertainty.

To use your own tower, pass the path of a FLUXNET2015 file; the script adapts a model to it:

    python 05_fill_gaps.py FLX_DE-Tha_FLUXNET2015_SUBSET_HH_1996-2014_1-4.csv

Without a path, the script fills a synthetic tower by marginal distribution sampling, because models that were
trained on real towers do not apply to synthetic ones.
"""

import sys

import xcarbon
from xcarbon.budget import artificial_gaps, carbon_sums, gapfill
from xcarbon.testing import synthetic_towers

xcarbon.set_options(progress=sys.stderr.isatty())

if len(sys.argv) > 1:
    tower, model = xcarbon.open_fluxnet(sys.argv[1]).load(), None
else:
    tower, model = synthetic_towers(1, years=3, patches=False).load(), "mds"

# Measured hours are kept. Values that were gap-filled in the file are replaced.
filled = gapfill(tower, model=model).compute()
print(filled["NEE_FILLED"].to_series().value_counts().rename(filled["NEE_FILLED"].attrs["flag_meanings"]))
filled.to_netcdf("filled.nc")

# Hide some measured hours, fill them in the same way, and compare with the measurements.
hidden = artificial_gaps(tower, "week")
trial = gapfill(tower.assign(NEE=tower["NEE"].where(~hidden)), model=model).compute()
truth = tower.assign(NEE=tower["NEE"].where(hidden))
print(truth.carbon.score(trial["NEE_MODEL"].rename("NEE"), by=None, max_qc=0).compute().round(2).to_pandas())

# The errors in these hours determine the uncertainty of the annual sums.
sums = carbon_sums(filled, trial=trial)
print(sums[["NEE", "NEE_LOWER", "NEE_UPPER", "share_filled"]].to_dataframe().round(2))
print("wrote filled.nc")
