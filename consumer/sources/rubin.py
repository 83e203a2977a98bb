"""Translators of the headers of Rubin Observatory's cameras, in astro-metadata-translator's way.

They are used unless obs_lsst, which has the observatory's own, is installed. What the observatory corrects by day and
sequence number is data: ``data/corrections/lsstcam.yaml``. Headers of the laboratory, before 2022, followed other rules
from month to month: they are refused.
"""

import re
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar, Final

import astropy.units as u
from astro_metadata_translator import FitsTranslator, cache_translation
from astropy.coordinates import AltAz, Angle, SkyCoord
from astropy.time import Time, TimeDelta

_CONTROLLERS: Final = "OCHPQS"
_JOINT_COUNTERS: Final = (("C", 20231005), ("PQS", 20250418))
"""Controllers that count together with O, and the day since when."""
_YEARS_APART: Final = 1000
_COUNTERS: Final = 100_000
"""In a night."""
_FIRST_DAY: Final = 20220101
_ON_MOUNTAIN: Final = 20250301
"""When LSSTCam was on the telescope."""
_NOT_SKY: Final = frozenset(
    {"bias", "dark", "flat", "fe55", "ppump", "spot", "spotflat", "sflat", "lambda", "ccob", "indome", "arc"}
)
"""Observation types that do not look at the sky."""
_TRACKED: Final = frozenset({"RADEC", "SIDEREAL"})
"""Values of TRACKSYS with coordinates on the sky; the second is LATISS' older word."""
_EMPTY: Final = re.compile(r"empty(_?\d+)?", re.IGNORECASE)
_FILTER_DELIMITER: Final = "~"


class RubinTranslator(FitsTranslator):
    """What the headers of all of Rubin's cameras share; a camera has a subclass with a name."""

    _instrumes: ClassVar[tuple[str, ...]] = ()
    """Values of INSTRUME, lower case."""

    @classmethod
    def can_translate(cls, header: Any, filename: str | None = None) -> bool:  # noqa: ARG003  # the library's
        """Whether INSTRUME is one of this camera's names."""
        return str(header.get("INSTRUME") or "").strip().lower() in cls._instrumes

    def to_instrument(self) -> str:
        """Return the Butler's name of the instrument."""
        return str(self.supported_instrument)

    @cache_translation
    def to_observation_id(self) -> str:
        """Return OBSID."""
        return str(self._needed("OBSID"))

    @cache_translation
    def to_observing_day(self) -> int:
        """Return DAYOBS."""
        digits = re.sub(r"\D", "", str(self._needed("DAYOBS")))
        if len(digits) != len("YYYYMMDD"):
            raise ValueError(f"DAYOBS is {self._header['DAYOBS']!r}, and no day YYYYMMDD")
        day = int(digits)
        if day < _FIRST_DAY and self._controller() != "H":
            raise ValueError(
                f"DAYOBS is {day}: headers of {self.supported_instrument} from before {_FIRST_DAY} follow rules of the "
                "laboratory that this package does not know; install lsst-obs-lsst, whose translator is then used"
            )
        return day

    @cache_translation
    def to_observation_counter(self) -> int:
        """Return SEQNUM."""
        return int(self._needed("SEQNUM"))

    @cache_translation
    def to_exposure_id(self) -> int:
        """Return the digits of the day and of the counter; controllers that count apart are 1000 years apart."""
        day, controller = self.to_observing_day(), self._controller()
        apart = _CONTROLLERS.index(controller)
        if any(controller in joint and day >= since for joint, since in _JOINT_COUNTERS):
            apart = 0
        counter = self.to_observation_counter()
        if not 0 <= counter < _COUNTERS:
            raise ValueError(f"SEQNUM is {counter}: with {_COUNTERS} and more, the id would be of another night")
        return (day + apart * _YEARS_APART * 10_000) * _COUNTERS + counter

    @cache_translation
    def to_detector_unique_name(self) -> str:
        """Return the camera's name of the detector, ``R22_S11``."""
        return f"{self._needed('RAFTBAY')}_{self._needed('CCDSLOT')}"

    @cache_translation
    def to_exposure_group(self) -> str:
        """Return GROUPID, else the exposure's id."""
        return str(self._first("GROUPID") or self.to_exposure_id())

    @cache_translation
    def to_group_counter_start(self) -> int:
        """Return the counter of the group's first exposure."""
        index = self._first("CURINDEX")
        return self.to_observation_counter() - (0 if index is None else int(index) - 1)

    @cache_translation
    def to_group_counter_end(self) -> int:
        """Return the counter of the group's last exposure."""
        index, number = self._first("CURINDEX"), self._first("MAXINDEX")
        return self.to_observation_counter() + (0 if index is None or number is None else int(number) - int(index))

    @cache_translation
    def to_observation_type(self) -> str:
        """Return IMGTYPE in lower case; what a telescope calls an object is science."""
        kind = str(self._first("IMGTYPE") or "unknown").strip().lower()
        return "science" if kind in {"skyexp", "object"} else kind

    @cache_translation
    def to_observation_reason(self) -> str:
        """Return REASON, else TESTTYPE, in lower case."""
        return str(self._first("REASON", "TESTTYPE") or "unknown").strip().lower()

    @cache_translation
    def to_science_program(self) -> str:
        """Return PROGRAM, else RUNNUM."""
        program = self._first("PROGRAM", "RUNNUM")
        return "unknown" if program is None else str(program)

    @cache_translation
    def to_object(self) -> str:
        """Return OBJECT."""
        return str(self._first("OBJECT") or "UNKNOWN")

    @cache_translation
    def to_physical_filter(self) -> str:
        """Return the filters in the beam, joined."""
        return self._joined("FILTER", "FILTER1", "FILTER2") or "unknown"

    @cache_translation
    def to_exposure_time(self) -> u.Quantity:
        """Return EXPTIME: what was requested, which is what the Butler keeps."""
        return float(self._needed("EXPTIME")) * u.s

    @cache_translation
    def to_dark_time(self) -> u.Quantity:
        """Return DARKTIME, else the exposure time."""
        dark = self._first("DARKTIME")
        return self.to_exposure_time() if dark is None else float(dark) * u.s

    @cache_translation
    def to_datetime_begin(self) -> Time:
        """Return the begin, TAI."""
        for key, form in (("MJD-BEG", "mjd"), ("DATE-BEG", "isot"), ("MJD-OBS", "mjd"), ("DATE-OBS", "isot")):
            value = self._first(key)
            if value is not None:
                return Time(value, format=form, scale="tai")
        raise KeyError("MJD-BEG, DATE-BEG, MJD-OBS and DATE-OBS are missing")

    @cache_translation
    def to_datetime_end(self) -> Time:
        """Return the end, TAI."""
        end = self._first("DATE-END")
        if end is None:
            return self.to_datetime_begin() + TimeDelta(self.to_exposure_time())
        return Time(end, format="isot", scale="tai")

    @cache_translation
    def to_tracking_radec(self) -> SkyCoord | None:
        """Return where the telescope pointed at the begin, or None where it did not track the sky."""
        kind, system = self.to_observation_type(), self._header.get("TRACKSYS")
        if (kind in _NOT_SKY and kind != "dark") or (system is not None and system not in _TRACKED):
            return None
        for ra, dec in (("RASTART", "DECSTART"), ("RA", "DEC")):
            if self._first(ra) is not None and self._first(dec) is not None:
                frame = str(self._first("RADESYS") or "ICRS").lower()
                return SkyCoord(self._header[ra], self._header[dec], unit=u.deg, frame=frame)
        return None

    @cache_translation
    def to_boresight_rotation_coord(self) -> str:
        """Return ``sky`` where the rotation is that of the sky, and the exposure was on sky."""
        return "sky" if self._on_sky() and self._first("ROTCOORD") == "sky" else "unknown"

    @cache_translation
    def to_boresight_rotation_angle(self) -> Angle | None:
        """Return ROTPA, else ROTANGLE."""
        angle = self._first("ROTPA", "ROTANGLE")
        return None if angle is None or not self._on_sky() else Angle(float(angle) * u.deg)

    @cache_translation
    def to_altaz_begin(self) -> AltAz | None:
        """Return azimuth and elevation at the begin."""
        azimuth, elevation = self._first("AZSTART"), self._first("ELSTART")
        if azimuth is None or elevation is None:
            return None
        return AltAz(float(azimuth) * u.deg, min(float(elevation), 90.0) * u.deg)

    @cache_translation
    def to_can_see_sky(self) -> bool | None:
        """Return what shutter and vignetting say, else what is known without them."""
        shutter, vignetted = self._first("SHUTTIME"), self._first("VIGN_MIN")
        if shutter is not None and float(shutter) == 0.0:
            return False
        if vignetted is not None:
            return {"FULLY": False, "UNKNOWN": None}.get(str(vignetted).strip().upper(), True)
        return self._can_see_sky_by_default()

    @cache_translation
    def to_has_simulated_content(self) -> bool:
        """Whether a keyword, or the controller, speaks of a simulation."""
        if self._controller() in "HPQS":
            return True
        return any(self._header[key] for key in self._header if "SIMULATE" in key.upper())

    def _can_see_sky_by_default(self) -> bool | None:
        return {"science": True, "bias": False, "dark": False}.get(self.to_observation_type())

    def _on_sky(self) -> bool:
        local = self._header.get("TRACKSYS") == "LOCAL"
        return not local and self.to_observation_type() not in _NOT_SKY and self._on_mountain()

    def _on_mountain(self) -> bool:
        return True

    def _controller(self) -> str:
        controller = str(self._needed("CONTRLLR")).strip().upper()
        if controller not in _CONTROLLERS or not controller:
            raise ValueError(f"CONTRLLR is {controller!r}, and none of {', '.join(_CONTROLLERS)}")
        return controller

    def _joined(self, *keys: str) -> str:
        found = [str(value) for key in keys if (value := self._first(key)) is not None]
        return _FILTER_DELIMITER.join("none" if name.upper() == "NONE" else name for name in found)

    def _first(self, *keys: str) -> Any:  # a card's value
        """Return the first value that is there and not blank."""
        values = (self._header.get(key) for key in keys)
        return next((v for v in values if v is not None and not (isinstance(v, str) and not v.strip())), None)

    def _needed(self, key: str) -> Any:  # a card's value
        value = self._first(key)
        if value is None:
            raise KeyError(f"{key} is missing")
        return value


class _LsstCam(RubinTranslator):
    """The main camera."""

    def to_physical_filter(self) -> str:
        """Return the filters in the beam; a FILTER2 without FILTER is none, and an empty place at the end neither."""
        joined = self._joined("FILTER", "FILTER1", *(["FILTER2"] if self._first("FILTER") is not None else []))
        return re.sub(rf"({_FILTER_DELIMITER}empty)+$", "", joined, flags=re.IGNORECASE) or "unknown"

    def _on_mountain(self) -> bool:
        return self.to_observing_day() >= _ON_MOUNTAIN or self._controller() == "H"

    def _can_see_sky_by_default(self) -> bool | None:
        if self._controller() == "H":
            return super()._can_see_sky_by_default()
        return None if self._on_mountain() else False


def _register() -> None:
    """Make the classes with names, which registers them, unless the observatory's own are here."""
    if find_spec("lsst") is not None and find_spec("lsst.obs") is not None and find_spec("lsst.obs.lsst") is not None:
        import_module("lsst.obs.lsst.translators")
        return

    class LsstCamTranslator(_LsstCam):
        name = "LSSTCam"
        supported_instrument = "LSSTCam"
        _instrumes = ("lsstcam",)

    class LsstCamSimTranslator(RubinTranslator):
        name = "LSSTCamSim"
        supported_instrument = "LSSTCamSim"
        _instrumes = ("lsstcamsim",)

    class LsstComCamTranslator(RubinTranslator):
        name = "LSSTComCam"
        supported_instrument = "LSSTComCam"
        _instrumes = ("comcam", "lsstcomcam")

    class LsstComCamSimTranslator(RubinTranslator):
        name = "LSSTComCamSim"
        supported_instrument = "LSSTComCamSim"
        _instrumes = ("comcamsim", "lsstcomcamsim")

    class LatissTranslator(RubinTranslator):
        """The spectrograph of the auxiliary telescope: one detector, and a grating behind the filter."""

        name = "LATISS"
        supported_instrument = "LATISS"
        _instrumes = ("latiss", "lsst_atiss")

        def to_detector_num(self) -> int:
            return 0

        def to_physical_filter(self) -> str:
            names = [str(self._first(key) or "unknown") for key in ("FILTER", "GRATING")]
            return _FILTER_DELIMITER.join("empty" if _EMPTY.fullmatch(name) else name for name in names)


_register()
