"""Results as text: scores with their uncertainty, and differences between models."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr

from xcarbon.core.variables import IGBP_CLASSES

#: Name of the group of all hours.
ALL = "all"
#: With fewer towers, all favour the same one of two equal models by chance in more than one case in twenty.
FEW = 6


def groups(results: xr.Dataset) -> list[str]:
    """Return the classes, followed by the group of all hours."""
    return [*map(str, results["igbp"].values), ALL]


def of_group(results: xr.Dataset, name: str, group: str) -> xr.DataArray:
    """Select a variable of a class, or the variable over all hours."""
    return results[name] if group == ALL else results[f"{name}_igbp"].sel(igbp=group, drop=True)


def group_name(group: str) -> str:
    """Return the abbreviation and name of a class."""
    return f"{group} {IGBP_CLASSES[group]}" if group in IGBP_CLASSES else group


def number(value: float, digits: int = 2, *, sign: bool = False) -> str:
    """Format a number with a true minus sign; zero has no sign."""
    if not np.isfinite(value):
        return "–"
    text = f"{float(value):{'+' if sign else ''}.{digits}f}"
    return text.lstrip("+-") if not float(text) else text.replace("-", "−")


def interval(bounds: xr.DataArray, digits: int = 2, *, sign: bool = False) -> str:
    """Format an interval in brackets; empty if there is none."""
    if not np.isfinite(bounds).all():
        return ""
    return "[" + ", ".join(number(float(bound), digits, sign=sign) for bound in bounds) + "]"


def over_seeds(values: xr.DataArray) -> str:
    """Format the mean over seeds ``(seed,)``, with the standard deviation if the seeds differ."""
    known = values.values[np.isfinite(values.values)]
    if not known.size:
        return number(np.nan)
    deviation = f" ± {known.std(ddof=1):.2f}" if known.size > 1 and np.ptp(known) > 0 else ""
    return f"{number(known.mean())}{deviation}"


def score(results: xr.Dataset, name: str, label: str, group: str = ALL) -> str:
    """Format a score of a model; the efficiency with its interval over towers."""
    text = over_seeds(of_group(results, name, group).sel(model=label))
    if name != "nse":
        return text
    return f"{text} {interval(of_group(results, 'nse_interval', group).sel(model=label))}".rstrip()


def difference(results: xr.Dataset, pair: int, group: str = ALL) -> str:
    """Format the difference of a pair of models, in bold if its interval excludes zero."""
    value = float(of_group(results, "nse_difference", group)[pair])
    bounds = of_group(results, "nse_difference_interval", group)[pair]
    text = f"{number(value, 3, sign=True)} {interval(bounds, 3, sign=True)}".rstrip()
    return f"**{text}**" if _sign(bounds) else text


def wins(results: xr.Dataset, group: str = ALL) -> Iterator[tuple[int, str]]:
    """Yield the pairs whose interval of the difference excludes zero, and the better model."""
    for pair, bounds in enumerate(of_group(results, "nse_difference_interval", group)):
        sign = _sign(bounds)
        if sign:
            yield pair, str(results["pair_second" if sign > 0 else "pair_first"].values[pair])


def ahead_of_all(results: xr.Dataset, group: str = ALL) -> str | None:
    """Return the model that is better than every other, if there is one."""
    winners = [winner for _, winner in wins(results, group)]
    rivals = results.sizes["model"] - 1
    return next((label for label in winners if winners.count(label) == rivals), None)


def ahead_by_class(results: xr.Dataset, pair: int) -> str:
    """List the classes in which one of two models is better; † marks classes with few towers."""
    count = towers(results)
    classes: dict[str, list[str]] = {}
    for group in groups(results)[:-1]:
        winner = dict(wins(results, group)).get(pair)
        if winner is not None:
            classes.setdefault(winner, []).append(group if count[group] >= FEW else f"{group}†")
    return "; ".join(f"{winner}: {', '.join(names)}" for winner, names in classes.items()) or "none"


def towers(results: xr.Dataset) -> dict[str, int]:
    """Count the towers of each class and of all that are scored with any seed."""
    scored = (results["n_site"] > 0).any(["model", "seed"]).values
    names, counts = np.unique(results["site_igbp"].values[scored].astype(str), return_counts=True)
    none = dict.fromkeys(groups(results), 0)
    return none | dict(zip(map(str, names), counts.tolist(), strict=True)) | {ALL: int(scored.sum())}


def hours(results: xr.Dataset) -> dict[str, int]:
    """Count the hours of each class and of all, averaged over seeds."""
    return {
        group: round(float(of_group(results, "n", group).isel(model=0).mean())) for group in groups(results)
    }


def _sign(bounds: xr.DataArray) -> int:
    """Return 1 or -1 for an interval above or below zero, otherwise 0."""
    lower, upper = bounds.values
    return int(lower > 0) - int(upper < 0)
