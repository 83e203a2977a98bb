"""What a sink does with refits, refusals, removed visits, late exposures, and another process of its name."""

from pathlib import Path

import lsst.sphgeom
import psycopg
import pytest
import yaml

from consumer.butler import sink
from consumer.butler.registry import ButlerRegistry
from consumer.errors import TransientError
from consumer.model import Exposure
from consumer.postgres.sink_positions import SinkPositions
from tests.integration.butler.conftest import Site
from tests.support.butler_repository import (
    opened,
    register_exposures,
    register_instrument,
    registered_tables,
    repository,
)
from tests.support.commands import invoke
from tests.support.databases import ServerOf
from tests.support.define_visits import Row
from tests.support.exposures import exposure, run_of
from tests.support.service import Replica

INSTRUMENT = "LSSTComCam"
IDS = [exposure(n).id for n in range(1, 7)]


def corrected(number: int, **changes: object) -> Exposure:
    return exposure(number, **{"record_version": 1, **changes})


def visits(site: Site) -> dict[int, Row]:
    return {row["id"]: row for row in registered_tables(site.repo, INSTRUMENT)["visit"]}


def regions(site: Site, visit: int) -> dict[int, str]:
    rows = registered_tables(site.repo, INSTRUMENT)["visit_detector_region"]
    return {row["detector"]: row["region"] for row in rows if row["visit"] == visit}


def refit(site: Site, visit: int) -> tuple[str, dict[int, str]]:
    """Replace a visit's regions, as `VisitGeometry.update_dimension_records` of obs_base does."""
    with opened(site.repo) as butler, butler.transaction():
        (record,) = butler.query_dimension_records("visit", instrument=INSTRUMENT, visit=visit)
        turned = lsst.sphgeom.ConvexPolygon(
            [lsst.sphgeom.UnitVector3d(v.x(), v.y() + 1e-5, v.z()) for v in record.region.getVertices()]
        )
        butler.registry.insertDimensionData("visit", {**record.toDict(), "region": turned}, replace=True)
        rows = [r.toDict() for r in butler.query_dimension_records("visit_detector_region", visit=visit, instrument=INSTRUMENT)]  # fmt: skip # noqa: E501
        butler.registry.insertDimensionData(
            "visit_detector_region", *({**row, "region": turned} for row in rows), replace=True
        )
    return visits(site)[visit]["region"], regions(site, visit)


def dead_letters(site: Site) -> list[tuple[object, ...]]:
    with psycopg.connect(site.dsn) as connection:
        return connection.execute(
            "SELECT reason, group_key, detail, status FROM visits.dead_letter ORDER BY id"
        ).fetchall()


def test_refitted_regions_survive_the_next_revision_of_the_visit_and_of_its_neighbours(site: Site) -> None:
    site.define([exposure(n) for n in (1, 2, 3)])
    assert site.sink() == "3 new"
    refitted = refit(site, IDS[0])
    site.define(
        [corrected(1, target_name="Vega", tracking_ra=151.0), corrected(2, tracking_ra=152.0)], "--update-records"
    )
    before = visits(site)[IDS[1]]["region"], regions(site, IDS[1])
    assert site.sink(exit_code=1) == "1 kept, 1 updated"
    row = visits(site)[IDS[0]]
    assert row["target_name"] == "Vega"
    assert (row["region"], regions(site, IDS[0])) == refitted
    after = visits(site)[IDS[1]]["region"], regions(site, IDS[1])
    assert after[0] != before[0]
    assert all(after[1][detector] != before[1][detector] for detector in range(9))
    (note,) = site.rows("--list", exit_code=1)
    assert (note["visit"], note["state"]) == (IDS[0], "kept")
    assert note["detail"] == "regions changed by another client were kept"
    # And the next one, which another sink does that has written nothing.
    site.define([corrected(1, target_name="Deneb", record_version=2)], "--update-records")
    assert site.sink("--name", "second", exit_code=1) == "1 kept, 2 same"
    row = visits(site)[IDS[0]]
    assert (row["target_name"], row["region"], regions(site, IDS[0])) == ("Deneb", *refitted)


def test_a_refused_visit_is_alone_and_is_tried_again_on_demand(site: Site) -> None:
    with opened(site.repo) as butler:
        # Another visit has the name already: the registry allows one.
        site.define([exposure(n) for n in range(1, 7)])
        row = {"instrument": INSTRUMENT, "day_obs": exposure(3).day_obs, "physical_filter": "r_03"}
        butler.registry.insertDimensionData("visit", {**row, "id": 7, "name": exposure(3).obs_id})
    assert site.sink(exit_code=1) == "5 new, 1 refused"
    assert sorted(set(visits(site)) - {7}) == [i for i in IDS if i != IDS[2]]
    ((reason, group, detail, status),) = dead_letters(site)
    assert (reason, group, status) == ("butler_refused", str(IDS[2]), "open")
    assert str(detail).startswith(f"sink 'main' cannot write visit {IDS[2]}: duplicate key value")
    assert site.sink() == "no visits"
    assert [(n["visit"], n["state"]) for n in site.rows("--list", exit_code=1)] == [(IDS[2], "refused")]
    with opened(site.repo) as butler:
        butler.registry.insertDimensionData("visit", {**row, "id": 7, "name": "renamed"}, replace=True)
    assert invoke("butler-sink", "--retry-refused", "--config", site.config).stdout == "1 visits will be tried again\n"
    assert site.sink() == "1 new"
    assert [letter[3] for letter in dead_letters(site)] == ["resolved"]


def test_a_refused_visit_that_is_removed_is_refused_no_more(site: Site) -> None:
    with opened(site.repo) as butler:
        site.define([exposure(n) for n in (1, 3)])
        row = {"instrument": INSTRUMENT, "day_obs": exposure(3).day_obs, "physical_filter": "r_03"}
        butler.registry.insertDimensionData("visit", {**row, "id": 7, "name": exposure(3).obs_id})
    assert site.sink(exit_code=1) == "1 new, 1 refused"
    with psycopg.connect(site.dsn, autocommit=True) as connection:
        connection.execute("DELETE FROM visits.visit WHERE id = %s", [IDS[2]])
    assert site.sink() == "no visits"
    assert [letter[3] for letter in dead_letters(site)] == ["resolved"]
    assert site.rows("--list") == []


def test_a_registry_that_is_read_only_for_a_while_refuses_nothing(site: Site) -> None:
    site.define([exposure(n) for n in (1, 2)])
    with psycopg.connect(_registry_dsn(site.repo), autocommit=True) as connection:
        (name,) = connection.execute("SELECT current_database()").fetchone() or ("",)
        connection.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'.encode())
        refused = invoke("butler-sink", "--once", "--config", site.config, exit_code=1)
        assert "read-only transaction" in refused.stderr
        connection.execute("SET default_transaction_read_only = off")
        connection.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only'.encode())
    assert dead_letters(site) == []
    assert site.sink() == "2 new"


def test_a_visit_without_a_physical_filter_is_refused(site: Site) -> None:
    snaps = run_of(1, 2)
    site.define(
        [snaps[0], exposure(2, group="run 1", seq_start=1, seq_end=2, physical_filter="g_01"), exposure(3)],
        "--group-exposures", "by-group-metadata", "--group-id", "lsst",
    )  # fmt: skip
    assert site.sink(exit_code=1) == "1 new, 1 refused"
    assert "no physical filter in common" in str(dead_letters(site)[0][2])


def test_visits_wait_for_their_exposures_and_the_others_go_on(site: Site) -> None:
    site.define([exposure(6), exposure(7)])
    preview = site.rows("--dry-run", "--from-night", "20261101")
    assert [(p["visit"], p["result"], p["detail"]) for p in preview] == [
        (exposure(6).id, "new", ""),
        (exposure(7).id, "waiting", f"exposures: {exposure(7).id}"),
    ]
    assert site.rows("--dry-run", "--from-night", "20261102") == []
    assert visits(site) == {}
    assert site.sink() == "1 new, 1 waiting"
    register_exposures(site.repo, [exposure(7)])
    assert site.sink() == "1 new"


def test_exposures_are_registered_where_the_settings_say_so(site: Site) -> None:
    settings = yaml.safe_load(site.config.read_text())
    settings["butler"]["exposures"] = "insert"
    site.config.write_text(yaml.safe_dump(settings))
    site.define([exposure(6), exposure(7), exposure(8, physical_filter="none such")])
    assert site.sink(exit_code=1) == "2 new, 1 refused"
    with opened(site.repo) as butler:
        (record,) = butler.query_dimension_records("exposure", instrument=INSTRUMENT, exposure=exposure(7).id)
    mine = exposure(7)
    assert (record.obs_id, record.group, record.tracking_ra, record.timespan.nsec) == (
        mine.obs_id, mine.group, mine.tracking_ra, (mine.timespan_begin, mine.timespan_end),
    )  # fmt: skip
    assert "its exposures cannot be registered" in str(dead_letters(site)[0][2])


def test_an_instrument_that_the_registry_lacks_is_waited_for(bare_site: Site) -> None:
    bare_site.define([exposure(1)])
    assert bare_site.sink() == "1 waiting"
    register_instrument(bare_site.repo, INSTRUMENT, ["r_03"], 9)
    register_exposures(bare_site.repo, [exposure(1)])
    assert bare_site.sink() == "1 new"


def test_a_sink_that_runs_sees_instruments_and_exposures_that_come_late(bare_site: Site) -> None:
    settings = yaml.safe_load(bare_site.config.read_text())
    settings["butler"] |= {"interval_s": 0.05, "waiting_s": 0.1, "http_port": 0}
    with Replica(bare_site.folder, settings, command=("butler-sink",)) as sink:
        bare_site.define([exposure(1), exposure(2)])
        waiting, written = "visit_consumer_butler_waiting_visits", "visit_consumer_butler_visits_total"
        sink.wait_until(lambda: sink.metric(waiting) == 2, what="waiting visits")
        assert sink.metric("visit_consumer_butler_oldest_pending_timestamp_seconds") > 1e9
        register_instrument(bare_site.repo, INSTRUMENT, ["r_03"], 9)
        register_exposures(bare_site.repo, [exposure(1)])
        sink.wait_until(lambda: sink.metric(written, result="new") == 1, what="the first visit")
        register_exposures(bare_site.repo, [exposure(2)])
        sink.wait_until(lambda: sink.metric(written, result="new") == 2, what="the second visit")
        sink.wait_until(
            lambda: sink.metric("visit_consumer_butler_oldest_pending_timestamp_seconds") == 0, what="nothing pending"
        )


def test_pages_of_visits_that_all_wait_do_not_hide_the_others(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink, "MOST_PENDING", 2)
    site.define([exposure(n) for n in (7, 8, 9, 10)])
    site.define([exposure(1)])
    assert site.sink() == "1 new, 4 waiting"


def test_a_lost_row_of_a_detector_is_restored_and_members_are_added(site: Site) -> None:
    rule = ("--group-exposures", "by-group-metadata", "--group-id", "lsst")
    site.define([exposure(1, group="run")], *rule)
    assert site.sink() == "1 new"
    with psycopg.connect(_registry_dsn(site.repo), autocommit=True) as connection:
        connection.execute("DELETE FROM main.visit_detector_region WHERE detector = 4")
    site.define([exposure(1, group="run"), exposure(2, group="run")], *rule, "--update-records")
    assert site.sink() == "1 updated"
    tables = registered_tables(site.repo, INSTRUMENT)
    assert [row["exposure"] for row in tables["visit_definition"]] == IDS[:2]
    assert [row["detector"] for row in tables["visit_detector_region"]] == list(range(9))
    assert tables["visit"][0]["exposure_time"] == 60.0


def test_removed_visits_are_reported(site: Site) -> None:
    site.define([exposure(1), exposure(2)])
    assert site.sink() == "2 new"
    with psycopg.connect(site.dsn, autocommit=True) as connection:
        connection.execute("INSERT INTO visits.retired_visit SELECT instrument, id, revision FROM visits.visit LIMIT 1")
        connection.execute("DELETE FROM visits.visit WHERE id IN (SELECT id FROM visits.retired_visit)")
    (note,) = site.rows("--list", exit_code=1)
    assert (note["visit"], note["state"]) == (IDS[0], "removed")
    assert sorted(visits(site)) == IDS[:2]


def test_of_two_processes_of_one_name_the_second_stands_by(site: Site) -> None:
    settings = yaml.safe_load(site.config.read_text())
    settings["butler"] |= {"interval_s": 0.05, "http_port": 0}
    both = [Replica(site.folder, settings, name=name, command=("butler-sink",)) for name in ("one", "two")]
    with both[0] as one, both[1] as two:
        for each in both:
            each.wait_ready()
        one.wait_until(lambda: sum(each.metric("visit_consumer_butler_active") for each in both) == 1, what="a leader")
        site.define([exposure(1)])
        written = "visit_consumer_butler_visits_total"
        one.wait_until(lambda: sum(each.metric(written, result="new") for each in both) == 1, what="a visit")
        leader, other = (one, two) if one.metric("visit_consumer_butler_active") == 1 else (two, one)
        assert "another process runs sink 'main'" in invoke("butler-sink", "--once", "--config", site.config, exit_code=1).stderr  # fmt: skip # noqa: E501
        leader.kill()
        site.define([exposure(2)])
        other.wait_until(lambda: other.metric(written, result="new") >= 1, what="the next visit")
        assert other.terminate()[0] == 0
    assert sorted(visits(site)) == IDS[:2]


def test_a_process_that_dies_after_the_registrys_commit_knows_its_own_regions(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise TransientError("killed")

    site.define([exposure(1)])
    with monkeypatch.context() as patch:
        patch.setattr(SinkPositions, "advance", die)
        assert "killed" in site.sink(exit_code=1)
    assert sorted(visits(site)) == IDS[:1]
    site.define([corrected(1, tracking_ra=151.0)], "--update-records")
    assert site.sink() == "1 updated"


def test_a_process_that_has_lost_its_lock_commits_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    # At the start, at the turn, at the batch; and then just before the commit, when another process has it.
    answers = iter((True, True, True, False))
    site.define([exposure(1)])
    with monkeypatch.context() as patch:
        patch.setattr(SinkPositions, "lead", lambda _: next(answers))
        assert "another process runs sink 'main' now" in site.sink(exit_code=1)
    assert list(answers) == []
    assert visits(site) == {}
    assert site.sink() == "1 new"


def test_a_name_belongs_to_one_repository(site: Site, postgres_server_of: ServerOf, tmp_path: Path) -> None:
    assert site.sink() == "no visits"
    with repository(postgres_server_of("15"), tmp_path / "other") as other:
        result = invoke("butler-sink", "--once", "--repo", other, "--config", site.config, exit_code=78)
        assert result.stderr.startswith(f"visit-consumer: sink 'main' has written into {site.repo}, not into {other}")
        site.sink("--repo", other, "--name", "other")


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (("--repo", "/nowhere"), 78, "visit-consumer: /nowhere: is no Butler repository"),
        (("--list", "--dry-run"), 2, "give one of --once, --list, --retry-refused and --dry-run"),
    ],
)
def test_wrong_arguments_are_named(site: Site, arguments: tuple[str, ...], exit_code: int, message: str) -> None:
    site.define([exposure(1)])
    options = arguments if "--list" in arguments else (*arguments, "--name", "nowhere", "--once")
    assert message in invoke("butler-sink", *options, "--config", site.config, exit_code=exit_code).stderr


def test_a_registry_that_is_away_is_a_transient_error(site: Site) -> None:
    config = Path(site.repo) / "butler.yaml"
    config.write_text(config.read_text().replace("127.0.0.1", "127.0.0.2"))
    with pytest.raises(TransientError, match=r"the registry of .* is unavailable"):
        ButlerRegistry(site.repo).instruments()


def _registry_dsn(repo: str) -> str:
    config = (Path(repo) / "butler.yaml").read_text()
    return next(line.split(": ", 1)[1] for line in config.splitlines() if "db: " in line).replace("+psycopg2", "")
