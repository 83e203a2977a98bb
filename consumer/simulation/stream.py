"""From simulated exposures to the events of their raws, with the trouble that real streams have."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from heapq import heappop, heappush

import numpy as np

from consumer.events import RAW_INGESTED, encode, encode_confluent, encode_record, record_of
from consumer.model import Exposure, RawIngested
from consumer.simulation.exposures import TAI_MINUS_UTC_S, simulate_exposures
from consumer.simulation.settings import SimulationSettings

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
    origin_us = origin_ns // 1000 - TAI_MINUS_UTC_S * 1_000_000
    key = f"{exposure.instrument}/{exposure.group}"
    folder = f"s3://raws/{exposure.instrument}/{exposure.day_obs}/{exposure.obs_id}/{exposure.obs_id}"
    width, height = settings.camera.naxis
    for detector, due_s in enumerate(at_s.tolist()):
        raw = RawIngested(
            exposure=exposure,
            detector=detector,
            uri=f"{folder}_{detector:03d}.fits",
            ingested_at=origin_us + int(due_s * 1e6),
            naxis1=width,
            naxis2=height,
        )
        yield SimulatedRaw(raw, key, due_s, ordinal)
        # One number decides all of a raw's trouble; most raws have none.
        trouble = random.random()
        if trouble < settings.duplicates:
            yield SimulatedRaw(raw, key, due_s + random.random() * _DUPLICATED_WITHIN_S, ordinal)
        if trouble > 1.0 - settings.bad_messages:
            kind = tuple(Corruption)[int(random.integers(len(Corruption)))]
            yield SimulatedRaw(raw, key, due_s + random.random(), ordinal, kind)
    if random.random() < settings.corrections:
        corrected = replace(exposure, record_version=1, science_program=f"{exposure.science_program}-corrected")
        for detector, due_s in enumerate((at_s + _CORRECTED_AFTER_S).tolist()):
            again = RawIngested(
                exposure=corrected,
                detector=detector,
                uri=f"{folder}_{detector:03d}.fits",
                ingested_at=origin_us + int(due_s * 1e6),
                naxis1=width,
                naxis2=height,
            )
            yield SimulatedRaw(again, key, due_s, ordinal)


def message_value(simulated: SimulatedRaw, schema_id: int | None = None) -> bytes:
    """Encode one message, spoilt if it is to be.

    Parameters
    ----------
    simulated
        The raw, and what is wrong with its message.
    schema_id
        For Confluent framing, the id of our schema in the registry; None is Avro single-object encoding.
    """
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
