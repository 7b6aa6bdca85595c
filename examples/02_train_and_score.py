"""Many towers: split them, train, predict the test towers, and compare the scores with two baselines.

To use real towers, pass a store, and replace the settings below by those of a real training run:

    python 02_train_and_score.py carbonsense.zarr
"""

import sys

import xarray as xr

import xcarbon
from xcarbon.evaluation.baselines import diurnal_cycle, ridge
from xcarbon.testing import synthetic_towers

xcarbon.set_options(progress=sys.stderr.isatty())
ds = xcarbon.open_store(sys.argv[1]) if len(sys.argv) > 1 else synthetic_towers(12, patches=False, seed=1)
train, val, test = ds.carbon.split(seed=0)
print("towers for training, validation and test:", *(part.sizes["site"] for part in (train, val, test)))

model = train.carbon.fit(
    "ecoperceiver",
    val=val,
    network={"width": 32, "heads": 4, "cross_blocks": 2, "self_layers": 1},
    max_steps=300,
    eval_every=100,
    batch_size=64,
    learning_rate=3e-3,
    loss="window",
    val_windows=1000,
)

month = test.sel(time=slice("2010-07-01", "2010-07-28"))
predictions = {
    "EcoPerceiver": month.carbon.predict_nee(model).compute(),
    "ridge regression": ridge(train, month),
    "mean diurnal cycle": diurnal_cycle(train, month),
}
scores = xr.concat(
    [month.carbon.score(prediction, by="igbp") for prediction in predictions.values()],
    dim=xr.Variable("model", list(predictions)),
).compute()
print(scores["nse"].to_pandas().round(2))

axes = month.carbon.plot.scores(scores.sel(model="EcoPerceiver"))
axes.figure.savefig("scores.png", dpi=150, bbox_inches="tight")
print("wrote scores.png")
