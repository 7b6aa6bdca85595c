"""Reading of site metadata."""

import math
import zipfile

import pandas as pd
import pytest

from xcarbon.core.errors import FileFormatError, MetadataError
from xcarbon.io.badm import (
    SiteMetadata,
    build,
    given_fields,
    is_table,
    merge_fields,
    priority,
    read_fields,
    read_metadata,
    tables_beside,
)
from xcarbon.io.columns import Source

BIF = "SITE_ID;GROUP_ID;VARIABLE_GROUP;VARIABLE;DATAVALUE\n"


@pytest.fixture
def write(tmp_path):
    """Write a table and return its path."""

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


def test_latest_group_has_priority_and_older_groups_complete_it(write):
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
        (dict(lat=1.0, igbp="GRA"), "place: XX-Xyz lacks lon; pass metadata"),
        (dict(lat=None, lon="-9999", igbp="GRA"), "lacks lat and lon"),
        (dict(lat=1, lon=2), "lacks igbp"),
        (dict(lat=1, lon=2, igbp="FOREST"), "place: XX-Xyz: unknown IGBP class 'FOREST'"),
        (
            dict(lat="north", lon=2, igbp="GRA"),
            "place: XX-Xyz: lat must be a number, found 'north'",
        ),
        (dict(lat=95, lon=190, igbp="GRA"), "out of range"),
        (dict(lat=1, lon=2, igbp="GRA", utc_offset=60), "UTC offset of 60 h does not exist"),
        (
            dict(lat=1, lon=2, igbp="GRA", latitude=1),
            r"fields \['latitude'\] .* do not exist; the",
        ),
    ],
)
def test_impossible_metadata_is_an_error(fields, message):
    with pytest.raises(MetadataError, match=message):
        build("XX-Xyz", fields, "place")


@pytest.mark.parametrize(
    ("text", "encoding", "error", "message"),
    [
        ("", "utf-8", FileFormatError, "neither a table of towers"),
        ("a,b\n1,2\n", "utf-8", FileFormatError, r"its columns are \['a', 'b'\]"),
        ("SITE_ID,LOCATION_LAT\nAB-Xyz,1\nAB-Xyz,2", "utf-8", MetadataError, "AB-Xyz has two rows"),
        ("SITE_ID,LOCATION_LAT\nAB-Xyz,1", "utf-8", MetadataError, "AB-Xyz lacks lon and igbp"),
    ],
)
def test_wrong_tables_are_named(write, text, encoding, error, message):
    path = write(text, encoding=encoding)
    with pytest.raises(error, match=message) as caught:
        read_metadata(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["Université de Liège", "Göttingen", "Señor Muñoz", "ÉCOLE"])
@pytest.mark.parametrize("encoding", ["cp1252", "mac_roman"])
def test_tables_in_other_encodings_are_read_with_a_warning(write, name, encoding):
    text = f"SITE_ID,LOCATION_LAT,LOCATION_LON,IGBP,SITE_NAME\nAB-Xyz,1,2,ENF,{name}\n"
    with pytest.warns(UserWarning, match=f"not UTF-8 text and was read as {encoding}"):
        assert read_metadata(write(text, encoding=encoding))["AB-Xyz"].site_name == name


def test_headings_may_be_quoted_and_have_blanks(write):
    text = '\ufeff"SITE_ID"; LOCATION_LAT ;"LOCATION_LON";IGBP\nAB-Xyz;1;2;ENF\n'
    for encoding in ("utf-8", "utf-16"):
        assert (
            read_metadata(write(text.lstrip("\ufeff" * (encoding == "utf-16")), encoding=encoding))[
                "AB-Xyz"
            ].lon
            == 2
        )


# File formats of the networks

HEADER = BIF.strip().split(";")
BRASSCHAAT = {
    "lat": "51.30761",
    "lon": "4.51984",
    "elevation": "16",
    "igbp": "ENF",
    "utc_offset": "1",
    "site_name": "Brasschaat",
}
ROWS = [
    ("BE-Bra", "1", "GRP_LOCATION", "LOCATION_LAT", "51.30761"),
    ("BE-Bra", "1", "GRP_LOCATION", "LOCATION_LONG", "4.51984"),
    ("BE-Bra", "1", "GRP_LOCATION", "LOCATION_ELEV", "16"),
    ("BE-Bra", "2", "GRP_IGBP", "IGBP", "ENF"),
    ("BE-Bra", "3", "GRP_UTC_OFFSET", "UTC_OFFSET", "1"),
    ("BE-Bra", "4", "GRP_HEADER", "SITE_NAME", "Brasschaat"),
    ("BE-Bra", "5", "GRP_TEAM", "TEAM_MEMBER_NAME", "Somebody"),
]


def write_rows(path, separator):
    """Write rows as CSV or, if the name ends with .xlsx, as an Excel file."""
    sheet = pd.DataFrame(ROWS, columns=HEADER)
    if path.suffix == ".xlsx":
        sheet.to_excel(path, index=False)
    else:
        sheet.to_csv(path, index=False, sep=separator)
    return path


@pytest.mark.parametrize(
    ("name", "separator"),
    [
        ("AMF_BE-Bra_BIF_20230922.xlsx", ""),
        ("AMF_BE-Bra_FLUXNET_BIF_1996-2023_v1.3_r1.csv", ","),
        ("FLX_AA-Flx_BIF_LATEST.csv", ";"),
        ("ICOSETC_BE-Bra_SITEINFO_L2.csv", ","),
    ],
)
def test_rows_come_as_text_or_as_a_sheet(name, separator, tmp_path):
    path = write_rows(tmp_path / name, separator)
    assert is_table(Source(str(path)))
    assert read_fields(path) == {"BE-Bra": BRASSCHAAT}
    assert read_metadata(path)["BE-Bra"].lat == 51.30761


def test_numbers_and_empty_cells_of_a_sheet(tmp_path):
    path = tmp_path / "AMF_US-CRT_BIF_20230922.xlsx"
    values = [("LOCATION_LAT", 41.5), ("LOCATION_LONG", -83), ("IGBP", "CRO"), ("LOCATION_ELEV", None)]
    rows = [("US-CRT", 1, "GRP", name, value) for name, value in values]
    pd.DataFrame(rows, columns=[f" {name} " for name in HEADER]).to_excel(path, index=False)
    found = read_metadata(path)["US-CRT"]
    assert (found.lat, found.lon, found.igbp) == (41.5, -83, "CRO")
    assert math.isnan(found.elevation)


def test_unquoted_commas_in_a_value_do_no_harm(write):
    rows = "BE-Bra,1,GRP_HEADER,SITE_NAME,Brasschaat, De Inslag, 3\nBE-Bra,2,GRP_IGBP,IGBP,ENF\n"
    assert read_fields(write(BIF.replace(";", ",") + rows))["BE-Bra"]["igbp"] == "ENF"


def test_columns_may_stand_in_any_order(write):
    text = "VARIABLE,DATAVALUE,SITE_ID,GROUP_ID,VARIABLE_GROUP\nIGBP,OSH,AU-Dry,1,GRP_IGBP\n"
    assert read_fields(write(text)) == {"AU-Dry": {"igbp": "OSH"}}


@pytest.mark.parametrize("content", [b"", b"not a sheet", b"PK\x03\x04 not a sheet"])
def test_damaged_sheet_is_named(tmp_path, content):
    path = tmp_path / "AMF_BE-Bra_BIF_20230922.xlsx"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"BIF_20230922\.xlsx: .* truncated or not an Excel file"):
        read_fields(path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("site_data.csv", True),
        ("FLX_AA-Flx_BIF_ALL_20200501.xlsx", True),
        ("AMF_AA-Net_BIF_CCBY4_20230922.xlsx", True),
        ("AMF_US-Ha1_FLUXNET_BIF_1991-2025_v1.3_r1.csv", True),
        ("ICOSETC_BE-Bra_SITEINFO_INTERIM_L2.csv", True),
        ("AMF_US-Ha1_FLUXNET_BIFVARINFO_HR_1991-2025_v1.3_r1.csv", False),
        ("AMF_US-Ha1_BIFVARINFO.csv", False),
        ("ICOSETC_BE-Bra_VARINFO_METEO_L2.csv", False),
        ("AMF_US-CRT_BASE_HH_2-5.csv", False),
        ("AMF_US-CRT_BIF.pdf", False),
        ("site_data (1).CSV", True),
        ("FLX_AA-Flx_BIF_LATEST (1).CSV", True),
        ("._FLX_AA-Flx_BIF_LATEST.csv", False),
        ("my_site_data.csv", False),
        ("site_data.csv.bak", False),
    ],
)
def test_tables_are_recognised_by_their_names(name, expected):
    assert is_table(Source(name)) == is_table(Source("a.zip", f"folder/{name}")) == expected


# Metadata from users and several tables


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, {}),
        ({}, {"": {}}),
        ({"lat": 1, "lon": 2}, {"": {"lat": 1, "lon": 2}}),
        ({"site": "BE-Bra", "lat": 1}, {"BE-Bra": {"site": "BE-Bra", "lat": 1}}),
        ({"BE-Bra": {"lat": 1}, "DE-Tha": {}}, {"BE-Bra": {"lat": 1}, "DE-Tha": {}}),
    ],
)
def test_given_metadata_becomes_fields_by_site(given, expected):
    assert given_fields(given) == expected


def test_tables_and_metadata_become_fields_by_site(write):
    path = write("SITE_ID,LOCATION_LAT\nBE-Bra,51.3\n")
    assert given_fields(path) == given_fields(str(path)) == {"BE-Bra": {"lat": "51.3"}}
    site = SiteMetadata("BE-Bra", 51.3, 4.5, "ENF")
    for given in (site, {"BE-Bra": site}):
        assert given_fields(given)["BE-Bra"]["lat"] == 51.3
    mixed = given_fields({"BE-Bra": site, "DE-Tha": {"lat": 50.96}})
    assert (mixed["BE-Bra"]["lon"], mixed["DE-Tha"]) == (4.5, {"lat": 50.96})


def test_first_table_with_a_field_has_priority():
    tables = [
        {"BE-Bra": {"lat": 1, "elevation": math.nan, "doi": ""}},
        {"DE-Tha": {"lat": 9, "lon": 9}},
        {"BE-Bra": {"lat": 2, "lon": "3", "elevation": "-9999"}},
        {"BE-Bra": {"lon": 4, "elevation": 0}},
    ]
    assert merge_fields(tables, "BE-Bra") == {"lat": 1, "lon": "3", "elevation": 0}
    assert merge_fields(tables, "XX-Xyz") == merge_fields([], "BE-Bra") == {}


def test_tables_beside_a_file_best_first(tmp_path):
    archive = tmp_path / "ICOSETC_BE-Bra_ARCHIVE_L2.zip"
    inside = [
        "x/ICOSETC_BE-Bra_SITEINFO_L2.csv",
        "x/ICOSETC_BE-Bra_FLUXNET_HH_L2.csv",
        "x/AMF_US-Ha1_BIFVARINFO.csv",
    ]
    with zipfile.ZipFile(archive, "w") as opened:
        for member in inside:
            opened.writestr(member, "")
    for name in ("FLX_AA-Flx_BIF_LATEST.csv", "site_data.csv", "notes.csv", "AMF_US-Ha1_BIFVARINFO.csv"):
        (tmp_path / name).touch()
    (tmp_path / "AMF_XX-Xyz_BIF_1.csv").mkdir()
    unpacked = [Source(str(tmp_path / name)) for name in ("site_data.csv", "FLX_AA-Flx_BIF_LATEST.csv")]
    packed = Source(str(archive), inside[0])
    assert tables_beside(archive) == [unpacked[0], packed, unpacked[1]]
    assert tables_beside(tmp_path / "any.csv") == unpacked
    assert sorted([unpacked[1], packed, unpacked[0]], key=priority) == [unpacked[0], packed, unpacked[1]]


def test_rows_are_read_from_an_archive(tmp_path):
    path = tmp_path / "a.zip"
    for name, separator in [("AMF_BE-Bra_BIF_1.xlsx", ""), ("ICOSETC_BE-Bra_SITEINFO_L2.csv", ",")]:
        write_rows(tmp_path / name, separator)
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(tmp_path / name, f"folder/{name}")
        (source,) = [table for table in tables_beside(path) if table.member]
        assert read_fields(source) == {"BE-Bra": BRASSCHAAT}


def test_error_in_an_archive_names_the_member(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("site_data.csv", "a,b\n")
    with pytest.raises(FileFormatError, match=r"a\.zip/site_data\.csv: .* neither a table of towers"):
        read_fields(Source(str(tmp_path / "a.zip"), "site_data.csv"))


def test_stray_carriage_return_is_named(write):
    with pytest.raises(FileFormatError, match=r"cannot be read as a table \(new-line character"):
        read_fields(write(BIF + "BE-Bra;2;GRP_IGBP;IG\rBP;ENF\n"))


def test_table_may_have_blanks_and_decimal_commas(tmp_path):
    table = tmp_path / "site_data.csv"
    table.write_text("SITE_ID ; LOCATION_LAT;LOCATION_LON ;IGBP\n DE-Tha ;50,96; 13,57 ; enf\n")
    found = read_metadata(table)["DE-Tha"]
    assert (found.lat, found.lon, found.igbp) == (50.96, 13.57, "ENF")


@pytest.mark.parametrize("wrong", [[{"site": "DE-Tha", "lat": 1}], 3, {"DE-Tha"}])
def test_metadata_of_another_type_is_an_error(wrong):
    with pytest.raises(MetadataError, match=r"metadata is a .*table.T.to_dict\(\)"):
        given_fields(wrong)
