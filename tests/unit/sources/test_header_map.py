"""Header maps describe instruments without a translator; what is wrong with one is said with file and key."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from astropy.coordinates import FK4, SkyCoord
from astropy.time import Time

from consumer.errors import ConfigurationError
from consumer.events.validation import exposure_from_fields
from consumer.sources.header_map import HeaderMap, load_header_maps
from consumer.sources.map_evaluation import MapEvaluation
from consumer.sources.model import FILE_NAME, HeaderError
from consumer.sources.observation import tai_ns

MINIMAL: dict[str, Any] = {
    "exposure": "EXPNUM",
    "day_obs": "NIGHT",
    "timespan_begin": "DATE-OBS",
}
HEADER: dict[str, Any] = {
    "INSTRUME": "WFC",
    "EXPNUM": 17,
    "NIGHT": "2026-11-02",
    "DATE-OBS": "2026-11-03T01:02:03.5",
    "EXPTIME": 20.0,
}
DATED = {"keyword": "D", "date_format": "%d/%m/%y", "time_keyword": "T"}
TAI_TEXT = "2026-11-03T01:02:40.5"
BEGIN = tai_ns(Time("2026-11-03T01:02:03.5", scale="utc"))


def header_map(**fields: object) -> HeaderMap:
    content = {
        "format": "visit-consumer-header-map/1",
        "instrument": "Wide",
        "match": {"INSTRUME": ["WFC", "WFC2"]},
        "fields": MINIMAL | fields,
    }
    return HeaderMap(yaml.safe_dump(content), "wide.yaml", Path())


def with_pair(fields: dict[str, object]) -> dict[str, object]:
    """Add the other coordinate, without which a map is refused."""
    pair: dict[str, object] = {"tracking_ra": "NO-RA", "tracking_dec": "NO-DEC"}
    return pair | fields if fields.keys() & {*pair, "tracking_frame"} else fields


def value_of(field: str, source: object, **cards: object) -> Any:
    return MapEvaluation(header_map(**with_pair({field: source})), HEADER | cards).get(field)


def test_what_is_not_mapped_follows_from_the_rest() -> None:
    record = MapEvaluation(header_map(exposure_time="EXPTIME", seq_num="EXPNUM"), HEADER).exposure()
    exposure = exposure_from_fields(record)
    assert (exposure.instrument, exposure.id, exposure.obs_id, exposure.group) == ("Wide", 17, "17", "17")
    assert (exposure.day_obs, exposure.seq_start, exposure.seq_end) == (20261102, 17, 17)
    assert (exposure.timespan_begin, exposure.timespan_end) == (BEGIN, BEGIN + 20 * 10**9)
    assert (exposure.physical_filter, exposure.tracking_ra, exposure.can_see_sky) == (None, None, None)


@pytest.mark.parametrize(
    ("field", "source", "cards", "expected"),
    [
        ("target_name", "OBJECT", {"OBJECT": "  M 31 "}, "M 31"),
        ("target_name", "OBJECT", {"OBJECT": "  "}, None),
        ("target_name", ["OBJECT", "TARGET"], {"OBJECT": None, "TARGET": "M 33"}, "M 33"),
        ("target_name", {"keyword": "OBJECT", "default": "none"}, {}, "none"),
        ("target_name", {"value": "sky"}, {}, "sky"),
        ("target_name", {"keyword": "N"}, {"N": 12.0}, "12"),
        ("observation_type", {"keyword": "T", "case": "lower"}, {"T": "BIAS"}, "bias"),
        ("exposure", {"keyword": "ID", "digits": True}, {"ID": "KX.20261102.00012"}, 2026110200012),
        ("exposure", {"keyword": "ID", "pattern": r"\.(\d+)$"}, {"ID": "KX.20261102.00012"}, 12),
        ("exposure", {"template": "{day_obs}{EXPNUM:05}"}, {}, 2026110200017),
        ("exposure", {"template": "{day_obs}{EXPNUM:05}"}, {"EXPNUM": "18"}, 2026110200018),
        ("exposure", {"file_name": r"r(\d+)"}, {FILE_NAME: "r123456.fits"}, 123456),
        ("seq_start", {"sum": ["EXPNUM", {"keyword": "CUR", "scale": -1}], "offset": 1}, {"CUR": 3}, 15),
        ("detector", {"keyword": "CCD", "map": {"A": 0, "B": 1}}, {"CCD": "b"}, 1),
        ("detector", {"keyword": "CCD", "offset": -1}, {"CCD": 4}, 3),
        ("day_obs", "NIGHT", {"NIGHT": 20261102}, 20261102),
        ("day_obs", "NIGHT", {"NIGHT": "2026-11-02T12:00:00"}, 20261102),
        ("day_obs", {"day_of": "timespan_begin"}, {}, 20261103),
        ("day_obs", {"day_of": "timespan_begin", "day_begins_h": 12}, {}, 20261102),
        ("day_obs", {"day_of": "timespan_begin", "utc_offset_h": -10}, {}, 20261102),
        ("day_obs", {"day_of": "timespan_begin", "time_zone": "Australia/Sydney"}, {}, 20261103),
        ("day_obs", {"day_of": "timespan_begin", "time_zone": "America/Santiago"}, {}, 20261102),
        ("exposure_time", {"keyword": "MS", "unit": "ms"}, {"MS": "1500"}, 1.5),
        ("exposure_time", {"keyword": "MIN", "unit": "min"}, {"MIN": 2}, 120.0),
        ("dark_time", {"any_of": ["DARK", {"keyword": "MS", "unit": "ms"}]}, {"MS": 5000}, 5.0),
        ("physical_filter", {"keyword": "F", "map": {1: "g", 2: "r"}}, {"F": 2.0}, "r"),
        ("physical_filter", {"keyword": "F", "map": {"1": "g"}, "otherwise": None}, {"F": 9}, None),
        ("physical_filter", {"join": ["F1", "F2"], "skip": ["OPEN"]}, {"F1": "g", "F2": "open"}, "g"),
        ("physical_filter", {"join": ["F1", "F2"], "separator": "+"}, {"F1": "g", "F2": "nd"}, "g+nd"),
        ("tracking_ra", {"keyword": "RA", "unit": "hourangle"}, {"RA": "12:30:00"}, 187.5),
        ("tracking_ra", {"keyword": "RA", "unit": "hourangle"}, {"RA": "12 30 00"}, 187.5),
        ("tracking_ra", {"keyword": "RA", "unit": "hourangle"}, {"RA": 12.5}, 187.5),
        ("tracking_ra", "RA", {"RA": "187.5"}, 187.5),
        ("tracking_dec", "DEC", {"DEC": "-00:30:00"}, -0.5),
        ("sky_angle", {"keyword": "ROT", "scale": -1, "offset": 180, "wrap": 180}, {"ROT": 350.0}, -170.0),
        ("sky_angle", {"keyword": "ROT", "when": {"COORD": ["sky", "radec"]}}, {"ROT": 5.0, "COORD": "SKY"}, 5.0),
        ("sky_angle", {"keyword": "ROT", "when": {"COORD": "sky"}}, {"ROT": 5.0, "COORD": "mount"}, None),
        ("azimuth", {"keyword": "AZ", "offset": 180, "wrap": 360}, {"AZ": 270.0}, 90.0),
        ("zenith_angle", {"keyword": "ALT", "convert": "elevation"}, {"ALT": 60}, 30.0),
        ("zenith_angle", {"keyword": "ALT", "convert": "elevation"}, {"ALT": "45:30:00"}, 44.5),
        ("zenith_angle", {"keyword": "X", "convert": "airmass"}, {"X": 2.0}, 60.0),
        ("zenith_angle", {"keyword": "X", "convert": "airmass"}, {"X": 0.999}, 0.0),
        ("can_see_sky", "SKY", {"SKY": "T"}, True),
        ("can_see_sky", "SKY", {"SKY": 0}, False),
        ("can_see_sky", {"field": "observation_type", "map": {"science": True}, "otherwise": None}, {}, None),
        ("timespan_begin", {"keyword": "D", "time_keyword": "UT"}, {"D": "2026-11-03", "UT": "01:02:03.5"}, BEGIN),
        ("timespan_begin", {"keyword": "D"}, {"D": "2026-11-03 01:02:03.5Z"}, BEGIN),
        ("timespan_begin", {"keyword": "D", "time_scale": "tai"}, {"D": TAI_TEXT}, BEGIN),
        ("timespan_begin", {"keyword": "D", "time_scale_keyword": "S"}, {"D": TAI_TEXT, "S": "TAI"}, BEGIN),
        ("timespan_begin", {"keyword": "D", "utc_offset_h": -3}, {"D": "2026-11-02T22:02:03.5"}, BEGIN),
        ("timespan_begin", {"keyword": "D", "time_zone": "America/Santiago"}, {"D": "2026-11-02T22:02:03.5"}, BEGIN),
        ("timespan_begin", DATED, {"D": "03/11/26", "T": "01:02:03.5"}, BEGIN),
        ("day_obs", {"keyword": "NIGHT", "date_format": "%d.%m.%Y"}, {"NIGHT": "02.11.2026"}, 20261102),
        ("timespan_begin", {"keyword": "U", "format": "unix"}, {"U": 1793667723.5}, BEGIN),
        ("timespan_begin", {"keyword": "D", "plus": "exposure_time"}, {"D": TAI_TEXT}, None),
        ("timespan_end", {"field": "timespan_begin"}, {}, BEGIN),
    ],
)  # fmt: skip
def test_sources_and_conversions(field: str, source: object, cards: dict[str, object], expected: object) -> None:
    value = value_of(field, source, **cards)
    assert type(value) is type(expected)
    assert value == (pytest.approx(expected, abs=1e-9) if isinstance(expected, float) else expected)


def test_mjd_and_a_middle_of_the_exposure_give_the_begin() -> None:
    mjd = Time("2026-11-03T01:02:03.5", scale="utc").mjd
    assert abs(value_of("timespan_begin", {"keyword": "M", "format": "mjd"}, M=mjd) - BEGIN) < 1000
    middle = {"keyword": "DATE-OBS", "plus": "exposure_time", "times": -0.5}
    evaluation = MapEvaluation(header_map(timespan_begin=middle, exposure_time="EXPTIME"), HEADER)
    assert evaluation.exposure()["timespan_begin"] == BEGIN - 10 * 10**9


@pytest.mark.parametrize(
    ("frame", "equinox", "expected"),
    [
        (None, None, (10.0, -30.0)),
        ("FK5", None, SkyCoord(10.0, -30.0, unit="deg", frame="fk5")),
        ("fk4", 1950.0, SkyCoord(10.0, -30.0, unit="deg", frame=FK4(equinox="B1950"))),
    ],
)
def test_pointings_become_icrs(frame: str | None, equinox: float | None, expected: Any) -> None:
    fields = {"tracking_ra": "RA", "tracking_dec": "DEC", "tracking_frame": "FRAME", "tracking_equinox": "EQ"}
    record = MapEvaluation(
        header_map(**fields), HEADER | {"RA": 10.0, "DEC": -30.0, "FRAME": frame, "EQ": equinox}
    ).exposure()
    ra, dec = expected if isinstance(expected, tuple) else (expected.icrs.ra.deg, expected.icrs.dec.deg)
    assert (record["tracking_ra"], record["tracking_dec"]) == (
        pytest.approx(ra, abs=1e-9),
        pytest.approx(dec, abs=1e-9),
    )


@pytest.mark.parametrize(
    ("field", "source", "cards", "message"),
    [
        ("exposure", "OBSNUM", {}, "exposure: OBSNUM is missing"),
        ("exposure", "ID", {"ID": "a12"}, r"exposure: ID: 'a12' is no whole number: take digits"),
        ("day_obs", "NIGHT", {"NIGHT": "02/11/2026"}, "NIGHT: '02/11/2026' is no day"),
        ("physical_filter", {"keyword": "F", "map": {"1": "g"}}, {"F": 9}, r"F is 9, which map does not list \(1\)"),
        ("tracking_ra", "RA", {"RA": "12:30:00"}, "write unit: hourangle"),
        ("tracking_dec", "DEC", {"DEC": "south"}, "DEC: 'south' is no angle"),
        ("exposure_time", "E", {"E": "long"}, "E: 'long' is no number"),
        ("can_see_sky", "D", {"D": "OPEN"}, "'OPEN' is neither true nor false"),
        ("zenith_angle", {"keyword": "X", "convert": "airmass"}, {"X": 0.0}, "X: 0.0 is no airmass"),
        (
            "timespan_begin",
            {"keyword": "D", "date_format": "%d/%m/%y"},
            {"D": "2026"},
            "no date of the form date_format",
        ),
        ("timespan_begin", "M", {"M": 60000.5}, "write format: mjd, jd or unix"),
        ("timespan_begin", "D", {"D": "2026-11-03"}, "name the keyword that has it as time_keyword"),
        ("timespan_begin", "D", {"D": "noonTtime"}, "is no time such as"),
        ("timespan_begin", {"keyword": "DATE-OBS", "time_scale_keyword": "S"}, {"S": "moon"}, "S is 'moon'"),
        ("exposure", {"field": "exposure"}, {}, "circle: exposure -> exposure"),
        ("seq_num", {"keyword": "ID", "pattern": r"#(\d+)"}, {"ID": "a"}, "finds nothing"),
        ("tracking_frame", "FR", {"FR": "apparent", "RA": 1.0, "DEC": 1.0}, "FR is 'APPARENT', and none of ICRS"),
    ],
)
def test_a_header_that_does_not_fit_is_named_with_field_keyword_and_value(
    field: str, source: object, cards: dict[str, object], message: str
) -> None:
    fields = with_pair({field: source})
    if field == "tracking_frame":
        fields |= {"tracking_ra": "RA", "tracking_dec": "DEC"}
    with pytest.raises(HeaderError, match=message):
        MapEvaluation(header_map(**fields), HEADER | cards).exposure()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"instrment": "X"}, "instrment is no known key"),
        ({"fields": MINIMAL | {"filter": "F"}}, "fields.filter: no exposure has such a field"),
        ({"fields": MINIMAL | {"exposure_tme": "F"}}, "did you mean.*exposure_time"),
        ({"fields": {"exposure": "E"}}, "fields.day_obs is missing"),
        ({"fields": MINIMAL | {"dark_time": {"keyword": "D", "unit": "parsec/h"}}}, "parsec/h is no unit of seconds"),
        ({"fields": MINIMAL | {"dark_time": {"keyword": "D", "unit": "sekunden"}}}, "dark_time.unit: is no unit"),
        ({"fields": MINIMAL | {"target_name": {"keyword": "D", "unit": "s"}}}, "unit is for fields of the kind"),
        ({"fields": MINIMAL | {"target_name": {}}}, "write one of keyword"),
        ({"fields": MINIMAL | {"target_name": {"keyword": "A", "value": 1}}}, "there is keyword and value"),
        ({"fields": MINIMAL | {"target_name": {"keyword": "A", "patern": "x"}}}, "target_name.patern is no known key"),
        ({"fields": MINIMAL | {"target_name": {"keyword": "A", "pattern": "("}}}, "is no regular expression"),
        ({"fields": MINIMAL | {"target_name": {"field": "objekt"}}}, "there is no field 'objekt'"),
        ({"fields": MINIMAL | {"group": {"template": "{a.b}"}}}, "names of fields or keywords between braces"),
        ({"fields": MINIMAL | {"day_obs": {"day_of": "timespan_begin", "time_zone": "Mars"}}}, "is no time zone"),
        ({"fields": MINIMAL | {"target_name": {"keyword": "A", "otherwise": "x"}}}, "otherwise stands beside map"),
        ({"fields": MINIMAL | {"tracking_ra": "RA"}}, "tracking_ra and tracking_dec go together"),
        ({"fields": MINIMAL | {"detector_name": "CCD"}}, "camera is missing"),
        ({"match": {}}, "match"),
        ({"format": "visit-consumer-header-map/2"}, "format"),
    ],
)  # fmt: skip
def test_a_wrong_map_is_refused_with_file_and_key(change: dict[str, object], message: str, tmp_path: Path) -> None:
    content = {
        "format": "visit-consumer-header-map/1", "instrument": "Wide", "match": {"INSTRUME": "WFC"}, "fields": MINIMAL
    }  # fmt: skip
    file = tmp_path / "wide.json"
    file.write_text(json.dumps(content | change))
    with pytest.raises(ConfigurationError, match=message) as caught:
        load_header_maps([tmp_path])
    assert str(file) in str(caught.value)


def test_broken_yaml_is_refused_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "wide.yaml"
    file.write_text("format: visit-consumer-header-map/1\nfields: {a: [}\n")
    with pytest.raises(ConfigurationError, match=r"wide.yaml: line 2, column \d+"):
        load_header_maps([file])
    with pytest.raises(ConfigurationError, match="no such file or folder"):
        load_header_maps([tmp_path / "none.yaml"])


def test_origins_speak_of_keywords_fallbacks_and_defaults() -> None:
    fields = {
        "exposure_time": ["EXPREQ", "EXPTIME"],
        "target_name": {"keyword": "OBJECT", "default": "unknown"},
        "observation_type": {"value": "science"},
    }
    evaluation = MapEvaluation(header_map(**fields), HEADER)
    evaluation.exposure()
    assert evaluation.origin("id") == "EXPNUM"
    assert evaluation.origin("exposure_time") == "EXPTIME (fallback, EXPREQ is missing)"
    assert evaluation.origin("target_name") == "OBJECT is missing, default"
    assert evaluation.origin("observation_type") == "value of the header map"
    assert evaluation.origin("group") == "default: the exposure's id"
    assert evaluation.origin("azimuth") == "not in the header map"
