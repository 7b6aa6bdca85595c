"""The CF conventions of a Dataset are checked, also without the checker and where output is captured."""

from __future__ import annotations

import contextlib
import io
import sys

from xcarbon.quality.cf import cf_findings


def test_conventions_are_checked(clean):
    wrong = clean.drop_vars("reflectance")
    wrong["TA"] = wrong["TA"].assign_attrs(standard_name="hotness")
    assert any("hotness" in one.message for one in cf_findings(wrong))
    assert cf_findings(clean) == []
    assert cf_findings(clean.isel(site=0)) == []


def test_without_the_checker_a_note_says_how_to_get_it(clean, monkeypatch):
    monkeypatch.setitem(sys.modules, "compliance_checker.base", None)
    (note,) = cf_findings(clean)
    assert note.severity == "note"
    assert "xcarbon[check]" in note.message


def test_captured_output_survives_the_checker(clean):
    for name in [name for name in sys.modules if name.startswith("compliance_checker")]:
        del sys.modules[name]
    with contextlib.redirect_stdout(io.StringIO()) as captured:
        cf_findings(clean)
        print("§")
    assert captured.getvalue() == "§\n"
