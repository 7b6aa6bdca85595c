"""Build a store and predict NEE with jobs of SLURM: ``python slurm.py RAW STORE PREDICTION``.

The same command continues after an interruption.
"""

import sys

from dask.distributed import Client
from dask_jobqueue import SLURMCluster

import xcarbon

# One job: a node, or a part of it. Each process is a worker with one thread and a share of the memory.
JOB = dict(cores=16, processes=16, memory="64GB", walltime="04:00:00", queue="batch", account="flux")
JOBS = 4


def main(raw: str, store: str, prediction: str) -> None:
    """Build a store from a folder of raw files, and write the prediction for all of its towers."""
    with SLURMCluster(**JOB) as cluster, Client(cluster):
        cluster.scale(jobs=JOBS)  # work begins when the first job does
        print(xcarbon.build(raw, store))
        towers = xcarbon.open_store(store)
        towers.carbon.predict_to("NEE", "nee-fluxnet2015", prediction, spread=True)


if __name__ == "__main__":  # the processes of a cluster import this file
    main(*sys.argv[1:])
