"""Descriptions of models, splits and reports, and errors that name what to do."""

from __future__ import annotations

import sys
from xml.etree import ElementTree

import pytest

import xcarbon
from xcarbon.core.display import tower_map
from xcarbon.core.errors import MissingPackageError, VariableError
from xcarbon.core.validation import check_variables
from xcarbon.testing import synthetic_towers


@pytest.fixture(scope="module")
def plain():
    return synthetic_towers(6, patches=False, variables=["TA", "NEE"])


def test_a_model_describes_itself_briefly():
    model = xcarbon.load("nee-fluxnet2015")
    text, html = repr(model), model._repr_html_()
    assert len(text.splitlines()) <= 10
    for said in ("nee-fluxnet2015 (ensemble)", "180 in training", "47 ENF", "NSE 0.73", "CC-BY-4.0"):
        assert said in text and said in html
    root = ElementTree.fromstring(html)
    assert len(root.findall(".//{http://www.w3.org/2000/svg}circle")) == 180


def test_a_split_and_a_report_have_html(plain):
    split = plain.carbon.split()
    assert len(repr(split).splitlines()) == 4
    assert "ENF" in split._repr_html_()
    report = plain.isel(time=slice(100)).carbon.check()
    root = ElementTree.fromstring(report._repr_html_())
    assert len(root.findall(".//tr")) == len({(f.severity, f.topic, f.message) for f in report.findings})
    assert len(root.findall(".//{http://www.w3.org/2000/svg}circle")) == 6


def test_a_map_escapes_names_and_leaves_out_unknown_places():
    svg = tower_map([50.0, float("nan")], [10.0, 10.0], ["<b>", "unknown"])
    assert svg.count("<circle") == 1 and "&lt;b&gt;" in svg
    assert tower_map([float("nan")], [0.0], ["nowhere"]) == ""


def test_a_missing_package_is_named_with_its_extra(plain, monkeypatch):
    # Other tests may have imported its modules, which Python would find without the package.
    for name in {"matplotlib", *(name for name in sys.modules if name.startswith("matplotlib."))}:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingPackageError, match=r"figures need the package matplotlib: .*xcarbon\[plot\]"):
        plain.carbon.plot.sites()


@pytest.mark.parametrize(("name", "meant"), [("ta", "TA"), ("tair", "TA"), ("nee_f", "NEE"), ("nee", "NEE")])
def test_a_wrong_name_has_a_suggestion(plain, name, meant):
    with pytest.raises(VariableError, match=f"did you mean '{meant}' instead of '{name}'"):
        check_variables(plain, (name,), "this")
    with pytest.raises(VariableError, match=f"did you mean '{name}' instead of '{meant}'"):
        check_variables(plain.drop_attrs().rename({meant: name}), (meant,), "this")
