"""The fast path equals the plain path, whatever the bytes; and decoding inverts encoding."""

import math
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from consumer.events import (
    EXPOSURE_INGESTED,
    Decoder,
    encode,
    encode_confluent,
    exposure_from_json,
    record_of,
    schema_text,
)
from consumer.model import Exposure, ExposureIngested, RawIngested
from tests.support.exposures import BEGIN_TAI_NS, exposure
from tests.support.raws import exposure_event, outcome, raw_of
from tests.support.strict_avro import strict_fields

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=70)
KEY_TEXT = TEXT.filter(bool)
COUNTER = st.integers(0, 2**63 - 1)
DAY_NS = 86_400_000_000_000


def real(low: float, high: float) -> st.SearchStrategy[float | None]:
    return st.none() | st.floats(low, high, allow_nan=False, allow_infinity=False)


@st.composite
def exposures(draw: st.DrawFn) -> Exposure:
    moment = st.integers(BEGIN_TAI_NS - DAY_NS, BEGIN_TAI_NS + DAY_NS)
    begin, end = sorted(draw(st.tuples(moment, moment)))
    optional: dict[str, st.SearchStrategy[Any]] = {
        "instrument": KEY_TEXT,
        "id": COUNTER,
        "obs_id": KEY_TEXT,
        "group": KEY_TEXT,
        "seq_num": st.none() | COUNTER,
        "target_name": st.none() | TEXT,
        "exposure_time": real(0.0, 100.0),
        "tracking_ra": real(0.0, 360.0),
        "tracking_dec": real(-90.0, 90.0),
        "sky_angle": real(-720.0, 720.0),
        "can_see_sky": st.none() | st.booleans(),
        "group_size": st.none() | st.integers(1, 2**31 - 1),
        "record_version": st.integers(0, 2**31 - 1),
    }
    times = {"timespan_begin": draw(st.sampled_from([None, begin])), "timespan_end": draw(st.sampled_from([None, end]))}
    return exposure(1, **times, **draw(st.fixed_dictionaries({}, optional=optional)))


@st.composite
def raws(draw: st.DrawFn, of: st.SearchStrategy[Exposure] | None = None) -> RawIngested:
    optional: dict[str, st.SearchStrategy[Any]] = {
        "uri": st.none() | TEXT,
        "ingested_at": st.none() | COUNTER,
        "wcs": st.none() | TEXT,
        "naxis1": st.none() | st.integers(1, 2**31 - 1),
        "naxis2": st.none() | st.integers(1, 2**31 - 1),
    }
    changes = draw(st.fixed_dictionaries({}, optional=optional))
    return raw_of(draw(exposures() if of is None else of), draw(st.integers(0, 32767)), **changes)


class Registry:
    def fetch(self, schema_id: int) -> str:
        names = {7: "raw_ingested", 8: "exposure_ingested"}
        if schema_id not in names:
            raise LookupError(schema_id)
        return schema_text(names[schema_id])


def decoders() -> tuple[Decoder, Decoder]:
    return Decoder(registry=Registry(), exposures_remembered=3), Decoder(registry=Registry(), exposures_remembered=0)


@given(st.lists(raws(), min_size=1, max_size=3))
def test_decoding_inverts_encoding(given_raws: list[RawIngested]) -> None:
    fast, plain = decoders()
    for raw in given_raws * 2:
        for value in (encode(raw), encode_confluent(raw, 7)):
            assert fast.decode(value) == raw
            assert plain.decode(value) == raw
        assert exposure_from_json(record_of(raw)) == raw.exposure


DETECTORS = st.none() | st.sets(st.integers(0, 32767), max_size=9)


@st.composite
def exposure_events(draw: st.DrawFn, of: st.SearchStrategy[Exposure] | None = None) -> ExposureIngested:
    own = {"uri": draw(st.none() | TEXT), "ingested_at": draw(st.none() | COUNTER)}
    return exposure_event(draw(exposures() if of is None else of), draw(DETECTORS), draw(DETECTORS), **own)


@given(st.lists(exposure_events(), min_size=1, max_size=3), raws())
def test_decoding_inverts_encoding_of_exposures_among_raws(events: list[ExposureIngested], raw: RawIngested) -> None:
    fast, plain = decoders()
    for event in events * 2:
        for decoder in (fast, plain):
            assert decoder.decode(encode(event)) == event
            assert decoder.decode(encode(raw)) == raw
            assert decoder.decode(encode_confluent(event, 8)) == event
            assert decoder.decode(encode_confluent(raw, 7)) == raw


KNOWN = st.sampled_from([exposure(1), exposure(2), exposure(1, exposure_time=29.0), exposure(1, instrument="X" * 64)])
PLACE = st.floats(0.0, 1.0, exclude_max=True)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Make an event of either kind and form, with some bytes changed, cut, inserted, lengthened or crossed."""
    value = draw(
        raws(KNOWN).map(encode)
        | raws(KNOWN).map(lambda raw: encode_confluent(raw, 7))
        | exposure_events(KNOWN).map(encode)
        | exposure_events(KNOWN).map(lambda event: encode_confluent(event, 8))
    )
    for _ in range(draw(st.integers(0, 3))):
        at = math.floor(draw(PLACE) * len(value))
        kind = draw(st.sampled_from(["flip", "set", "cut", "drop", "insert", "lengthen", "cross"]))
        if kind == "flip" and value:
            value = value[:at] + bytes([value[at] ^ (1 << draw(st.integers(0, 7)))]) + value[at + 1 :]
        elif kind == "set" and value:
            value = value[:at] + draw(st.binary(min_size=1, max_size=1)) + value[at + 1 :]
        elif kind == "cut":
            value = value[:at]
        elif kind == "drop":
            value = value[:at] + value[at + 1 + math.floor(draw(PLACE) * 9) :]
        elif kind == "insert":
            value = value[:at] + draw(st.binary(max_size=9)) + value[at:]
        elif kind == "lengthen" and value and value[at] < 0x80:
            # The same integer in a byte more than it needs, where this byte is an integer's last.
            value = value[:at] + bytes([value[at] | 0x80, 0]) + value[at + 1 :]
        elif kind == "cross":
            other = encode(draw(raws(KNOWN)))
            value = value[:at] + other[math.floor(draw(PLACE) * len(other)) :]
    return value


@settings(max_examples=150)
@given(st.lists(mutated(), min_size=1, max_size=8))
@example([encode(raw_of())[:-1]])
def test_the_fast_path_equals_the_plain_path_for_any_bytes(values: list[bytes]) -> None:
    fast, plain = decoders()
    warm = [encode(raw_of(exposure(1))), encode_confluent(raw_of(exposure(2)), 7)]
    # What a broken event may leave in the memory must not show in the events after it, so they come again.
    for value in warm + values + warm + values:
        found = outcome(plain, value)
        assert outcome(fast, value) == found
        body = value[10:] if value[:1] == b"\xc3" else value[5:]
        of_exposure = value.startswith((EXPOSURE_INGESTED.single_object_header, b"\x00\x00\x00\x00\x08"))
        try:
            strict = strict_fields(body, "exposure_ingested" if of_exposure else "raw_ingested")
        except ValueError:
            strict = None
        if not isinstance(found, tuple):
            assert strict is not None
            lists = {name: sorted(set(each)) for name, each in strict.items() if isinstance(each, list)}
            assert record_of(found) == strict | lists
        elif found[0] in {"invalid_field", "too_large"}:
            assert strict is not None


@settings(max_examples=10)
@given(raws(KNOWN))
def test_every_changed_byte_and_every_cut_gives_the_plain_answer(raw: RawIngested) -> None:
    fast, plain = decoders()
    value = encode(raw)
    for at in range(len(value)):
        for changed in (value[:at], *(value[:at] + bytes([value[at] ^ bit]) + value[at + 1 :] for bit in (1, 2, 0x80))):
            fast.decode(value)  # known, whatever the last one put in its place
            assert outcome(fast, changed) == outcome(plain, changed), at
