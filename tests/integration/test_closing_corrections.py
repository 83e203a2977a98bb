"""Corrections that move exposures between groups, and the claims on visit ids that come and go with them."""

from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest

from consumer.model import Exposure, RawIngested
from tests.support.exposures import exposure, run_of
from tests.support.nights import START_MS, NightLog, Reader, canonical, close_all, prepare, reader, rules_of, wipe
from tests.support.postgres import PostgresServer

CONFIG = {
    "instrument": "LSSTComCam",
    "camera": "lsstcomcam",
    "group_id": "digits",
    "padding": 10,
    "merge_exposures": False,
}


@pytest.fixture(scope="module")
def dsn(postgres18: PostgresServer) -> Iterator[str]:
    with postgres18.database(prepare) as made:
        yield made


class Night:
    """One partition, read message by message."""

    def __init__(self, one: Reader, dsn: str) -> None:
        self.log = NightLog.of()
        self.reader = one
        self.dsn = dsn
        self.at_ms = START_MS
        one.claim(self.log.partitions)

    def read(self, *exposures: Exposure, detector: int = 0) -> None:
        (messages,) = self.log.partitions.values()
        begin = len(messages)
        for each in exposures:
            self.at_ms += 1_000
            self.log.append(RawIngested(exposure=each, detector=detector), at_ms=self.at_ms)
        self.reader.put(messages[begin:], self.log)
        self.reader.write()

    def wait(self, seconds: float) -> None:
        """Let the wall clock run at the end of the log."""
        self.at_ms += round(seconds * 1000)
        self.reader.tick(self.at_ms)

    def close(self) -> None:
        close_all(self.reader)

    def visits(self) -> dict[int, tuple[str, tuple[int, ...]]]:
        """Read name and members of each visit, members by their seq_num."""
        with psycopg.connect(self.dsn) as connection:
            rows = connection.execute(
                """
                SELECT visit.id, name, array_agg(exposure % 100 ORDER BY exposure)
                FROM visits.visit
                JOIN visits.visit_definition ON visit.instrument = visit_definition.instrument AND visit = visit.id
                GROUP BY visit.id, name
                """
            ).fetchall()
        return {id_: (name, tuple(members)) for id_, name, members in rows}

    def letters(self, status: str = "open") -> list[tuple[str, str | None, int | None]]:
        with psycopg.connect(self.dsn) as connection:
            query = """SELECT reason, group_key, exposure FROM visits.dead_letter WHERE status = %s ORDER BY id"""
            return connection.execute(query, [status]).fetchall()


@pytest.fixture
def night(dsn: str, request: pytest.FixtureRequest) -> Iterator[Night]:
    wipe(dsn)
    config, settings = getattr(request, "param", ("by-group-metadata", {}))
    with reader(dsn, rules_of({**CONFIG, "group_exposures": config}, **settings)) as one:
        yield Night(one, dsn)


def corrected(one: Exposure, **changes: object) -> Exposure:
    return replace(one, record_version=one.record_version + 1, **changes)  # type: ignore[arg-type] # a test's own fields


by_group = pytest.mark.parametrize("night", [("by-group-metadata", {})], indirect=True)
by_counter = pytest.mark.parametrize("night", [("one-to-one-and-by-counter", {})], indirect=True)
one_to_one = pytest.mark.parametrize("night", [("one-to-one", {})], indirect=True)


@by_group
def test_a_late_exposure_redefines_its_visit(night: Night) -> None:
    night.read(exposure(1, group="7"))
    night.wait(120)
    assert night.visits() == {7: ("7", (1,))}
    night.read(exposure(2, group="7"))
    assert night.visits() == {7: ("7", (1,))}, "it waits for more"
    night.wait(120)
    assert night.visits() == {7: ("7", (1, 2))}


@pytest.mark.parametrize("night", [("by-group-metadata", {"on_change": "keep"})], indirect=True)
def test_a_late_exposure_can_be_kept_out(night: Night) -> None:
    night.read(exposure(1, group="7"))
    night.wait(120)
    night.read(exposure(2, group="7"))
    night.close()
    assert night.visits() == {7: ("7", (1,))}
    assert len(canonical(night.dsn)["exposure"]) == 2


@by_group
def test_an_exposure_that_moves_after_both_groups_closed_leaves_one_for_the_other(night: Night) -> None:
    one, two, three = (exposure(n, group=g) for n, g in ((1, "7"), (2, "7"), (3, "8")))
    night.read(one, two, three)
    night.close()
    night.read(corrected(two, group="8"))
    night.close()
    assert night.visits() == {7: ("7", (1,)), 8: ("8", (2, 3))}


@by_group
def test_the_visit_of_an_emptied_group_goes_with_all_its_rows(night: Night) -> None:
    one = exposure(1, group="7")
    night.read(one)
    night.close()
    night.read(corrected(one, group="8"))
    night.close()
    rows = canonical(night.dsn)
    assert night.visits() == {8: ("8", (1,))}
    for table in ("visit_definition", "visit_system_membership", "visit_detector_region", "visit_htm7"):
        assert {row[1] if table != "visit_htm7" else row[2] for row in rows[table]} == {8}, table


@by_group
def test_of_two_groups_with_one_visit_id_the_stored_one_stays(night: Night) -> None:
    night.read(exposure(1, group="A12"))
    night.close()
    night.read(exposure(2, group="B12"), exposure(3, group="13"))
    night.close()
    assert night.visits() == {12: ("A12", (1,)), 13: ("13", (3,))}
    assert night.letters() == [("visit_conflict", "B12", None)]


@by_group
def test_in_one_batch_the_group_that_closed_first_has_the_visit_id(night: Night) -> None:
    night.read(exposure(1, group="B12", group_size=1), exposure(2, group="A12", group_size=1))
    assert night.visits() == {12: ("B12", (1,))}
    assert night.letters() == [("visit_conflict", "A12", None)]


@by_group
def test_a_group_that_was_refused_its_visit_id_has_it_once_it_is_free(night: Night) -> None:
    one = exposure(1, group="A12")
    night.read(one)
    night.close()
    night.read(exposure(2, group="B12"))
    night.close()
    night.read(corrected(one, group="14"))
    night.close()
    assert night.visits() == {12: ("B12", (2,)), 14: ("14", (1,))}
    assert night.letters() == []
    assert night.letters("resolved") == [("visit_conflict", "B12", None)]


@by_counter
def test_an_exposure_that_leaves_a_run_has_its_own_visit_in_its_new_group(night: Night) -> None:
    """Its visit id is still that of the old group when the new one, complete at once, claims it."""
    one, two, three = run_of(1, 3)
    night.read(one, two, three)
    night.read(corrected(two, seq_start=2, seq_end=2))
    night.close()
    first = int(f"9{one.id}")
    assert night.visits() == {
        first: (f"{one.obs_id}_first", (1,)),
        one.id: (one.obs_id, (1, 3)),
        two.id: (two.obs_id, (2,)),
        three.id: (three.obs_id, (3,)),
    }
    assert night.letters() == []


@by_counter
def test_the_first_of_a_run_corrected_to_off_sky_takes_the_run_with_it(night: Night) -> None:
    one, two = run_of(1, 2)
    night.read(one, two)
    assert set(night.visits()) == {int(f"9{one.id}"), one.id, two.id}
    night.read(corrected(one, can_see_sky=False))
    night.close()
    assert night.visits() == {two.id: (two.obs_id, (2,))}


@by_counter
def test_another_first_gives_the_run_another_visit(night: Night) -> None:
    one, two = run_of(1, 2)
    night.read(one, two)
    night.read(corrected(one, seq_num=2), corrected(two, seq_num=1))
    night.close()
    assert night.visits() == {
        one.id: (one.obs_id, (1,)),
        int(f"9{two.id}"): (f"{two.obs_id}_first", (2,)),
        two.id: (two.obs_id, (1, 2)),
    }


@by_counter
def test_an_exposure_that_turns_out_to_belong_to_a_run_leaves_its_own_group(night: Night) -> None:
    one, two = run_of(1, 2)
    night.read(replace(one, seq_end=None))
    assert set(night.visits()) == {one.id}
    night.read(one, two, detector=1)
    night.close()
    assert set(night.visits()) == {int(f"9{one.id}"), one.id, two.id}
    assert night.letters() == []


@one_to_one
def test_two_exposures_that_swap_their_names_end_with_them(night: Night) -> None:
    one, two = exposure(1), exposure(2)
    night.read(one, two)
    night.read(corrected(one, obs_id=two.obs_id))
    assert night.letters() == [("visit_conflict", str(one.id), None)]
    night.read(corrected(two, obs_id=one.obs_id))
    assert night.visits() == {one.id: (two.obs_id, (1,)), two.id: (one.obs_id, (2,))}
    assert night.letters() == []


@one_to_one
def test_a_name_that_is_handed_on_in_one_batch_is_handed_on(night: Night) -> None:
    one, two = exposure(1), exposure(2)
    night.read(one, two)
    night.read(corrected(one, obs_id=two.obs_id), corrected(two, obs_id="new"))
    assert night.visits() == {one.id: (two.obs_id, (1,)), two.id: ("new", (2,))}
    assert night.letters() == []


@by_counter
def test_of_two_exposures_of_one_run_with_one_name_one_has_a_visit(night: Night) -> None:
    one, two, three = run_of(1, 3)
    night.read(one, replace(three, obs_id=two.obs_id), two)
    night.close()
    assert {name for name, _ in night.visits().values()} == {f"{one.obs_id}_first", one.obs_id, two.obs_id}
    assert night.letters() == [("visit_conflict", f"{one.day_obs}/1/3", None)]


@by_group
def test_a_group_whose_name_gives_no_id_is_a_dead_letter_and_no_loop(night: Night) -> None:
    night.read(exposure(1, group="none"), exposure(2, group="7"))
    night.close()
    assert night.visits() == {7: ("7", (2,))}
    assert night.letters() == [("group_failed", "none", None)]
    assert canonical(night.dsn)["open_group"] == []


@by_group
def test_a_contradicting_raw_is_a_dead_letter_and_nothing_of_it_is_merged(night: Night) -> None:
    one = exposure(1, group="7", physical_filter=None)
    night.read(one)
    night.read(replace(one, tracking_ra=one.tracking_ra + 1e-9, physical_filter="g"), detector=4)  # type: ignore[operator] # on sky
    night.close()
    row = canonical(night.dsn)["exposure"][0]
    assert row[5] is None
    assert row[-1] == "{[0,1)}"
    assert night.letters() == [("contradiction", None, one.id)]


@by_group
def test_a_null_is_filled_and_the_visit_follows(night: Night) -> None:
    one = exposure(1, group="7")
    night.read(replace(one, sky_angle=None))
    night.close()
    assert night.visits() == {}
    night.read(one, detector=1)
    night.close()
    assert night.visits() == {7: ("7", (1,))}


OFF_SKY_IS_AN_ERROR = ("by-group-metadata", {"ignore_non_science_exposures": False})


@pytest.mark.parametrize("night", [OFF_SKY_IS_AN_ERROR], indirect=True)
def test_the_dead_letter_of_an_off_sky_exposure_stays_when_its_group_closes(night: Night) -> None:
    one, two = exposure(1, group="7"), exposure(2, group="7", can_see_sky=False)
    night.read(one, two)
    night.close()
    assert night.visits() == {7: ("7", (1,))}
    assert night.letters() == [("not_on_sky", "7", two.id)]
    night.read(corrected(two, can_see_sky=True))
    night.close()
    assert night.visits() == {7: ("7", (1, 2))}
    assert night.letters() == []


@pytest.mark.parametrize("night", [OFF_SKY_IS_AN_ERROR], indirect=True)
def test_an_exposure_corrected_to_off_sky_is_told_in_both_orders(night: Night) -> None:
    one = exposure(1, group="7")
    night.read(one, corrected(one, can_see_sky=False))
    night.read(exposure(2, group="8"))
    night.read(corrected(exposure(2, group="8"), can_see_sky=False))
    night.close()
    assert night.visits() == {}
    assert night.letters() == [("not_on_sky", "7", one.id), ("not_on_sky", "8", exposure(2).id)]


@by_group
def test_a_group_that_a_former_log_left_open_closes_by_the_new_one(night: Night) -> None:
    night.read(exposure(1, group="7"))
    log = NightLog.of()
    night.reader.builder.drop_partitions(log.partitions)
    night.reader.claim(log.partitions, topic_id="made anew")
    log.append(RawIngested(exposure=exposure(2, group="8"), detector=0), at_ms=START_MS + 3_600_000)
    night.reader.put(next(iter(log.partitions.values())), log)
    night.reader.write()
    assert night.visits() == {7: ("7", (1,))}
    night.close()
    assert set(night.visits()) == {7, 8}
