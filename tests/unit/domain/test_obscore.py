"""The columns and the row of the ObsCore table."""

from dataclasses import replace
from importlib.resources import files

import pytest
from astropy.time import Time

from consumer.domain.obscore import (
    COLUMNS,
    WRITTEN,
    Obscore,
    ObscoreInstrument,
    PublishedVisit,
    utc_mjd,
    utc_ns,
)
from consumer.domain.visit_records import aggregate
from consumer.regions import built_in_camera, built_in_names, camera_set
from deploy.reference.obscore_table import table_sql, view_sql
from tests.support.exposures import exposure
from tests.support.skies import boresight_algorithm

# ObsCore 1.1, table 6
STANDARD = (
    "dataproduct_type calib_level obs_collection obs_id obs_publisher_did access_url access_format access_estsize "
    "target_name s_ra s_dec s_fov s_region s_xel1 s_xel2 s_resolution t_min t_max t_exptime t_resolution t_xel em_min "
    "em_max em_res_power em_xel o_ucd pol_states pol_xel facility_name instrument_name"
)

OBSCORE = Obscore(
    instruments={"LSSTComCam": ObscoreInstrument(facility_name="Rubin:Simonyi", cameras=camera_set(["lsstcomcam"]))},
    collection="night {day_obs}",
    publisher_did="ivo://observatory/visits?{obs_id}",
    access_url="https://data/{instrument}/{visit}",
    access_format="application/fits",
)


def visit(**changes: object) -> PublishedVisit:
    one = replace(exposure(1), **changes)  # type: ignore[arg-type] # fields of any type
    region = boresight_algorithm("lsstcomcam", padding=250).compute([one], ()).visit
    return PublishedVisit("LSSTComCam", 7, "a name", 3, region, aggregate([one]))


def row(obscore: Obscore = OBSCORE, **changes: object) -> dict[str, object]:
    return dict(zip([c.name for c in WRITTEN], obscore.row(visit(**changes)), strict=True))


def test_all_mandatory_columns_are_there_and_no_name_twice() -> None:
    assert [column.name for column in COLUMNS if column.mandatory] == STANDARD.split()
    assert len({column.name for column in COLUMNS}) == len(COLUMNS)


def test_the_migration_makes_the_table_of_these_columns() -> None:
    migration = files("consumer.postgres").joinpath("migrations", "0012_visit_obscore.sql").read_text(encoding="utf-8")
    assert table_sql() in migration, "python -m deploy.reference.obscore_table writes them"
    assert view_sql() in migration


def test_a_row() -> None:
    found = row()
    assert found["obs_id"] == "LSSTComCam/7"
    assert found["obs_collection"] == "night 20261101"
    assert found["obs_publisher_did"] == "ivo://observatory/visits?LSSTComCam/7"
    assert (found["access_url"], found["access_format"]) == ("https://data/LSSTComCam/7", "application/fits")
    assert (found["facility_name"], found["instrument_name"]) == ("Rubin:Simonyi", "LSSTComCam")
    assert (found["em_filter_name"], found["em_band"]) == ("r_03", "r")
    assert (found["em_min"], found["em_max"]) == pytest.approx((551.0e-9, 689.1e-9))
    assert found["s_resolution"] == 0.83
    assert found["s_pixel_scale"] == pytest.approx(0.2, rel=0.01)
    assert (found["s_ra"], found["s_dec"]) == pytest.approx((150.1, 2.2), abs=1e-3)
    assert found["s_fov"] == pytest.approx(1.1, abs=0.2)
    assert (found["t_exptime"], found["revision"], found["obs_release_date"]) == (30.0, 3, None)


def test_names_are_quoted_in_identifiers() -> None:
    one = visit()._replace(name="2026-11-02T00:00:00.000#1", instrument="My Cam")
    obscore = replace(OBSCORE, access_url="https://data/{instrument}?{name}")
    found = dict(zip([c.name for c in WRITTEN], obscore.row(one), strict=True))
    assert found["access_url"] == "https://data/My%20Cam?2026-11-02T00%3A00%3A00.000%231"
    assert found["obs_publisher_did"] == "ivo://observatory/visits?My%20Cam/7"
    assert (found["obs_id"], found["obs_title"]) == ("My Cam/7", "2026-11-02T00:00:00.000#1")


def test_times_are_utc() -> None:
    one = exposure(1)
    assert one.timespan_begin is not None
    found = row()
    expected = Time(one.timespan_begin / 1e9, format="unix_tai").utc.mjd
    assert found["t_min"] == pytest.approx(expected, abs=1e-9)
    # The first second after the leap second at the end of 2016, and the one before it.
    for tai_minus_utc, iso in ((37, "2017-01-01T00:00:00"), (36, "2016-12-31T23:59:59")):
        utc = Time(iso, scale="utc")
        whole = round(utc.unix)
        assert utc_ns((whole + tai_minus_utc) * 10**9) == whole * 10**9
        assert utc_mjd((whole + tai_minus_utc) * 10**9) == pytest.approx(utc.mjd, abs=1e-9)
    assert utc_mjd(None) is None


def test_what_is_unknown_is_null() -> None:
    found = row(Obscore(instruments={}, collection="c", publisher_did="d", access_format="x"), physical_filter=None)
    names = ("access_url", "access_format", "facility_name", "em_min", "em_max", "em_band", "s_resolution")
    assert [found[name] for name in names] == [None] * len(names)
    assert row(physical_filter="of another world")["em_min"] is None
    assert row(timespan_begin=None, timespan_end=None)["t_min"] is None


def test_an_embargo_counts_from_the_end_or_from_the_end_of_the_day() -> None:
    held = replace(OBSCORE, embargo_hours=24)
    end = exposure(1).timespan_end
    assert end is not None
    wanted = Time(end / 1e9 + 86400, format="unix_tai").utc.isot
    assert str(row(held)["obs_release_date"]).startswith(wanted[:19])
    assert row(held, timespan_begin=None, timespan_end=None)["obs_release_date"] == "2026-11-03T12:00:00.000000"
    far = row(held, timespan_begin=None, timespan_end=None, day_obs=22_630_101)
    assert far["obs_release_date"] == "2263-01-03T12:00:00.000000"


@pytest.mark.parametrize(
    ("camera", "name", "band"),
    [
        ("lsstcam", "u_24", "u"),
        ("lsstcam", "y_10", "y"),
        ("lsstcam", "ph_5", None),
        ("lsstcam", "ef_43", None),
        ("latiss", "SDSSr_65mm~holo4_003", "r"),
        ("latiss", "empty~SDSSi_65mm", "i"),
        ("latiss", "empty~empty", None),
        ("decam", "g DECam SDSS c0001 4720.0 1520.0", "g"),
        ("decam", "Y DECam c0005 10095.0 1130.0", "y"),
        ("hsc", "HSC-I2", "i"),
        ("hsc", "NB0921", "N921"),
    ],
)
def test_filters_of_the_cameras(camera: str, name: str, band: str | None) -> None:
    found = built_in_camera(camera).filter_named(name)
    assert (None if found is None else found.band) == band


def test_wavelengths_are_those_of_optical_filters() -> None:
    for name in built_in_names():
        for each in built_in_camera(name).filters:
            if each.wavelength_nm is not None:
                low, high = each.wavelength_nm
                assert 290 < low < high <= 1100


@pytest.mark.parametrize(("camera", "arcsec"), [("lsstcam", 0.2), ("latiss", 0.0957), ("decam", 0.263), ("hsc", 0.168)])
def test_pixel_scales(camera: str, arcsec: float) -> None:
    assert built_in_camera(camera).pixel_scale_arcsec == pytest.approx(arcsec, rel=0.01)
