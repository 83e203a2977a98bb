"""From simulated exposures to the events of their raws, with the trouble that real streams have."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from heapq import heappop, heappush

import numpy as np

from consumer.events import RAW_INGESTED, encode, encode_confluent, encode_record, record_of
from consumer.model import Exposure, ExposureIngested, RawIngested
from consumer.simulation.exposures import TAI_MINUS_UTC_S, simulate_exposures
from consumer.simulation.settings import SimulationSettings
from consumer.simulation.sky import Floats

_READOUT_S = 2.4
_CORRECTED_AFTER_S = 60.0
_DUPLICATED_WITHIN_S = 30.0


class Corruption(StrEnum):
    """How a bad message is bad."""

    EMPTY = "empty"
    RANDOM = "random"
    TRUNCATED = "truncated"
    UNKNOWN_FINGERPRINT = "unknown_fingerprint"
    NOT_A_NUMBER = "not_a_number"
    NUL_CHARACTER = "nul_character"
    INVERTED_TIMESPAN = "inverted_timespan"
    LONG_TEXT = "long_text"


@dataclass(frozen=True, slots=True)
class SimulatedRaw:
    """One message to be: an event, or a spoilt copy of one."""

    raw: RawIngested
    key: str
    """Message key: ``instrument/group``."""
    at_s: float
    """When it is announced, seconds since the begin of the first exposure."""
    ordinal: int
    """Number of its exposure in the stream: 0, 1, ..."""
    spoilt: Corruption | None = None
    """None for a good message. Bad ones come on top of the good ones, so they cost no exposure anything."""
    whole: ExposureIngested | None = None
    """Event of the exposure with all its raws, which is sent in the place of `raw`; None for an event of the raw."""


def simulate_night(settings: SimulationSettings) -> Iterator[SimulatedRaw]:
    """Generate the messages of all raws in the order in which they are announced.

    Parameters
    ----------
    settings
        Equal settings give equal messages. Trouble changes no exposure: with another part of duplicates, say, the same
        exposures come.
    """
    random = np.random.default_rng([settings.seed, 1])
    # What is announced but not yet due, by time; the number keeps order where times are equal.
    waiting: list[tuple[float, int, SimulatedRaw]] = []
    pushed, origin_ns = 0, None
    for ordinal, exposure in enumerate(simulate_exposures(settings)):
        begin_ns = exposure.timespan_begin or 0
        origin_ns = begin_ns if origin_ns is None else origin_ns
        begin_s = (begin_ns - origin_ns) / 1e9
        # Nothing of this exposure can be announced before its shutter opened.
        while waiting and waiting[0][0] <= begin_s:
            yield heappop(waiting)[2]
        for one in _announce(settings, exposure, ordinal, origin_ns, random):
            heappush(waiting, (one.at_s, pushed, one))
            pushed += 1
    while waiting:
        yield heappop(waiting)[2]


def _announce(
    settings: SimulationSettings, exposure: Exposure, ordinal: int, origin_ns: int, random: np.random.Generator
) -> Iterator[SimulatedRaw]:
    """Return all messages of one exposure, in no order."""
    count = settings.detectors or settings.camera.detectors
    after_s = ((exposure.timespan_end or 0) - origin_ns) / 1e9 + _READOUT_S
    at_s = after_s + settings.disorder_s * random.random(count)
    # Without such events no number is drawn, so that a seed gives the night that it always gave.
    whole = bool(settings.exposure_events) and random.random() < settings.exposure_events
    for one in _good(settings, exposure, ordinal, origin_ns, at_s, whole=whole):
        yield one
        # One number decides all of a message's trouble; most have none.
        trouble = random.random()
        if trouble < settings.duplicates:
            yield replace(one, at_s=one.at_s + random.random() * _DUPLICATED_WITHIN_S)
        if trouble > 1.0 - settings.bad_messages:
            kind = tuple(Corruption)[int(random.integers(len(Corruption)))]
            yield replace(one, at_s=one.at_s + random.random(), spoilt=kind, whole=None)
    if random.random() < settings.corrections:
        corrected = replace(exposure, record_version=1, science_program=f"{exposure.science_program}-corrected")
        yield from _good(settings, corrected, ordinal, origin_ns, at_s + _CORRECTED_AFTER_S, whole=whole)


def _good(
    settings: SimulationSettings, exposure: Exposure, ordinal: int, origin_ns: int, at_s: Floats, *, whole: bool
) -> Iterator[SimulatedRaw]:
    """Return one message for each raw, or one for all of them once the last is there."""
    origin_us = origin_ns // 1000 - TAI_MINUS_UTC_S * 1_000_000
    key = f"{exposure.instrument}/{exposure.group}"
    folder = f"s3://raws/{exposure.instrument}/{exposure.day_obs}/{exposure.obs_id}/{exposure.obs_id}"
    width, height = settings.camera.naxis
    event = None
    if whole:
        at_s = at_s.max(keepdims=True)
        all_of_them = frozenset(range(settings.detectors or settings.camera.detectors))
        event = ExposureIngested(
            exposure=exposure,
            detectors=all_of_them,
            expected_detectors=all_of_them,
            uri=folder,
            ingested_at=origin_us + int(at_s[0] * 1e6),
        )
    for detector, due_s in enumerate(at_s.tolist()):
        raw = RawIngested(
            exposure=exposure,
            detector=detector,
            uri=f"{folder}_{detector:03d}.fits",
            ingested_at=origin_us + int(due_s * 1e6),
            naxis1=width,
            naxis2=height,
        )
        yield SimulatedRaw(raw, key, due_s, ordinal, whole=event)


def message_value(simulated: SimulatedRaw, schema_id: int | None = None) -> bytes:
    """Encode one message, spoilt if it is to be.

    Parameters
    ----------
    simulated
        The raw or the exposure, and what is wrong with its message.
    schema_id
        For Confluent framing, the id of our schema of raws in the registry; None is Avro single-object encoding, which
        events of exposures always have.
    """
    if simulated.whole is not None:
        return encode(simulated.whole)
    good = encode(simulated.raw) if schema_id is None else encode_confluent(simulated.raw, schema_id)
    return good if simulated.spoilt is None else _SPOILERS[simulated.spoilt](simulated.raw, good)


def _changed(name: str, value: object) -> Callable[[RawIngested, bytes], bytes]:
    return lambda raw, _: encode_record(record_of(raw) | {name: value}, RAW_INGESTED)


_SPOILERS: dict[Corruption, Callable[[RawIngested, bytes], bytes]] = {
    Corruption.EMPTY: lambda _, __: b"",
    Corruption.RANDOM: lambda raw, _: np.random.default_rng([raw.exposure.id, raw.detector]).bytes(100),
    Corruption.TRUNCATED: lambda _, good: good[: len(good) // 2],
    Corruption.UNKNOWN_FINGERPRINT: lambda _, good: b"\xc3\x01" + bytes(8) + good[10:],
    Corruption.NOT_A_NUMBER: _changed("tracking_ra", math.nan),
    Corruption.NUL_CHARACTER: _changed("target_name", "NUL\x00"),
    Corruption.INVERTED_TIMESPAN: _changed("timespan_end", 0),
    Corruption.LONG_TEXT: _changed("science_program", "x" * 900_000),
}
