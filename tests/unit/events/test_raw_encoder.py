"""Raws that share an exposure are encoded as if each were alone."""

from dataclasses import replace

from consumer.events import RawEncoder, encode
from consumer.model import RawIngested
from tests.support.skies import exposure_at


def test_the_bytes_are_those_of_each_raw_alone() -> None:
    encoder = RawEncoder()
    exposures = [replace(exposure_at(10.0, -30.0, 0.0), id=number) for number in range(100)]
    for round_ in range(2):
        for exposure in exposures:
            for detector in (0, 204):
                raw = RawIngested(exposure=exposure, detector=detector, uri=f"s3://raws/{round_}", ingested_at=5)
                assert encoder.encode(raw) == encode(raw)
    complete = RawIngested(exposure=exposures[0], detector=3, wcs="CTYPE1", naxis1=7, naxis2=8)
    assert encoder.encode(complete) == encode(complete)
