import math
import re
from dataclasses import replace
from typing import Any

import pytest

from consumer.errors import BadMessageError, DeadLetterReason
from consumer.events import Decoder, encode, exposure_from_json, record_of
from tests.support.exposures import BEGIN_TAI_NS, exposure
from tests.support.raws import encode_changed, raw_of, refusal

INVALID, TOO_LARGE = DeadLetterReason.INVALID_FIELD, DeadLetterReason.TOO_LARGE

REFUSED: list[tuple[str, Any, DeadLetterReason]] = [
    ("instrument", "", INVALID),
    ("instrument", "LSST\x00Cam", INVALID),
    ("instrument", "x" * 257, TOO_LARGE),
    ("exposure", -1, INVALID),
    ("detector", -1, INVALID),
    ("detector", 32768, INVALID),
    ("obs_id", "", INVALID),
    ("group", "", INVALID),
    ("group", "g" * 900_000, TOO_LARGE),
    ("day_obs", 20260229, INVALID),
    ("day_obs", 20261301, INVALID),
    ("day_obs", 20260100, INVALID),
    ("day_obs", 61000, INVALID),
    ("day_obs", -20260101, INVALID),
    ("exposure_time", math.nan, INVALID),
    ("exposure_time", math.inf, INVALID),
    ("exposure_time", -1.0, INVALID),
    ("dark_time", -math.inf, INVALID),
    ("seq_num", -1, INVALID),
    ("seq_start", -1, INVALID),
    ("seq_end", -1, INVALID),
    ("target_name", "NUL\x00", INVALID),
    ("target_name", "t" * 1025, TOO_LARGE),
    ("tracking_ra", math.nan, INVALID),
    ("tracking_ra", -0.001, INVALID),
    ("tracking_ra", 360.001, INVALID),
    ("tracking_dec", 90.001, INVALID),
    ("tracking_dec", -90.001, INVALID),
    ("sky_angle", math.inf, INVALID),
    ("sky_angle", 1e6, INVALID),
    ("azimuth", math.nan, INVALID),
    ("azimuth", -721.0, INVALID),
    ("zenith_angle", -1.0, INVALID),
    ("zenith_angle", 181.0, INVALID),
    ("timespan_begin", -1, INVALID),
    ("timespan_end", 1, INVALID),
    ("group_size", 0, INVALID),
    ("record_version", -1, INVALID),
    ("uri", "s3://a\x00b", INVALID),
    ("uri", "u" * 4097, TOO_LARGE),
    ("wcs", "w" * 65537, TOO_LARGE),
    ("ingested_at", -1, INVALID),
    ("naxis1", 0, INVALID),
    ("naxis2", -1, INVALID),
]


@pytest.mark.parametrize(("field", "value", "reason"), REFUSED, ids=[f"{f}-{n}" for n, (f, _, _) in enumerate(REFUSED)])
@pytest.mark.parametrize("warm", [False, True])
def test_what_no_exposure_can_have_is_refused(field: str, value: Any, reason: DeadLetterReason, *, warm: bool) -> None:
    decoder = Decoder()
    if warm:
        decoder.decode(encode(raw_of()))
    error = refusal(decoder, encode_changed(raw_of(), **{field: value}))
    assert error.reason is reason
    assert error.detail.startswith(field)
    assert repr(value)[:20] in error.detail
    assert len(error.detail) < 250
    assert "\x00" not in error.detail
    assert error.instrument == (None if field == "instrument" else "LSSTComCam")


@pytest.mark.parametrize(
    "changes",
    [
        {"tracking_ra": 360.0},
        {"tracking_ra": 0.0, "tracking_dec": -90.0},
        {"azimuth": -269.9},
        {"azimuth": 450.0},
        {"sky_angle": -180.0},
        {"zenith_angle": 0.0},
        {"exposure_time": 0.0},
        {"timespan_end": None},
        {"timespan_begin": BEGIN_TAI_NS, "timespan_end": BEGIN_TAI_NS, "exposure_time": 99.0},
        {"day_obs": 20240229, "timespan_begin": None, "timespan_end": None},
        {"day_obs": 20261031},
        {"day_obs": 20261104},
        {"timespan_begin": None, "exposure_time": 1e6},
        {"target_name": "Méchain's \U0001f30c"},
        {"target_name": ""},
        {"seq_start": 9, "seq_num": 0},
        {"id": 2**63 - 1},
    ],
)
def test_what_is_merely_unusual_is_kept(changes: dict[str, Any]) -> None:
    raw = raw_of(exposure(**changes), 32767)
    assert Decoder().decode(encode(raw)) == raw


MICRO, MILLI = BEGIN_TAI_NS // 1000, BEGIN_TAI_NS // 1_000_000


@pytest.mark.parametrize(
    ("changes", "suspicion"),
    [
        (
            {"timespan_begin": MICRO, "timespan_end": MICRO + 30_000_000},
            "timespan_begin is .*TAI nanoseconds since 1970",
        ),
        ({"timespan_begin": MILLI, "timespan_end": MILLI + 30_000}, "timespan_begin is .*TAI nanoseconds since 1970"),
        ({"timespan_begin": None, "timespan_end": MICRO}, "timespan_end is .*TAI nanoseconds since 1970"),
        ({"day_obs": 20260101}, "more than 2 days from day_obs 20260101"),
        ({"day_obs": 20261105}, "more than 2 days from day_obs 20261105"),
        ({"day_obs": 25681101}, "more than 2 days from day_obs 25681101"),
        ({"exposure_time": 30_000.0}, "exposure_time is 30000.0: its timespan has 30 s: is it in seconds"),
        ({"dark_time": 30_500.0}, "dark_time is 30500.0: its timespan has 30 s: is it in seconds"),
    ],
)
def test_units_that_slipped_are_refused_with_the_suspicion(changes: dict[str, Any], suspicion: str) -> None:
    error = refusal(Decoder(), encode(raw_of(exposure(**changes))))
    assert error.reason is INVALID
    assert re.match(f".*{suspicion}", error.detail)
    document = record_of(raw_of(exposure(**changes)))
    if "day_obs" in changes and changes["day_obs"] < 20270000:
        assert exposure_from_json(document) == exposure(**changes), "a file may have a day that is made up"
    else:
        with pytest.raises(BadMessageError, match=suspicion.replace("2 days", "3650 days")):
            exposure_from_json(document)


# JSON, for commands


def as_json() -> dict[str, Any]:
    document = record_of(raw_of())
    return {name: document[name] for name in document if name not in ("detector", "uri", "wcs", "naxis1", "naxis2")}


def test_json_names_fields_as_the_event_does_and_takes_id_too() -> None:
    document = as_json()
    assert exposure_from_json(document) == exposure()
    document["id"] = document.pop("exposure")
    assert exposure_from_json(document) == exposure()
    assert exposure_from_json(document | {"exposure_time": 30, "detector": 5}) == exposure()


def test_json_may_leave_out_what_is_optional() -> None:
    document = {name: as_json()[name] for name in ("instrument", "exposure", "obs_id", "day_obs", "group")}
    assert exposure_from_json(document).off_sky_reason is not None
    for name in document:
        with pytest.raises(BadMessageError, match=f"^{name} is None"):
            exposure_from_json({n: v for n, v in document.items() if n != name})


@pytest.mark.parametrize(
    "changes",
    [
        {"sky_angel": 1.0},
        {"exposure": "5"},
        {"exposure": 5.0},
        {"exposure": True},
        {"exposure": 2**63},
        {"exposure": 10**400},
        {"exposure_time": 10**400},
        {"tracking_ra": "12:00"},
        {"tracking_ra": True},
        {"can_see_sky": 1},
        {"group": 5},
        {"target_name": "\ud800"},
        {"tracking_dec": math.nan},
    ],
)
def test_json_of_wrong_types_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BadMessageError) as caught:
        exposure_from_json(as_json() | changes)
    assert caught.value.reason is INVALID
    assert caught.value.detail.startswith(next(iter(changes)))
    caught.value.detail.encode()  # a lone surrogate in the text itself would make this fail


def test_an_identity_given_twice_must_agree() -> None:
    document = as_json()
    assert exposure_from_json(document | {"id": document["exposure"]}) == exposure()
    with pytest.raises(BadMessageError, match="exposure"):
        exposure_from_json(document | {"id": 1})


def test_checks_cover_every_field_of_the_exposure() -> None:
    one = exposure(group_size=1)
    assert exposure_from_json(record_of(raw_of(one)) | {"record_version": 2}) == replace(one, record_version=2)
