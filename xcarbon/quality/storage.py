"""Find values that a store has lost since it was written, and chunks that cannot be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dask
import xarray as xr
import zarr

from xcarbon.core.options import progress_bar
from xcarbon.io import counts
from xcarbon.io.location import Opened
from xcarbon.quality.plausibility import Finding

TOPIC = "store"
_AGAIN = "Copy or build the store again."


def stored_values(ds: xr.Dataset) -> list[Finding]:
    """Compare the numbers of values in the store of a Dataset with those that were recorded in it.

    The sites and variables of the Dataset are read from the store, in one task for each site. There are no
    findings if the Dataset was not opened from a Zarr store of towers.
    """
    opened = ds.encoding.get("store")
    if "site" not in ds.dims or opened is None:
        return []
    order = {site: index for index, site in enumerate(counts.sites(opened.store))}
    recorded = counts.recorded(opened.store)
    names = [str(name) for name, array in ds.data_vars.items() if "site" in array.dims]
    sites = [site for site in map(str, ds["site"].values) if site in order]
    known = {site: {} if recorded is None else recorded[site] for site in sites}
    tasks = [dask.delayed(_compare)(opened, site, order[site], names, known[site]) for site in sites]
    with progress_bar("reading the store"):
        findings = [found for of_site in dask.compute(*tasks) for found in of_site]
    if recorded is None:
        return [*findings, _not_recorded(opened)]
    return [*findings, *(_not_recorded(opened, site) for site in sites if not known[site])]


def _not_recorded(opened: Opened, site: str = "") -> Finding:
    message = (
        f"The numbers of values are not recorded in {opened}, so that lost files cannot be found. Write the "
        "store again with to_store or xcarbon build to record them."
    )
    return Finding("note", TOPIC, message, site)


def _compare(
    opened: Opened, site: str, index: int, names: Sequence[str], recorded: Mapping[str, int]
) -> list[Finding]:
    """Read the variables of one site, and compare the numbers of their values with those recorded."""
    group = zarr.open_group(opened.store, mode="r")
    findings = []
    for name in names:
        if name not in group:
            continue  # the variable was added to the Dataset
        try:
            array: Any = group[name]
            found = counts.count(array, index)
        except Exception as error:
            message = f"{name} in {opened} cannot be read ({error}). A file is damaged. {_AGAIN}"
            findings.append(Finding("error", TOPIC, message, site, name))
            continue
        if recorded and recorded.get(name, 0) != found:
            message = (
                f"{name} in {opened} has {found} values, but {recorded.get(name, 0)} were written. A file "
                f"was lost, or the store was changed. {_AGAIN}"
            )
            findings.append(Finding("error", TOPIC, message, site, name))
    return findings
