"""What a registry lacks of a visit, and whose regions it has."""

from dataclasses import replace

from consumer.butler.changes import RegisteredVisit, SinkResult, find_change, regions_digest, visit_values
from consumer.model import VisitRecords
from consumer.task.define import MemoryStore
from consumer.task.define_visits import DefineVisitsTask
from tests.support.exposures import exposure


def records_of(**changes: object) -> VisitRecords:
    store = MemoryStore()
    DefineVisitsTask(store=store).run([exposure(1, **changes)])
    (records,) = store.visits.values()
    return records


def registered(records: VisitRecords) -> RegisteredVisit:
    regions = records.regions
    return RegisteredVisit(
        values=visit_values(records),
        region=regions.visit,
        exposures=frozenset(e.id for e in records.definition.exposures),
        systems=frozenset(records.definition.visit_systems),
        detector_regions=dict(zip(regions.detectors, regions.detector_regions, strict=True)),
    )


def digest_of(there: RegisteredVisit) -> bytes:
    return regions_digest(there.region or b"", there.detector_regions)


OURS = records_of()
MOVED = records_of(tracking_ra=151.0)
RENAMED = records_of(target_name="Vega")


def test_a_visit_that_is_not_there_is_written_whole() -> None:
    change = find_change(OURS, None, ())
    assert (change.result, change.region, len(change.detector_regions)) == (SinkResult.NEW, OURS.regions.visit, 9)
    assert change.digest == digest_of(registered(OURS))


def test_a_visit_that_is_there_is_not_written() -> None:
    change = find_change(OURS, registered(OURS), ())
    assert (change.result, change.writes) == (SinkResult.SAME, False)


def test_an_azimuth_is_the_same_a_turn_apart() -> None:
    there = registered(records_of(azimuth=350.0))
    assert there.values["azimuth"] == -10.0
    assert find_change(records_of(azimuth=-10.0 + 360), there, ()).result is SinkResult.SAME
    turned = replace(there, values={**there.values, "azimuth": 350.0})
    assert find_change(records_of(azimuth=350.0), turned, ()).result is SinkResult.SAME
    assert find_change(records_of(azimuth=349.0), turned, ()).result is SinkResult.UPDATED


def test_our_own_regions_follow_the_tables_and_another_clients_are_kept() -> None:
    there = registered(OURS)
    ours = find_change(MOVED, there, {digest_of(there)})
    assert (ours.result, ours.region, len(ours.detector_regions)) == (SinkResult.UPDATED, MOVED.regions.visit, 9)
    kept = find_change(MOVED, there, {b"another digest"})
    assert (kept.result, kept.writes, kept.digest) == (SinkResult.KEPT, False, None)


def test_one_changed_detector_keeps_all_regions() -> None:
    there = registered(OURS)
    changed = replace(there, detector_regions={**there.detector_regions, 4: there.detector_regions[5]})
    kept = find_change(MOVED, changed, {digest_of(there)})
    assert (kept.result, dict(kept.detector_regions)) == (SinkResult.KEPT, {})


def test_metadata_follows_where_regions_are_kept() -> None:
    there = registered(MOVED)
    change = find_change(RENAMED, there, ())
    assert change.result is SinkResult.KEPT
    assert change.values is not None
    assert (change.values["target_name"], change.region) == ("Vega", MOVED.regions.visit)


def test_a_missing_detector_region_is_restored() -> None:
    there = registered(OURS)
    lost = replace(there, detector_regions={n: r for n, r in there.detector_regions.items() if n != 4})
    change = find_change(OURS, lost, ())
    assert (change.result, list(change.detector_regions), change.values) == (SinkResult.UPDATED, [4], None)


def test_members_that_the_visit_has_lost_are_named() -> None:
    there = replace(registered(OURS), exposures=frozenset({OURS.definition.exposures[0].id, 7}))
    change = find_change(OURS, there, ())
    assert (change.result, change.writes) == (SinkResult.KEPT, False)
    assert change.detail == "the registry keeps exposures that the visit has lost: 7"
    assert change.digest is not None


def test_a_region_of_another_kind_is_another_clients() -> None:
    there = replace(registered(OURS), region=b"c" + bytes(40))
    assert find_change(OURS, there, {digest_of(registered(OURS))}).result is SinkResult.KEPT
