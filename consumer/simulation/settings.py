"""What a simulated night is made of: the instrument, and how much of each kind of trouble."""

from dataclasses import dataclass, fields

from consumer.errors import BadMessageError, ConfigurationError
from consumer.events.validation import observing_day


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedInstrument:
    """One instrument, as far as its exposures' records show it."""

    name: str
    code: str
    """First part of an exposure's ``obs_id``."""
    detectors: int
    """Their ids are 0, 1, ..."""
    filters: tuple[str, ...]
    dither_deg: float
    """Largest step from a field's centre, to either side."""
    overhead_s: float
    """From the end of an exposure to the begin of the next: readout and a short slew."""
    naxis: tuple[int, int]


INSTRUMENTS: dict[str, SimulatedInstrument] = {
    instrument.name: instrument
    for instrument in (
        SimulatedInstrument(
            name="LSSTCam",
            code="MC",
            detectors=205,
            filters=("u_24", "g_6", "r_57", "i_39", "z_20", "y_10"),
            dither_deg=0.7,
            overhead_s=3.6,
            naxis=(4072, 4000),
        ),
        SimulatedInstrument(
            name="LSSTComCam",
            code="CC",
            detectors=9,
            filters=("u_02", "g_01", "r_03", "i_06", "z_03", "y_04"),
            dither_deg=0.2,
            overhead_s=4.0,
            naxis=(4072, 4000),
        ),
        SimulatedInstrument(
            name="LATISS",
            code="AT",
            detectors=1,
            filters=("SDSSg_65mm~empty", "SDSSr_65mm~empty", "empty~holo4_003"),
            dither_deg=0.02,
            overhead_s=6.0,
            naxis=(4072, 4000),
        ),
    )
}
"""The instruments that can be simulated, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationSettings:
    """Everything that decides a simulated night: equal settings, equal events.

    Raises
    ------
    ConfigurationError
        A setting is out of its range; names it.
    """

    instrument: str = "LSSTCam"
    seed: int = 0
    day_obs: int = 20261101
    """First observing day, YYYYMMDD; more exposures than a night has go on in the next ones."""
    exposures: int = 100
    """Of all kinds."""
    detectors: int | None = None
    """Only the first so many; None is the whole camera."""
    exposure_s: float = 30.0
    calibrations: float = 0.1
    """Part of the exposures that are biases, darks and flats of the afternoon."""
    closed_dome: float = 0.03
    """Part of the night's groups that were taken with a closed dome, pointing and all."""
    snaps: float = 0.05
    """Part of the night's groups that have two exposures of half the time."""
    duplicates: float = 0.01
    """Part of the raws that are announced a second time, a while later."""
    disorder_s: float = 4.0
    """Time by which raws of an exposure arrive apart; beyond the cadence they mix with those of the next."""
    corrections: float = 0.0
    """Part of the exposures whose record is corrected a minute later, with all raws announced again."""
    bad_messages: float = 0.0
    """Messages that no consumer can use, in parts of the good ones."""
    exposure_events: float = 0.0
    """Part of the exposures that are announced by one event each, instead of one for each raw."""

    def __post_init__(self) -> None:
        if self.instrument not in INSTRUMENTS:
            raise ConfigurationError(f"instrument {self.instrument!r}: choose one of {', '.join(INSTRUMENTS)}")
        try:
            observing_day("day_obs", self.day_obs)
        except BadMessageError as error:
            raise ConfigurationError(error.detail) from error
        parts = ("calibrations", "closed_dome", "snaps", "duplicates", "corrections", "bad_messages", "exposure_events")
        ranges = dict.fromkeys(parts, (0.0, 1.0)) | {
            "exposures": (0, 10_000_000),
            "exposure_s": (0.1, 3600.0),
            "disorder_s": (0.0, 3600.0),
            "seed": (0, 2**63 - 1),
        }
        for field in fields(self):
            low, high = ranges.get(field.name, (None, None))
            value = getattr(self, field.name)
            if low is not None and high is not None and not low <= value <= high:
                raise ConfigurationError(f"{field.name} is {value}: it must be from {low} to {high}")
        if self.detectors is not None and not 1 <= self.detectors <= self.camera.detectors:
            raise ConfigurationError(f"detectors is {self.detectors}: {self.instrument} has {self.camera.detectors}")

    @property
    def camera(self) -> SimulatedInstrument:
        """The instrument's description."""
        return INSTRUMENTS[self.instrument]
