"""Tests of stores in buckets, on web servers and in folders of Icechunk."""

import contextlib
import http.server
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from functools import partial
from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr
import zarr
from distributed import Client, LocalCluster

import xcarbon
from xcarbon import open_store, store_versions
from xcarbon.cli import main
from xcarbon.core.errors import MissingPackageError, OptionError, StoreError
from xcarbon.io import drafts
from xcarbon.io.formats import open_data
from xcarbon.io.location import Location
from xcarbon.pipeline import build, read_audit
from xcarbon.quality.storage import stored_values
from xcarbon.testing import synthetic_towers, write_fluxnet_csv

pytest.importorskip("icechunk", reason="needs the extra cloud")
pytest.importorskip("obstore", reason="needs the extra cloud")

SITES = ["SY-001", "SY-002", "SY-003"]
METADATA = {
    site: dict(lat=50.0 + index, lon=10.0, igbp="ENF", elevation=100, utc_offset=1)
    for index, site in enumerate(SITES)
}


@pytest.fixture(scope="module")
def server():
    """Start a server of S3 on the loopback address, and return its URL."""
    pytest.importorskip("flask", reason="the server of moto needs flask")
    moto = pytest.importorskip("moto.server", reason="needs moto as a server of S3")
    running = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    yield "http://{}:{}".format(*running.get_host_and_port())
    running.stop()


@pytest.fixture
def bucket(server, monkeypatch, tmp_path):
    """Make a bucket, with credentials in the environment; return its URL."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    name = re.sub(r"[^a-z0-9]+", "-", tmp_path.name.lower()).strip("-")
    urllib.request.urlopen(urllib.request.Request(f"{server}/{name}", method="PUT")).close()
    return f"s3://{name}"


@pytest.fixture(scope="module")
def towers():
    year = synthetic_towers(3, patches=False, variables=["TA", "NEE"], seed=3)
    return year.isel(time=slice(24 * 60)).load()


@pytest.fixture(scope="module")
def raw(towers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    for site in SITES:
        name = folder / f"FLX_{site}_FLUXNET2015_SUBSET_HH_2010-2010_1-4.csv"
        write_fluxnet_csv(towers.isel(time=slice(0, 24 * 30)), site, name)
    return folder


def assert_same(found, expected):
    xr.testing.assert_equal(found.load(), expected.load())


def store_findings(ds):
    """Return what the quality checks find in the store of a Dataset."""
    with xcarbon.set_options(progress=False):
        return stored_values(ds)


def branches(url):
    return Location.of(url).repository().list_branches()


# Writing and reading


def test_store_in_a_bucket_reads_as_it_was_written(bucket, towers):
    url = f"{bucket}/folder/towers"
    assert towers.chunk(site=1).carbon.to_store(url) == url
    ds = open_store(url)
    assert ds["TA"].chunks[0] == (1, 1, 1) and ds.encoding["source"] == url
    for name in towers.data_vars:
        np.testing.assert_array_equal(ds[name], towers[name])
    assert branches(url) == {"main"} and store_versions(url).index.tolist() == ["v1"]
    assert not store_findings(ds)
    # Dask graphs and coordinates can be sent to other processes.
    assert_same(pickle.loads(pickle.dumps(ds)), ds)


def test_credentials_and_endpoint_are_options_too(bucket, towers, server, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_REGION"):
        monkeypatch.delenv(name)
    options = dict(access_key_id="a", secret_access_key="b", endpoint_url=server, region="us-east-1")
    towers.carbon.to_store(f"{bucket}/t", storage_options=options)
    assert open_store(f"{bucket}/t", storage_options=options).sizes["site"] == 3
    with pytest.raises(OptionError, match=r"storage_options of s3://.*unexpected keyword argument 'key'"):
        open_store(f"{bucket}/t", storage_options={"key": "a"})
    with pytest.raises(OptionError, match="storage_options are for URLs"):
        open_store("towers.zarr", storage_options=options)


def test_versions_are_kept_and_a_dataset_reads_its_own(bucket, towers):
    url = f"{bucket}/t"
    towers.carbon.to_store(url)
    first = open_store(url)
    with pytest.raises(StoreError, match=rf"{url} exists: choose another path, or pass overwrite=True"):
        towers.carbon.to_store(url)
    (towers.isel(site=[1]) + 1).assign_coords(towers.isel(site=[1]).coords).carbon.to_store(
        url, overwrite=True
    )
    table = store_versions(url)
    assert table.index.tolist() == ["v1", "v2"] and table["written"].is_monotonic_increasing
    assert open_store(url).sizes["site"] == 1
    for old in (first, open_store(url, version="v1"), open_store(url, version=table["snapshot"].iloc[0])):
        np.testing.assert_array_equal(old["TA"], towers["TA"])
    # Results that are stored by the name of a Dask array must not be those of another version.
    assert dask.base.tokenize(first["TA"]) != dask.base.tokenize(open_store(url)["TA"])
    for unknown in ("v9", "AAAAAAAAAAAAAAAAAAAA"):
        with pytest.raises(StoreError, match=f"no version {unknown}: its tags are v1, v2"):
            open_store(url, version=unknown)


def test_place_with_other_objects_is_not_replaced(bucket, towers, tmp_path):
    plain = f"{bucket}/plain"
    put_plain(towers, plain, tmp_path)
    with pytest.raises(StoreError, match=f"{plain}: there are other files or objects in this place"):
        towers.carbon.to_store(plain, overwrite=True)
    assert open_store(plain).sizes["site"] == 3


def put_plain(towers, url, tmp_path):
    """Copy a plain store to a bucket."""
    from obstore.store import from_url

    path = towers.carbon.to_store(tmp_path / "plain.zarr")
    remote = from_url(url, endpoint=os.environ["AWS_ENDPOINT_URL"], client_options={"allow_http": True})
    for file in path.rglob("*"):
        if file.is_file():
            remote.put(str(file.relative_to(path)), file.read_bytes())


def test_plain_zarr_in_a_bucket_is_read(bucket, towers, tmp_path):
    put_plain(towers, f"{bucket}/plain", tmp_path)
    ds = open_store(f"{bucket}/plain")
    np.testing.assert_array_equal(ds["TA"], towers["TA"])
    assert not store_findings(ds)
    with pytest.raises(StoreError, match="plain Zarr, which has no versions"):
        open_store(f"{bucket}/plain", version="v1")


def test_what_is_absent_or_impossible_is_named(bucket, towers, monkeypatch):
    with pytest.raises(StoreError, match=rf"{bucket}/none cannot be opened as a Zarr store"):
        open_store(f"{bucket}/none")
    with pytest.raises(OptionError, match="names no store in a bucket"):
        towers.carbon.to_store(bucket)
    with pytest.raises(OptionError, match="as a string"):
        open_store(Path("s3://bucket/store"))
    with pytest.raises(StoreError, match="cannot be written: stores are written to local folders and"):
        towers.carbon.to_store("https://example.invalid/store")
    with pytest.raises(OptionError, match="az://c/store needs an account"):
        open_store("az://c/store")
    with pytest.raises(StoreError, match=r"s3://no-such-bucket/t: the storage cannot be accessed"):
        towers.carbon.to_store("s3://no-such-bucket/t")
    monkeypatch.setitem(sys.modules, "icechunk", None)
    with pytest.raises(MissingPackageError, match=r"stores such as s3://a/b need .* 'xcarbon\[cloud\]'"):
        open_store("s3://a/b")


def test_lost_objects_are_found(bucket, towers, server):
    from obstore.store import from_url

    url = f"{bucket}/t"
    towers.carbon.to_store(url)
    remote = from_url(url, endpoint=server, client_options={"allow_http": True})
    chunks = [item for page in remote.list("chunks") for item in page]
    largest = max(chunks, key=lambda item: item["size"])
    remote.delete(largest["path"])
    (finding,) = store_findings(open_store(url))
    assert finding.site in SITES and f"{finding.variable} in {url} cannot be read" in finding.message
    with pytest.raises(StoreError, match=rf"{url}: {finding.variable} at the sites? .*cannot be read"):
        open_store(url)[finding.variable].load()


# Two writers


def test_second_writer_is_refused_and_changes_nothing(bucket, towers, monkeypatch):
    url = f"{bucket}/t"
    publish = drafts.BranchDraft.publish

    def late(draft):
        monkeypatch.setattr(drafts.BranchDraft, "publish", publish)
        towers.isel(site=[0]).carbon.to_store(url, overwrite=True)  # the other one is faster
        publish(draft)

    monkeypatch.setattr(drafts.BranchDraft, "publish", late)
    with pytest.raises(
        StoreError, match=f"{url}: another process has written this store since .* run this again"
    ):
        towers.carbon.to_store(url)
    assert open_store(url).sizes["site"] == 1 and branches(url) == {"main"}
    towers.carbon.to_store(url, overwrite=True)
    assert open_store(url).sizes["site"] == 3


def test_two_builds_of_one_store_do_not_mix(bucket, raw, monkeypatch):
    url = f"{bucket}/b"
    monkeypatch.setattr(drafts, "COMMIT_EVERY", 0.0)
    add = drafts.BranchDraft.add

    def late(draft, part):
        monkeypatch.setattr(drafts.BranchDraft, "add", add)
        build(raw, url, metadata=METADATA)  # the other one begins later and is faster
        add(draft, part)

    monkeypatch.setattr(drafts.BranchDraft, "add", late)
    with pytest.raises(StoreError, match="another process has written"):
        build(raw, url, metadata=METADATA)
    assert open_store(url).sizes["site"] == 3 and store_versions(url).index.tolist() == ["v1"]
    assert build(raw, url, metadata=METADATA).kept == tuple(SITES)


# Builds


def test_build_in_a_bucket_is_that_in_a_folder(bucket, raw, tmp_path):
    url = f"{bucket}/built"
    local = build(raw, tmp_path / "store.zarr", metadata=METADATA)
    report = build(raw, url, metadata=METADATA)
    assert report.store == url and report.built == local.built == tuple(SITES)
    assert_same(open_store(url), open_store(local.store))
    assert read_audit(url, "SY-002") == read_audit(local.store, "SY-002")
    assert build(raw, url, metadata=METADATA).kept == tuple(SITES)
    assert store_versions(url).index.tolist() == ["v1"]


def test_changed_input_is_a_new_version(bucket, raw, tmp_path):
    url, copy = f"{bucket}/built", tmp_path / "copy"
    copy.mkdir()
    for file in raw.iterdir():
        os.link(file, copy / file.name)
    build(copy, url, metadata=METADATA)
    changed = copy / f"FLX_{SITES[1]}_FLUXNET2015_SUBSET_HH_2010-2010_1-4.csv"
    lines = changed.read_text().splitlines()
    changed.unlink()
    changed.write_text("\n".join(lines[: len(lines) // 2]))
    report = build(copy, url, metadata=METADATA)
    assert report.built == (SITES[1],) and report.kept == (SITES[0], SITES[2])
    hours = [open_store(url, version=version)["TA"].count("time").values for version in ("v1", "v2")]
    assert hours[0][1] > hours[1][1] and (hours[0] == hours[1]).tolist() == [True, False, True]


BUILD = """
import os, signal, sys
import xcarbon
from xcarbon.io import drafts

drafts.COMMIT_EVERY = 0.0
save = drafts.BranchDraft.save

def save_and_die(draft):
    save(draft)
    if len(draft.marks) == 2:
        os.kill(os.getpid(), signal.SIGKILL)

drafts.BranchDraft.save = save_and_die
place = dict(lat=50.0, lon=10.0, igbp="ENF", elevation=100, utc_offset=1)
xcarbon.set_options(progress=False)
xcarbon.build(sys.argv[1], sys.argv[2], metadata={f"SY-00{n}": place | {"lat": 49.0 + n} for n in (1, 2, 3)})
"""


def test_killed_build_leaves_the_last_commit_and_goes_on(bucket, raw, towers):
    url = f"{bucket}/killed"
    done = subprocess.run([sys.executable, "-c", BUILD, str(raw), url], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    with pytest.raises(StoreError, match=f"{url} has no complete store: run the command that began"):
        open_store(url)
    assert "building" in branches(url)
    report = build(raw, url, metadata=METADATA)
    assert len(report.built) == 1 and len(report.kept) == 2
    assert open_store(url)["TA"].notnull().any("time").all() and branches(url) == {"main"}


def test_store_that_was_not_built_is_kept(bucket, raw, towers):
    towers.carbon.to_store(f"{bucket}/t")
    with pytest.raises(StoreError, match="was not written by xcarbon"):
        build(raw, f"{bucket}/t", metadata=METADATA)


# Predictions, clusters and commands


@pytest.fixture(scope="module")
def model(towers, tmp_path_factory):
    with xcarbon.set_options(progress=False):
        return towers.carbon.fit("xgboost", run_dir=tmp_path_factory.mktemp("run"), n_estimators=3)


def test_stopped_prediction_goes_on(bucket, towers, model, monkeypatch):
    url = f"{bucket}/nee"
    week = towers.isel(time=slice(24 * 7)).chunk(site=1)
    monkeypatch.setattr(drafts, "COMMIT_EVERY", 0.0)
    monkeypatch.setattr("xcarbon.core.workers.CPU_COUNT", 1)
    write_part = drafts.BranchTarget.write
    marks = []

    def write(target, mark, function):
        if len(marks) == 2:
            raise KeyboardInterrupt
        marks.append(mark)
        return write_part(target, mark, function)

    monkeypatch.setattr(drafts.BranchTarget, "write", write)
    with pytest.raises(KeyboardInterrupt, match="run the same command again to continue"):
        week.carbon.predict_to("NEE", model, url)
    again = list(marks)
    monkeypatch.setattr(drafts.BranchTarget, "write", lambda *of: again.append(of[1]) or write_part(*of))
    assert week.carbon.predict_to("NEE", model, url) == url
    assert len(marks) == 2 and sorted(again) == ["0-0", "1-0", "2-0"]
    np.testing.assert_allclose(open_store(url)["NEE"], week.carbon.predict_nee(model), rtol=1e-6)
    with pytest.raises(OptionError, match="NetCDF files are written to local folders only"):
        week.carbon.predict_to("NEE", model, f"{bucket}/nee.nc")


def test_processes_of_a_cluster_write(bucket, raw, towers, tmp_path):
    lazy = towers.chunk(site=1)
    with (
        # Copies of an earlier process would not have the credentials of the bucket in their environment.
        dask.config.set({"distributed.worker.multiprocessing-method": "spawn"}),
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster),
    ):
        lazy.carbon.to_store(f"{bucket}/t")
        assert build(raw, f"{bucket}/b", metadata=METADATA).built == tuple(SITES)
        np.testing.assert_array_equal(open_store(f"{bucket}/t")["TA"], towers["TA"])
    assert_same(
        open_store(f"{bucket}/b"), open_store(build(raw, tmp_path / "b.zarr", metadata=METADATA).store)
    )


def test_commands_take_urls(bucket, raw, tmp_path, capsys, model):
    table = tmp_path / "site_data.csv"
    rows = [f"{site},{of['lat']},{of['lon']},ENF,1" for site, of in METADATA.items()]
    table.write_text("\n".join(["SITE_ID,LOCATION_LAT,LOCATION_LON,IGBP,UTC_OFFSET", *rows]))
    model.save(tmp_path / "model")
    url, nee = f"{bucket}/c", f"{bucket}/nee"
    assert main(["build", str(raw), url, "--metadata", str(table), "--quiet"]) == 0
    assert main(["info", url, "--quiet"]) == 0 and "3 towers" in capsys.readouterr().out
    assert main(["predict", str(tmp_path / "model"), url, nee, "--quiet"]) == 0
    assert f"wrote {nee}" in capsys.readouterr().out and open_store(nee).sizes["site"] == 3
    assert main(["predict", str(tmp_path / "model"), url, nee, "--quiet"]) == 1
    assert "use --overwrite to replace it" in capsys.readouterr().err


# Web servers, file URLs and folders of Icechunk


class Ranges(http.server.SimpleHTTPRequestHandler):
    """Send parts of files, as web servers do."""

    def log_message(self, *given):
        pass

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            return self.send_error(404)
        data = path.read_bytes()
        part = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        size = len(data)
        if part:
            first, last = part.groups()
            start = int(first) if first else size - int(last)
            data = data[start : int(last) + 1 if first and last else size]
        self.send_response(206 if part else 200)
        if part:
            self.send_header("Content-Range", f"bytes {start}-{start + len(data) - 1}/{size}")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextlib.contextmanager
def served(folder):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Ranges, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_plain_zarr_on_a_web_server_is_read(towers, tmp_path):
    towers.carbon.to_store(tmp_path / "towers.zarr")
    with served(tmp_path) as url:
        ds = open_store(f"{url}/towers.zarr")
        np.testing.assert_array_equal(ds["TA"], towers["TA"])
        assert not store_findings(ds)
        with pytest.raises(StoreError, match=r"none[.]zarr cannot"):
            open_store(f"{url}/none.zarr")


def test_file_urls_are_folders(towers, tmp_path):
    path = tmp_path / "a b.zarr"
    assert towers.carbon.to_store(path.as_uri()) == path and (path / "zarr.json").is_file()
    assert open_store(path.as_uri()).encoding["source"] == str(path)
    assert open_data(path.as_uri()).sizes["site"] == 3
    with pytest.raises(OptionError, match="names the host other"):
        open_store("file://other/a.zarr")


def test_folder_of_icechunk(towers, tmp_path):
    path = tmp_path / "towers.icechunk"
    assert towers.carbon.to_store(path) == path
    towers.isel(site=[0]).carbon.to_store(path, overwrite=True)
    assert open_store(path).sizes["site"] == 1 and open_store(path, version="v1").sizes["site"] == 3
    assert open_data(path).sizes["site"] == 1
    with pytest.raises(StoreError, match="which has no versions"):
        open_store(towers.carbon.to_store(tmp_path / "t.zarr"), version="v1")
    with pytest.raises(StoreError, match="there is no store of Icechunk"):
        store_versions(tmp_path / "t.zarr")
    assert zarr.open_group(Location.of(path).open().store, mode="r").attrs["Conventions"]
