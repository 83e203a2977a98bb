"""Which events the fast path recognises; that its answers are right is a property test's matter."""

from typing import Any

import pytest

from consumer.events import Decoder, encode
from consumer.model import RawIngested
from tests.support.raws import raw_of


@pytest.mark.parametrize(
    "own",
    [
        {"uri": "s3://raws/1.fits", "ingested_at": 1_793_577_637_000_000},
        {"uri": "s3://raws/1.fits", "ingested_at": None},
        {"uri": None, "ingested_at": 1_793_577_637_000_000},
        {"uri": None, "ingested_at": None},
        {"uri": "s3://raws/" + "long" * 40, "ingested_at": None},
    ],
)
def test_a_raw_of_a_known_exposure_is_not_decoded_whole(own: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = Decoder()
    first = decoder.decode(encode(raw_of(None, 1)))
    second = raw_of(None, 200, **own)
    monkeypatch.setattr(decoder, "_decode_whole", _refuse)
    again = decoder.decode(encode(second))
    assert again == second
    assert again.exposure is first.exposure


def _refuse(value: bytes, start: int) -> RawIngested:
    raise AssertionError(f"decoded whole: {value[start:]!r}")
