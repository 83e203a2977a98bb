import random
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from consumer.domain.visit_records import HASH_BYTES, aggregate, circular_mean_deg, inputs_hash, make_records
from consumer.model import (
    EXPOSURE_FIELDS,
    CloseReason,
    Exposure,
    GroupKey,
    RawRegion,
    VisitDefinition,
    VisitRegions,
    in_time_order,
)
from tests.support.exposures import exposure, run_of, varied

KEY = GroupKey("LSSTComCam", "run 1")
ROW_FIELDS = {
    "id",
    "day_obs",
    "seq_num",
    "physical_filter",
    "exposure_time",
    "target_name",
    "observation_reason",
    "science_program",
    "azimuth",
    "zenith_angle",
    "tracking_ra",
    "tracking_dec",
    "sky_angle",
    "timespan_begin",
    "timespan_end",
}
angles = st.floats(-720, 720)


def visit_of(*members: Exposure, **changes: Any) -> VisitDefinition:
    values: dict[str, Any] = {
        "instrument": "LSSTComCam",
        "id": 1,
        "name": "one",
        "visit_systems": (0, 2),
        "exposures": members,
        "complete": True,
    }
    return VisitDefinition(**(values | changes))


def hash_of(definition: VisitDefinition, **changes: Any) -> bytes:
    values: dict[str, Any] = {
        "group": KEY,
        "rule": "one-to-one",
        "algorithm": "single-raw-wcs",
        "padding": 250,
        "fingerprint": "camera 1",
    }
    return inputs_hash(definition, **(values | changes))


def test_aggregate_of_one_is_its_own_record() -> None:
    one = exposure(4)
    found = asdict(aggregate([one]))
    assert found == {name: getattr(one, name) for name in found}


def test_aggregate_of_three() -> None:
    first, second, third = run_of(4, 6)
    second = replace(second, azimuth=130.0, zenith_angle=46.0, exposure_time=15.0, day_obs=first.day_obs - 1)
    found = aggregate([third, first, second])
    assert found.day_obs == first.day_obs - 1
    assert found.seq_num == 4
    assert found.exposure_time == 75.0
    assert found.zenith_angle == 42.0
    assert found.azimuth == pytest.approx(
        120.0 + np.degrees(np.arctan2(np.sin(np.radians(10)), 2 + np.cos(np.radians(10))))
    )
    assert (found.timespan_begin, found.timespan_end) == (first.timespan_begin, third.timespan_end)


def test_a_mismatch_is_remembered_through_three_exposures() -> None:
    first, second, third = run_of(4, 6)
    second = replace(second, physical_filter="g_01", target_name=None, science_program="X", observation_reason="test")
    for order in ([first, second, third], [second, first, third], [first, third, second]):
        found = aggregate(order)
        assert (found.physical_filter, found.target_name, found.science_program) == (None, None, None)
        assert found.observation_reason == "various"


@pytest.mark.parametrize("reason", [None, "various"])
def test_exposures_without_a_reason_are_various(reason: str | None) -> None:
    assert aggregate([exposure(4, observation_reason=reason)]).observation_reason == "various"
    assert aggregate(run_of(4, 5, observation_reason=reason)).observation_reason == "various"
    first, second = run_of(4, 5)
    assert aggregate([first, replace(second, observation_reason=None)]).observation_reason == "various"


@pytest.mark.parametrize("name", ["exposure_time", "zenith_angle", "azimuth", "timespan_begin", "timespan_end"])
def test_one_null_makes_a_number_null(name: str) -> None:
    first, second = run_of(4, 5)
    whole = asdict(aggregate([first, second]))
    assert None not in whole.values()
    found = asdict(aggregate([first, varied(second, {name: None})]))
    assert found == whole | {name: None}


@pytest.mark.parametrize("name", ["physical_filter", "target_name", "science_program"])
def test_common_null_is_null(name: str) -> None:
    assert getattr(aggregate(run_of(4, 5, **{name: None})), name) is None


def test_smallest_known_seq_num() -> None:
    first, second = run_of(4, 5)
    assert aggregate([replace(first, seq_num=None), second]).seq_num == 5
    assert aggregate([replace(first, seq_num=None)]).seq_num is None


def test_no_exposure_is_no_visit() -> None:
    with pytest.raises(ValueError, match="at least one"):
        aggregate([])


@pytest.mark.parametrize(
    ("given_deg", "expected"), [(-90.0, 270.0), (360.0, 0.0), (-0.0, 0.0), (-1e-20, 0.0), (359.5, 359.5), (725.0, 5.0)]
)
def test_azimuth_of_one_is_brought_into_the_circle(given_deg: float, expected: float) -> None:
    mean = circular_mean_deg([given_deg])
    assert mean == expected
    assert np.copysign(1.0, mean) == 1.0


def test_azimuths_across_north() -> None:
    assert circular_mean_deg([359.5, 0.5]) % 360.0 == pytest.approx(0.0, abs=1e-12)
    assert circular_mean_deg([350.0, 355.0]) == pytest.approx(352.5, abs=1e-12)


@given(st.lists(angles, min_size=1, max_size=6))
def test_circular_mean_is_the_argument_of_the_sum(values: list[float]) -> None:
    total = np.exp(1j * np.asarray(values, dtype=np.longdouble) * (np.longdouble(np.pi) / 180)).sum()
    assume(abs(total) > 1e-3)
    mean = circular_mean_deg(values)
    assert 0.0 <= mean < 360.0
    expected = np.degrees(np.angle(total))
    assert abs((mean - float(expected) + 180.0) % 360.0 - 180.0) < 1e-9


@given(st.lists(angles, min_size=1, max_size=6))
def test_circular_mean_lies_in_the_circle_even_when_angles_cancel(values: list[float]) -> None:
    opposite = [v + 180.0 for v in values]
    assert 0.0 <= circular_mean_deg([*values, *opposite]) < 360.0


@st.composite
def visits_members(draw: st.DrawFn) -> list[Exposure]:
    count = draw(st.integers(1, 5))
    return [
        exposure(
            number,
            exposure_time=draw(st.none() | st.floats(0, 1000)),
            zenith_angle=draw(st.none() | st.floats(0, 90)),
            azimuth=draw(st.none() | angles),
            physical_filter=draw(st.sampled_from(["g", "r", None])),
            target_name=draw(st.sampled_from(["a", "b", None])),
            observation_reason=draw(st.sampled_from(["a", "b", None])),
            science_program=draw(st.sampled_from(["a", None])),
            seq_num=draw(st.none() | st.integers(0, 5)),
            timespan_begin=draw(st.none() | st.integers(0, 3)),
            timespan_end=draw(st.none() | st.integers(3, 6)),
        )
        for number in range(count)
    ]


@given(visits_members(), st.randoms(use_true_random=False))
def test_order_of_arrival_does_not_show(members: list[Exposure], order: random.Random) -> None:
    shuffled = list(members)
    order.shuffle(shuffled)
    assert aggregate(shuffled) == aggregate(members)
    assert hash_of(visit_of(*shuffled)) == hash_of(visit_of(*members))


@given(visits_members())
def test_sums_follow_the_order_of_time(members: list[Exposure]) -> None:
    found = aggregate(members)
    times = [e.exposure_time for e in in_time_order(members)]
    known = [t for t in times if t is not None]
    if len(known) < len(times):
        assert found.exposure_time is None
    else:
        total = np.float64(0.0)
        for value in known:
            total = total + np.float64(value)
        assert found.exposure_time == total


@pytest.mark.parametrize("name", EXPOSURE_FIELDS)
def test_hash_covers_what_reaches_the_rows_and_nothing_else(name: str) -> None:
    one = exposure(4, group_size=1)
    value = getattr(one, name)
    changed: Any = not value if isinstance(value, bool) else value + ("x" if isinstance(value, str) else 1)
    for other in (changed, None):
        differs = hash_of(visit_of(varied(one, {name: other}))) != hash_of(visit_of(one))
        if name not in {"instrument", "id", "day_obs"} or other is not None:
            assert differs is (name in ROW_FIELDS), name


def test_hash_sees_one_bit() -> None:
    one = exposure(4, tracking_ra=0.0, azimuth=1.0)
    assert hash_of(visit_of(replace(one, tracking_ra=5e-324))) != hash_of(visit_of(one))
    assert hash_of(visit_of(replace(one, azimuth=float(np.nextafter(1.0, 2.0))))) != hash_of(visit_of(one))
    assert hash_of(visit_of(replace(one, tracking_ra=-0.0))) == hash_of(visit_of(one))


def test_hash_does_not_tell_an_integer_from_the_equal_float() -> None:
    assert hash_of(visit_of(exposure(4, exposure_time=30))) == hash_of(visit_of(exposure(4, exposure_time=30.0)))


def test_hash_covers_the_definition_and_the_provenance() -> None:
    one, two = run_of(4, 5)
    base = visit_of(one)
    hashes = [
        hash_of(base),
        hash_of(replace(base, instrument="LATISS")),
        hash_of(replace(base, id=2)),
        hash_of(replace(base, name="two")),
        hash_of(replace(base, visit_systems=(0,))),
        hash_of(replace(base, complete=False)),
        hash_of(replace(base, complete=None)),
        hash_of(replace(base, exposures=(one, two))),
        hash_of(replace(base, exposures=(two,))),
        hash_of(base, group=GroupKey("LSSTComCam", "run 2")),
        hash_of(base, rule="by-group-metadata"),
        hash_of(base, algorithm="full-raw-wcs"),
        hash_of(base, padding=251),
        hash_of(base, fingerprint="camera 2"),
        hash_of(base, algorithm="single-raw-wcscamera", fingerprint=" 1"),
        hash_of(base, raws=[RawRegion(instrument="LSSTComCam", exposure=one.id, detector=0)]),
        hash_of(base, raws=[RawRegion(instrument="LSSTComCam", exposure=one.id, detector=1)]),
        hash_of(base, raws=[RawRegion(instrument="LSSTComCam", exposure=one.id, detector=0, region=b"p")]),
        hash_of(base, raws=[RawRegion(instrument="LSSTComCam", exposure=one.id, detector=0, pointing=(1.0, 2.0, 3.0))]),
    ]
    assert {len(h) for h in hashes} == {HASH_BYTES}
    assert len(set(hashes)) == len(hashes)


def test_hash_does_not_depend_on_the_order_of_raws_or_systems() -> None:
    one = exposure(4)
    raws = [RawRegion(instrument="LSSTComCam", exposure=one.id, detector=d, region=bytes([d])) for d in range(3)]
    assert hash_of(visit_of(one), raws=raws) == hash_of(visit_of(one, visit_systems=(2, 0)), raws=raws[::-1])


@given(st.text(max_size=3), st.text(max_size=3), st.text(max_size=3), st.text(max_size=3))
def test_neighbouring_texts_do_not_run_together(a: str, b: str, c: str, d: str) -> None:
    one = hash_of(visit_of(exposure(1, physical_filter=a, target_name=b)))
    other = hash_of(visit_of(exposure(1, physical_filter=c, target_name=d)))
    assert (one == other) is ((a, b) == (c, d))


def test_hash_is_the_same_in_every_release() -> None:
    """A change here rewrites every stored visit once: it must be meant."""
    assert hash_of(visit_of(*run_of(4, 5))).hex() == "b7ca5320cabfe8c783dccec58274ad29"


def test_records_hold_every_part() -> None:
    definition = visit_of(*run_of(4, 5))
    regions = VisitRegions(visit=b"p", detectors=(0,), detector_regions=(b"p",), htm7=(1,))
    records = make_records(
        definition,
        group=KEY,
        regions=regions,
        hashed=hash_of(definition),
        rule="one-to-one",
        algorithm="single-raw-wcs",
        padding=250,
        close_reason=CloseReason.IDLE,
    )
    assert records.aggregate == aggregate(definition.exposures)
    assert (records.definition, records.group, records.regions) == (definition, KEY, regions)
    assert records.inputs_hash == hash_of(definition)
    assert (records.rule, records.algorithm, records.padding) == ("one-to-one", "single-raw-wcs", 250)
    assert records.close_reason is CloseReason.IDLE
