"""What the event of a whole exposure means for the tables, alone and among raws."""

from collections.abc import Collection, Iterable
from itertools import permutations

import pytest

from consumer.domain import Event, ExposureKey, Instrument, KnownExposure, MergedBatch, fold_raws, merge
from consumer.domain.record_merge import ExpectedDetectors
from consumer.errors import DeadLetterReason
from consumer.model import Exposure, GroupKey, Ingested, Message, PartitionId, RawIngested
from tests.support.exposures import exposure
from tests.support.nights import rules_of
from tests.support.raws import exposure_event

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
ALONE = rules_of(CONFIG, group_exposures="one-to-one")
HEADERS = {"algorithm": "full-raw-wcs"}
ONE = exposure(1)
KEY = ExposureKey(INSTRUMENT, ONE.id)


def event(what: Ingested, offset: int = 0) -> Event:
    return Event(Message(PartitionId("t", 0), offset, 5, None, b""), 1, 5 + offset, what, None)


def merged(
    *events: Ingested, stored: Iterable[KnownExposure] = (), rules: dict[str, Instrument] | None = None
) -> MergedBatch:
    rules = rules or RULES
    folded = fold_raws([event(each, offset) for offset, each in enumerate(events)], rules)
    return merge(folded, {known.key: known for known in stored}, {}, rules)


def raw(detector: int, one: Exposure = ONE) -> RawIngested:
    return RawIngested(exposure=one, detector=detector)


def whole(
    detectors: Collection[int] | None = None, expected: Collection[int] | None = None, **changes: int
) -> Ingested:
    return exposure_event(exposure(1, **changes), detectors, expected)


def test_an_event_that_lists_detectors_is_one_raw_for_each() -> None:
    by_exposure, by_raw = merged(whole([0, 3])), merged(raw(0), raw(3))
    assert by_exposure.exposures == by_raw.exposures
    assert by_exposure.changes == by_raw.changes
    assert by_exposure.exposures[KEY].detectors == 0b1001


def test_an_event_without_raws_announces_its_exposure_and_is_processed_once() -> None:
    first = merged(whole())
    (change,) = first.changes
    assert (change.key, change.former_key, change.member.arrived) == (GroupKey(INSTRUMENT, ONE.group), None, True)
    known = first.exposures[KEY]
    assert (known.detectors, known.announced, known.processed) == (0, True, True)
    for later in (whole(), raw(4), whole([5])):
        again = merged(later, stored=[known])
        assert again.changes == [], "nothing of the exposure is new"
        assert again.off_sky == []


def test_an_exposure_that_was_stored_by_hand_is_processed_by_its_first_event_of_either_kind() -> None:
    by_hand = KnownExposure(exposure(1, can_see_sky=False), GroupKey(INSTRUMENT, ONE.group), 0)
    for first in (whole(can_see_sky=False), whole([1], can_see_sky=False), raw(1, by_hand.record)):
        outcome = merged(first, stored=[by_hand])
        assert len(outcome.changes) == len(outcome.off_sky) == 1
        again = merged(first, stored=[outcome.exposures[KEY]])
        assert (again.changes, again.off_sky) == ([], [])


def test_a_row_of_an_older_release_was_processed_when_it_has_a_detector() -> None:
    old = KnownExposure(ONE, GroupKey(INSTRUMENT, ONE.group), 0b1, announced=False)
    assert merged(whole(), stored=[old]).changes == []


@pytest.mark.parametrize("rules", [RULES, ALONE], ids=["grouped", "one-to-one"])
def test_events_are_counted_as_events(rules: dict[str, Instrument]) -> None:
    def counts(*events: Ingested, stored: Iterable[KnownExposure] = ()) -> tuple[int, int]:
        outcome = merged(*events, stored=stored, rules=rules)
        return outcome.new[INSTRUMENT], outcome.repeated[INSTRUMENT]

    known = merged(whole([0]), rules=rules).exposures[KEY]
    assert counts(whole()) == counts(whole([0, 1, 2])) == (1, 0)
    assert counts(whole(), whole(), raw(0), raw(0)) == (2, 2)
    assert counts(whole([0]), whole(None, [0, 1]), whole([0], [1]), stored=[known]) == (1, 2)


def test_which_raws_are_expected_changes_no_group() -> None:
    known = merged(raw(0)).exposures[KEY]
    outcome = merged(whole(None, range(9)), stored=[known])
    assert outcome.changes == []
    assert outcome.exposures[KEY] == known._replace(expected=ExpectedDetectors(0, 0b111111111))


def test_a_correction_that_does_not_know_what_is_expected_leaves_it() -> None:
    events = [whole(None, [0, 1]), raw(0, exposure(1, record_version=1)), whole(None, [2])]
    for order in permutations(events):
        assert merged(*order).exposures[KEY].expected == ExpectedDetectors(0, 0b111)


def test_a_contradicting_event_is_one_dead_letter_and_adds_nothing() -> None:
    outcome = merged(raw(0), exposure_event(exposure(1, physical_filter="z_03"), [1, 2], [5]))
    (letter,) = outcome.dead_letters
    assert letter.reason == DeadLetterReason.CONTRADICTION
    assert (outcome.exposures[KEY].detectors, outcome.exposures[KEY].expected) == (0b1, None)
    assert outcome.contradicting[INSTRUMENT] == 1


def test_regions_that_need_headers_wait_for_a_raw() -> None:
    rules = rules_of(CONFIG, regions=HEADERS)
    first = merged(whole(), rules=rules)
    assert [change.member.arrived for change in first.changes] == [False]
    (change,) = merged(raw(0), stored=first.exposures.values(), rules=rules).changes
    assert change.member.arrived


def test_a_group_of_one_whose_regions_need_headers_is_nothing_before_its_raw() -> None:
    rules = rules_of(CONFIG, regions=HEADERS, group_exposures="one-to-one")
    first = merged(whole(), rules=rules)
    assert first.changes == []
    assert len(merged(raw(0), stored=first.exposures.values(), rules=rules).changes) == 1


def test_an_event_without_raws_takes_no_visit_from_an_exposure_that_was_stored_with_its_headers() -> None:
    rules = rules_of(CONFIG, regions=HEADERS)
    by_hand = KnownExposure(ONE, GroupKey(INSTRUMENT, ONE.group), 0)
    outcome = merged(whole(), stored=[by_hand], rules=rules)
    assert outcome.changes == []
    assert rules[INSTRUMENT].arrived(outcome.exposures[KEY])
    assert len(merged(raw(0), stored=outcome.exposures.values(), rules=rules).changes) == 1


def test_a_required_detector_may_come_with_an_event_of_its_exposure() -> None:
    rules = rules_of(CONFIG, regions={"wcs_source": "header", "detector_id": 4})
    arrived = [change.member.arrived for change in merged(whole(), whole([1]), whole([4]), rules=rules).changes]
    assert arrived == [False, True]
