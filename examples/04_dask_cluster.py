"""A Dask cluster of two processes: build a store while a worker is killed, then predict.

    python 04_dask_cluster.py

For a cluster of several machines, use its address instead: ``Client("tcp://host:8786")``.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import xarray as xr
from dask.distributed import Client, LocalCluster

import xcarbon
from xcarbon.testing import synthetic_towers, write_release


def write_raw(folder: Path) -> None:
    """Write files of synthetic towers, and a table of their metadata."""
    folder.mkdir()
    towers = synthetic_towers(6, patches=False, seed=5)
    for site in towers["site"].values:
        write_release(towers, site, folder)
    columns = {"SITE_ID": "site", "LOCATION_LAT": "lat", "LOCATION_LON": "lon", "IGBP": "igbp"}
    columns["UTC_OFFSET"] = "utc_offset"
    table = pd.DataFrame({column: towers[name] for column, name in columns.items()})
    table.to_csv(folder / "site_data.csv", index=False)


def kill_a_worker(client: Client, store: Path) -> None:
    """Kill a worker after the first tower is complete, as the system does when memory runs out."""
    pid = next(iter(client.run(os.getpid).values()))

    def wait_and_kill() -> None:
        while not any(store.parent.glob(f".{store.name}.building/*/store/audit/SY-*")):
            time.sleep(0.01)
        os.kill(pid, signal.SIGKILL)
        print(f"killed worker {pid}")

    threading.Thread(target=wait_and_kill).start()


def main(folder: Path) -> None:
    """Build with threads, then on a cluster; train a small network, and predict on the cluster."""
    raw, alone, store = folder / "raw", folder / "alone.zarr", folder / "cluster.zarr"
    write_raw(raw)
    print(xcarbon.build(raw, alone))

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,  # all computations below use this cluster
    ):
        kill_a_worker(client, store)
        print(xcarbon.build(raw, store))
        ds = xcarbon.open_store(store)
        xr.testing.assert_equal(ds, xcarbon.open_store(alone))
        print("the store is the same as the one built without a cluster")

        small = {"width": 32, "heads": 4, "cross_blocks": 2, "self_layers": 1}
        model = ds.carbon.fit(network=small, max_steps=20, batch_size=32, learning_rate=3e-3)
        client.wait_for_workers(2)  # Dask has replaced the killed one
        start = time.monotonic()
        nee = ds.sel(time="2010-07").carbon.predict_nee(model)
        nee.to_dataset().to_zarr(folder / "nee.zarr")  # the workers write the values
        print(f"predicted {nee.size} hours of {nee.sizes['site']} towers in {time.monotonic() - start:.0f} s")
    print(xr.open_zarr(folder / "nee.zarr"))


if __name__ == "__main__":  # the processes of a cluster import this file
    xcarbon.set_options(progress=sys.stderr.isatty())
    with TemporaryDirectory() as temporary:
        main(Path(temporary))
