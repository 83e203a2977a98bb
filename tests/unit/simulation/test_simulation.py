import itertools
from collections import Counter, defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from consumer.errors import BadMessageError, ConfigurationError
from consumer.events import Decoder, encode
from consumer.model import Exposure, ExposureIngested, RawIngested
from consumer.simulation import (
    INSTRUMENTS,
    Corruption,
    SimulationSettings,
    message_value,
    simulate_exposures,
    simulate_night,
)
from consumer.simulation.sky import LATITUDE_DEG, LONGITUDE_DEG, mount_position, offset, survey_fields, zenith_deg

COMCAM = SimulationSettings(instrument="LSSTComCam", exposures=60, seed=3)


def on_sky(exposures: list[Exposure]) -> list[Exposure]:
    return [one for one in exposures if one.off_sky_reason is None]


def test_equal_settings_give_equal_messages_and_other_seeds_other_ones() -> None:
    trouble = replace(COMCAM, duplicates=0.2, corrections=0.2, bad_messages=0.1, disorder_s=60.0)
    first, second = list(simulate_night(trouble)), list(simulate_night(trouble))
    assert first == second
    values = [message_value(one) for one in first[:200]]
    assert values == [message_value(one) for one in second[:200]]
    assert list(simulate_night(replace(trouble, seed=4))) != first


def test_trouble_changes_no_exposure() -> None:
    plain = list(simulate_exposures(COMCAM))
    trouble = replace(COMCAM, duplicates=0.3, bad_messages=0.3, disorder_s=100.0, corrections=0.5, detectors=2)
    assert list(simulate_exposures(trouble)) == plain
    first = {one.raw.exposure for one in simulate_night(trouble) if one.raw.exposure.record_version == 0}
    assert first == set(plain)


@pytest.mark.parametrize("instrument", list(INSTRUMENTS))
def test_every_raw_of_every_exposure_comes_and_is_valid(instrument: str) -> None:
    settings = SimulationSettings(instrument=instrument, exposures=12, calibrations=0.25, duplicates=0.0)
    decoder = Decoder()
    seen: dict[int, list[int]] = defaultdict(list)
    for one in simulate_night(settings):
        value = message_value(one)
        assert value == encode(one.raw)
        assert decoder.decode(value) == one.raw
        assert one.key == f"{instrument}/{one.raw.exposure.group}"
        seen[one.raw.exposure.id].append(one.raw.detector)
    assert len(seen) == 12
    for detectors in seen.values():
        assert sorted(detectors) == list(range(INSTRUMENTS[instrument].detectors))


def test_a_night_looks_like_a_survey() -> None:
    settings = SimulationSettings(exposures=600, snaps=0.1)
    night = list(simulate_exposures(settings))
    assert len(night) == 600
    assert {one.day_obs for one in night} == {20261101}
    assert len({one.id for one in night}) == len({one.obs_id for one in night}) == 600
    kinds = Counter(one.observation_type for one in night)
    assert kinds == {"bias": 20, "dark": 20, "flat": 20, "science": 540}
    assert all(one.off_sky_reason is not None for one in night[:60])
    science = night[60:]
    closed = len(science) - len(on_sky(science))
    assert 0 < closed < 60
    for one in science:
        assert one.timespan_begin is not None
        assert one.timespan_end is not None
        assert one.zenith_angle is not None
        assert 7.0 < one.zenith_angle < 57.0
        assert one.timespan_end - one.timespan_begin in (30_000_000_000, 15_000_000_000)
    begins = np.array([one.timespan_begin for one in science if one.seq_start == one.seq_num]) / 1e9
    assert 33.5 < np.median(np.diff(begins)) < 35.5
    blocks = [len(list(block)) for _, block in itertools.groupby(one.physical_filter for one in science)]
    assert 10 <= len(blocks) <= 30
    assert len({one.target_name for one in science}) > 300


def test_snaps_share_a_group_and_say_how_many_they_are() -> None:
    night = list(simulate_exposures(replace(COMCAM, exposures=300, snaps=0.5)))
    groups: dict[str, list[Exposure]] = defaultdict(list)
    for one in night:
        groups[one.group].append(one)
    sizes = Counter(len(members) for members in groups.values())
    assert set(sizes) == {1, 2}
    for members in groups.values():
        numbers = [one.seq_num for one in members]
        assert numbers == list(range(members[0].seq_start or 0, (members[0].seq_end or 0) + 1))
        assert {one.group_size for one in members} == {len(members)}
        assert len({(one.tracking_ra, one.physical_filter, one.seq_start) for one in members}) == 1


def test_more_exposures_than_a_night_has_go_on_in_the_next() -> None:
    settings = SimulationSettings(instrument="LATISS", exposures=2500, day_obs=20261231)
    nights = list(simulate_exposures(settings))
    assert [day for day, _ in itertools.groupby(one.day_obs for one in nights)][:3] == [20261231, 20270101, 20270102]
    assert len({one.id for one in nights}) == 2500
    for earlier, later in itertools.pairwise(nights):
        assert (earlier.timespan_end or 0) <= (later.timespan_begin or 0)


def test_duplicates_disorder_and_corrections_come_as_asked() -> None:
    raws = list(simulate_night(replace(COMCAM, exposures=300, duplicates=0.1, disorder_s=60.0, corrections=0.2)))
    times = [one.at_s for one in raws]
    assert times == sorted(times)
    ordinals = [one.ordinal for one in raws if one.raw.exposure.record_version == 0]
    assert any(later < earlier for earlier, later in itertools.pairwise(ordinals))
    originals = {(one.raw.exposure.id, one.raw.detector) for one in raws if one.raw.exposure.record_version == 0}
    assert len(originals) == 300 * 9
    assert 0.07 < (len(ordinals) - len(originals)) / len(originals) < 0.13
    corrected = {one.raw.exposure.id for one in raws if one.raw.exposure.record_version == 1}
    assert 30 < len(corrected) < 90


def test_bad_messages_are_bad_in_every_way_and_cost_nothing() -> None:
    decoder = Decoder()
    seen: dict[Corruption, set[str]] = defaultdict(set)
    good = set()
    for one in simulate_night(replace(COMCAM, bad_messages=0.3)):
        value = message_value(one)
        if one.spoilt is None:
            good.add((decoder.decode(value).exposure.id, one.raw.detector))
        else:
            with pytest.raises(BadMessageError) as caught:
                decoder.decode(value)
            seen[one.spoilt].add(caught.value.reason.value)
    assert len(good) == 60 * 9
    assert set(seen) == set(Corruption)
    assert seen[Corruption.EMPTY] == {"empty"}
    assert seen[Corruption.TRUNCATED] == {"undecodable"}
    assert seen[Corruption.UNKNOWN_FINGERPRINT] == {"unknown_fingerprint"}
    assert (
        seen[Corruption.NOT_A_NUMBER]
        == seen[Corruption.NUL_CHARACTER]
        == seen[Corruption.INVERTED_TIMESPAN]
        == {"invalid_field"}
    )
    assert seen[Corruption.LONG_TEXT] == {"too_large"}


def test_events_of_exposures_say_what_those_of_their_raws_would() -> None:
    decoder = Decoder()
    trouble = replace(COMCAM, corrections=0.2, duplicates=0.1, bad_messages=0.1)
    raws: dict[Exposure, set[int]] = defaultdict(set)
    for one in simulate_night(trouble):
        raws[one.raw.exposure].add(one.raw.detector)
    found: dict[Exposure, set[int]] = defaultdict(set)
    kinds: Counter[type] = Counter()
    for one in simulate_night(replace(trouble, exposure_events=0.5, corrections=1.0)):
        if one.spoilt is None:
            event = decoder.decode(message_value(one, None))
            kinds[type(event)] += 1
            if isinstance(event, ExposureIngested):
                assert event.detectors == event.expected_detectors
            found[event.exposure] |= {event.detector} if isinstance(event, RawIngested) else (event.detectors or set())
    assert 30 < kinds[ExposureIngested] < 100 < kinds[RawIngested]
    assert {one: detectors for one, detectors in found.items() if one in raws} == raws
    assert all(detectors == set(range(9)) for detectors in found.values())


@pytest.mark.parametrize(
    "changes",
    [
        {"instrument": "HST"},
        {"exposure_events": 1.01},
        {"day_obs": 20261332},
        {"duplicates": 1.5},
        {"exposures": -1},
        {"detectors": 206, "instrument": "LSSTCam"},
        {"detectors": 0},
        {"disorder_s": -1.0},
        {"exposure_s": 0.0},
    ],
)
def test_settings_out_of_range_are_refused_by_name(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(changes))):
        replace(COMCAM, **changes)


# The sky


def test_sidereal_time_is_the_almanacs() -> None:
    # Meeus, example 12.a: Greenwich mean sidereal time at 1987-04-10T00:00:00 UT is 13h10m46.3668s.
    right_ascension, declination = zenith_deg(545_011_200.0)
    assert (right_ascension, declination) == pytest.approx((197.693195 + LONGITUDE_DEG, LATITUDE_DEG), abs=1e-6)


def test_directions_agree_with_where_the_sky_stands() -> None:
    now = 1_793_577_600.0
    meridian, latitude = zenith_deg(now)
    assert mount_position(meridian, latitude, now).altitude_deg == pytest.approx(90.0, abs=1e-5)
    north = mount_position(meridian, 0.0, now)
    assert north == pytest.approx((0.0, 90.0 + latitude, 180.0))
    rising = mount_position(meridian + 90.0, 0.0, now)
    assert rising == pytest.approx((90.0, 0.0, -90.0 + latitude), abs=1e-9)
    pole = mount_position(0.0, -90.0, now)
    assert (pole.altitude_deg, pole.azimuth_deg) == pytest.approx((-latitude, 180.0))


def test_fields_are_spread_evenly_and_steps_are_steps() -> None:
    ra, dec = survey_fields(1000)
    toward = np.stack(
        [np.cos(np.radians(dec)) * np.cos(np.radians(ra)), np.cos(np.radians(dec)) * np.sin(np.radians(ra))]
    )
    assert np.abs(toward.mean(axis=1)).max() < 0.01
    assert np.abs(np.sin(np.radians(dec)).mean()) < 1e-9
    assert offset(10.0, 0.0, 0.5, 0.0) == pytest.approx((10.5, 0.0), abs=1e-4)
    assert offset(0.0, 0.0, -0.5, 0.25) == pytest.approx((359.5, 0.25), abs=1e-4)
    beyond = offset(10.0, 89.9, 0.0, 0.3)
    assert beyond == pytest.approx((190.0, 89.8), abs=1e-4)
