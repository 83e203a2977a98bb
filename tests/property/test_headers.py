"""What is accepted of a header is astropy's own answer, taken to ICRS."""

import numpy as np
import pytest

from consumer.errors import BadMessageError
from consumer.model import RawRegion
from consumer.regions import RegionSettings, decode, get_algorithm
from tests.support.headers import SIZE, good_header, hostile_header
from tests.support.skies import angular_distance, astropy_corners, raw_with

ALGORITHM = get_algorithm("full-raw-wcs", RegionSettings(padding=0))


def outcome(cards: str) -> tuple[RawRegion | None, str]:
    try:
        return ALGORITHM.observe(raw_with(cards)), ""
    except BadMessageError as error:
        return None, error.detail


@pytest.mark.parametrize("seed", range(8))
def test_what_is_accepted_is_where_astropy_says(seed: int) -> None:
    random = np.random.default_rng(seed)
    accepted = 0
    for _ in range(40):
        cards = good_header(random)
        region, refusal = outcome(cards)
        if refusal:
            assert "convex" in refusal or "no place on the sky" in refusal, cards
            continue
        assert region is not None
        accepted += 1
        ours = decode(region.region or b"")
        corners = astropy_corners(cards, *SIZE)
        for corner in ours:
            assert angular_distance(corners, corner).min() < 1e-9, cards
        for corner in corners if len(ours) == 4 else ():  # three are the hull of a raw that its WCS folds
            assert angular_distance(ours, corner).min() < 1e-9, "\n".join(
                cards[i : i + 80] for i in range(0, len(cards), 80)
            )
    assert accepted > 25


def test_hostile_headers_are_regions_or_bad_messages() -> None:
    random = np.random.default_rng(11)
    refusals = [refusal for _ in range(150) if (refusal := outcome(hostile_header(random))[1])]
    assert 10 < len(refusals) < 140
    assert all(each.startswith("wcs of exposure 1, detector 0: ") for each in refusals)
