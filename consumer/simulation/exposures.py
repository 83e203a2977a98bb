"""The exposures of simulated nights: calibrations in the afternoon, then a survey in blocks of one filter each."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from consumer.model import Exposure
from consumer.simulation.settings import SimulationSettings
from consumer.simulation.sky import Floats, mount_position, offset, survey_fields, unit_vector, zenith_deg

TAI_MINUS_UTC_S = 37
"""Since 2017-01-01; no leap second is announced."""

_FIELDS = 4000
"""Fields over the sphere: 3.2 degrees apart, the width of LSSTCam's view."""
_BLOCK_EXPOSURES = 40
_LOWEST, _HIGHEST = np.sin(np.radians((35.0, 82.0)))
"""Sines of the survey's altitudes; an altazimuth mount cannot follow through the zenith."""
_RECENT = 200
"""Fields that are not visited again so soon."""
_MAX_ROTATOR_DEG = 80.0
_AFTERNOON_S, _NIGHT_S, _DAWN_S = 20 * 3600, 24 * 3600, 33.5 * 3600
"""Begin of calibrations, begin and end of the survey: UTC seconds since 0 h of the observing day, in Chile."""
_CALIBRATIONS = (("bias", 0.0), ("dark", 30.0), ("flat", 5.0))


@dataclass(slots=True)
class _Clock:
    """The time and the counter of one observing day, as its exposures use them up."""

    day_obs: int
    utc_s: float
    seq_num: int = 0


def simulate_exposures(settings: SimulationSettings) -> Iterator[Exposure]:
    """Generate exposures in order of time, until there are as many as asked for.

    Parameters
    ----------
    settings
        See there; equal settings give equal exposures, whatever becomes of their raws.
    """
    survey = _Survey(settings)
    day = np.datetime64(
        f"{settings.day_obs // 10000:04}-{settings.day_obs // 100 % 100:02}-{settings.day_obs % 100:02}"
    )
    left = settings.exposures
    per_night = int((_DAWN_S - _NIGHT_S) / (settings.exposure_s + settings.camera.overhead_s)) + 1
    while left > 0:
        midnight_s = float(day.astype("datetime64[s]").astype(np.int64))
        clock = _Clock(day_obs=int(str(day).replace("-", "")), utc_s=midnight_s + _AFTERNOON_S)
        for number in range(round(settings.calibrations * min(left, per_night))):
            yield _calibration(settings, clock, number)
            left -= 1
        clock.utc_s = max(clock.utc_s, midnight_s + _NIGHT_S)
        while left > 0 and clock.utc_s < midnight_s + _DAWN_S:
            for exposure in survey.group(clock, left):
                yield exposure
                left -= 1
        day += np.timedelta64(1, "D")


def _calibration(settings: SimulationSettings, clock: _Clock, number: int) -> Exposure:
    kind, length_s = _CALIBRATIONS[number // 10 % len(_CALIBRATIONS)]
    bare = _take(settings, clock, length_s)
    return replace(
        bare,
        observation_type=kind,
        observation_reason=kind,
        science_program="BLOCK-C1",
        physical_filter=settings.camera.filters[number // 30 % len(settings.camera.filters)],
        can_see_sky=False,
    )


def _take(settings: SimulationSettings, clock: _Clock, length_s: float) -> Exposure:
    """Open the shutter: give an exposure with its identity and times, and advance the clock."""
    clock.seq_num += 1
    begin_ms = round(clock.utc_s * 1000)
    begin_ns = begin_ms * 1_000_000 + TAI_MINUS_UTC_S * 1_000_000_000
    clock.utc_s += length_s + settings.camera.overhead_s
    seq_num = clock.seq_num
    return Exposure(
        instrument=settings.instrument,
        id=clock.day_obs * 100_000 + seq_num,
        obs_id=f"{settings.camera.code}_O_{clock.day_obs}_{seq_num:06d}",
        day_obs=clock.day_obs,
        # The scheduler names a group when it asks for it, a moment before the shutter opens.
        group=str(np.datetime64(begin_ms - 350, "ms")),
        physical_filter=None,
        exposure_time=length_s,
        dark_time=length_s + 0.5,
        observation_type=None,
        observation_reason=None,
        seq_num=seq_num,
        seq_start=seq_num,
        seq_end=seq_num,
        target_name=None,
        science_program=None,
        tracking_ra=None,
        tracking_dec=None,
        sky_angle=None,
        azimuth=None,
        zenith_angle=None,
        has_simulated=True,
        can_see_sky=None,
        timespan_begin=begin_ns,
        timespan_end=begin_ns + round(length_s * 1e9),
        group_size=1,
    )


class _Survey:
    """Chooses fields, filters and the rotator's angle as the night goes."""

    def __init__(self, settings: SimulationSettings) -> None:
        self._settings = settings
        self._random = np.random.default_rng([settings.seed, 0])
        self._ra, self._dec = survey_fields(_FIELDS)
        self._toward = unit_vector(self._ra, self._dec)
        self._recent: dict[int, None] = {}
        self._field: int | None = None
        self._block = 0
        self._left = 0
        self._filter = settings.camera.filters[0]
        self._rotator_deg = 0.0

    def group(self, clock: _Clock, most: int) -> list[Exposure]:
        """Take the next group: one exposure, or two snaps of half the time where as many are left."""
        settings, random = self._settings, self._random
        if self._left <= 0:
            self._next_block()
        self._left -= 1
        field = self._next_field(clock.utc_s)
        dither = settings.camera.dither_deg * random.uniform(-1.0, 1.0, 2)
        ra, dec = offset(float(self._ra[field]), float(self._dec[field]), float(dither[0]), float(dither[1]))
        snaps = 2 if random.random() < settings.snaps and most > 1 else 1
        open_dome = bool(random.random() >= settings.closed_dome)
        clock.utc_s += float(random.exponential(0.8))  # a longer slew now and then
        first = clock.seq_num + 1
        group: list[Exposure] = []
        for _ in range(snaps):
            where = mount_position(ra, dec, clock.utc_s)
            bare = _take(settings, clock, settings.exposure_s / snaps)
            group.append(
                replace(
                    bare,
                    group=group[0].group if group else bare.group,
                    physical_filter=self._filter,
                    observation_type="science",
                    observation_reason="survey",
                    seq_start=first,
                    seq_end=first + snaps - 1,
                    group_size=snaps,
                    target_name=f"field-{field:04d}",
                    science_program=f"BLOCK-{365 + self._block % 3}",
                    tracking_ra=ra,
                    tracking_dec=dec,
                    sky_angle=(where.parallactic_deg - self._rotator_deg) % 360.0,
                    azimuth=where.azimuth_deg,
                    zenith_angle=90.0 - where.altitude_deg,
                    can_see_sky=open_dome,
                )
            )
        return group

    def _next_block(self) -> None:
        self._left = int(self._random.integers(_BLOCK_EXPOSURES // 2, _BLOCK_EXPOSURES * 3 // 2))
        self._block += 1
        filters = [name for name in self._settings.camera.filters if name != self._filter]
        self._filter = str(self._random.choice(filters))
        self._rotator_deg = float(self._random.uniform(-_MAX_ROTATOR_DEG, _MAX_ROTATOR_DEG))
        self._field = None

    def _next_field(self, utc_s: float) -> int:
        """Go to the nearest observable field not visited lately; a new block begins near the meridian."""
        height = self._toward @ unit_vector(*zenith_deg(utc_s))
        cost = self._begin_cost(height) if self._field is None else -(self._toward @ self._toward[self._field])
        cost[(height < _LOWEST) | (height > _HIGHEST)] = np.inf
        cost[list(self._recent)] += 1000.0
        self._field = int(np.argmin(cost))
        self._recent[self._field] = None
        if len(self._recent) > _RECENT:
            del self._recent[next(iter(self._recent))]
        return self._field

    def _begin_cost(self, height: Floats) -> Floats:
        wanted = self._random.uniform(50.0, 75.0)
        altitude = np.degrees(np.arcsin(np.clip(height, -1.0, 1.0)))
        return np.abs(altitude - wanted) + self._random.uniform(0.0, 10.0, altitude.size)
