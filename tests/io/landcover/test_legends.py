"""The values of maps are translated to classes of IGBP."""

from __future__ import annotations

import numpy as np
import pytest

from tests.io.landcover.samples import FLAGS, axis, write_cci
from xcarbon.core.variables import IGBP_CLASSES
from xcarbon.io.landcover import LCCS_TO_IGBP, open_landcover


@pytest.mark.parametrize("time", [True, False])
def test_classes_of_cci(tmp_path, time):
    values = np.array(list(FLAGS), "uint8").reshape(2, -1)
    lat, lon = axis(50, 49.9, 2), axis(8, 9, values.shape[1])
    path = write_cci(tmp_path / "C3S-LC.nc", values, lat, lon, time=time)
    ds = open_landcover(path).load()
    classes = dict(zip(FLAGS, ds["igbp"].values.ravel(), strict=True))
    assert classes.pop(0) == "" and classes.pop(210) == ""
    assert classes == {value: name for value, name in LCCS_TO_IGBP.items() if value != 210}
    shares = dict(zip(FLAGS, ds["land_fraction"].values.ravel(), strict=True))
    assert np.isnan(shares[0]) and shares[210] == 0 and shares[140] == 1 and shares[62] == 1


def test_every_class_of_cci_is_translated():
    assert LCCS_TO_IGBP.keys() == FLAGS.keys() - {0}
    assert set(LCCS_TO_IGBP.values()) <= {"", *IGBP_CLASSES}
