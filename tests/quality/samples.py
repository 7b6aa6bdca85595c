"""Findings of the quality checks."""

from __future__ import annotations

from collections import defaultdict

import xarray as xr

from xcarbon.quality.checks import Report, check


def by_site(report: Report) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for finding in report.findings:
        assert finding.topic not in found[finding.site] or finding.topic == "clock"
        found[finding.site][finding.topic] = finding.message
    return found


def found(ds: xr.Dataset, severity: str) -> list[tuple[str, str, str]]:
    return [(one.topic, one.site, one.variable) for one in check(ds).findings if one.severity == severity]


def message(ds: xr.Dataset, topic: str) -> str:
    (text,) = {one.message for one in check(ds).findings if one.topic == topic}
    return text
