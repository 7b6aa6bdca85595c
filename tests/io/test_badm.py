"""Metadata of towers."""

import math

import pytest

from xcarbon.errors import FileFormatError, MetadataError
from xcarbon.io.badm import SiteMetadata, build, read_fields, read_metadata

BIF = "SITE_ID;GROUP_ID;VARIABLE_GROUP;VARIABLE;DATAVALUE\n"


@pytest.fixture
def write(tmp_path):
    """Write a table and give its path."""

    def _write(text, name="table.csv", encoding="utf-8"):
        (tmp_path / name).write_bytes(text.encode(encoding))
        return tmp_path / name

    return _write


def test_real_table_and_badm_agree(real_data):
    table = read_metadata(real_data / "raw" / "site_data.csv")
    rows = read_metadata(real_data / "raw" / "FLX_AA-Flx_BIF_LATEST_sample.csv")
    assert {site: repr(known) for site, known in table.items()} == {site: repr(rows[site]) for site in table}
    assert math.isnan(table["US-ARc"].utc_offset)
    assert math.isnan(table["AU-Tum"].elevation)


@pytest.mark.parametrize("longitude", ["LOCATION_LON", "LOCATION_LONG"])
@pytest.mark.parametrize("separator", [",", ";"])
def test_plain_table(write, longitude, separator):
    text = f"\ufeffSITE_ID,LOCATION_LAT,{longitude},IGBP,UTC_OFFSET,SITE_NAME\r\n"
    text += 'AU-Ade,-13.1,131.1,WSA,9.5,"Adelaide\nRiver"\r\n'
    metadata = read_metadata(write(text.replace(",", separator)))["AU-Ade"]
    assert (metadata.lat, metadata.lon, metadata.utc_offset) == (-13.1, 131.1, 9.5)
    assert math.isnan(metadata.elevation)
    assert metadata.site_name == "Adelaide\nRiver"


def test_latest_group_speaks_and_keeps_what_only_older_ones_say(write):
    rows = """\
DE-Xyz;1;GRP_LOCATION;LOCATION_LAT;50
DE-Xyz;1;GRP_LOCATION;LOCATION_LONG;10
DE-Xyz;1;GRP_LOCATION;LOCATION_ELEV;300
DE-Xyz;2;GRP_LOCATION;LOCATION_LAT;51
DE-Xyz;2;GRP_LOCATION;LOCATION_LONG;11
DE-Xyz;2;GRP_LOCATION;LOCATION_DATE_START;20050101
DE-Xyz;3;GRP_LOCATION;LOCATION_LAT;52
DE-Xyz;3;GRP_LOCATION;LOCATION_LONG;12
DE-Xyz;3;GRP_LOCATION;LOCATION_DATE_START;1999
DE-Xyz;4;GRP_IGBP;IGBP;ENF
DE-Xyz;5;GRP_IGBP;IGBP;GRA
DE-Xyz;6;GRP_UTC_OFFSET;UTC_OFFSET;1
"""
    metadata = read_metadata(write(BIF + rows))["DE-Xyz"]
    assert (metadata.lat, metadata.lon, metadata.elevation) == (51, 11, 300)
    assert (metadata.igbp, metadata.utc_offset) == ("ENF", 1)


def test_doi_of_a_fluxnet_product_comes_first(write):
    rows = """\
US-Xyz,1,GRP_DOI,DOI,10.17190/AMF/1
US-Xyz,1,GRP_DOI,DOI_DATAPRODUCT,AmeriFlux
US-Xyz,2,GRP_DOI,DOI,10.18140/FLX/2
US-Xyz,2,GRP_DOI,DOI_DATAPRODUCT,FLUXNET2015
US-Xyz,2,GRP_DOI,DOI_CITATION,"A. Author, FLUXNET2015 US-Xyz"
"""
    fields = read_fields(write(BIF.replace(";", ",") + rows))["US-Xyz"]
    assert fields == {"doi": "10.18140/FLX/2", "citation": "A. Author, FLUXNET2015 US-Xyz"}


@pytest.mark.parametrize(
    ("lat", "lon", "utc_offset"),
    [
        (-72.1715, 42.5378, -5),  # US-Ha1
        (13.5669, 50.9636, 1),  # DE-Tha
        (131.1523, -12.4943, 9.5),  # AU-DaP
    ],
)
def test_swapped_coordinates_are_recognised(lat, lon, utc_offset):
    with pytest.raises(MetadataError, match="look swapped"):
        SiteMetadata("XX-Xyz", lat, lon, "GRA", utc_offset=utc_offset)
    SiteMetadata("XX-Xyz", lon, lat, "GRA", utc_offset=utc_offset)


def test_wrong_sign_of_utc_offset_does_not_look_swapped():
    SiteMetadata("US-Me6", 44.3233, -121.6078, "ENF", utc_offset=8)


def test_no_real_tower_looks_swapped(real_towers):
    known = real_towers[["lat", "lon", "utc_offset"]].load()
    for site in known.site.values:
        here = known.sel(site=site)
        lat, lon, offset = (float(here[name]) for name in ("lat", "lon", "utc_offset"))
        SiteMetadata(str(site), lat, lon, "GRA", utc_offset=offset)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(lat=1.0, igbp="GRA"), "place: XX-Xyz lacks lon; give"),
        (dict(lat=None, lon="-9999", igbp="GRA"), "lacks lat and lon"),
        (dict(lat=1, lon=2), "lacks igbp"),
        (dict(lat=1, lon=2, igbp="FOREST"), "place: XX-Xyz: unknown IGBP class 'FOREST'"),
        (
            dict(lat="north", lon=2, igbp="GRA"),
            "place: XX-Xyz: lat must be a number, found 'north'",
        ),
        (dict(lat=95, lon=190, igbp="GRA"), "not on Earth"),
        (dict(lat=1, lon=2, igbp="GRA", utc_offset=60), "UTC offset of 60 h"),
        (dict(lat=1, lon=2, igbp="GRA", latitude=1), r"no fields \['latitude'\]; the fields are"),
    ],
)
def test_what_cannot_be_true_is_refused(fields, message):
    with pytest.raises(MetadataError, match=message):
        build("XX-Xyz", fields, "place")


@pytest.mark.parametrize(
    ("text", "encoding", "error", "message"),
    [
        ("", "utf-8", FileFormatError, "neither a table of towers"),
        ("a,b\n1,2\n", "utf-8", FileFormatError, r"its columns are \['a', 'b'\]"),
        ("SITE_ID,LOCATION_LAT\nAB-Xyz,é", "latin-1", FileFormatError, "not a table in UTF-8"),
        ("SITE_ID,LOCATION_LAT\nAB-Xyz,1\nAB-Xyz,2", "utf-8", MetadataError, "AB-Xyz has two rows"),
        ("SITE_ID,LOCATION_LAT\nAB-Xyz,1", "utf-8", MetadataError, "AB-Xyz lacks lon and igbp"),
    ],
)
def test_wrong_tables_are_named(write, text, encoding, error, message):
    path = write(text, encoding=encoding)
    with pytest.raises(error, match=message) as caught:
        read_metadata(path)
    assert str(path) in str(caught.value)
