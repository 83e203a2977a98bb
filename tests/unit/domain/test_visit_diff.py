"""What a batch means for the tables: raws to updates to exposures, groups to candidates, candidates to diff."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from consumer.domain import (
    Defined,
    Event,
    ExposureKey,
    Instrument,
    KnownExposure,
    MergedBatch,
    StoredVisit,
    VisitDiff,
    define,
    diff_visits,
    fold_raws,
    merge,
)
from consumer.domain.open_groups import Closing, Member, group_of_members
from consumer.errors import DeadLetterReason
from consumer.model import CloseReason, Exposure, GroupKey, Message, PartitionId, RawIngested, RawRegion, SkipReason
from tests.support.exposures import exposure
from tests.support.nights import rules_of

INSTRUMENT = "LSSTComCam"
CONFIG = {
    "instrument": INSTRUMENT,
    "camera": "lsstcomcam",
    "group_exposures": "by-group-metadata",
    "group_id": "digits",
    "padding": 0,
    "merge_exposures": False,
}
RULES = rules_of(CONFIG)
HEADER_RULES = rules_of(CONFIG, regions={"wcs_source": "header", "detector_id": 4})


def event(one: Exposure, detector: int = 0, *, offset: int = 0, region: RawRegion | None = None) -> Event:
    message = Message(PartitionId("t", 0), offset, 5, None, b"")
    return Event(message, 1, 5 + offset, RawIngested(exposure=one, detector=detector), region)


def merged(
    *events: Event, stored: Iterable[KnownExposure] = (), rules: dict[str, Instrument] | None = None
) -> MergedBatch:
    rules = rules or RULES
    return merge(fold_raws(events, rules), {known.key: known for known in stored}, {}, rules)


def known(one: Exposure, detectors: int = 1) -> KnownExposure:
    return KnownExposure(one, GroupKey(one.instrument, one.group), detectors)


class TestRaws:
    def test_raws_of_one_record_are_one_sighting_whose_first_counts(self) -> None:
        one, two = exposure(1), exposure(2)
        events = [event(one, 0, offset=0), event(two, 0, offset=1), event(one, 3, offset=2)]
        first, second = fold_raws(events, RULES)
        assert (first.exposure, first.detectors, first.stream_time_ms) == (one, 0b1001, 5)
        assert (second.exposure, second.detectors, second.stream_time_ms) == (two, 1, 6)

    def test_where_single_raws_matter_each_is_a_sighting(self) -> None:
        one = exposure(1)
        assert [s.detectors for s in fold_raws([event(one, 0), event(one, 4)], HEADER_RULES)] == [1, 16]

    def test_new_and_repeated_raws_are_counted(self) -> None:
        one = exposure(1)
        outcome = merged(event(one, 0), event(one, 1), event(one, 1), stored=[known(one, 0b1)])
        assert (outcome.new[INSTRUMENT], outcome.repeated[INSTRUMENT]) == (1, 2)
        assert outcome.exposures[ExposureKey(INSTRUMENT, one.id)].detectors == 0b11
        assert outcome.changes == [], "a later detector changes no group"

    def test_a_new_exposure_changes_its_group(self) -> None:
        (change,) = merged(event(exposure(1, group="7"))).changes
        assert (change.key, change.former_key, change.member.arrived) == (GroupKey(INSTRUMENT, "7"), None, True)

    def test_a_higher_version_moves_an_exposure_and_a_lower_one_does_nothing(self) -> None:
        one = exposure(1, group="7")
        corrected = replace(one, group="8", record_version=1)
        (change,) = merged(event(corrected), stored=[known(one)]).changes
        assert (change.key.key, change.former_key) == ("8", GroupKey(INSTRUMENT, "7"))
        assert merged(event(one), stored=[known(corrected)]).changes == []

    def test_a_null_is_filled(self) -> None:
        one = exposure(1, group="7", sky_angle=None)
        outcome = merged(event(replace(one, sky_angle=1.0), 1), stored=[known(one)])
        assert outcome.exposures[ExposureKey(INSTRUMENT, one.id)].record.sky_angle == 1.0
        assert len(outcome.changes) == 1

    def test_a_contradiction_is_a_dead_letter_and_nothing_of_it_is_kept(self) -> None:
        one = exposure(1, group="7", physical_filter=None)
        other = replace(one, group="8", physical_filter="g")
        outcome = merged(event(other, 3, offset=9), event(other, 4, offset=10), stored=[known(one)])
        assert [x.reason for x in outcome.dead_letters] == [DeadLetterReason.CONTRADICTION] * 2
        assert [x.message.offset for x in outcome.dead_letters if x.message] == [9, 10]
        assert "group: stored '7', announced '8'" in outcome.dead_letters[0].detail
        assert (outcome.exposures, outcome.changes) == ({}, [])
        assert outcome.contradicting[INSTRUMENT] == 2

    def test_an_exposure_arrives_with_the_detector_that_matters(self) -> None:
        one = exposure(1, group="7")
        region = RawRegion(instrument=INSTRUMENT, exposure=one.id, detector=4, pointing=(1.0, 2.0, 3.0))
        first, second, third = event(one, 0), event(one, 4, region=region), event(one, 5)
        outcome = merged(first, second, third, rules=HEADER_RULES)
        assert [c.member.arrived for c in outcome.changes] == [False, True]
        assert list(outcome.regions.values()) == [region]

    def test_the_region_of_a_later_version_replaces_the_first(self) -> None:
        one = exposure(1, group="7")
        first = RawRegion(instrument=INSTRUMENT, exposure=one.id, detector=4, pointing=(1.0, 2.0, 3.0))
        same, later = replace(first, pointing=(9.0, 2.0, 3.0)), replace(first, record_version=1)
        assert list(
            merged(event(one, 4, region=first), event(one, 4, region=same), rules=HEADER_RULES).regions.values()
        ) == [first]
        for order in ((first, later), (later, first)):
            outcome = merged(*(event(one, 4, region=region) for region in order), rules=HEADER_RULES)
            assert list(outcome.regions.values()) == [later]

    def test_an_exposure_off_sky_is_counted_once(self) -> None:
        one = exposure(1, can_see_sky=False)
        assert merged(event(one), event(one, 1)).off_sky == [(INSTRUMENT, SkipReason.CANNOT_SEE_SKY)]
        assert merged(event(one, 2), stored=[known(one)]).off_sky == []
        corrected = replace(one, can_see_sky=True, record_version=1)
        assert merged(event(one), event(corrected)).off_sky == []

    def test_where_off_sky_is_an_error_it_is_a_dead_letter_until_it_is_corrected(self) -> None:
        strict = rules_of(CONFIG, ignore_non_science_exposures=False)
        one = exposure(1, group="7", tracking_ra=None)
        (letter,) = merged(event(one), rules=strict).dead_letters
        assert (letter.reason, letter.exposure, letter.group_key) == (DeadLetterReason.NOT_ON_SKY, one.id, "7")
        corrected = replace(one, tracking_ra=1.0, record_version=1)
        outcome = merged(event(corrected), stored=[known(one)], rules=strict)
        assert outcome.returned_on_sky == {ExposureKey(INSTRUMENT, one.id)}
        assert outcome.dead_letters == []


def closing(key: str, *exposures: Exposure, arrived: bool = True) -> Closing:
    members = [Member(one, arrived) for one in exposures]
    return group_of_members(GroupKey(INSTRUMENT, key), members, CloseReason.IDLE)


def defined(*closings: Closing, opened: Sequence[Closing] = (), rules: Any = RULES) -> Defined:
    return define(closings, opened, rules, {})


class TestGroups:
    def test_a_closed_group_is_a_candidate(self) -> None:
        outcome = defined(closing("7", exposure(1, group="7")))
        (candidate,) = outcome.candidates
        assert (candidate.definition.id, candidate.definition.name, candidate.reason) == (7, "7", CloseReason.IDLE)
        assert outcome.closed == {GroupKey(INSTRUMENT, "7")}

    def test_a_group_without_an_id_fails_and_its_neighbour_does_not(self) -> None:
        outcome = defined(closing("none", exposure(1, group="none")), closing("7", exposure(2, group="7")))
        assert [c.definition.id for c in outcome.candidates] == [7]
        assert [(x.reason, x.group_key) for x in outcome.dead_letters] == [(DeadLetterReason.GROUP_FAILED, "none")]
        assert outcome.failed == {GroupKey(INSTRUMENT, "none")}

    def test_a_group_of_which_nothing_has_arrived_that_matters_fails(self) -> None:
        outcome = defined(closing("7", exposure(1, group="7"), arrived=False))
        assert [x.reason for x in outcome.dead_letters] == [DeadLetterReason.GROUP_FAILED]
        assert str(exposure(1).id) in outcome.dead_letters[0].detail

    def test_an_open_group_defines_what_need_not_wait(self) -> None:
        counter = rules_of({**CONFIG, "group_exposures": "one-to-one-and-by-counter"})
        one = exposure(1, seq_end=2)
        outcome = defined(opened=[closing("k", one)], rules=counter)
        assert [c.definition.id for c in outcome.candidates] == [int(f"9{one.id}")]
        assert outcome.closed == set()

    def test_an_emptied_group_is_closed_without_a_candidate(self) -> None:
        outcome = defined(closing("7"))
        assert (outcome.candidates, outcome.closed) == ([], {GroupKey(INSTRUMENT, "7")})


def stored_visit(key: str, id_: int, *, name: str | None = None, hashed: bytes = b"old") -> StoredVisit:
    return StoredVisit(INSTRUMENT, id_, name or key, GroupKey(INSTRUMENT, key), hashed, b"")


def diff(outcome: Defined, *stored: StoredVisit, rules: Any = RULES) -> VisitDiff:
    return diff_visits(outcome, stored, rules)


def ids(candidates: Iterable[Any]) -> list[int]:
    return [c.definition.id for c in candidates]


class TestVerdicts:
    def test_new_updated_and_unchanged(self) -> None:
        outcome = defined(*(closing(k, exposure(int(k), group=k)) for k in "789"))
        same = next(c.inputs_hash for c in outcome.candidates if c.definition.id == 9)
        found = diff(outcome, stored_visit("8", 8), stored_visit("9", 9, hashed=same))
        assert (ids(found.new), [c.definition.id for c, _ in found.updated], ids(found.unchanged)) == ([7], [8], [9])
        assert (found.stale, found.conflicts, found.freed) == ([], [], set())

    def test_the_stored_visit_of_another_group_stays(self) -> None:
        found = diff(defined(closing("B12", exposure(1, group="B12"))), stored_visit("A12", 12))
        ((candidate, letter),) = found.conflicts
        assert (candidate.definition.id, letter.reason, letter.group_key) == (
            12,
            DeadLetterReason.VISIT_CONFLICT,
            "B12",
        )
        assert "'A12'" in letter.detail
        assert (found.new, found.updated, found.stale) == ([], [], [])

    def test_it_stays_where_both_close_in_whatever_order(self) -> None:
        first, second = closing("A12", exposure(1, group="A12")), closing("B12", exposure(2, group="B12"))
        for order in ((first, second), (second, first)):
            found = diff(defined(*order), stored_visit("A12", 12))
            assert [c.group.key for c, _ in found.updated] == ["A12"]
            assert [c.group.key for c, _ in found.conflicts] == ["B12"]

    def test_a_name_belongs_to_one_visit(self) -> None:
        found = diff(defined(closing("7", exposure(1, group="7"))), stored_visit("8", 8, name="7"))
        assert [letter.group_key for _, letter in found.conflicts] == ["7"]

    def test_what_a_closed_group_defines_no_longer_is_stale_and_free(self) -> None:
        found = diff(defined(closing("A12"), closing("B12", exposure(2, group="B12"))), stored_visit("A12", 12))
        assert [each.group.key for each in found.stale] == ["A12"]
        assert ids(found.new) == [12]
        assert found.freed == {INSTRUMENT}

    def test_what_a_group_had_before_it_failed_is_stale(self) -> None:
        found = diff(defined(closing("none", exposure(1, group="none"))), stored_visit("none", 5))
        assert [each.id for each in found.stale] == [5]

    def test_a_group_that_is_refused_its_new_name_has_the_old_one_no_longer(self) -> None:
        one_to_one = rules_of({**CONFIG, "group_exposures": "one-to-one"})
        one, two = exposure(1), exposure(2)
        renamed = replace(one, obs_id=two.obs_id)
        stored = [stored_visit(str(e.id), e.id, name=e.obs_id) for e in (one, two)]
        found = diff(defined(closing(str(one.id), renamed), rules=one_to_one), *stored, rules=one_to_one)
        assert [c.group.key for c, _ in found.conflicts] == [str(one.id)]
        assert [each.id for each in found.stale] == [one.id]

    def test_a_stored_visit_is_kept_where_that_is_configured(self) -> None:
        keep = rules_of(CONFIG, on_change="keep")
        found = diff(defined(closing("7", exposure(1, group="7")), rules=keep), stored_visit("7", 7), rules=keep)
        assert (ids(found.kept), found.updated) == ([7], [])
        found = diff(defined(closing("7"), rules=keep), stored_visit("7", 7), rules=keep)
        assert found.stale == []


def test_a_visit_that_keeps_its_name_leaves_the_new_one_free_in_whatever_order() -> None:
    keep = rules_of({**CONFIG, "group_exposures": "one-to-one"}, on_change="keep")
    one, two = exposure(1, obs_id="X"), exposure(2, obs_id="Y")
    stored = stored_visit(str(one.id), one.id, name="X")
    renamed, other = closing(str(one.id), replace(one, obs_id="Y")), closing(str(two.id), two)
    for order in ((renamed, other), (other, renamed)):
        found = diff(defined(*order, rules=keep), stored, rules=keep)
        assert (ids(found.kept), ids(found.new), found.conflicts) == ([one.id], [two.id], [])
    # In another batch: the name is stored by then.
    found = diff(defined(renamed, rules=keep), stored, stored_visit(str(two.id), two.id, name="Y"), rules=keep)
    assert (ids(found.kept), found.conflicts, found.stale) == ([one.id], [], [])


def test_records_of_one_exposure_that_alternate_stay_in_their_order() -> None:
    one = exposure(1)
    other = replace(one, target_name="another")
    events = [event(each, n, offset=n) for n, each in enumerate((one, other, one, one, other))]
    updates = fold_raws(events, RULES)
    assert [(each.exposure, each.detectors) for each in updates] == [
        (one, 0b1),
        (other, 0b10),
        (one, 0b1100),
        (other, 0b10000),
    ]
