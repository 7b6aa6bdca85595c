"""A kind of model from outside the package is trained, applied, saved, loaded and compared."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

import xcarbon
from xcarbon.cli import main
from xcarbon.core.errors import ModelError, OptionError
from xcarbon.experiments import Experiment, Model, run
from xcarbon.models import registry
from xcarbon.models.bundle import CarbonModel
from xcarbon.models.registry import KINDS, ModelKind, register
from xcarbon.testing import synthetic_towers
from xcarbon.training.task import Task, configure

KIND = "hour-means"


@dataclass(frozen=True)
class HourMeansConfig:
    """Inputs: the time of day, and a variable that has to be there and is not used."""

    variables: tuple[str, ...] = ("TOD", "TA")
    bands: tuple[str, ...] = ()
    context: int = 1
    min_context: int = 1
    statics: tuple[str, ...] = ()


@dataclass(frozen=True)
class HourMeansTraining:
    """Settings of the training."""

    offset: float = 0.0


class HourMeans:
    """Predicts the mean of each hour of the day, in units of the target."""

    kind: ClassVar[str] = KIND
    name: ClassVar[str] = "means by hour of day"
    file: ClassVar[str] = "means.npy"
    has_spread = False

    def __init__(self, config: HourMeansConfig, means: np.ndarray) -> None:
        self.config, self.means = config, means

    def predict_series(self, inputs, wanted) -> np.ndarray:
        hour = np.rint((inputs.hourly[:, 0] + 1) * 12).astype(int) % 24  # TOD is scaled to [-1, 1)
        return np.where(wanted, self.means[hour], np.nan)[np.newaxis].astype(np.float32)

    def to_bytes(self) -> bytes:
        buffer = io.BytesIO()
        np.save(buffer, self.means)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, config: dict[str, Any], weights: bytes) -> HourMeans:
        return cls(HourMeansConfig(**config), np.load(io.BytesIO(weights)))


def train(task: Task, **settings: Any) -> CarbonModel:
    training = configure(HourMeansTraining, settings)
    target = task.inputs(task.train, task.target)["target"]
    means = target.groupby("time.hour").mean(...).values + training.offset
    task = Task(**{**vars(task), "variables": HourMeansConfig().variables})
    return CarbonModel(
        HourMeans(HourMeansConfig(), means), task.scaler([(0.0, 1.0)]), task.provenance(training, "numpy")
    )


@pytest.fixture(autouse=True)
def registered():
    register(KIND, ModelKind("means by hour of day", train, HourMeans, HourMeansTraining))
    yield
    KINDS.pop(KIND, None)


@pytest.fixture(scope="module")
def towers():
    ds = synthetic_towers(6, patches=False, variables=["TA", "SW_IN", "NEE"], seed=3)
    return ds.isel(time=slice(24 * 150, 24 * 240)).load()


def test_is_trained_applied_saved_and_loaded(towers, tmp_path):
    train, test = towers.isel(site=slice(0, 4)), towers.isel(site=slice(4, 6))
    model = train.carbon.fit(KIND, run_dir=tmp_path / "run")
    nee = test.carbon.predict_nee(model).compute()
    measured = train["NEE"].where(train["NEE_QC"] <= model.scaler.max_qc).groupby("time.hour").mean(...)
    expected = measured.sel(hour=nee["time"].dt.hour).where(test["TA"].notnull() & (test["TA_QC"] <= 1))
    np.testing.assert_allclose(nee, expected.transpose("site", "time"), rtol=1e-4)
    assert nee.attrs["source"].startswith(f"means by hour of day model {model.fingerprint()}")
    loaded = xcarbon.load(model.save(tmp_path / "model"))
    assert loaded.fingerprint() == model.fingerprint() and loaded.sites == tuple(train["site"].values)
    np.testing.assert_array_equal(test.carbon.predict_nee(loaded), nee)
    shifted = train.carbon.fit(KIND, run_dir=tmp_path / "shifted", offset=2.0)
    np.testing.assert_allclose(test.carbon.predict_nee(shifted), nee + 2.0, rtol=1e-5)
    with pytest.raises(ModelError, match=r"unknown settings \['shift'\].*'offset'"):
        train.carbon.fit(KIND, shift=1)


def test_is_compared_in_an_experiment(towers, tmp_path):
    store = towers.carbon.to_store(tmp_path / "towers.zarr")
    models = Model(KIND), Model(KIND, "shifted", settings={"offset": 5.0}), Model("diurnal_cycle")
    results = run(Experiment(str(store), tmp_path / "out", models, split="random"))
    assert list(results["model"].values) == ["means by hour of day", "shifted", "mean diurnal cycle"]
    assert results["rmse"].sel(model="shifted") > results["rmse"].sel(model="means by hour of day")
    assert "means by hour of day" in (tmp_path / "out" / "report.md").read_text()
    with pytest.raises(OptionError, match=r"'means by hour of day': unknown settings \['shift'\]"):
        Model(KIND, settings={"shift": 1.0})


def test_is_trained_from_the_command_line(towers, tmp_path, capsys):
    store = towers.carbon.to_store(tmp_path / "towers.zarr")
    assert main(["train", str(store), str(tmp_path / "run"), "--model", KIND, "--quiet"]) == 0
    assert "trained on" in capsys.readouterr().out


def test_without_settings_and_without_registration(towers, tmp_path):
    model = towers.carbon.fit(KIND, run_dir=tmp_path / "run")
    path = model.save(tmp_path / "model")
    del KINDS[KIND]
    with pytest.raises(ModelError, match=f"unknown kind '{KIND}'.*import the package that registers it"):
        CarbonModel.load(path)
    with pytest.raises(ModelError, match=f"no model '{KIND}'"):
        towers.carbon.fit(KIND)
    register(KIND, ModelKind("means", train, HourMeans))
    with pytest.raises(OptionError, match=r"settings of 'means': unknown \['offset'\]"):
        Model(KIND, settings={"offset": 5.0})


def test_kinds_of_the_package_cannot_be_replaced():
    with pytest.raises(ModelError, match="'xgboost' already"):
        register("xgboost", ModelKind("other trees", train, HourMeans))


@pytest.mark.parametrize("kind", KINDS)
def test_every_reference_can_be_imported(kind):
    entry = KINDS[kind]
    for reference in (entry.trainer, entry.predictor, entry.training, entry.network):
        assert reference is None or callable(registry.resolve(reference))
    if entry.predictor is not None:
        assert registry.resolve(entry.predictor).kind == kind
        assert registry.resolve(entry.predictor).name == entry.name
