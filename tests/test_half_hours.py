"""Half-hours, from the reader to the functions that accept them, and the errors of those that need hours."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import xcarbon
from xcarbon import open_fluxnet, open_netcdf
from xcarbon.budget import artificial_gaps, carbon_sums, gapfill
from xcarbon.core.conventions import QC, time_step
from xcarbon.core.errors import FileFormatError, OptionError, TimestampError
from xcarbon.evaluation.hours import conditions
from xcarbon.io.fluxnet import audit_fluxnet
from xcarbon.models.pretrained import default
from xcarbon.prep.clock import to_hours
from xcarbon.prep.spikes import find_spikes
from xcarbon.quality.cf import cf_findings
from xcarbon.testing import raise_on_compute

PLACE = dict(site="DE-Tha", lat=50.9636, lon=13.5669, igbp="ENF", elevation=380, utc_offset=1)
HALF = np.timedelta64(30, "m")
TO_HOURS = r"aggregate\('HR'\)"


def write(path, columns, start="1996-01-01", step=30):
    """Write columns of numbers as a tower file."""
    size = len(next(iter(columns.values())))
    times = pd.date_range(start, periods=size, freq=f"{step}min")
    pd.DataFrame({"TIMESTAMP_START": times.strftime("%Y%m%d%H%M")} | columns).to_csv(path, index=False)
    return path


def read(path, resolution="HH", **metadata):
    return open_fluxnet(path, metadata=PLACE | metadata, resolution=resolution).load()


@pytest.fixture(scope="module")
def raw(real_data):
    """Half-hourly file of a real tower."""
    return next(real_data.glob("raw/FLX_IT-CA3_*_HH_*.csv.gz"))


@pytest.fixture(scope="module")
def halves(raw):
    return open_fluxnet(raw, resolution="HH").load()


@pytest.fixture(scope="module")
def hours(raw):
    return open_fluxnet(raw).load()


# Reading


def test_half_hours_are_those_of_the_file(raw, halves):
    table = pd.read_csv(raw, na_values=[-9999, -9999.0])
    stamps = pd.to_datetime(table["TIMESTAMP_START"].astype(str), format="%Y%m%d%H%M")
    np.testing.assert_array_equal(halves["time"], stamps.to_numpy())
    np.testing.assert_array_equal(halves["time_bnds"][:, 1] - halves["time"], HALF)
    for code, column in {"TA": "TA_F", "NEE": "NEE_VUT_REF"}.items():
        np.testing.assert_array_equal(halves[code][0], table[column].to_numpy("float32"), code)
        flags = table[f"{column}_QC"].where(table[column].notna(), -1)
        np.testing.assert_array_equal(halves[code + QC][0], flags.fillna(-1).to_numpy(), code)


def test_means_of_half_hours_are_the_hours(halves, hours):
    for code in ("TA", "SW_IN", "NEE"):
        np.testing.assert_array_equal(to_hours(halves[code].values, "mean"), hours[code].values)
        worst = to_hours(halves[code + QC].values, "worst")
        there = hours[code].notnull().values
        np.testing.assert_array_equal(worst[there], hours[code + QC].values[there])


def test_hours_of_half_hours_are_those_of_the_reader(raw, halves, hours):
    found = halves.carbon.aggregate("HR")
    names = list(found.data_vars)
    xr.testing.assert_equal(found[names], hours[names])
    xr.testing.assert_equal(found["time_bnds"], hours["time_bnds"])
    assert {"TA", "NEE", "NEE_QC", "GPP_NT", "VPD"} <= set(names) <= set(hours.data_vars)
    for name in ("time", "TA", "NEE"):
        assert found[name].attrs == hours[name].attrs
    assert found.carbon.aggregate("HR") is found
    with raise_on_compute():
        lazy = open_fluxnet(raw, resolution="HH").carbon.aggregate("HR")
    xr.testing.assert_equal(lazy.isel(time=slice(99)).compute(), found.isel(time=slice(99)))


def test_incomplete_hours_sums_and_directions(tmp_path):
    columns = {
        "P_F": [1, 2, 3, 4],
        "TA_F": [1, 2, -9999, 4],
        "WD": [9, 350, 10, 20],
        "NEE_VUT_REF": [1, 2, 3, 4],
    }
    path = write(tmp_path / "tower.csv", columns, "1996-01-01 00:30")
    found, expected = read(path).carbon.aggregate("HR"), read(path, None)
    np.testing.assert_array_equal(found["P"], [[np.nan, 5, np.nan]])
    np.testing.assert_array_equal(found["TA"], [[np.nan, np.nan, np.nan]])
    np.testing.assert_array_equal(found["WD"], [[np.nan, 0, np.nan]])
    names = list(found.data_vars)
    xr.testing.assert_equal(found[names], expected[names])


def test_half_hours_are_lazy_and_follow_the_conventions(raw, halves):
    with raise_on_compute():
        lazy = open_fluxnet(raw, resolution="HH")
    assert lazy["TA"].chunks is not None
    assert lazy["time"].attrs["long_name"].startswith("start of the averaging half-hour in the local")
    assert lazy["TA"].attrs["cell_methods"] == "time: mean"
    assert "comment" not in lazy["TA_QC"].attrs
    assert not [finding for finding in cf_findings(halves) if finding.severity == "error"]


def test_plausibility_fusion_and_audit_are_those_of_hours(tmp_path):
    old = "FLX_DE-Tha_FLUXNET2015_FULLSET_HH_1996-1996_1-4.csv"
    new = "AMF_DE-Tha_FLUXNET_SUBSET_HH_1996-1996_3-5.csv"
    write(tmp_path / old, {"SW_IN_F": [-3, 9999, 5000, 9], "SW_IN_F_QC": [0, 0, 0, 0]}, "1996-01-01 00:30")
    write(tmp_path / new, {"SW_IN_F": [1, 2, 3, 4], "SW_IN_F_QC": [2, 0, 2, 2]})
    ds = read(tmp_path)
    np.testing.assert_array_equal(ds["SW_IN"], [[1, 2, 3, 4, 9]])
    np.testing.assert_array_equal(ds["SW_IN_QC"], [[2, 0, 2, 2, 0]])
    np.testing.assert_array_equal(ds["release"][0, 0], [1, 1, 1, 1, 0])
    newest, oldest = audit_fluxnet(tmp_path, metadata=PLACE, resolution="HH")["DE-Tha"]
    assert (newest["kept"], oldest["kept"]) == ({"SW_IN": 4}, {"SW_IN": 1})
    assert oldest["beyond_limits"] == {"SW_IN": {"SW_IN_F": {"codes": 1, "beyond": 1, "clipped": 1}}}


def test_hourly_file_has_no_half_hours(tmp_path):
    path = write(tmp_path / "FLX_DE-Tha_FLUXNET2015_SUBSET_HR_1996-1996_1-4.csv", {"TA_F": [1, 2]}, step=60)
    with pytest.raises(FileFormatError, match=r"HR_.*csv: the file is hourly and has no half-hours; open it"):
        read(path)
    with pytest.raises(FileNotFoundError, match="hourly, without half-hours"):
        read(tmp_path)
    write(tmp_path / "FLX_DE-Tha_FLUXNET2015_SUBSET_HH_1996-1996_1-4.csv", {"TA_F": [1, 2]})
    with pytest.warns(UserWarning, match="hourly, without half-hours"):
        assert read(tmp_path).sizes["time"] == 2
    for function in (open_fluxnet, audit_fluxnet):
        with pytest.raises(OptionError, match="resolution must be"):
            function(path, metadata=PLACE, resolution="HR")


# Functions that accept half-hours


@pytest.mark.parametrize("resolution", ["DD", "MM", "YY"])
def test_aggregates_of_half_hours_are_those_of_hours(halves, hours, resolution):
    found, expected = (ds.carbon.aggregate(resolution) for ds in (halves, hours))
    for code in ("TA", "VPD", "SW_IN", "NEE", "GPP_NT"):
        assert found[code].attrs == expected[code].attrs
        np.testing.assert_allclose(found[code], expected[code], rtol=2e-5, atol=2e-5, err_msg=code)
    assert expected["TA"].notnull().any()
    xr.testing.assert_equal(found["time_bnds"], expected["time_bnds"])
    # The flag of an hour is the worse one of its half-hours.
    assert (found["NEE_QC"] >= expected["NEE_QC"]).where(expected["NEE_QC"].notnull(), True).all()


def test_sums_of_precipitation_over_days_and_years(tmp_path):
    rain = np.random.default_rng(0).gamma(0.2, 2, 366 * 48).round(2)
    path = write(tmp_path / "tower.csv", {"P_F": rain, "P_F_QC": np.zeros(rain.size, int)})
    for resolution, expected in {"DD": rain.reshape(-1, 48).sum(1), "YY": [rain.sum()]}.items():
        for of in ("HH", None):
            found = read(path, of).carbon.aggregate(resolution)["P"]
            np.testing.assert_allclose(found[0], expected, rtol=1e-5)
    # (Half of the hours of a day are not enough.)
    cut = read(path).isel(time=slice(24, None)).carbon.aggregate("DD")
    assert np.isnan(cut["P"][0, 0]) and np.isfinite(cut["P"][0, 1])


def test_flux_sums_have_the_mass_of_half_an_hour(tmp_path):
    size = 366 * 48
    columns = {"NEE_VUT_REF": np.full(size, -2.0), "NEE_VUT_REF_QC": np.zeros(size, int)}
    columns |= {"TA_F": np.full(size, 10.0), "VPD_F": np.full(size, 5.0), "SW_IN_F": np.full(size, 100.0)}
    path = write(tmp_path / "tower.csv", columns)
    expected = -2e-6 * 12.011 * 366 * 86400
    for resolution in ("HH", None):
        sums = carbon_sums(gapfill(read(path, resolution), model="mds"))
        np.testing.assert_allclose(sums["NEE"], expected, rtol=1e-5)
        assert sums["share_missing"].item() == 0


def test_sums_and_their_uncertainty_agree_with_those_of_hours(halves, hours):
    sums = []
    for ds in (halves, hours):
        ds = ds.sel(time="2012")
        sums.append(carbon_sums(gapfill(ds, model="mds")).isel(site=0, time=0).load())
    np.testing.assert_allclose(sums[0]["NEE"], sums[1]["NEE"], atol=30)
    assert 0.5 < float(sums[0]["NEE_SE"] / sums[1]["NEE_SE"]) < 2
    assert float(sums[0]["share_filled"]) < float(sums[1]["share_filled"])


def test_sampling_compares_the_same_windows(halves, hours):
    filled = [gapfill(ds.sel(time="2012-06"), model="mds") for ds in (halves, hours)]
    modelled = to_hours(filled[0]["NEE_MODEL"].values, "mean")
    both = np.isfinite(modelled + filled[1]["NEE_MODEL"].values)
    assert both.mean() > 0.9
    assert np.corrcoef(modelled[both], filled[1]["NEE_MODEL"].values[both])[0, 1] > 0.97
    assert time_step(filled[0]) == HALF


def test_spikes_of_half_hours(halves):
    ds = halves.sel(time="2012").copy(deep=True)
    good = np.flatnonzero((ds["NEE_QC"][0] == 0).values)
    place = next(i for i in good[100:] if {i - 2, i - 1, i + 1, i + 2} <= set(good.tolist()))
    ds["NEE"][0, place] += 40
    flags = ds.carbon.despike()["NEE_SPIKE"]
    assert flags[0, place] == 1
    noise = np.random.default_rng(0).normal(size=26 * 48)
    noise[: 13 * 48] *= 10  # windows have 13 days, so that noise is compared with that of its own window
    noise[20 * 48] = 12
    assert find_spikes(noise, np.ones(noise.size, bool), per_day=48)[20 * 48] == 1


@pytest.mark.parametrize(("kind", "length"), [("day", 36), ("week", 288)])
def test_gaps_have_their_length_in_hours(halves, kind, length):
    hidden = artificial_gaps(halves.assign(NEE_QC=halves["NEE_QC"] * 0), kind, share=0.01, seed=1)
    ends = np.flatnonzero(np.diff(np.concatenate([[False], hidden.values[0], [False]])))
    assert 2 * length in (ends[1::2] - ends[::2])


def test_half_hours_come_back_from_netcdf(halves, tmp_path):
    towers = xr.concat([halves, halves.assign_coords(site=["XX-Two"])], "site", data_vars="all")
    towers = towers.isel(time=slice(17, 400))
    with xcarbon.set_options(progress=False):
        paths = [[towers.carbon.to_netcdf(tmp_path / "all.nc")], towers.carbon.to_sites(tmp_path / "sites")]
    for path in paths:
        with raise_on_compute():
            lazy = open_netcdf(path)
        ds = lazy.load()
        xr.testing.assert_equal(ds, towers)
        assert ds["time"].attrs == towers["time"].attrs
    raw = xr.open_dataset(paths[1][0])
    assert raw["time"].attrs["long_name"] == "start of the averaging half-hour in UTC"
    assert (raw["time_bnds"][:, 1] - raw["time_bnds"][:, 0] == HALF).all()
    one = towers.isel(time=[3])
    with xcarbon.set_options(progress=False):
        xr.testing.assert_equal(open_netcdf(one.carbon.to_netcdf(tmp_path / "one.nc")).load(), one)


def test_hours_and_half_hours_are_not_opened_together(halves, hours, tmp_path):
    with xcarbon.set_options(progress=False):
        one = halves.isel(time=slice(9)).carbon.to_netcdf(tmp_path / "one.nc")
        two = hours.isel(time=slice(9)).assign_coords(site=["XX-Two"]).carbon.to_netcdf(tmp_path / "two.nc")
    with pytest.raises(FileFormatError, match="different time steps"):
        open_netcdf([one, two])


def test_figure_of_half_hours(halves, hours):
    pytest.importorskip("matplotlib").use("agg")
    ax = halves.carbon.plot.series(halves["NEE"], time="2012-07-01")
    assert len(ax.lines[1].get_xdata()) == 48
    with pytest.raises(TimestampError, match=TO_HOURS):
        halves.carbon.plot.series(hours["NEE"])


# Functions that need hours


@pytest.mark.parametrize(
    "use",
    [
        lambda ds, path: ds.carbon.predict_nee(),
        lambda ds, path: ds.carbon.predict_to("NEE", default("NEE"), path),
        lambda ds, path: ds.carbon.predictable(default("NEE")),
        lambda ds, path: ds.carbon.explain(default("NEE")),
        lambda ds, path: ds.carbon.fit("streaming", target="NEE"),
        lambda ds, path: ds.carbon.fit("xgboost", target="NEE"),
        lambda ds, path: ds.carbon.score(ds["NEE"]),
        lambda ds, path: conditions(ds),
        lambda ds, path: ds.carbon.to_store(path),
        lambda ds, path: ds.carbon.check(),
        lambda ds, path: ds.carbon.standardize(),
    ],
)
def test_error_states_how_to_get_hours(halves, tmp_path, use):
    pytest.importorskip("torch")
    with pytest.raises(TimestampError, match=rf"{TO_HOURS}|resample\(time='1h'\)"):
        use(halves.isel(time=slice(48 * 20)), tmp_path / "out.zarr")
    assert not list(tmp_path.iterdir())


def test_hours_after_resampling_are_hours(halves, hours):
    week = dict(time="2012-07-01")
    means = halves[["TA"]].sel(week).resample(time="1h").mean()
    assert time_step(means) == time_step(hours) != HALF
    np.testing.assert_allclose(means["TA"].T, hours["TA"].sel(week), rtol=1e-6)
