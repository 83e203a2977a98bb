"""For arbitrary nights the final tables do not depend on how they were read.

A night: exposures whose records are corrected (``record_version``), announced with fields missing that other raws fill,
moved between groups, off sky, without some of their group, of groups whose size is unknown or wrong. Only raws that
contradict each other are left out. The one reading that the others are compared with takes all raws as one batch, in
the order of their versions; the others read some raws, or all, as events of whole exposures.

``VISIT_CONSUMER_EXAMPLES=2000`` runs as many nights; a few in CI.
"""

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from consumer.model import Exposure, ExposureIngested, Ingested, RawIngested
from tests.support.exposures import BEGIN_TAI_NS, CADENCE_NS, LENGTH_NS, exposure, varied
from tests.support.nights import Course, canonical, feed, prepare, rules_of, wipe
from tests.support.postgres import PostgresServer
from tests.support.raws import exposure_event

EXAMPLES = int(os.environ.get("VISIT_CONSUMER_EXAMPLES", "40"))
CONFIG = {"instrument": "LATISS", "camera": "latiss", "group_id": "digits", "padding": 10, "merge_exposures": False}
RULES = ("one-to-one-and-by-counter", "one-to-one-and-by-counter", "by-group-metadata", "one-to-one")
FILLABLE = (
    "physical_filter", "exposure_time", "target_name", "tracking_ra", "tracking_dec", "sky_angle", "can_see_sky",
    "seq_num", "seq_start", "seq_end", "timespan_begin", "timespan_end", "group_size", "zenith_angle", "azimuth",
)  # fmt: skip
"""What a raw may lack; together, the raws of a version say all that there is to say."""
EXPECTED = st.lists(st.none() | st.sets(st.integers(0, 12), max_size=5), max_size=2)
"""What is said of the detectors that are expected, beside a raw."""


@dataclass(frozen=True)
class Plan:
    """A night and a way to read it."""

    rule: str
    merge_exposures: bool
    raws: tuple[RawIngested, ...]
    notices: tuple[ExposureIngested, ...]
    """What is said of expected detectors, by events that name no raw."""
    by_exposure: float
    """How much of what raws say events of their exposures say."""
    seed: int
    n_partitions: int
    max_batch: int
    crash_chance: float
    spacing_ms: int


@st.composite
def records(draw: st.DrawFn, number: int, version: int) -> Exposure:
    """Draw one version of the record of the exposure of this number."""
    run = draw(st.sampled_from([(1, 3), (1, 3), (number, number), (2, 3), (4, 5), (1, 6), (3, 1)]))
    group = draw(st.sampled_from(["g1", "g2", "g3"]))
    begin = BEGIN_TAI_NS + draw(st.sampled_from([number, number, number, 1, 9])) * CADENCE_NS
    off: dict[str, Any] = draw(
        st.sampled_from([{}, {}, {}, {"can_see_sky": False}, {"sky_angle": None}, {"tracking_ra": None}])
    )
    changes: dict[str, Any] = {
        "instrument": "LATISS",
        "group": group,
        "seq_num": draw(st.sampled_from([number, number, number, None, run[0]])),
        "seq_start": run[0],
        "seq_end": run[1],
        "group_size": draw(st.sampled_from([None, None, 1, 2, 3])),
        "timespan_begin": begin,
        "timespan_end": begin + LENGTH_NS,
        "target_name": draw(st.sampled_from(["COSMOS", "M31", None])),
        "tracking_ra": draw(st.sampled_from([0.0, 150.1, 359.999])),
        "record_version": version,
        **off,
    }
    if draw(st.integers(0, 9)) == 0:
        changes |= {"timespan_begin": None, "timespan_end": None}
    return exposure(number, **changes)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Draw a night and a way to read it."""
    raws: list[RawIngested] = []
    notices: list[ExposureIngested] = []
    for number in draw(st.lists(st.integers(1, 6), min_size=1, max_size=5, unique=True)):
        last = draw(st.sampled_from([0, 0, 1, 1, 2]))
        for version in range(last + 1):
            record = draw(records(number, version))
            if version < last:
                # A name that another exposure has, until it is corrected: a claim that does not last
                record = varied(record, {"obs_id": exposure(draw(st.integers(1, 6))).obs_id})
            for detector in range(draw(st.integers(1, 3))):
                lacking = draw(st.sets(st.sampled_from(FILLABLE), max_size=3)) if detector else set()
                partial = varied(record, dict.fromkeys(lacking))
                raws.append(RawIngested(exposure=partial, detector=3 * version + detector))
                notices += [exposure_event(partial, None, expected) for expected in draw(EXPECTED)]
    return Plan(
        rule=draw(st.sampled_from(RULES)),
        merge_exposures=draw(st.booleans()),
        raws=tuple(raws),
        notices=tuple(notices),
        by_exposure=draw(st.sampled_from([0.0, 0.3, 0.7, 1.0])),
        seed=draw(st.integers(0, 2**32)),
        n_partitions=draw(st.sampled_from([1, 1, 2, 4])),
        max_batch=draw(st.sampled_from([1, 1, 3, 30])),
        crash_chance=draw(st.sampled_from([0.0, 0.0, 0.4])),
        spacing_ms=draw(st.sampled_from([0, 1_000, 15_000, 130_000, 4_000_000])),
    )


def mixed(plan: Plan, chance: random.Random) -> list[Ingested]:
    """Say what the raws say by events of both kinds: one of an exposure stands for any of the raws of one record."""
    events: list[Ingested] = [*plan.notices]
    together: dict[Exposure, set[int]] = {}
    for raw in plan.raws:
        if chance.random() < plan.by_exposure:
            together.setdefault(raw.exposure, set()).add(raw.detector)
        else:
            events.append(raw)
    for record, detectors in together.items():
        part = set(chance.sample(sorted(detectors), chance.randint(0, len(detectors))))
        # What the first leaves out, the second brings; either may name no raw at all.
        events += [exposure_event(record, part), exposure_event(record, (detectors - part) or None)]
    return events


@pytest.fixture(scope="module")
def dsn(postgres18: PostgresServer) -> Iterator[str]:
    with postgres18.database(prepare) as made:
        yield made


@settings(
    max_examples=EXAMPLES,
    derandomize="VISIT_CONSUMER_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(plan=plans())
def test_the_tables_do_not_depend_on_how_a_night_is_read(dsn: str, plan: Plan) -> None:
    rules = rules_of({**CONFIG, "group_exposures": plan.rule, "merge_exposures": plan.merge_exposures})
    wipe(dsn)
    feed(dsn, rules, [*plan.raws, *plan.notices], Course(random.Random(0), max_batch=1_000), spacing_ms=0)  # noqa: S311 -- not a secret
    expected = canonical(dsn)
    assert expected["exposure"]
    assert expected["open_group"] == []
    assert expected["open dead letters"] == []

    chance = random.Random(plan.seed)  # noqa: S311 -- not a secret
    events = mixed(plan, chance)
    events += chance.choices(events, k=chance.randint(0, 5))
    chance.shuffle(events)
    wipe(dsn)
    course = Course(chance, plan.n_partitions, plan.max_batch, plan.crash_chance)
    note("\n".join(map(str, events)))
    feed(dsn, rules, events, course, spacing_ms=plan.spacing_ms)
    found = canonical(dsn)
    for table, rows in expected.items():
        assert found[table] == rows, table
