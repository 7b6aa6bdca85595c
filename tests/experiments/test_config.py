"""Experiments are read from files, and errors in them are reported before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import xarray as xr

from xcarbon.core.errors import OptionError
from xcarbon.experiments import PROTOCOLS, Experiment, Model, paper, read_experiment, runs, write_protocol

HEAD = 'store = "towers.zarr"\nout = "out"\n'


def read(folder: Path, text: str) -> Experiment:
    path = folder / "experiment.toml"
    path.write_text(text)
    return read_experiment(path)


def test_a_file_may_set_everything(tmp_path):
    experiment = read(
        tmp_path,
        HEAD
        + """
seeds = [0, 10]
target = "GPP_DT"
variables = ["DOY", "TA"]
bands = []
max_qc = 0
split = "random"
hours = "best-year"
evaluate = ["extremes"]
draw = ["DE-Tha"]

[settings.ecoperceiver]
max_steps = 20
network = { width = 16, cross_blocks = 1 }

[[models]]
kind = "ecoperceiver"

[[models]]
kind = "ecoperceiver"
label = "no dropout"
by_class = true
max_steps = 30
network = { dropout = 0.0 }
""",
    )
    assert experiment.store == str(tmp_path / "towers.zarr") and experiment.out == tmp_path / "out"
    assert (experiment.seeds, experiment.draw, experiment.bands) == ((0, 10), ("DE-Tha",), ())
    first, second = experiment.models
    assert (first.label, second.label, second.by_class) == ("EcoPerceiver", "no dropout", True)
    assert first.settings == {"max_steps": 20, "network": {"width": 16, "cross_blocks": 1}}
    assert second.settings["max_steps"] == 30
    assert second.settings["network"] == {"width": 16, "cross_blocks": 1, "dropout": 0.0}
    complete = runs.complete(experiment, first, xr.Dataset()).settings
    assert (complete["variables"], complete["bands"], complete["max_qc"]) == (("DOY", "TA"), (), 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("store = ", "not valid TOML"),
        ('out = "out"', r"\['store'\] are missing"),
        (HEAD + "sead = 3", r"unknown \['sead'\].*'seeds'"),
        (HEAD + 'protocol = "table3"', "no protocol 'table3'.*'table2'"),
        (HEAD, "at least one"),
        (HEAD + 'models = ["ridge"]', "models must be tables"),
        (HEAD + 'models = [{label = "a"}]', "models must be tables with a kind"),
        (HEAD + 'models = [{kind = "forest"}]', "kind must be one of .*'ridge'.*'forest'"),
        (HEAD + 'models = [{kind = "ridge"}, {kind = "ridge"}]', "different labels"),
        (HEAD + 'models = [{kind = "ridge", bands = ["B1"]}]', r"settings of .*unknown \['bands'\]"),
        (HEAD + 'models = [{kind = "ridge", by_class = 1}]', "by_class must be true or false"),
        (
            HEAD + 'models = [{kind = "ridge", share = 0}]',
            "share must be greater than 0 and at most 1",
        ),
        (HEAD + 'models = [{kind = "ecoperceiver", steps = 1}]', r"unknown settings \['steps'\].*max_steps"),
        (HEAD + 'models = [{kind = "ecoperceiver", seed = 1}]', r"unknown settings \['seed'\]"),
        (HEAD + 'models = [{kind = "ecoperceiver", network = {wide = 1}}]', r"\['wide'\].*width"),
        (HEAD + 'models = [{kind = "ecoperceiver", max_steps = 0}]', "max_steps must be at least 1"),
        (HEAD + 'models = [{kind = "ecoperceiver", max_steps = "3"}]', "settings of 'EcoPerceiver'"),
        (HEAD + 'models = [{kind = "streaming", loss = "last"}]', r"unknown settings \['loss'\].*length"),
        (HEAD + 'models = [{kind = "streaming", network = {span = 9}}]', r"\['span'\].*window"),
        (HEAD + 'models = [{kind = "xgboost", depth = 3}]', r"unknown settings \['depth'\].*max_depth"),
        (HEAD + "[settings.forest]\ntrees = 3", r"settings: unknown \['forest'\]"),
        (HEAD + "settings = 3", "settings must be tables"),
        (HEAD + 'seeds = 3\nmodels = [{kind = "ridge"}]', "seeds must be a list of whole numbers, found 3"),
        (HEAD + 'seeds = [1, 1]\nmodels = [{kind = "ridge"}]', "seeds must be one or more different"),
        (HEAD + 'split = "half"\nmodels = [{kind = "ridge"}]', "split must be one of .*'paper'"),
        (HEAD + 'hours = "day"\nmodels = [{kind = "ridge"}]', "hours must be one of"),
        (HEAD + 'evaluate = ["luck"]\nmodels = [{kind = "ridge"}]', "evaluate must be one of"),
        (HEAD + 'max_qc = -1\nmodels = [{kind = "ridge"}]', "max_qc must be"),
        (HEAD + 'target = "TA"\nmodels = [{kind = "ridge"}]', "TA is a predictor"),
        (HEAD + 'variables = ["TX"]\nmodels = [{kind = "ridge"}]', "no variable 'TX'"),
        ("store = 3", "store must be a text"),
    ],
)
def test_errors_contain_the_path_of_the_file(text, message, tmp_path):
    with pytest.raises(OptionError, match=f"(?s)experiment.toml.*{message}"):
        read(tmp_path, text)


def test_a_url_and_an_absolute_path_stay(tmp_path):
    text = 'out = "/o"\nmodels = [{kind = "ridge"}]\nstore = '
    assert read(tmp_path, text + '"s3://bucket/towers.zarr"').store == "s3://bucket/towers.zarr"
    assert read(tmp_path, text + '"/d/towers.zarr"').store == "/d/towers.zarr"
    assert read(tmp_path, text + '"/d/towers.zarr"').out == Path("/o")


def test_lists_and_tuples_are_the_same_setting():
    assert Model("ridge", settings={"variables": ["TA"]}) == Model("ridge", settings={"variables": ("TA",)})


def test_merging_leaves_both_as_they_are():
    defaults, own = {"network": {"width": 16}}, {"network": {"context": 8}}
    model = Model("ecoperceiver", settings=own).with_defaults(defaults)
    assert model.settings == {"network": {"width": 16, "context": 8}}
    assert (defaults, own) == ({"network": {"width": 16}}, {"network": {"context": 8}})


@pytest.mark.parametrize("name", PROTOCOLS)
def test_protocols_are_written_read_and_vary_one_thing(name, tmp_path):
    path = write_protocol(name, "towers.zarr", tmp_path / name)
    experiment = read_experiment(path)
    assert (experiment.protocol, experiment.seeds, experiment.split) == (name, paper.SEEDS, "paper")
    assert experiment.store == str(Path("towers.zarr").resolve())
    assert experiment.evaluate == tuple(set(experiment.evaluate) & {name})
    assert len(experiment.models) > 1
    varied = {(repr(model.settings), model.kind, model.by_class, model.share) for model in experiment.models}
    assert len(varied) == len(experiment.models)


def test_protocols_vary_the_setting_in_their_name():
    def network(name: str, setting: str) -> list:
        return [model.settings["network"][setting] for model in PROTOCOLS[name].models()]

    assert network("context-length", "context") == [32, 8, 16, 64]
    assert network("fourier", "octaves") == [12, 0, 4, 8, 24]
    assert network("dropout", "dropout") == [0.3, 0.0]
    assert network("causal", "causal") == [True, False]
    assert [model.settings["max_qc"] for model in PROTOCOLS["max-qc"].models()] == [1, 0, 2]
    assert [model.kind for model in PROTOCOLS["table2"].models()] == ["xgboost", "ecoperceiver"]
    assert [model.share for model in PROTOCOLS["learning-curve"].models()[::2]] == [1, 1 / 2, 1 / 4, 1 / 8]


def test_a_protocol_that_was_changed_is_kept_and_another_is_refused(tmp_path):
    path = write_protocol("table2", "towers.zarr", tmp_path)
    path.write_text(path.read_text().replace("seeds = [0, 10,", "seeds = [7, 10,"))
    assert read_experiment(write_protocol("table2", "towers.zarr", tmp_path)).seeds[0] == 7
    with pytest.raises(OptionError, match=r"is table2 of .*towers\.zarr"):
        write_protocol("fourier", "towers.zarr", tmp_path)
    with pytest.raises(OptionError, match="no protocol"):
        write_protocol("fouriers", "towers.zarr", tmp_path)


def test_the_papers_sets_are_apart_and_known_to_the_real_store(real_towers):
    train, val, test = (set(paper.sites(name)) for name in paper.SETS)
    assert (len(train), len(val), len(test)) == (274, 64, 47)
    assert not (train & val or train & test or val & test)
    for name in ("train", "val"):
        of_store = set(real_towers["site"].values[real_towers["paper_split"].values == name])
        assert of_store == set(paper.sites(name)) & set(real_towers["site"].values)


def test_the_papers_scores_are_of_classes_and_agree_with_each_other():
    """On the same hours 1 - NSE is proportional to the square of the RMSE."""
    ours, theirs = paper.scores()["EcoPerceiver"], paper.scores()["XGBoost"]
    assert set(ours) == set(theirs) and len(ours) == 15
    assert ours["CRO"] == {"nse": 0.8482, "rmse": 2.8677}
    for name in ours:
        errors = (1 - ours[name]["nse"]) / (1 - theirs[name]["nse"])
        assert errors == pytest.approx((ours[name]["rmse"] / theirs[name]["rmse"]) ** 2, rel=0.02)
