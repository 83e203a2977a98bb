"""Exposures for tests: a plain one, with what a test cares about changed."""

from dataclasses import replace
from typing import Any

from consumer.model import Exposure, Group, GroupKey

DAY_OBS = 20261101
BEGIN_TAI_NS = 1_793_577_637_000_000_000
CADENCE_NS = 34_000_000_000
LENGTH_NS = 30_000_000_000


def exposure(number: int = 1, /, **changes: Any) -> Exposure:
    """Make an on-sky science exposure: the ``number``-th of a night, a group of its own."""
    begin = BEGIN_TAI_NS + number * CADENCE_NS
    values: dict[str, Any] = {
        "instrument": "LSSTComCam",
        "id": DAY_OBS * 100_000 + number,
        "obs_id": f"CC_O_{DAY_OBS}_{number:06d}",
        "day_obs": DAY_OBS,
        "group": f"2026-11-02T00:00:00.{number:03d}",
        "physical_filter": "r_03",
        "exposure_time": 30.0,
        "dark_time": 30.5,
        "observation_type": "science",
        "observation_reason": "survey",
        "seq_num": number,
        "seq_start": number,
        "seq_end": number,
        "target_name": "COSMOS",
        "science_program": "BLOCK-1",
        "tracking_ra": 150.1,
        "tracking_dec": 2.2,
        "sky_angle": 10.0,
        "azimuth": 120.0,
        "zenith_angle": 40.0,
        "has_simulated": False,
        "can_see_sky": True,
        "timespan_begin": begin,
        "timespan_end": begin + LENGTH_NS,
    }
    return Exposure(**(values | changes))


def run_of(first: int, last: int, **changes: Any) -> list[Exposure]:
    """Make the exposures of one counter run ``first..last``, which are one named group too."""
    named = {"seq_start": first, "seq_end": last, "group": f"run {first}"} | changes
    return [exposure(number, **named) for number in range(first, last + 1)]


def group_of(exposures: list[Exposure], key: str = "group") -> Group:
    """Put exposures into one group."""
    return Group(key=GroupKey(exposures[0].instrument, key), exposures=tuple(exposures))


def varied(one: Exposure, changes: dict[str, Any]) -> Exposure:
    """Change fields that are named at run time."""
    return replace(one, **changes)
