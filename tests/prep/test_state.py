"""The state of each hour is its memory and the satellite series, in the model's order."""

from __future__ import annotations

import dask
import numpy as np
import pytest
import xarray as xr

from xcarbon.core.errors import MetadataError, TimestampError, VariableError
from xcarbon.core.variables import MEMORY, SATELLITE, memory_code, memory_features
from xcarbon.prep.inputs import model_inputs
from xcarbon.prep.memory import memory
from xcarbon.prep.satellite import hourly as hourly_series
from xcarbon.prep.state import stack_state, state_features
from xcarbon.testing import raise_on_compute, synthetic_towers

CODES = ["DOY", "TA", "VPD"]
FEATURES = ["LAI", "VPD_7D", "TA_CLIMATE", "FAPAR", "TA_1D", "SIF", "CO2_30D"]
#: What ``towers`` does not have.
ABSENT = ["SIF", "CO2_30D"]


@pytest.fixture(scope="module")
def towers() -> xr.Dataset:
    """Two years of two towers, with satellite series, in memory."""
    return synthetic_towers(2, years=2, seed=5, patches=False, satellite=True, variables=["TA", "VPD"]).load()


def state_of(ds: xr.Dataset, features=FEATURES, **settings) -> xr.DataArray:
    return model_inputs(ds, CODES, state=features, **settings)["state"]


@pytest.fixture(scope="module")
def whole(towers) -> xr.DataArray:
    return state_of(towers).compute()


@pytest.fixture(scope="module")
def grid(towers) -> xr.Dataset:
    """Two by two cells, with satellite fields; one cell is the first tower."""
    tower = towers.isel(site=0, drop=True)[["TA", "VPD", "FAPAR", "LAI"]].drop_vars(
        ["lat", "lon"], errors="ignore"
    )
    cells = [[tower, tower + 0.01], [tower - 0.02, tower + 0.03]]
    found = xr.combine_nested(
        [[cell.expand_dims(lat=[lat], lon=[lon]) for cell, lon in zip(row, (0.0, 15.0), strict=True)]
         for row, lat in zip(cells, (50.0, 51.0), strict=True)],
        concat_dim=["lat", "lon"],
    )  # fmt: skip
    for code in ("TA", "VPD"):
        found[code].attrs = towers[code].attrs
    for code in ("FAPAR", "LAI"):
        found[code] = found[code].transpose("day", "lat", "lon").assign_attrs(towers[code].attrs)
    return found.transpose("time", "day", "lat", "lon", ...)


def test_features_are_the_memory_of_the_variables_there_are_and_the_series(towers):
    found = state_features(towers, ["DOY", "TOD", "VPD", "CO2", "TA"])
    assert found == (*memory_features(["VPD", "TA"]), "FAPAR", "LAI")
    assert all(memory_code(name) in ("VPD", "TA", None) for name in found)
    assert len(found) == 2 * len(MEMORY) + 2
    assert state_features(towers.drop_vars(["FAPAR", "LAI"]), ["DOY"]) == ()
    scalar = towers.drop_vars("LAI").assign(LAI=3.0)
    assert "LAI" not in state_features(scalar, ["TA"])


def test_layers_are_in_the_model_s_order(towers, whole):
    assert whole.dims == ("site", "time", "feature")
    assert whole.dtype == np.float32
    assert whole["feature"].values.tolist() == FEATURES
    assert whole["site"].values.tolist() == towers["site"].values.tolist()
    means = memory(towers, ["TA", "VPD"]).compute()
    series = hourly_series(towers[["FAPAR", "LAI", "FAPAR_QC", "LAI_QC"]], towers["time"]).compute()
    for name in FEATURES:
        found = whole.sel(feature=name).values
        if name in ABSENT:
            assert np.isnan(found).all()
        elif name in SATELLITE:
            np.testing.assert_array_equal(found, series[name])
        else:
            code, ending = name.split("_")
            expected = means[f"{code}_MEMORY"].sel(time_constant=MEMORY[ending])
            np.testing.assert_array_equal(found, expected)
    known = whole.drop_sel(feature=ABSENT).notnull().mean(("site", "time"))
    assert (known > 0.3).all()


def test_the_order_is_any(towers, whole):
    back = state_of(towers, FEATURES[::-1])
    xr.testing.assert_equal(back.sel(feature=FEATURES).compute(), whole)


def test_units_are_those_of_the_variables(towers, whole):
    """They are standardised in the models, and are not scaled to bounds."""
    day = whole.sel(feature="TA_1D").isel(site=0, time=slice(24, None))
    recent = towers["TA"][0].rolling(time=48).mean()[24:]
    assert abs(float((day - recent).mean())) < 1 and float(day.max()) > 10


def test_one_tower_is_as_among_others(towers, whole):
    tower = towers.isel(site=1)
    alone = state_of(tower)
    assert alone.dims == ("site", "time", "feature") and alone.sizes["site"] == 1
    np.testing.assert_array_equal(alone[0], whole[1])
    bare = state_of(tower.drop_vars("site"))
    np.testing.assert_array_equal(bare[0], whole[1])


def test_cells_of_a_grid_are_like_towers(grid, whole):
    found = state_of(grid)
    assert found.dims == ("time", "lat", "lon", "feature") or found.dims == ("lat", "lon", "time", "feature")
    assert found.dims[:-1] == model_inputs(grid, CODES)["hourly"].dims[:-1]
    cell = found.isel(lat=0, lon=0).transpose("time", "feature").compute()
    # The towers' flags are not those of the cells: where they leave out a composite, the values differ.
    same = ["TA_1D", "VPD_7D", "TA_CLIMATE", *ABSENT]
    np.testing.assert_array_equal(cell.sel(feature=same), whole.isel(site=0).sel(feature=same))
    series = hourly_series(grid[["FAPAR", "LAI"]], grid["time"]).compute()
    for code in ("FAPAR", "LAI"):
        expected = series[code].transpose(*found.dims[:-1])
        np.testing.assert_array_equal(found.sel(feature=code), expected)
    assert (found.sel(feature="FAPAR", lat=51, lon=15).compute() != cell.sel(feature="FAPAR")).any()


def test_a_variable_of_the_whole_grid_is_that_of_each_cell(grid):
    """Such as CO2, which has no dimensions but the time."""
    ds = grid.assign(VPD=grid["VPD"].isel(lat=0, lon=0, drop=True))
    found = state_of(ds, ["VPD_7D", "TA_1D"]).compute()
    expected = state_of(grid, ["VPD_7D", "TA_1D"]).isel(lat=0, lon=0).compute()
    for lat, lon in np.ndindex(2, 2):
        cell = found.isel(lat=lat, lon=lon)
        np.testing.assert_array_equal(cell.sel(feature="VPD_7D"), expected.sel(feature="VPD_7D"))


def test_nothing_is_computed_before_it_is_asked_for(towers, grid):
    for ds in (towers.chunk(site=1, time=4000, day=20), grid.chunk(time=4000, lat=1)):
        with raise_on_compute():
            lazy = state_of(ds)
        assert isinstance(lazy.data, dask.array.Array)
        assert lazy.chunksizes["feature"] == (len(FEATURES),)


@pytest.mark.parametrize(
    "chunks",
    [{"time": 1000}, {"time": (1, 9000, 8519)}, {"site": 2, "day": 7}, {"site": 1, "time": 5000, "day": -1}],
)
def test_chunks_do_not_change_the_result(towers, whole, chunks):
    xr.testing.assert_identical(state_of(towers.chunk(chunks)).compute(), whole)


@pytest.mark.parametrize("chunks", [{"time": 3000}, {"lat": 1}, {"lon": 1, "time": 7000, "day": 30}])
def test_chunks_of_a_grid_do_not_change_the_result(grid, chunks):
    found = state_of(grid.chunk(chunks)).compute()
    xr.testing.assert_equal(found, state_of(grid).compute())


def test_chunks_are_those_of_the_predictors(towers, grid):
    for ds in (towers.chunk(time=5000), grid.chunk(time=5000, lat=1)):
        inputs = model_inputs(ds, CODES, state=FEATURES)
        assert inputs["state"].data.chunks[:-1] == inputs["hourly"].data.chunks[:-1]


@pytest.mark.parametrize("gap", [0, 50])
@pytest.mark.parametrize("form", ["towers", "one tower", "bare tower", "grid"])
def test_a_history_continues_the_record(towers, grid, form, gap):
    forms = {"towers": towers, "one tower": towers.isel(site=0), "grid": grid}
    ds = forms["one tower"].drop_vars("site") if form == "bare tower" else forms[form]
    cut = 9000
    hours = np.arange(ds.sizes["time"])
    missing = xr.DataArray((hours >= cut - gap) & (hours < cut), dims="time")
    complete = ds.assign({code: ds[code].where(~missing) for code in ("TA", "VPD")})
    expected = state_of(complete).isel(time=slice(cut, None)).compute()
    now, before = ds.isel(time=slice(cut, None)), ds.isel(time=slice(cut - gap))
    xr.testing.assert_equal(state_of(now, history=before).compute(), expected)
    xr.testing.assert_equal(
        state_of(now.chunk(time=2000), history=before.chunk(time=3000)).compute(), expected
    )
    without = state_of(now).sel(feature="TA_CLIMATE").isel(time=0)
    assert without.isnull().all() and expected.sel(feature="TA_CLIMATE").isel(time=0).notnull().all()


def test_the_order_of_towers_in_a_history_is_any(towers):
    now, before = towers.isel(time=slice(9000, None)), towers.isel(time=slice(9000))
    expected = state_of(now, history=before).compute()
    xr.testing.assert_equal(state_of(now, history=before.isel(site=[1, 0])).compute(), expected)
    one = state_of(now.isel(site=[1]), history=before).compute()
    xr.testing.assert_equal(one, expected.isel(site=[1]))
    with pytest.raises(MetadataError, match=r"history lacks 1 values of site, such as SY-001"):
        state_of(now, history=before.isel(site=[1]))


def test_a_history_needs_the_hourly_variables_and_the_past(towers):
    now, before = towers.isel(time=slice(9000, None)), towers.isel(time=slice(9000))
    bare = before.drop_vars(["FAPAR", "LAI", "FAPAR_QC", "LAI_QC", "day"])
    xr.testing.assert_equal(state_of(now, history=bare).compute(), state_of(now, history=before).compute())
    with pytest.raises(VariableError, match=r"history .*\['VPD'\]"):
        state_of(now, history=before.drop_vars("VPD"))
    with pytest.raises(TimestampError, match="must end before"):
        state_of(now, history=towers)


def test_a_causal_series_is_the_latest_composite_that_had_ended(towers):
    found = state_of(towers, ["LAI"], causal=True).sel(feature="LAI").compute()
    series = towers["LAI"].where(towers["LAI_QC"].isin([0, 1]))
    day, time = towers["day"].values, towers["time"].values
    for hour in (2000, 5000, 12345):
        ended = day + np.timedelta64(4, "D") <= time[hour]
        for site in range(2):
            values = series[site].values[ended]
            latest = values[np.flatnonzero(np.isfinite(values))[-1]]
            assert found[site, hour] == latest


@pytest.mark.parametrize("hour", [3000, 3001, 3013, 10_000])
def test_with_causal_no_hour_depends_on_a_later_one(towers, hour):
    """All values after the hour are changed, those of composites that end after it too."""
    now = towers["time"].values[hour]
    later = towers["time"] > now
    composite = towers["day"] + np.timedelta64(4, "D") > now
    changed = towers.assign(
        {code: towers[code].where(~later, 3.0) for code in ("TA", "VPD")}
        | {code: towers[code].where(~composite, 0.9) for code in ("FAPAR", "LAI")}
        | {f"{code}_QC": towers[f"{code}_QC"].where(~composite, 0) for code in ("FAPAR", "LAI")}
    )
    before, after = (state_of(ds, causal=True).compute() for ds in (towers, changed))
    upto = {"time": slice(None, hour + 1)}
    xr.testing.assert_equal(before.isel(upto), after.isel(upto))
    for name in set(FEATURES) - set(ABSENT):
        ahead = {"time": slice(hour + 1, None)}
        assert not before.sel(feature=name).isel(ahead).equals(after.sel(feature=name).isel(ahead)), name
    interpolated = [state_of(ds, ["LAI"]).isel(upto).compute() for ds in (towers, changed)]
    assert not interpolated[0].equals(interpolated[1])


def test_unknown_names_and_units_are_errors(towers):
    with pytest.raises(VariableError, match="TA_8D is not a state feature"):
        state_of(towers, ["TA_8D"])
    with pytest.raises(MetadataError, match="LAI has units"):
        state_of(towers.assign(LAI=towers["LAI"].assign_attrs(units="m")), ["LAI"])
    lengthless = towers.assign(LAI=towers["LAI"].drop_attrs())
    with pytest.raises(MetadataError, match="composite_days"):
        state_of(lengthless, ["LAI"])


def test_without_a_state_there_is_none(towers):
    assert "state" not in model_inputs(towers, CODES)
    hourly = model_inputs(towers, CODES)["hourly"]
    nothing = stack_state(towers.drop_vars(["LAI", "FAPAR", "TA", "VPD"]), FEATURES, hourly)
    assert nothing.shape == (2, towers.sizes["time"], len(FEATURES))
    assert nothing.isnull().all()


@pytest.mark.parametrize("dims", [("site", "time"), ("site",), ("day", "place")])
def test_satellite_series_without_days_or_place_are_an_error(dims):
    ds = synthetic_towers(1, patches=False, variables=["TA"]).isel(time=slice(48))
    sizes = {"site": 1, "time": 48, "day": 2, "place": 3}
    ds = ds.assign(FAPAR=(dims, np.full([sizes[dim] for dim in dims], 0.5)))
    with pytest.raises(VariableError, match=r"FAPAR has the dimensions .*satellite series lie along day"):
        stack_state(ds, ["FAPAR"], model_inputs(ds, ["TA"])["hourly"])
