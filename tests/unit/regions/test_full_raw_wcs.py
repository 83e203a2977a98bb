"""Regions from real headers, and what is done about broken ones."""

import dataclasses
import math
import warnings
from typing import Any

import numpy as np
import pytest
from astro_metadata_translator import ObservationInfo
from astropy.io.fits import Header

from consumer.errors import BadMessageError, DeadLetterReason, RegionError
from consumer.model import RawRegion
from consumer.regions import Pointing, RegionSettings, built_in_camera, decode, detector_corners, get_algorithm
from consumer.regions.polygons import hull
from tests.support.skies import (
    HEADERS,
    Floats,
    angular_distance,
    astropy_corners,
    cards_of,
    exposure_at,
    raw_with,
    written,
)

NAMES = ("decam-0160496", "decam-050441-25", "hsc-04090107", "hsc-04228", "megaprime", "suprimecam-40535770")
ARCSEC = math.pi / 648000


def header(name: str) -> Any:  # astropy has no types
    return Header.fromtextfile(HEADERS / f"{name}.hdr")


def region_of(name: str, **settings: int) -> RawRegion:
    algorithm = get_algorithm("full-raw-wcs", RegionSettings(**settings))  # type: ignore[arg-type] # padding alone
    region = algorithm.observe(raw_with(cards_of(HEADERS / f"{name}.hdr")))
    assert region is not None
    return region


def footprint(name: str) -> Floats:
    cards = header(name)
    size = (cards.get("ZNAXIS1", cards["NAXIS1"]), cards.get("ZNAXIS2", cards["NAXIS2"]))
    return astropy_corners(cards_of(HEADERS / f"{name}.hdr"), *size)


def centre(vectors: Floats) -> Floats:
    total = vectors.reshape(-1, 3).sum(axis=0)
    middle: Floats = total / np.linalg.norm(total)
    return middle


@pytest.mark.parametrize("name", NAMES)
def test_real_headers_agree_with_astropy(name: str) -> None:
    vertices = decode(region_of(name, padding=0).region or b"")
    expected = footprint(name)
    assert len(vertices) == 4
    for corner in expected:
        assert angular_distance(vertices, corner).min() < 1e-9
    for vertex in vertices:
        assert angular_distance(expected, vertex).min() < 1e-9


@pytest.mark.parametrize(
    ("name", "camera_name", "tolerance_arcsec"),
    [
        ("hsc-04228", "hsc", 10),
        ("decam-0160496", "decam", 10),
        ("hsc-04090107", "hsc", 240),
        ("decam-050441-25", "decam", 240),
    ],
)
def test_real_headers_agree_with_the_camera(name: str, camera_name: str, tolerance_arcsec: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the translator's remarks on old headers
        info = ObservationInfo(header(name))
    camera = built_in_camera(camera_name)
    assert info.tracking_radec is not None
    assert info.boresight_rotation_angle is not None
    assert info.detector_num is not None
    boresight = info.tracking_radec.icrs
    pointing = Pointing(float(boresight.ra.deg), float(boresight.dec.deg), float(info.boresight_rotation_angle.deg))
    model = detector_corners(camera, 0, pointing)[camera.detector_ids.index(info.detector_num)]
    ours = decode(region_of(name, padding=0).region or b"")
    assert angular_distance(centre(ours), centre(model)) < tolerance_arcsec * ARCSEC


def test_padding_is_added_on_all_sides() -> None:
    small, large = (decode(region_of("suprimecam-40535770", padding=p).region or b"") for p in (0, 100))
    for vertex in small:
        assert angular_distance(large, vertex).min() == pytest.approx(math.hypot(100, 100) * 0.202 * ARCSEC, rel=0.01)


def test_size_comes_from_the_compressed_axes_then_the_event_then_the_header() -> None:
    compressed = cards_of(HEADERS / "megaprime.hdr")
    plain = cards_of(HEADERS / "suprimecam-40535770.hdr")
    algorithm = get_algorithm("full-raw-wcs", RegionSettings(padding=0))
    assert algorithm.observe(raw_with(compressed, size=(8, 4644))) == algorithm.observe(raw_with(compressed))
    assert algorithm.observe(raw_with(plain, size=(2048, 4096))) == algorithm.observe(raw_with(plain))
    assert algorithm.observe(raw_with(plain, size=(1000, 4096))) != algorithm.observe(raw_with(plain))
    without = "".join(plain[i : i + 80] for i in range(0, len(plain), 80) if not plain[i:].startswith("NAXIS"))
    assert algorithm.observe(raw_with(without, size=(2048, 4096))) == algorithm.observe(raw_with(plain))
    with pytest.raises(BadMessageError, match="how large the raw is"):
        algorithm.observe(raw_with(without))


GOOD: dict[str, object] = {
    "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0, "CRVAL2": 20.0, "CRPIX1": 50.5, "CRPIX2": 50.5,
    "CD1_1": -1e-4, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 1e-4, "NAXIS1": 100, "NAXIS2": 100,
}  # fmt: skip
NO_CD: dict[str, object] = dict.fromkeys(("CD1_1", "CD1_2", "CD2_1", "CD2_2"))


def simple(**cards: object) -> str:
    """Write a small good WCS with cards replaced, added or (None) left out."""
    return written(GOOD | cards)


@pytest.mark.parametrize(
    ("cards", "message"),
    [
        ("x" * 80, "card CTYPE1 is missing"),
        ("", "CTYPE1"),
        (simple(CTYPE1="RA--TAN"), "no usable WCS"),
        (simple(CTYPE1="TLON-TAN", CTYPE2="TLAT-TAN"), "no right ascension and declination, nor galactic"),
        (simple(CTYPE1="ELON-TAN", CTYPE2="ELAT-TAN"), "no right ascension and declination, nor galactic"),
        (simple(CTYPE1="LINEAR", CTYPE2="LINEAR"), "no right ascension and declination, nor galactic"),
        (simple(RADESYS="GAPPT"), "RADESYS 'GAPPT'"),
        (simple(EQUINOX="B1950.0"), "EQUINOX is the text 'B1950.0': it must be a number"),
        (simple(EQUINOX="1950.0"), "EQUINOX is the text '1950.0': it must be a number"),
        (simple(RADESYS="FK5", EPOCH="J1975"), "EPOCH is the text 'J1975': it must be a number"),
        (simple(**NO_CD), "no card says how large a pixel is"),
        (simple(CTYPE1="RA---TAN-SIP", CTYPE2="DEC--TAN-SIP", A_ORDER=20000, B_ORDER=2), "A_ORDER is 20000"),
        (simple(CTYPE1="RA---TAN-SIP", CTYPE2="DEC--TAN-SIP", A_ORDER=2), "no usable WCS"),
        (simple(CD1_1=0.0, CD2_2=0.0), "its CD matrix is zero"),
        (simple(CD1_2=1e-4, CD2_1=-1e-4), "no usable WCS|singular"),
        (simple(CD1_1=None, CD1_2=None, CD2_1=None, CD2_2=None, CDELT1=0.0, CDELT2=1e-4), "no usable WCS|singular"),
        (simple(CRVAL1="ten"), "card \"CRVAL1  = .*wrong type: 'ten'"),
        (simple(CRPIX2=None), "card CRPIX2 is missing"),
        (simple(NAXIS1=100.0), "NAXIS1 .*wrong type"),
        (simple(CTYPE1=3), "CTYPE1 .*wrong type"),
        (simple() + "CRPIX1  = 12.3.4".ljust(80), r"card 'CRPIX1  = 12\.3\.4' cannot be parsed"),
        (simple() + "CRPIX1  = 'unclosed".ljust(80), r"card .CRPIX1  = 'unclosed. cannot be parsed"),
        (simple() + "CRPIX1  =".ljust(80), "card 'CRPIX1  =' has a value of the wrong type"),
        (simple(CPDIS1="LOOKUP"), "card .CPDIS1 .*lookup table"),
        (simple(NAXIS1=0), "size along axis 1 is 0"),
        (simple(NAXIS2="wide"), "NAXIS2 .*wrong type"),
        (simple(CTYPE1="RA---SIN", CTYPE2="DEC--SIN", CD1_1=-1.0, CD2_2=1.0), "padded by 250 pixels, has no place"),
        (simple(WCSAXES=3, CTYPE3="FREQ"), "3 axes"),
    ],
)
def test_broken_headers_are_bad_messages(cards: str, message: str) -> None:
    with pytest.raises(BadMessageError, match=f"wcs of exposure 1, detector 0: .*{message}") as caught:
        get_algorithm("full-raw-wcs", RegionSettings()).observe(raw_with(cards))
    assert caught.value.reason is DeadLetterReason.INVALID_FIELD
    assert caught.value.instrument == "TestCam"


def test_cards_that_place_no_pixel_are_not_read() -> None:
    algorithm = get_algorithm("full-raw-wcs", RegionSettings())
    noise = "DATE-OBS= 'not a date'".ljust(80) + "MYKEY   = 1.2.3".ljust(80) + "CRVAL1A =  77.0".ljust(80)
    tail = "END".ljust(80) + "CRPIX1  =  1000.0".ljust(80)
    assert algorithm.observe(raw_with(noise + simple() + tail)) == algorithm.observe(raw_with(simple()))
    # The last card may have lost its blanks on the way.
    assert algorithm.observe(raw_with((noise + simple()).rstrip())) == algorithm.observe(raw_with(simple()))


def test_numbers_in_quotes_are_numbers() -> None:
    algorithm = get_algorithm("full-raw-wcs", RegionSettings())
    quoted = simple(CRVAL1="10.0")
    assert algorithm.observe(raw_with(quoted)) == algorithm.observe(raw_with(simple()))


@pytest.mark.parametrize(
    "cards",
    [
        simple(RADESYS="ICRS", EQUINOX=2016.0),
        simple(RADESYS="ICRS", EQUINOX="B1950"),
        simple(RADESYS="", EQUINOX=None),
        simple(RADECSYS="ICRS"),
        simple(EQUINOX="J2000.0"),
        simple(**NO_CD, CDELT1=-1e-4, CDELT2=1e-4),
        simple(**NO_CD, CDELT1=-1e-4, CDELT2=1e-4, PC001001=1.0, PC001002=0.0, PC002001=0.0, PC002002=1.0),
        simple(
            CTYPE1="DEC--TAN",
            CTYPE2="RA---TAN",
            CRVAL1=20.0,
            CRVAL2=10.0,
            CD1_1=0.0,
            CD1_2=1e-4,
            CD2_1=-1e-4,
            CD2_2=0.0,
        ),
        simple(A_DMAX=0.58, B_DMAX="0.71"),
    ],
)
def test_forms_that_mean_the_same_give_the_same_place(cards: str) -> None:
    algorithm = get_algorithm("full-raw-wcs", RegionSettings(padding=0))
    ours, plain = (algorithm.observe(raw_with(each)) for each in (cards, simple()))
    assert ours is not None
    assert plain is not None
    for corner in decode(plain.region or b""):
        assert angular_distance(decode(ours.region or b""), corner).min() < 1e-12


def test_sip_and_tpv_distortions_count() -> None:
    algorithm = get_algorithm("full-raw-wcs", RegionSettings(padding=0))
    plain = algorithm.observe(raw_with(simple()))
    sip = algorithm.observe(
        raw_with(simple(CTYPE1="RA---TAN-SIP", CTYPE2="DEC--TAN-SIP", A_ORDER=2, B_ORDER=2, A_2_0=1e-4, B_0_2=0.0))
    )
    tpv = algorithm.observe(raw_with(simple(CTYPE1="RA---TPV", CTYPE2="DEC--TPV", PV1_1=1.01, PV2_1=1.01)))
    assert plain is not None
    assert sip is not None
    assert tpv is not None
    one, other = (decode(r.region or b"") for r in (plain, sip))
    # Corners lie 50 pixels off: A_2_0 moves each by 0.25 pixels of 0.36 arcsec.
    moved = [angular_distance(other, v).min() for v in one]
    assert moved == pytest.approx([50 * 50 * 1e-4 * 0.36 * ARCSEC] * 4, rel=0.01)
    assert len({plain.region, sip.region, tpv.region}) == 3


def test_observe_keeps_only_what_matters() -> None:
    algorithm = get_algorithm("full-raw-wcs", RegionSettings(detectors=(3, 4)))
    assert algorithm.needs_headers
    assert algorithm.required_detectors == frozenset({3, 4})
    assert get_algorithm("full-raw-wcs", RegionSettings()).required_detectors == frozenset()
    assert algorithm.observe(raw_with("broken", detector=5)) is None
    assert algorithm.observe(raw_with(None, detector=3)) is None
    off_sky = dataclasses.replace(raw_with("broken", detector=3), exposure=exposure_at(None, 1.0, 1.0))
    assert algorithm.observe(off_sky) is None
    assert algorithm.observe(raw_with(simple(), detector=3)) is not None


def test_regions_of_a_visit_are_those_of_its_raws() -> None:
    algorithm = get_algorithm("full-raw-wcs", RegionSettings(padding=0))
    placed = {(1, 7): 10.0, (1, 2): 10.1, (2, 7): 10.02, (9, 7): 80.0}
    raws = []
    for (exposure, detector), ra in placed.items():
        observed = algorithm.observe(raw_with(simple(CRVAL1=ra), detector=detector))
        assert observed is not None
        raws.append(dataclasses.replace(observed, exposure=exposure))
    exposures = [exposure_at(0.0, 0.0, 0.0), exposure_at(0.0, 0.0, 0.0, id_=2)]
    regions = algorithm.compute(exposures, raws)
    assert regions == algorithm.compute(exposures, raws[::-1])
    assert regions.detectors == (2, 7)
    assert regions.detector_regions[0] == raws[1].region
    both = np.concatenate([decode(raws[0].region or b""), decode(raws[2].region or b"")])
    assert regions.detector_regions[1] == hull(both)
    assert regions.visit == hull(np.concatenate([decode(r) for r in regions.detector_regions]))
    assert regions.camera_version is None
    assert len(regions.htm7) > 0
    with pytest.raises(RegionError, match="no raw of exposures 5 of TestCam brought a WCS"):
        algorithm.compute([exposure_at(0.0, 0.0, 0.0, id_=5)], raws)
    with pytest.raises(RegionError, match="more than 500 are not merged"):
        algorithm.compute([exposure_at(0.0, 0.0, 0.0, id_=n) for n in range(501)], raws)
