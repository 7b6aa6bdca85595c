"""Options that commands share, and the towers and hours that they select."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np
import xarray as xr

import xcarbon
from xcarbon.core.errors import OptionError
from xcarbon.io.formats import open_data

Command = TypeVar("Command", bound=Callable[..., Any])

#: Files and folders, which the functions of the package check.
PATH = click.Path(path_type=Path)


class Place(click.ParamType):
    """A path, or the URL of a store."""

    name = "PATH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str | Path:
        """Keep URLs as text, because a path has no two slashes in a row."""
        return value if isinstance(value, Path) or "://" in value else Path(value)


PLACE = Place()
POSITIVE = click.IntRange(min=1)


class Date(click.ParamType):
    """A year, month or day such as 2005, 2005-07 or 2005-07-31."""

    name = "DATE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the text, which xarray interprets: the last date of a period includes all of its hours."""
        try:
            if np.datetime_data(np.datetime64(value))[0] in ("Y", "M", "D"):
                return str(value)
        except ValueError:
            pass
        return self.fail(f"{value!r} is no date such as 2005, 2005-07 or 2005-07-31", param, ctx)


class Sites(click.ParamType):
    """Identifiers of towers with commas between them."""

    name = "SITES"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        """Split the text."""
        return (
            value if isinstance(value, list) else [name.strip() for name in value.split(",") if name.strip()]
        )


@dataclass(frozen=True)
class Selection:
    """Towers and hours of a command; None stands for all.

    Attributes
    ----------
    sites : list of str or None
        Identifiers of the towers.
    first, last : str or None
        First and last date.
    metadata : pathlib.Path or None
        Table of sites for tower files.
    """

    sites: list[str] | None = None
    first: str | None = None
    last: str | None = None
    metadata: Path | None = None

    @property
    def time(self) -> slice | None:
        """Period for ``sel``; None for all hours."""
        return None if self.first is None and self.last is None else slice(self.first, self.last)

    def open(self, paths: str | Path | Sequence[str]) -> xr.Dataset:
        """Open towers or a grid of any format, with the selected towers and hours."""
        return self.hours(self.towers(paths))

    def towers(self, paths: str | Path | Sequence[str], *, uncertainty: bool = False) -> xr.Dataset:
        """Open towers or a grid of any format, with the selected towers and all hours."""
        ds = open_data(paths, self.metadata, uncertainty=uncertainty)
        if self.sites is None:
            return ds
        if "site" not in ds.dims:
            raise OptionError(f"--site selects towers, but {_name(paths)} is a grid")
        absent = [site for site in self.sites if site not in ds.indexes["site"]]
        if absent:
            known = ", ".join(ds.indexes["site"][:10])
            raise OptionError(
                f"{_name(paths)} has no tower {', '.join(absent)}; the first towers are {known}"
            )
        return ds.sel(site=self.sites)

    def hours(self, ds: xr.Dataset) -> xr.Dataset:
        """Select the hours."""
        if self.time is None:
            return ds
        selected = ds.sel(time=self.time)
        if not selected.sizes["time"]:
            first, last = ds["time"].values[[0, -1]].astype("M8[D]")
            raise OptionError(
                f"there are no hours from {self.first or first} to {self.last or last}; the data is from "
                f"{first} to {last}"
            )
        return selected


def _name(paths: str | Path | Sequence[str]) -> str:
    return str(paths if isinstance(paths, str | Path) else paths[0])


def selects(what: str) -> Callable[[Command], Command]:
    """Add the options of a selection, which the command gets as ``selection``; ``what`` names the hours."""

    def add(command: Command) -> Command:
        @click.option("--site", "sites", type=Sites(), help="Towers, for example DE-Tha,DE-Hai.")
        @click.option("--from", "first", type=Date(), help=f"First date of the hours {what}.")
        @click.option("--to", "last", type=Date(), help=f"Last date of the hours {what}.")
        @click.option("--metadata", type=PATH, help="Table of coordinates and classes, for tower files.")
        @functools.wraps(command)
        def selecting(
            *arguments: Any, sites: list[str] | None, first: str | None, last: str | None,
            metadata: Path | None, **others: Any,
        ) -> Any:  # fmt: skip
            return command(*arguments, selection=Selection(sites, first, last, metadata), **others)

        return selecting  # type: ignore[return-value]

    return add


def command(example: str, *, on_cluster: bool = False) -> Callable[[Command], click.Command]:
    """Make a command with an example in its help, ``--quiet`` and, if it computes on one, ``--scheduler``."""

    def make(function: Command) -> click.Command:
        @click.option("--quiet", is_flag=True, help="Show no progress bars.")
        @functools.wraps(function)
        def run(*arguments: Any, quiet: bool, scheduler: str | None = None, **others: Any) -> Any:
            with xcarbon.set_options(progress=not quiet), _connected(scheduler):
                return function(*arguments, **others)

        if on_cluster:
            run = click.option(
                "--scheduler",
                metavar="ADDRESS",
                help="Address of a Dask cluster to compute on, for example tcp://host:8786; its workers need "
                "access to the same files.  [default: threads of this machine]",
            )(run)
        lines = "\n".join(f"  {line}" for line in example.splitlines())
        return click.command(epilog=f"\b\nExample:\n{lines}")(run)

    return make


def _connected(address: str | None) -> Any:
    """Connect to a Dask cluster for the duration of a command."""
    from dask.distributed import Client

    return nullcontext() if address is None else Client(address)


overwrite = click.option("--overwrite", is_flag=True, help="Replace an existing output.")
