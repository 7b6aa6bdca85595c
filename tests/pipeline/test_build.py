"""Tests of building stores from raw files: content, interruption, updates, bad files and clusters."""

import os
import shutil
import signal
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from distributed import Client, LocalCluster

import xcarbon
from xcarbon import open_fluxnet, open_store
from xcarbon.core.errors import FileFormatError, StoreError, XCarbonError
from xcarbon.pipeline import build, read_audit, towers
from xcarbon.pipeline.survey import find, survey_towers
from xcarbon.quality.cf import cf_findings
from xcarbon.testing import raise_on_compute, synthetic_towers, write_fluxnet_csv

SITES = ["SY-001", "SY-002", "SY-003"]
PLACE = dict(lat=50.0, lon=10.0, igbp="ENF", elevation=100, utc_offset=1)
METADATA = {site: PLACE | {"lat": 50.0 + index} for index, site in enumerate(SITES)}


def name(site, years="2010-2010", version="1-4", product="SUBSET"):
    return f"FLX_{site}_FLUXNET2015_{product}_HH_{years}_{version}.csv"


@pytest.fixture(scope="module")
def series():
    return synthetic_towers(3, patches=False, variables=["TA", "P", "NEE"], seed=3).load()


@pytest.fixture(scope="module")
def files(series, tmp_path_factory):
    """Write the raw files, which tests copy."""
    folder = tmp_path_factory.mktemp("files")
    for site in SITES:
        write_fluxnet_csv(series.isel(time=slice(0, 24 * 60)), site, folder / name(site))
    return folder


@pytest.fixture
def raw(files, tmp_path):
    return shutil.copytree(files, tmp_path / "raw")


@pytest.fixture
def store(tmp_path):
    return tmp_path / "out" / "store.zarr"


def run(raw, store, **settings):
    return build(raw, store, metadata=METADATA, **settings)


def shift(path, by=1):
    """Add the same number to all values of a file."""
    lines = path.read_text().splitlines()
    place = lines[0].split(",").index("TA_F")
    for number, line in enumerate(lines[1:], start=1):
        cells = line.split(",")
        cells[place] = str(float(cells[place]) + by)
        lines[number] = ",".join(cells)
    path.write_text("\n".join(lines))


def assert_same_values(found, expected):
    for each, other in ((found, expected), (expected, found)):
        assert set(each.data_vars) <= set(other.data_vars)
    for variable in expected.data_vars:
        np.testing.assert_array_equal(found[variable].values, expected[variable].values, err_msg=variable)
        assert found[variable].dtype == expected[variable].dtype


def leftovers(store):
    return [path.name for path in store.parent.iterdir() if path != store]


# Content of the store


def test_store_is_what_open_fluxnet_gives(raw, store):
    report = run(raw, store)
    assert report.built == tuple(SITES) and not report.kept and not report.problems
    opened = open_fluxnet(raw, metadata=METADATA).load()
    built = open_store(store).load()
    assert_same_values(built, opened)
    for coordinate in ("site", "lat", "lon", "elevation", "utc_offset", "igbp", "time"):
        xr.testing.assert_equal(built[coordinate].variable, opened[coordinate].variable)
    assert built["TA"].attrs["source_column"] == "TA_F"
    assert "xcarbon.build" in built.attrs["history"] and built.attrs["license"] == "CC-BY-4.0"
    assert not leftovers(store)


def test_built_store_trains_and_is_cf_like_any_other(raw, store):
    run(raw, store)
    ds = open_store(store)
    assert ds["TA"].chunks[0] == (1, 1, 1) and ds["TA"].attrs["ancillary_variables"] == "TA_QC"
    assert float(ds["equal_halves"].max()) == 1  # the files hold each hour twice
    assert len(list((store / "TA" / "c").iterdir())) == 3


def test_audit_tells_where_values_come_from(raw, store):
    run(raw, store)
    audit = read_audit(store, "SY-002")
    (release,) = audit["releases"]
    assert release["release"] == "FLUXNET2015_1-4" and release["file"].endswith(name("SY-002"))
    present = int(open_store(store)["TA"].sel(site="SY-002").notnull().sum())
    assert release["columns"]["TA"] == {"TA_F": present} and release["kept"]["TA"] == present
    with pytest.raises(StoreError, match="no audit of XX-Xyz"):
        read_audit(store, "XX-Xyz")


def test_releases_of_a_tower_are_fused(raw, store, series):
    newer = raw / "ICOSETC_SY-001_FLUXNET_HH_L2.csv"
    shifted = series.isel(time=slice(24 * 30, 24 * 90)).assign(TA=lambda ds: ds["TA"] + 1)
    write_fluxnet_csv(shifted, "SY-001", newer)
    run(raw, store)
    ds = open_store(store).load()
    assert_same_values(ds, open_fluxnet(raw, metadata=METADATA).load())
    flags = ds["release"].sel(code="TA")
    assert flags.attrs["flag_meanings"] == "missing FLUXNET2015_1-4 ICOS-L2"
    assert set(np.unique(flags.sel(site="SY-001"))) >= {0, 1}
    assert set(np.unique(flags.sel(site="SY-002"))) <= {-1, 0}


def test_fused_store_is_cf(raw, store, series):
    write_fluxnet_csv(series.isel(time=slice(24)), "SY-001", raw / name("SY-001", version="1-5"))
    run(raw, store)
    assert cf_findings(open_store(store)) == []


def test_uncertainty_is_kept_on_request(raw, store):
    path = raw / name("SY-001")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([f"{lines[0]},NEE_VUT_REF_RANDUNC", *(f"{line},0.5" for line in lines[1:])]))
    run(raw, store)
    assert "NEE_RANDUNC" not in open_store(store)
    assert run(raw, store, uncertainty=True).built == tuple(SITES)
    uncertainty = open_store(store)["NEE_RANDUNC"].sel(site="SY-001")
    assert float(uncertainty.mean()) == pytest.approx(0.5 / 2**0.5)  # of two independent half-hours


def test_template_computes_and_reads_nothing(raw):
    with ThreadPoolExecutor(1) as executor, raise_on_compute():
        plan, _ = survey_towers(find(raw), METADATA, executor, uncertainty=False)
        for path in raw.iterdir():
            path.unlink()
        template = towers.make_template(plan)
    assert template.ds.sizes["site"] == 3


def test_folder_with_tables_needs_no_metadata(raw, store):
    header = "SITE_ID,LOCATION_LAT,LOCATION_LON,IGBP,UTC_OFFSET"
    rows = [f"{site},{of['lat']},{of['lon']},ENF,1" for site, of in METADATA.items()]
    (raw / "site_data.csv").write_text("\n".join([header, *rows]))
    build(raw, store)
    assert open_store(store)["lat"].values.tolist() == [50, 51, 52]


# Interrupted builds


class Stop:
    """Build some towers, and then raise an error as a crash or Ctrl-C does."""

    def __init__(self, after, error=KeyboardInterrupt):
        self.after, self.error, self.seen = after, error, []

    def __call__(self, task, original=towers.build_tower):
        if len(self.seen) == self.after:
            raise self.error
        self.seen.append(task.tower.site)
        return original(task)


@pytest.fixture
def stop(monkeypatch):
    """Stop a build after some towers; one thread builds them one after the other."""

    def _stop(after, error=KeyboardInterrupt):
        monkeypatch.setattr("xcarbon.core.workers.CPU_COUNT", 1)
        monkeypatch.setattr("xcarbon.pipeline.build_tower", hook := Stop(after, error))
        return hook

    return _stop


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_stopped_build_shows_nothing_and_goes_on(raw, store, stop, monkeypatch, error):
    stop(2, error)
    with pytest.raises(error):
        run(raw, store)
    assert not store.exists()
    monkeypatch.undo()
    report = run(raw, store)
    assert report.kept == ("SY-001", "SY-002") and report.built == ("SY-003",)
    assert_same_values(open_store(store).load(), open_fluxnet(raw, metadata=METADATA).load())
    assert not leftovers(store)


def test_stopped_rebuild_leaves_the_old_store(raw, store, stop, monkeypatch):
    run(raw, store)
    old = open_store(store).load()
    shift(raw / name("SY-001"))
    stop(0)
    with pytest.raises(KeyboardInterrupt):
        run(raw, store)
    assert_same_values(open_store(store).load(), old)
    monkeypatch.undo()
    assert run(raw, store).built == ("SY-001",)


def test_stopped_build_goes_on_with_other_towers(raw, store, stop, monkeypatch, series):
    stop(2)
    with pytest.raises(KeyboardInterrupt):
        run(raw, store)
    monkeypatch.undo()
    later = series.isel(time=slice(24 * 60, 24 * 90))
    write_fluxnet_csv(later, "SY-003", raw / name("SY-003", version="1-5"))
    report = run(raw, store)  # the time axis and the flags of releases differ
    assert report.kept == ("SY-001", "SY-002")
    assert_same_values(open_store(store).load(), open_fluxnet(raw, metadata=METADATA).load())
    assert not leftovers(store)


# Updates


def test_nothing_is_written_where_nothing_has_changed(raw, store):
    run(raw, store)
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*")}
    assert run(raw, store).kept == tuple(SITES)
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*")} == before


def test_changed_input_is_built_alone(raw, store):
    run(raw, store)
    shift(raw / name("SY-002"))
    report = run(raw, store)
    assert report.built == ("SY-002",) and report.kept == ("SY-001", "SY-003")
    assert_same_values(open_store(store).load(), open_fluxnet(raw, metadata=METADATA).load())


def test_longer_record_moves_the_others_on_the_axis(raw, store, series):
    run(raw, store)
    (raw / name("SY-002")).unlink()
    write_fluxnet_csv(series.isel(time=slice(24 * 10, 24 * 100)), "SY-002", raw / name("SY-002"))
    assert run(raw, store).built == ("SY-002",)
    ds = open_store(store).load()
    assert_same_values(ds, open_fluxnet(raw, metadata=METADATA).load())
    assert ds.sizes["time"] == 24 * 100


def test_towers_come_and_go(raw, store, tmp_path):
    (raw / name("SY-002")).rename(tmp_path / "aside.csv")
    run(raw, store)
    (tmp_path / "aside.csv").rename(raw / name("SY-002"))
    assert run(raw, store).built == ("SY-002",)
    (raw / name("SY-001")).unlink()
    report = run(raw, store)
    assert not report.built and report.kept == ("SY-002", "SY-003")
    assert_same_values(open_store(store).load(), open_fluxnet(raw, metadata=METADATA).load())


def test_corrected_metadata_needs_no_reading(raw, store):
    run(raw, store)
    build(raw, store, metadata=METADATA | {"SY-001": METADATA["SY-001"] | {"igbp": "DBF"}})
    assert open_store(store)["igbp"].values.tolist() == ["DBF", "ENF", "ENF"]


def test_store_that_was_not_built_is_not_replaced(raw, store, series):
    xcarbon.io.store.to_store(series.isel(time=slice(0, 24)), store)
    with pytest.raises(StoreError, match="was not written by xcarbon"):
        run(raw, store)


# Bad files


def spoil(path):
    """Replace a number in the middle of a file by text."""
    lines = path.read_text().splitlines()
    lines[1000] = lines[1000].replace(lines[1000].split(",")[2], "wet", 1)
    path.write_text("\n".join(lines))


def test_bad_file_is_reported_and_stops_nothing_else(raw, store):
    spoil(raw / name("SY-002"))
    report = run(raw, store)
    assert report.built == ("SY-001", "SY-003")
    (problem,) = report.problems
    assert "line 1001" in problem.reason and name("SY-002") in str(problem) and "wet" in str(report)
    (raw / name("SY-002")).unlink()
    assert_same_values(open_store(store).load(), open_fluxnet(raw, metadata=METADATA).load())


@pytest.mark.parametrize(
    ("spoiled", "reason"),
    [
        (lambda path: path.write_text(""), "empty"),
        (lambda path: path.write_text("a,b\n1,2\n"), "not a FLUXNET file"),
        (lambda path: path.with_suffix(".zip").write_bytes(b"PK"), "not a zip"),
        (lambda path: path.rename(path.with_name(name("XX-Xyz"))), "XX-Xyz lacks lat"),
    ],
)
def test_kinds_of_bad_files(raw, store, spoiled, reason):
    spoiled(raw / name("SY-002"))
    (problem,) = run(raw, store).problems
    assert reason in problem.reason
    with pytest.raises(XCarbonError, match=reason):
        run(raw, store, strict=True)


def test_strict_stops_at_a_bad_file(raw, store):
    spoil(raw / name("SY-002"))
    with pytest.raises(FileFormatError, match="wet"):
        run(raw, store, strict=True)
    assert not store.exists()


def test_tower_is_built_from_the_release_that_can_be_read(raw, store):
    good = raw / name("SY-002")
    bad = Path(shutil.copy(good, raw / name("SY-002", version="1-5")))
    spoil(bad)
    report = run(raw, store)
    assert report.built == tuple(SITES) and [of.where for of in report.problems] == [str(bad)]
    again = run(raw, store)
    assert not again.built and again.problems == report.problems
    bad.unlink()
    expected = open_fluxnet(raw, metadata=METADATA).load()
    assert_same_values(open_store(store).load().drop_vars("release"), expected)


def test_files_that_are_passed_over_are_listed_with_their_reasons(raw, store, tmp_path):
    (raw / "README.txt").write_text("x")
    (raw / name("SY-001").replace("_HH_", "_DD_").replace("_HR_", "_DD_")).write_text("TIMESTAMP,TA_F\n")
    copy = shutil.copy(raw / name("SY-001"), raw / name("SY-001").replace(".csv", " (1).csv"))
    inner = tmp_path / "inner.zip"
    moved = raw / name("SY-002")
    with zipfile.ZipFile(inner, "w") as archive:
        archive.write(moved, moved.name)
    moved.unlink()
    with zipfile.ZipFile(raw / "download.ZIP", "w") as archive:
        archive.write(inner, inner.name)
        archive.writestr("broken.zip", b"PK")
    report = run(raw, store)
    assert report.built == tuple(SITES) and not report.problems
    found = {Path(skip.where).name: skip.reason for skip in report.skipped}
    assert {reason.split()[0] for reason in found.values()} == {"document", "daily", "copy,", "damaged"}
    assert Path(copy).name in found or name("SY-001") in found
    assert "1 x document: " in str(report)


def test_no_tower_at_all(tmp_path, store):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(StoreError, match="no tower to build"):
        build(tmp_path, store)
    with pytest.raises(FileNotFoundError, match="absent"):
        build(tmp_path / "absent", store)


# On a cluster


def test_worker_killed_in_the_middle_changes_nothing(raw, store, tmp_path):
    alone = tmp_path / "alone.zarr"
    run(raw, alone)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        work = store.with_name(f".{store.name}.building")
        workers = list(client.run(os.getpid).values())

        def kill():
            while not (found := list(work.glob("*/store/audit/SY-*"))):
                time.sleep(0.01)
            # Zarr leaves such a file if it is killed in a write.
            (found[0].parents[1] / "TA" / "c" / f"0.{'0' * 32}.partial").touch()
            os.kill(workers[0], signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        report = run(raw, store)
        killer.join()
    assert report.built == tuple(SITES)
    assert_same_values(open_store(store).load(), open_store(alone).load())
    files = {path.relative_to(alone) for path in alone.rglob("c/*/*")}
    assert files == {path.relative_to(store) for path in store.rglob("c/*/*")} and files
    assert all((alone / path).read_bytes() == (store / path).read_bytes() for path in files)


def test_audit_counts_implausible_values(raw, store):
    path = raw / name("SY-002")
    header, *rows = path.read_text().splitlines()
    column = header.split(",").index("TA_F")
    cells = [row.split(",") for row in rows]
    for row, value in zip(cells, ("9999", "-6999", "350"), strict=False):
        row[column] = value
    path.write_text("\n".join([header, *map(",".join, cells)]))
    run(raw, store)
    (release,) = read_audit(store, "SY-002")["releases"]
    assert release["beyond_limits"] == {"TA": {"TA_F": {"codes": 2, "beyond": 1}}}
    assert float(open_store(store)["TA"].max()) < 60
