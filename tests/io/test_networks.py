"""Recognition of files by their names, and sorting of the releases of a tower."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xcarbon.core.errors import FileFormatError
from xcarbon.io.columns import Source
from xcarbon.io.networks import newest_first, recognise, sources_in, walk, why_skipped
from xcarbon.testing import synthetic_towers, write_release

#: File names of one tower in all products, from old to new, and the labels of the releases.
AGES = {
    "AMF_BE-Bra_BASE_HH_2-5.csv": "AmeriFlux-BASE_2-5",
    "FLX_BE-Bra_FLUXNET2015_FULLSET_HH_1996-2014_2-4.csv": "FLUXNET2015_2-4",
    "FLX_BE-Bra_FLUXNET-CH4_HH_2011-2018_1-1.csv": "FLUXNET-CH4_1-1",
    "FLX_BE-Bra_FLUXNET2015_FULLSET_HH_1996-2020_beta-3.csv": "ICOS-Warm-Winter-2020_beta-3",
    "AMF_BE-Bra_FLUXNET_FULLSET_HH_1996-2020_3-5.csv": "AmeriFlux-FLUXNET_3-5",
    "ICOSETC_BE-Bra_FLUXNET_HH_INTERIM_L2.csv": "ICOS-L2_INTERIM",
    "ICOSETC_BE-Bra_FLUXNET_HH_L2.csv": "ICOS-L2",
    "EUF_BE-Bra_FLUXNET_FLUXMET_HH_1996-2023_v1.3_r1.csv": "FLUXNET_v1.3_r1",
}


def of(*paths: str):
    """Recognise the releases at paths, where the member of an archive follows its path."""
    parts = [path.partition(".zip/") for path in paths]
    return [recognise(Source(f"{head}.zip", member) if member else Source(head)) for head, _, member in parts]


def newest(*paths: str) -> list[str]:
    return [str(release.source) for release in newest_first(of(*paths))]


# Names


@pytest.mark.parametrize(
    ("name", "site", "label", "resolution", "subset"),
    [
        ("FLX_DE-Tha_FLUXNET2015_SUBSET_HH_1996-2014_1-4.csv", "DE-Tha", "FLUXNET2015_1-4", "HH", "SUBSET"),
        ("FLX_US-Ha1_FLUXNET2015_FULLSET_HR_1991-2012_1-3.csv", "US-Ha1", "FLUXNET2015_1-3", "HR", "FULLSET"),
        ("FLX_DE-Tha_FLUXNET2015_SUBSET_HH_1996-2014.csv.gz", "DE-Tha", "FLUXNET2015", "HH", "SUBSET"),
        ("AMF_US-Ha1_FLUXNET_SUBSET_HR_1991-2020_3-5.csv", "US-Ha1", "AmeriFlux-FLUXNET_3-5", "HR", "SUBSET"),
        (
            "AMF_US-MMS_FLUXNET_FULLSET_HR_1999-2020_3-5.csv",
            "US-MMS",
            "AmeriFlux-FLUXNET_3-5",
            "HR",
            "FULLSET",
        ),
        ("ICOSETC_BE-Bra_FLUXNET_HH_L2.csv", "BE-Bra", "ICOS-L2", "HH", ""),
        ("ICOSETC_SE-Sto_FLUXNET_HH_INTERIM_L2.csv", "SE-Sto", "ICOS-L2_INTERIM", "HH", ""),
        (
            "FLX_BE-Bra_FLUXNET2015_FULLSET_HH_1996-2020_beta-3.csv",
            "BE-Bra",
            "ICOS-Warm-Winter-2020_beta-3",
            "HH",
            "FULLSET",
        ),
        ("FLX_US-Myb_FLUXNET-CH4_HH_2011-2018_1-1.csv", "US-Myb", "FLUXNET-CH4_1-1", "HH", ""),
        ("AMF_US-CRT_BASE_HH_2-5.csv", "US-CRT", "AmeriFlux-BASE_2-5", "HH", ""),
        *(
            (f"{hub}_AU-Tum_FLUXNET_FLUXMET_HR_2001-2023_v1.3_r1.csv", "AU-Tum", "FLUXNET_v1.3_r1", "HR", "")
            for hub in ("AMF", "ICOS", "ICOSETC", "EUF", "TERN", "JPF")
        ),
    ],
)
def test_release_is_recognised_by_name(name, site, label, resolution, subset):
    for folder in ("", "raw/AMF_XX-Xyz_FLUXNET_2000-2001_v1.0_r1/"):
        (release,) = of(folder + name)
        assert (release.site, release.label) == (site, label)
        assert (release.resolution, release.subset) == (resolution, subset)


@pytest.mark.parametrize(
    "name",
    [
        "FLX_DE-Tha_FLUXNET2015_AUXMETEO_1996-2014_1-4.csv",
        "FLX_DE-Tha_FLUXNET2015_AUXNEE_1996-2014_1-4.csv",
        "FLX_DE-Tha_FLUXNET2015_ERAI_HH_1989-2014_1-4.csv",
        "AMF_US-Ha1_FLUXNET_ERA5_HR_1981-2021_3-5.csv",
        "AMF_US-Ha1_FLUXNET_ERA5_HR_1981-2025_v1.3_r1.csv",
        "AMF_US-Ha1_FLUXNET_BIF_1991-2025_v1.3_r1.csv",
        "AMF_US-Ha1_FLUXNET_BIFVARINFO_HR_1991-2025_v1.3_r1.csv",
        "AMF_US-CRT_BIF_20230922.xlsx",
        "FLX_AA-Flx_BIF_LATEST.csv",
        "ICOSETC_BE-Bra_SITEINFO_L2.csv",
        "ICOSETC_BE-Bra_VARINFO_FLUXNET_HH_L2.csv",
        "ICOSETC_BE-Bra_ANCILLARY_L2.csv",
        "ICOSETC_BE-Bra_METEO_L2.csv",
        "ICOSETC_BE-Bra_FLUXES_L2.csv",
        "MCD43A4.A2018185.h10v07.061.tif",
        "site_data.csv",
        "._FLX_DE-Tha_FLUXNET2015_SUBSET_HH_1996-2014_1-4.csv",
        "FLX_DE-Tha_FLUXNET2015_SUBSET_HH_1996-2014_1-4.csv.part",
        "FLX_DE-Tha_FLUXNET2015_SUBSET_HH_1996-2014_1-4_edited.csv",
    ],
)
def test_other_files_are_not_recognised(name):
    assert of(name) == [None]


@pytest.mark.parametrize("resolution", ["DD", "WW", "MM", "YY"])
@pytest.mark.parametrize("name", AGES)
def test_coarser_files_are_recognised_as_such(name, resolution):
    (release,) = of(name.replace("_HH_", f"_{resolution}_"))
    assert (release.site, release.resolution) == ("BE-Bra", resolution)


@pytest.mark.parametrize("product", ["FLUXNET2015_SUBSET", "AmeriFlux-BASE", "FLUXNET-CH4", "FLUXNET"])
def test_written_releases_are_recognised(product, tmp_path):
    ds = synthetic_towers(1, variables=["TA"], patches=False).isel(time=slice(4))
    (release,) = of(str(write_release(ds, "SY-001", tmp_path, product)))
    assert release.site == "SY-001" and release.product.name == product.removesuffix("_SUBSET")


# Several releases


@given(st.permutations(list(AGES)))
def test_products_have_an_age(names):
    assert newest(*names) == list(AGES)[::-1]
    assert [release.label for release in newest_first(of(*names))] == list(AGES.values())[::-1]


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("AMF_US-Ha1_BASE_HR_1-9.csv", "AMF_US-Ha1_BASE_HR_1-10.csv"),
        ("AMF_US-Ha1_BASE_HR_9-5.csv", "AMF_US-Ha1_BASE_HR_10-5.csv"),
        (
            "FLX_DE-Tha_FLUXNET2015_SUBSET_HH_1996-2014_1-4.csv",
            "FLX_DE-Tha_FLUXNET2015_SUBSET_HH_1996-2014_2-3.csv",
        ),
        (
            "FLX_DE-Tha_FLUXNET2015_FULLSET_HH_1996-2018_beta-3.csv",
            "FLX_DE-Tha_FLUXNET2015_FULLSET_HH_1996-2020_beta-3.csv",
        ),
        (
            "AMF_US-Ha1_FLUXNET_FLUXMET_HR_1991-2025_v1.3_r2.csv",
            "AMF_US-Ha1_FLUXNET_FLUXMET_HR_1991-2025_v1.10_r1.csv",
        ),
        (
            "AMF_US-Ha1_FLUXNET_FLUXMET_HR_1991-2025_v1.3_r1.csv",
            "AMF_US-Ha1_FLUXNET_FLUXMET_HR_1991-2025_v1.3_r2.csv",
        ),
        ("ICOSETC_SE-Sto_FLUXNET_HH_INTERIM_L2.csv", "ICOSETC_SE-Sto_FLUXNET_HH_L2.csv"),
    ],
)
def test_versions_count_as_numbers_and_none_is_lost(older, newer):
    assert newest(older, newer) == newest(newer, older) == [newer, older]


SUBSET, FULLSET = (
    f"FLX_DE-Tha_FLUXNET2015_{subset}_HH_1996-2014_1-4.csv" for subset in ("SUBSET", "FULLSET")
)


@pytest.mark.parametrize("names", [(SUBSET, FULLSET), (FULLSET, SUBSET)])
def test_fullset_counts_rather_than_subset(names):
    assert newest(*names) == [FULLSET]
    assert newest(f"unpacked/{SUBSET}", f"FULL.zip/{FULLSET}") == [f"FULL.zip/{FULLSET}"]


@pytest.mark.parametrize("packed", [f"a.zip/{FULLSET}", f"a.zip/folder/{FULLSET}", f"z/z.zip/{FULLSET}"])
def test_unpacked_counts_rather_than_packed(packed):
    assert newest(packed, f"m/{FULLSET}") == newest(f"m/{FULLSET}", packed) == [f"m/{FULLSET}"]
    assert newest(f"m/{FULLSET}.gz", packed) == [f"m/{FULLSET}.gz"]


def test_other_versions_years_and_towers_are_other_releases():
    names = [
        FULLSET,
        FULLSET.replace("1-4", "1-3"),
        FULLSET.replace("1996-2014", "1996-2012"),
        FULLSET.replace("DE-Tha", "DE-Hai"),
    ]
    assert sorted(newest(*names)) == sorted(names)


def test_files_of_icos_with_the_same_name_are_all_kept():
    name = "ICOSETC_BE-Bra_FLUXNET_HH_L2.csv"
    paths = [f"2023-1/{name}", f"2024-1/{name}", f"2024-1/ICOSETC_BE-Bra_ARCHIVE_L2.zip/{name}"]
    assert sorted(newest(*paths)) == sorted(paths)


def test_towers_come_in_order_of_their_names():
    names = ["ICOSETC_SE-Sto_FLUXNET_HH_L2.csv", *AGES, "AMF_US-CRT_BASE_HH_2-5.csv", FULLSET]
    assert [release.site for release in newest_first(of(*names))] == [
        *["BE-Bra"] * len(AGES),
        "DE-Tha",
        "SE-Sto",
        "US-CRT",
    ]


# Folders and archives


def test_walk_goes_to_any_depth_and_keeps_given_files(tmp_path):
    for name in ("b/c/2.csv", "a.csv", "b/1.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    files = [tmp_path / name for name in ("a.csv", "b/1.csv", "b/c/2.csv")]
    assert list(walk(tmp_path)) == list(walk(str(tmp_path))) == files
    assert list(walk([files[2], tmp_path / "b"])) == [files[2], files[1], files[2]]
    with pytest.raises(FileNotFoundError, match="absent: no such file or folder"):
        list(walk([tmp_path, tmp_path / "absent"]))


def test_archive_is_read_with_its_folders(tmp_path, monkeypatch):
    members = [
        f"FLX_DE-Tha_FLUXNET2015_FULLSET_1996-2014_1-4/{FULLSET}",
        f"__MACOSX/._{FULLSET}",
        "README.txt",
    ]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for member in members:
            archive.writestr(member, "")
    monkeypatch.chdir(tmp_path)
    sources = sources_in(Path("a.zip"))
    assert sources == [Source(str(tmp_path / "a.zip"), member) for member in members]
    assert [recognise(source) is not None for source in sources] == [True, False, False]
    assert sources_in(Path(FULLSET)) == [Source(str(tmp_path / FULLSET))]


def test_archives_in_archives_are_listed_with_their_members(tmp_path):
    with zipfile.ZipFile(tmp_path / "inner.zip", "w") as archive:
        archive.writestr(f"x/{FULLSET}", "")
    with zipfile.ZipFile(tmp_path / "Outer.ZIP", "w") as archive:
        archive.write(tmp_path / "inner.zip", "y/inner.zip")
        archive.writestr("broken.zip", b"PK")
        archive.writestr("empty/", "")
    members = [f"y/inner.zip/x/{FULLSET}", "broken.zip"]
    assert sources_in(tmp_path / "Outer.ZIP") == [
        Source(str(tmp_path / "Outer.ZIP"), name) for name in members
    ]


@pytest.mark.parametrize(
    "ending", [" (1).csv", "(2).csv.gz", " - Copy.csv", " copy 2.csv", ".CSV", " (1).CSV.GZ"]
)
def test_second_copies_and_capital_extensions_are_recognised(ending):
    name = FULLSET.replace(".csv", ending)
    (release,) = of(name)
    assert (release.site, release.label) == ("DE-Tha", "FLUXNET2015_1-4")
    is_copy = any(mark in ending.lower() for mark in ("(", "copy"))
    assert len(newest(FULLSET, name)) == (2 if is_copy else 1)  # the first copy may be incomplete


@pytest.mark.parametrize(
    ("name", "reason", "is_expected"),
    [
        (FULLSET.replace("_HH_", "_DD_"), "daily or coarser", True),
        ("FLX_DE-Tha_FLUXNET2015_ERAI_HH_1989-2014_1-4.csv", "reanalysis", True),
        ("FLX_DE-Tha_FLUXNET2015_AUXMETEO_1996-2014_1-4.csv", "auxiliary", True),
        ("AMF_US-Ha1_BIFVARINFO.csv", "auxiliary", True),
        ("ICOSETC_BE-Bra_METEO_L2.csv", "auxiliary", True),
        (".DS_Store", "hidden", True),
        (f"._{FULLSET}", "hidden", True),
        ("README.txt", "document", True),
        ("LICENSE", "document", True),
        ("MCD43A4.A2018185.h10v07.061.tif", "image or grid", True),
        (f"{FULLSET}.part", "unfinished download", False),
        ("tower.xlsx", "name contains no tower", False),
        ("tower.xls", "save it as .xlsx", False),
        ("tower.tar.gz", "another kind than zip", False),
        ("mine.csv", "name contains no tower", False),
        ("mine", "another kind", True),
    ],
)
def test_files_that_are_not_read_have_a_reason(name, reason, is_expected):
    skipped = why_skipped(Source(f"folder/{name}"))
    assert reason in skipped.reason and skipped.is_expected == is_expected
    assert str(skipped).startswith(f"folder/{name}: ")


def test_damaged_archive_is_named(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(FileFormatError, match=r"a\.zip: the file is truncated or not a zip archive"):
        sources_in(tmp_path / "a.zip")


def test_archive_of_a_newer_format_is_named(tmp_path):
    for name, inner in (("a.csv", "text"), ("b.zip", "")):
        with zipfile.ZipFile(tmp_path / "new.zip", "w") as archive:
            archive.writestr(name, inner)
        content = (tmp_path / "new.zip").read_bytes()
        place = content.index(b"PK\x01\x02") + 6
        (tmp_path / "new.zip").write_bytes(content[:place] + b"\x63" + content[place + 1 :])
        with pytest.raises(FileFormatError, match=r"new\.zip: .* not a zip archive \(zip file version 9\.9"):
            sources_in(tmp_path / "new.zip")
        with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
            archive.write(tmp_path / "new.zip", "new.zip")
        assert [source.member for source in sources_in(tmp_path / "outer.zip")] == ["new.zip"]
