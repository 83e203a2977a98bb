"""Every rule gives the visits that DefineVisitsTask gave, whatever the order of arrival."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict

import pytest

from consumer.domain.visit_records import aggregate
from consumer.grouping import GroupingRule, get_rule
from consumer.model import Exposure, Group, GroupKey, VisitDefinition
from tests.support.define_visits import DATA, Night, exposure_of, load_night, members_of, night_names, orders

ANGLES = ("azimuth", "zenith_angle")
TOLERANCE = 1e-9


def close_all(rule: GroupingRule, exposures: Sequence[Exposure]) -> dict[int, VisitDefinition]:
    groups: dict[GroupKey, list[Exposure]] = defaultdict(list)
    for exposure in exposures:
        groups[GroupKey(exposure.instrument, rule.key(exposure))].append(exposure)
    visits: dict[int, VisitDefinition] = {}
    for key, members in groups.items():
        for visit in rule.define(Group(key=key, exposures=tuple(members)), closed=True).visits:
            assert visit.id not in visits
            visits[visit.id] = visit
    return visits


def check_aggregates(night: Night, visits: dict[int, VisitDefinition]) -> None:
    for row in night.tables["visit"]:
        visit = visits[row["id"]]
        assert visit.name == row["name"]
        found = asdict(aggregate(visit.exposures))
        expected = {name: row[name] for name in found}
        for name in ANGLES:
            one, other = found.pop(name), expected.pop(name)
            assert (one is None) == (other is None), (row["id"], name)
            if one is not None:
                assert abs((one - other + 180) % 360 - 180) <= TOLERANCE, (row["id"], name)
        assert found == expected


@pytest.mark.parametrize("name", night_names())
def test_night_is_reproduced_in_any_order(name: str) -> None:
    night = load_night(name)
    rule = get_rule(night.config["group_exposures"], group_id=night.config["group_id"])
    members = members_of(night.tables["visit_definition"], key="visit", value="exposure")
    systems = members_of(night.tables["visit_system_membership"], key="visit", value="visit_system")
    assert {(s.id, s.name) for s in rule.visit_systems} == {(r["id"], r["name"]) for r in night.tables["visit_system"]}
    first = close_all(rule, night.exposures)
    for exposures in orders(night.exposures):
        visits = close_all(rule, exposures)
        assert visits == first
        assert visits.keys() == {row["id"] for row in night.tables["visit"]}
        assert {v.id: {e.id for e in v.exposures} for v in visits.values()} == members
        assert {v.id: set(v.visit_systems) for v in visits.values()} == systems
        check_aggregates(night, visits)


@pytest.mark.parametrize(
    ("label", "rule", "group_id"),
    [
        ("one-to-one", "one-to-one", "digits"),
        ("one-to-one-and-by-counter", "one-to-one-and-by-counter", "digits"),
        ("by-group-metadata, digits", "by-group-metadata", "digits"),
        ("by-group-metadata, lsst", "by-group-metadata", "lsst"),
    ],
)
def test_published_latiss_visits(label: str, rule: str, group_id: str) -> None:
    content = json.loads((DATA / "latiss_20220405.json").read_text())
    expected = {int(visit): set(members) for visit, members in content["expected"][label]["visits"].items()}
    for exposures in orders([exposure_of(row) for row in content["exposures"]]):
        visits = close_all(get_rule(rule, group_id=group_id), exposures)
        assert {v.id: {e.id for e in v.exposures} for v in visits.values()} == expected
