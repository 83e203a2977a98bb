"""Header to exposure record by astro-metadata-translator, as lsst.obs.base makes it.

Source of the rules: ``makeExposureRecordFromObsInfo`` of lsst.obs.base. astropy's downloads are switched off here: the
record needs no table of the Earth's rotation, and a site without a position in the header changes nothing in it.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import erfa
from astro_metadata_translator import MetadataTranslator, fix_header
from astropy.coordinates import EarthLocation
from astropy.coordinates.sites import SiteRegistry
from astropy.time import Time
from astropy.utils import iers
from astropy.utils.exceptions import AstropyWarning

import consumer.sources.rubin  # noqa: F401  # registers Rubin's translators
from consumer.logs import get_logger
from consumer.sources.card_memo import RecordingHeader
from consumer.sources.model import Header, HeaderError, RejectReason

iers.conf.auto_download = False
# astropy would fetch its list of sites, also where it has an empty one; translators have positions of their own.
_SITES: Final = SiteRegistry()
_SITES.add_site(["greenwich"], EarthLocation.from_geodetic(0.0, 51.477811, 46.0))
EarthLocation._site_registry = _SITES  # noqa: SLF001  # there is no public way

_LOGGER = get_logger(__name__)
_EPOCH_JD: Final = 2_440_587.5
"""1970-01-01T00:00:00 as a Julian date."""
_DAY_NS: Final = 86_400_000_000_000

PROPERTIES: Final[Mapping[str, tuple[str, ...]]] = {
    "instrument": ("instrument",),
    "id": ("exposure_id",),
    "obs_id": ("observation_id",),
    "day_obs": ("observing_day",),
    "group": ("exposure_group",),
    "physical_filter": ("physical_filter",),
    "exposure_time": ("exposure_time_requested",),
    "dark_time": ("dark_time",),
    "observation_type": ("observation_type",),
    "observation_reason": ("observation_reason",),
    "seq_num": ("observation_counter",),
    "seq_start": ("group_counter_start",),
    "seq_end": ("group_counter_end",),
    "target_name": ("object",),
    "science_program": ("science_program",),
    "tracking_ra": ("tracking_radec",),
    "tracking_dec": ("tracking_radec",),
    "sky_angle": ("tracking_radec", "boresight_rotation_coord", "boresight_rotation_angle"),
    "azimuth": ("altaz_begin",),
    "zenith_angle": ("altaz_begin",),
    "has_simulated": ("has_simulated_content",),
    "can_see_sky": ("can_see_sky",),
    "timespan_begin": ("datetime_begin",),
    "timespan_end": ("datetime_end",),
}
"""The library's properties that each field of the record is made of."""
_REQUIRED: Final = frozenset(
    {"instrument", "exposure_id", "observation_id", "observing_day", "exposure_group", "datetime_begin", "datetime_end"}
)
"""Without these there is no exposure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """What a translator makes of a header."""

    fields: Mapping[str, Any]
    """By name of the exposure's field; not checked."""
    translator: type[MetadataTranslator]
    corrected: Mapping[str, Any]
    """Cards that header corrections have changed."""


def find_translator(header: RecordingHeader) -> type[MetadataTranslator] | None:
    """Return the registered translator that knows a header, if any does."""
    try:
        return MetadataTranslator.determine_translator(header)
    except ValueError:
        return None


def translate_header(
    header: RecordingHeader, translator: type[MetadataTranslator], search_path: Sequence[str]
) -> Translation:
    """Make the fields of an exposure's record.

    Parameters
    ----------
    header
        Header corrections are applied to it.
    translator
        That knows it.
    search_path
        Folders of header corrections, before the library's own.

    Raises
    ------
    HeaderError
        A property that every exposure has cannot be translated.
    """
    with quiet_astropy():
        fix_header(header, search_path=list(search_path), translator_class=translator)
        corrected = {key: value for key, value in header.changed.items() if not key.startswith("HIERARCH ASTRO")}
        instance = translator(header)
        info = {name: _property(instance, name) for names in PROPERTIES.values() for name in names}
        fields = _record(info)
    return Translation(fields=fields, translator=translator, corrected=corrected)


def detector_of(translation: Translation, header: Header) -> int | str | None:
    """Return the id of a raw's detector, or its name where the translator knows no ids.

    Raises
    ------
    HeaderError
        The header has neither.
    """
    instance = translation.translator({**header, **translation.corrected} if translation.corrected else header)
    failures: list[HeaderError] = []
    for name in ("to_detector_num", "to_detector_unique_name"):
        try:
            value: int | str | None = getattr(instance, name)()
        except NotImplementedError:
            continue
        except Exception as error:  # noqa: BLE001  # translators of any origin raise anything
            failures.append(_failure("detector", error))
        else:
            if value is not None:
                return value
    raise failures[0] if failures else HeaderError(RejectReason.MISSING_KEYWORD, "detector: the header names none")


def cards_read(translation: Translation, header: Header, field: str) -> list[str]:
    """Return the keywords that a field was made of, in the order in which the translator asked for them."""
    recording = RecordingHeader({**header, **translation.corrected})
    instance = translation.translator(recording)
    names = PROPERTIES.get(field, ("detector_num", "detector_unique_name") if field == "detector" else ())
    with quiet_astropy():
        for name in names:
            with suppress(Exception):  # only what it asked for counts here
                getattr(instance, f"to_{name}")()
    return list(recording.read)


@contextmanager
def quiet_astropy() -> Iterator[None]:
    """Keep astropy from warning of years far from ours and of headers that are not quite FITS."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        warnings.simplefilter("ignore", erfa.ErfaWarning)
        yield


def _property(instance: Any, name: str) -> Any:  # a translator of the library, and what it returns
    """Translate one property; None, with a warning, where the record can do without it."""
    try:
        value = getattr(instance, f"to_{name}")()
    except Exception as error:  # translators of any origin raise anything
        failure = _failure(name, error)
        if name in _REQUIRED:
            raise failure from error
        _LOGGER.warning("property not translated", translator=instance.name, error=failure.detail)
        return None
    if value is None and name in _REQUIRED:
        raise HeaderError(RejectReason.MISSING_KEYWORD, f"{name}: the header's keywords do not say it")
    return value


def _failure(name: str, error: Exception) -> HeaderError:
    if not isinstance(error, KeyError):
        return HeaderError(RejectReason.INVALID_VALUE, f"{name}: {str(error) or type(error).__name__}")
    text = str(error.args[0]) if error.args else ""
    # A mapping's own KeyError has nothing but the keyword.
    return HeaderError(RejectReason.MISSING_KEYWORD, f"{name}: {text}{'' if ' ' in text else ' is missing'}")


def _record(info: Mapping[str, Any]) -> dict[str, Any]:
    """Make the fields of what was translated."""
    record = {field: info[names[0]] for field, names in PROPERTIES.items() if len(names) == 1}
    for field in ("exposure_time", "dark_time"):
        record[field] = None if record[field] is None else float(record[field].to_value("s"))
    radec, altaz = info["tracking_radec"], info["altaz_begin"]
    angle = info["boresight_rotation_angle"]
    if radec is not None:
        radec = radec if radec.frame.name == "icrs" else radec.transform_to("icrs")
        record |= {"tracking_ra": float(radec.ra.degree), "tracking_dec": float(radec.dec.degree)}
    known = radec is not None and angle is not None and info["boresight_rotation_coord"] == "sky"
    record["sky_angle"] = float(angle.to_value("deg")) if known else None
    if altaz is not None:
        record |= {"azimuth": float(altaz.az.degree), "zenith_angle": 90.0 - float(altaz.alt.degree)}
    begin, end = tai_ns(info["datetime_begin"]), tai_ns(info["datetime_end"])
    return record | {"timespan_begin": begin, "timespan_end": max(begin, end), "group_size": None, "record_version": 0}


def tai_ns(time: Time) -> int:
    """Return a time as nanoseconds since 1970-01-01T00:00:00 TAI."""
    tai = time.tai
    days = tai.jd1 - _EPOCH_JD
    half_days = round(2 * days)
    rest_ns = round((days - half_days / 2 + tai.jd2) * _DAY_NS)
    return int(half_days * (_DAY_NS // 2) + rest_ns)
