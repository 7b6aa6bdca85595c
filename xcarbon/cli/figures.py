"""The command that draws figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xcarbon.cli.options import PATH, Selection, command, overwrite, selects
from xcarbon.core.atomic import check_free, replacing
from xcarbon.core.errors import OptionError
from xcarbon.core.extras import require
from xcarbon.io.formats import open_data

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Figures, and the options that each of them has besides the selection of towers.
FIGURES = {
    "series": {"prediction"},
    "fingerprint": {"prediction", "variable"},
    "diurnal": {"prediction", "variable", "by"},
    "year": {"prediction", "variable", "year"},
    "scatter": {"prediction", "by"},
    "gaps": {"variable"},
    "sites": {"color_by"},
}
_NEED_PREDICTION, _ALL_HOURS = ("series", "scatter"), ("year", "sites")
FORMATS = (".png", ".pdf", ".svg")


@command("xcarbon plot year DE-Tha_filled.nc DE-Tha_2005.png --year 2005")
@click.argument("figure", type=click.Choice(list(FIGURES)))
@click.argument("data", nargs=-1, required=True)
@click.argument("out", type=PATH)
@click.option("--prediction", help="Prediction or filled flux, from `xcarbon predict` or `xcarbon gapfill`.")
@click.option(
    "--variable", help="Variable to draw.  [default: the flux, or for gaps all variables of a tower]"
)
@click.option("--by", help="Groups: month or season (diurnal); a coordinate such as site (scatter).")
@click.option("--year", type=int, multiple=True, help="Year, for the figure of years; may be repeated.")
@click.option("--color-by", help="Coordinate for the colours of a map, such as elevation.")
@overwrite
@selects("to draw")
def plot(
    figure: str, data: tuple[str, ...], out: Path, prediction: str | None, overwrite: bool,
    selection: Selection, **options: Any,
) -> int:  # fmt: skip
    r"""Draw a figure of towers.

    \b
    series       observations and prediction of a tower, hourly or daily
    fingerprint  every hour of a year, measured above filled or predicted
    diurnal      mean diurnal cycle of each month or season
    year         daily means and cumulative sum
    scatter      observed against predicted hours, by class
    gaps         measured, filled and missing hours
    sites        map of the towers

    DATA are towers in any form that `xcarbon info` reads, and OUT is a file that ends in .png, .pdf or .svg.
    Figures of one tower show the first one unless --site names another.
    """
    check_figure(out, overwrite)
    given: dict[str, Any] = {name: value for name, value in options.items() if value}
    if prediction is not None:
        given["prediction"] = prediction
    wrong = sorted(given.keys() - FIGURES[figure])
    if wrong:
        allowed = ", ".join(map(_option, sorted(FIGURES[figure])))
        raise OptionError(f"the figure {figure} has no {_option(wrong[0])}; its options are {allowed}")
    if selection.time is not None and figure in _ALL_HOURS:
        raise OptionError(f"the figure {figure} has neither --from nor --to")
    if prediction is None and figure in _NEED_PREDICTION:
        raise OptionError(f"the figure {figure} needs --prediction, which `xcarbon predict` writes")
    towers = selection.towers(data)
    if prediction is not None:
        given["prediction"] = open_data(prediction)
    if figure == "gaps":
        towers = selection.hours(towers)
    elif selection.time is not None:
        given["time"] = selection.time
    if figure not in ("scatter", "gaps", "sites") and selection.sites is not None:
        if len(selection.sites) > 1:
            raise OptionError(f"the figure {figure} shows one tower, but --site names {len(selection.sites)}")
        given["site"] = selection.sites[0]
    save(getattr(towers.carbon.plot, figure)(**given), out)
    print(f"wrote {out}")
    return 0


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def check_figure(out: Path, overwrite: bool) -> None:
    """Raise an error before a long computation if its figure cannot be written."""
    if out.suffix not in FORMATS:
        raise OptionError(f"{out} must end in one of {', '.join(FORMATS)}")
    require("figures", "plot", "matplotlib")
    check_free(out, overwrite=overwrite)
    import matplotlib

    matplotlib.use("agg")  # figures are written to files, without a screen


def save(drawn: Axes | Figure, out: Path) -> None:
    """Write a figure, or the figure of axes."""
    figure: Any = drawn if hasattr(drawn, "savefig") else drawn.figure
    with replacing(out) as path:
        figure.savefig(path, format=out.suffix[1:], dpi=150, bbox_inches="tight")
