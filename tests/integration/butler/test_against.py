"""``audit --against butler:REPO`` names every difference from a registry, and ``backfill butler:REPO`` reads one."""

from typing import Any

import psycopg

from tests.integration.butler.conftest import Site
from tests.support.butler_repository import opened, register_exposures
from tests.support.commands import invoke, invoke_json
from tests.support.exposures import DAY_OBS, exposure

INSTRUMENT = "LSSTComCam"
IDS = [exposure(n).id for n in range(1, 7)]


def audit(site: Site, exit_code: int) -> set[tuple[str, str, str, str]]:
    (report,) = invoke_json(
        "audit", "--day-obs", DAY_OBS, "--instrument", INSTRUMENT, "--config", site.config,
        "--against", f"butler:{site.repo}", exit_code=exit_code,
    )  # fmt: skip
    return {(each["rule"], each["subject"], each["subjects"], each["detail"]) for each in report["findings"]}


def replaced(site: Site, element: str, id_: int, **changes: Any) -> None:
    with opened(site.repo) as butler, butler.transaction():
        (record,) = butler.query_dimension_records(element, data_id={element: id_}, instrument=INSTRUMENT)
        butler.registry.insertDimensionData(element, {**record.toDict(), **changes}, replace=True)


def test_every_difference_from_a_registry_is_named(site: Site) -> None:
    site.define([exposure(n) for n in range(1, 7)])
    site.sink()
    assert audit(site, exit_code=0) == set()
    with psycopg.connect(site.dsn, options="-c search_path=visits") as connection:
        connection.execute("DELETE FROM visit WHERE id = %s", (IDS[4],))
        connection.execute("DELETE FROM visit_definition WHERE visit = %s", (IDS[4],))
        connection.execute("DELETE FROM visit_detector_region WHERE visit = %s", (IDS[4],))
        connection.execute("DELETE FROM visit_detector_region WHERE visit = %s AND detector IN (2, 3, 7)", (IDS[1],))
        connection.execute(
            "UPDATE visit_detector_region SET region = (SELECT region FROM visit_detector_region"
            " WHERE visit = %s AND detector = 8) WHERE visit = %s AND detector = 0",
            (IDS[3], IDS[3]),
        )
    replaced(site, "visit", IDS[2], exposure_time=31.0, target_name="another")
    replaced(site, "exposure", IDS[5], dark_time=31.0)
    site.define([exposure(7)])
    assert audit(site, exit_code=1) == {
        ("against-missing", "visit", str(IDS[4]), "the other has it"),
        ("against-extra", "visit", str(exposure(7).id), "the other lacks it"),
        ("against-extra", "exposure", str(exposure(7).id), "the other lacks it"),
        ("against-differs", "visit", str(IDS[1]), "the other has besides detector regions 2-3, 7"),
        ("against-differs", "visit", str(IDS[3]), "other detector regions 0"),
        ("against-differs", "visit", str(IDS[2]), "differs in exposure_time, target_name"),
        ("against-differs", "exposure", str(IDS[5]), "differs in dark_time"),
    }


def test_the_exposures_of_a_registry_are_backfilled(site: Site) -> None:
    register_exposures(site.repo, [exposure(8, day_obs=DAY_OBS + 1, can_see_sky=False)])
    call = ("backfill", f"butler:{site.repo}", "--instrument", INSTRUMENT, "--config", site.config)
    counts = invoke_json(*call)
    assert (counts["n_exposures"], counts["n_new"], counts["failed"]) == (7, 6, [])
    again = invoke_json(*call)
    assert (again["n_new"], again["n_unchanged"]) == (0, 6)
    assert audit_of_exposures(site) == set()
    failed = invoke("backfill", "butler:/nowhere", "--instrument", INSTRUMENT, "--config", site.config, exit_code=78)
    assert "/nowhere: is no Butler repository" in failed.stderr


def audit_of_exposures(site: Site) -> set[tuple[str, str, str, str]]:
    return {each for each in audit(site, exit_code=1) if each[1] == "exposure"}
