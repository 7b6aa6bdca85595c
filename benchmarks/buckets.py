"""What it costs to keep a store in Icechunk and in a bucket, compared with plain Zarr in a folder.

The bucket is that of moto, a server of S3 in Python on the loopback address, which shares the cores with
xcarbon. The ratios therefore include the work of the server, and not the latency of a network.
"""

import logging
import os
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from unittest import mock

import numpy as np
import xarray as xr

from benchmarks.common import open_towers, report, size
from xcarbon import open_store

TOWERS, YEARS = size(20, 2), size(5, 1)


@contextmanager
def bucket() -> Iterator[str]:
    """Start a server of S3, with credentials in the environment, and yield the URL of a bucket."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    urllib.request.urlopen(urllib.request.Request(f"{url}/bucket", method="PUT")).close()
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
    try:
        with mock.patch.dict(os.environ, keys | {"AWS_ENDPOINT_URL": url}):
            yield "s3://bucket"
    finally:
        server.stop()


def seconds(job: Callable[[], object]) -> float:
    """Return the time of a job [s]."""
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def read(place: str) -> xr.Dataset:
    """Read all values of a store."""
    return open_store(place).load()


class Buckets:
    """Twenty towers of five years, written and read in each place in turn; the fastest of three rounds."""

    timeout = 900

    def setup_cache(self) -> dict[str, float]:
        """Time writing and reading in all places."""
        towers = open_towers(TOWERS).isel(time=slice(-YEARS * 8760, None)).load().chunk(site=1)
        times: dict[str, float] = {}
        with tempfile.TemporaryDirectory() as folder, bucket() as url:
            places = {
                "folder": f"{folder}/towers.zarr",
                "icechunk": f"{folder}/towers.icechunk",
                "bucket": f"{url}/towers",
            }
            for _ in range(size(3, 1)):
                for name, place in places.items():
                    took = {
                        f"write {name}": seconds(partial(towers.carbon.to_store, place, overwrite=True)),
                        f"read {name}": seconds(partial(read, place)),
                    }
                    times |= {job: min(took[job], times.get(job, np.inf)) for job in took}
            for place in places.values():
                xr.testing.assert_equal(read(place), read(places["folder"]))
            print({job: round(took, 2) for job, took in times.items()}, f"{towers.nbytes / 1e6:.0f} MB")
        return times

    def track_write_icechunk(self, times: dict[str, float]) -> float:
        """Compare writing to Icechunk in a folder with plain Zarr in a folder."""
        return times["write folder"] / times["write icechunk"]

    def track_read_icechunk(self, times: dict[str, float]) -> float:
        """Compare reading from Icechunk in a folder with plain Zarr in a folder."""
        return times["read folder"] / times["read icechunk"]

    def track_write_bucket(self, times: dict[str, float]) -> float:
        """Compare writing to a bucket of moto with plain Zarr in a folder."""
        return times["write folder"] / times["write bucket"]

    def track_read_bucket(self, times: dict[str, float]) -> float:
        """Compare reading from a bucket of moto with plain Zarr in a folder."""
        return times["read folder"] / times["read bucket"]

    track_write_icechunk.unit = "x as fast as plain Zarr in a folder"  # type: ignore[attr-defined]
    track_read_icechunk.unit = "x as fast as plain Zarr in a folder"  # type: ignore[attr-defined]
    track_write_bucket.unit = "x as fast as plain Zarr in a folder"  # type: ignore[attr-defined]
    track_read_bucket.unit = "x as fast as plain Zarr in a folder"  # type: ignore[attr-defined]


if __name__ == "__main__":
    report(globals())
