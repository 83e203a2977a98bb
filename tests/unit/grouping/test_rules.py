from dataclasses import replace

import pytest

from consumer.errors import ConfigurationError, GroupError
from consumer.grouping import Definitions, get_rule, rule_names
from consumer.model import BY_GROUP_METADATA, BY_SEQ_START_END, ONE_TO_ONE, SkipReason
from tests.support.exposures import exposure, group_of, run_of

RULES = ("by-group-metadata", "one-to-one", "one-to-one-and-by-counter")
TOO_LARGE = 2**63


def test_names_and_systems() -> None:
    assert set(RULES) <= set(rule_names())
    assert [get_rule(name).name for name in RULES] == list(RULES)
    assert [get_rule(name).visit_systems for name in RULES] == [
        (BY_GROUP_METADATA,),
        (ONE_TO_ONE,),
        (ONE_TO_ONE, BY_SEQ_START_END),
    ]
    assert [get_rule(name).buffers for name in RULES] == [True, False, True]


def test_unknown_rule_lists_the_known() -> None:
    with pytest.raises(
        ConfigurationError, match=r"unknown rule 'by-moon'; known: .*by-group-metadata, one-to-one, one-to-one-and"
    ):
        get_rule("by-moon")


def test_unknown_group_id() -> None:
    with pytest.raises(ConfigurationError, match="group_id: unknown 'roman'"):
        get_rule("by-group-metadata", group_id="roman")


def test_one_to_one() -> None:
    rule = get_rule("one-to-one")
    one = exposure(5)
    assert rule.key(one) == str(one.id)
    assert rule.complete([one]) is True
    for closed in (False, True):
        made = rule.define(group_of([one]), closed=closed)
        (visit,) = made.visits
        assert (visit.id, visit.name, visit.visit_systems) == (one.id, one.obs_id, (0,))
        assert (visit.exposures, visit.complete, made.skips) == ((one,), True, ())


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"can_see_sky": False}, SkipReason.CANNOT_SEE_SKY),
        ({"tracking_ra": None}, SkipReason.NO_POINTING),
        ({"tracking_dec": None}, SkipReason.NO_POINTING),
        ({"sky_angle": None}, SkipReason.NO_POINTING),
    ],
)
def test_off_sky_defines_nothing_and_is_told_once(
    name: str, changes: dict[str, bool | None], reason: SkipReason
) -> None:
    rule = get_rule(name)
    one = exposure(5, **changes)
    assert rule.define(group_of([one]), closed=False) == Definitions()
    made = rule.define(group_of([one]), closed=True)
    assert made.visits == ()
    (skip,) = made.skips
    assert (skip.reason, skip.exposures, skip.warn) == (reason, (one.id,), False)
    assert str(one.id) in skip.detail


@pytest.mark.parametrize("name", RULES)
def test_unknown_visibility_counts_as_sky(name: str) -> None:
    one = exposure(5, can_see_sky=None)
    assert len(get_rule(name).define(group_of([one]), closed=True).visits) == 1


@pytest.mark.parametrize("name", RULES)
def test_id_beyond_64_bits(name: str) -> None:
    one = exposure(5, id=TOO_LARGE, group=str(TOO_LARGE))
    with pytest.raises(GroupError, match=str(TOO_LARGE)):
        get_rule(name).define(group_of([one]), closed=True)


def test_group_is_one_visit_when_it_closes() -> None:
    rule = get_rule("by-group-metadata")
    snaps = run_of(7, 9, group="2026-11-02T00:00:00.000+1", group_size=3)
    assert {rule.key(e) for e in snaps} == {"2026-11-02T00:00:00.000+1"}
    group = group_of([snaps[2], snaps[0], snaps[1]])
    assert rule.define(group, closed=False).visits == ()
    (visit,) = rule.define(group, closed=True).visits
    assert (visit.id, visit.name, visit.visit_systems) == (202611020000000001, snaps[0].group, (1,))
    assert visit.exposures == tuple(snaps)
    assert visit.complete is True
    (visit,) = get_rule("by-group-metadata", group_id="lsst").define(group, closed=True).visits
    assert visit.id == 3735072000000001


def test_group_without_an_id_fails_only_when_it_would_be_a_visit() -> None:
    rule = get_rule("by-group-metadata")
    with pytest.raises(GroupError, match="has no digit"):
        rule.define(group_of([exposure(1, group="flats")]), closed=True)
    assert rule.define(group_of([exposure(1, group="flats", can_see_sky=False)]), closed=True).visits == ()


@pytest.mark.parametrize(
    ("sizes", "complete"),
    [((None, None), None), ((2, None), True), ((2, 2), True), ((3, 3), False), ((2, 3), False), ((1, 1), True)],
)
def test_group_size(sizes: tuple[int | None, int | None], complete: bool | None) -> None:
    snaps = [replace(e, group_size=size) for e, size in zip(run_of(1, 2), sizes, strict=True)]
    rule = get_rule("by-group-metadata")
    assert rule.complete(snaps) is complete
    (visit,) = rule.define(group_of(snaps), closed=True).visits
    assert visit.complete is complete


def test_off_sky_counts_as_arrived() -> None:
    snaps = run_of(1, 2, group_size=2)
    snaps[1] = replace(snaps[1], can_see_sky=False)
    for name in ("by-group-metadata", "one-to-one-and-by-counter"):
        rule = get_rule(name)
        assert rule.complete(snaps[:1]) is False
        assert rule.complete(snaps) is True
        visit = rule.define(group_of(snaps), closed=True).visits[-1]
        assert (visit.exposures, visit.complete) == ((snaps[0],), True)


def test_run_of_the_counter() -> None:
    rule = get_rule("one-to-one-and-by-counter")
    snaps = run_of(7, 9)
    assert {rule.key(e) for e in snaps} == {"20261101/7/9"}
    own = [(int(f"9{snaps[0].id}"), f"{snaps[0].obs_id}_first")] + [(e.id, e.obs_id) for e in snaps[1:]]
    early = rule.define(group_of(snaps[::-1]), closed=False)
    assert [(v.id, v.name) for v in early.visits] == own
    assert {(v.visit_systems, v.complete) for v in early.visits} == {((0,), True)}
    late = rule.define(group_of(snaps[::-1]), closed=True)
    assert late.visits[:-1] == early.visits
    run = late.visits[-1]
    assert (run.id, run.name, run.visit_systems) == (snaps[0].id, snaps[0].obs_id, (2,))
    assert run.exposures == tuple(snaps)
    assert run.complete is True
    assert (early.skips, late.skips) == ((), ())


def test_run_is_complete_when_every_number_arrived() -> None:
    rule = get_rule("one-to-one-and-by-counter")
    snaps = run_of(7, 9)
    assert rule.complete([]) is False
    assert rule.complete(snaps[:2]) is False
    assert rule.complete(snaps) is True
    repeated = replace(snaps[0], id=1)
    assert rule.complete([*snaps[:2], repeated]) is False
    assert rule.complete([replace(e, seq_num=e.id) for e in snaps]) is False
    assert rule.complete([replace(e, seq_num=None) for e in snaps]) is False
    endless = exposure(7, seq_end=10**18)
    assert rule.complete([endless]) is False
    assert rule.complete([exposure(7, seq_start=9, seq_end=7)]) is False
    assert rule.define(group_of(snaps[:2]), closed=True).visits[-1].complete is False


@pytest.mark.parametrize("number", [7, 0, None])
def test_run_of_one_is_one_visit_in_both_systems(number: int | None) -> None:
    rule = get_rule("one-to-one-and-by-counter")
    one = exposure(7, seq_num=number, seq_start=number, seq_end=number)
    other = exposure(8, seq_num=number, seq_start=number, seq_end=number)
    assert rule.key(one) == str(one.id) != rule.key(other)
    assert rule.complete([one]) is True
    for closed in (False, True):
        made = rule.define(group_of([one]), closed=closed)
        (visit,) = made.visits
        assert (visit.id, visit.name, visit.visit_systems, visit.complete) == (one.id, one.obs_id, (0, 2), True)
        assert made.skips == ()


@pytest.mark.parametrize("missing", [{"seq_start": None}, {"seq_end": None}])
def test_half_a_run_stands_alone_and_in_no_run(missing: dict[str, None]) -> None:
    rule = get_rule("one-to-one-and-by-counter")
    one = exposure(7, **{"seq_end": 8, **missing})
    assert rule.key(one) == str(one.id)
    assert rule.complete([one]) is True
    assert [v.visit_systems for v in rule.define(group_of([one]), closed=True).visits] == [(0,)]


@pytest.mark.parametrize("number", [8, 0])
def test_run_without_its_first(number: int) -> None:
    rule = get_rule("one-to-one-and-by-counter")
    one = exposure(8, seq_num=number, seq_start=7, seq_end=9)
    made = rule.define(group_of([one]), closed=True)
    assert [(v.id, v.visit_systems) for v in made.visits] == [(one.id, (0,))]
    (skip,) = made.skips
    assert (skip.reason, skip.exposures) == (SkipReason.FIRST_MISSING, (one.id,))
    assert skip.warn is (number != 0)
    assert "7..9" in skip.detail
    assert "20261101" in skip.detail


def test_run_whose_first_is_off_sky() -> None:
    snaps = run_of(7, 8)
    snaps[0] = replace(snaps[0], can_see_sky=False)
    made = get_rule("one-to-one-and-by-counter").define(group_of(snaps), closed=True)
    assert [(v.id, v.visit_systems) for v in made.visits] == [(snaps[1].id, (0,))]
    assert [(s.reason, s.warn) for s in made.skips] == [
        (SkipReason.CANNOT_SEE_SKY, False),
        (SkipReason.FIRST_MISSING, True),
    ]


def test_nine_before_the_id_must_fit_too() -> None:
    snaps = run_of(7, 8, id=10**18)
    with pytest.raises(GroupError, match=f"9{10**18}"):
        get_rule("one-to-one-and-by-counter").define(group_of(snaps[:1]), closed=False)


def test_of_two_exposures_with_the_first_number_the_one_of_the_lower_id_names_the_run() -> None:
    rule = get_rule("one-to-one-and-by-counter")
    first, second = run_of(1, 2)
    twin = replace(first, id=first.id + 50, obs_id="twin")
    for members in ([twin, first, second], [first, twin, second]):
        made = rule.define(group_of(members, key=rule.key(first)), closed=True)
        (run,) = [visit for visit in made.visits if visit.visit_systems == (BY_SEQ_START_END.id,)]
        assert (run.id, run.name) == (first.id, first.obs_id)


@pytest.mark.parametrize(("seq_num", "warns"), [(None, True), (7, True), (0, False)])
def test_a_run_without_its_first_exposure_is_warned_of_unless_the_instrument_does_not_count(
    seq_num: int | None, *, warns: bool
) -> None:
    rule = get_rule("one-to-one-and-by-counter")
    one = exposure(7, seq_num=seq_num, seq_start=6, seq_end=8)
    made = rule.define(group_of([one], key=rule.key(one)), closed=True)
    assert [(skip.reason, skip.warn) for skip in made.skips] == [(SkipReason.FIRST_MISSING, warns)]
