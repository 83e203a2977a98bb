"""Settings of each instrument: which visits its exposures become, with which regions, and when a group is done.

Rules and algorithms are found by name, and outsiders may add some, so that their names are free text here; the
registries in `consumer.grouping` and `consumer.regions` refuse unknown ones when the service is put together.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from consumer.config.sections import Scalar, Seconds, Section

DetectorId = Annotated[int, Field(ge=0, le=100_000)]


class ClosingSettings(Section):
    """When a group closes that is not known to be complete. The times are stream time."""

    next_group_grace_s: Annotated[float, Field(ge=0, le=86400)] = 10.0
    """How long a group still waits for raws after the next group of the same instrument has begun."""
    close_after_s: Seconds = 120.0
    """A group closes when no new exposure has arrived for this time."""
    max_open_s: Seconds = 3600.0
    """A group closes at this age, whatever arrives."""
    max_clock_skew_s: Annotated[float, Field(ge=0, le=86400)] = 60.0
    """How far a message timestamp may be ahead of this machine's clock; a later one is reduced to that, and counted."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.close_after_s > self.max_open_s:
            raise ValueError("close_after_s must not be above max_open_s: the idle limit would never be reached")
        return self


class ClosingOverrides(Section):
    """Closing times of one instrument, where they differ from the section `closing`."""

    next_group_grace_s: Annotated[float, Field(ge=0, le=86400)] | None = None
    """Overrides closing.next_group_grace_s."""
    close_after_s: Seconds | None = None
    """Overrides closing.close_after_s."""
    max_open_s: Seconds | None = None
    """Overrides closing.max_open_s."""


class InstrumentRegionSettings(Section):
    """How the sky regions of an instrument's visits are computed."""

    algorithm: Annotated[str, Field(min_length=1)] = "single-raw-wcs"
    """`single-raw-wcs` (one pointing and the camera's geometry) or `full-raw-wcs` (each raw's own FITS WCS)."""
    padding: Annotated[int, Field(ge=0, le=1_000_000)] = 250
    """Pixels added on all four sides of every detector."""
    wcs_source: Literal["boresight", "header"] = "boresight"
    """single-raw-wcs: the pointing comes from the exposure's fields, or from the WCS of one raw."""
    merge_exposures: bool = False
    """single-raw-wcs: use the pointings of all exposures of a visit, not only the first's."""
    detector_id: DetectorId | None = None
    """The raw whose header gives the pointing; required with `wcs_source: header`."""
    detectors: tuple[DetectorId, ...] | None = None
    """full-raw-wcs: an exposure counts as arrived once these detectors have; null: as soon as any has."""
    require_versioned_camera: bool = False
    """Refuse an exposure when no version of the camera is valid for its time."""
    options: Mapping[str, Scalar] = {}
    """Settings of an algorithm that another package provides."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.algorithm == "single-raw-wcs" and self.wcs_source == "header" and self.detector_id is None:
            raise ValueError("wcs_source: header needs detector_id: the detector whose header gives the pointing")
        if self.detectors is not None and len(set(self.detectors)) != len(self.detectors):
            raise ValueError("detectors names a detector twice; keep one")
        if self.detectors is not None and not self.detectors:
            raise ValueError("detectors is empty: name some, or null")
        return self


def _one_or_more(value: object) -> object:
    """Take one name for a list of one, and null for none."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else value


class InstrumentSettings(Section):
    """One instrument."""

    camera: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_one_or_more)] = ()
    """Geometry: the name of a camera of this package, a file, or a list of files (versions of the camera). Relative
    paths start at the working directory."""
    group_exposures: Annotated[str, Field(min_length=1)] = "one-to-one"
    """Grouping rule: `one-to-one`, `by-group-metadata`, `one-to-one-and-by-counter`, or another package's."""
    group_id: Literal["digits", "lsst"] = "digits"
    """by-group-metadata: how a visit's id follows from the group's name."""
    facility_name: Annotated[str, Field(min_length=1)] | None = None
    """Telescope, as the ObsCore table names it."""
    ignore_non_science_exposures: bool = True
    """Exposures that are not on sky are counted and skipped; false: they are dead letters."""
    on_change: Literal["update", "keep"] = "update"
    """A late exposure redefines the visit, or is kept out of it."""
    regions: InstrumentRegionSettings = InstrumentRegionSettings()
    """Sky regions."""
    closing: ClosingOverrides = ClosingOverrides()
    """Closing times of this instrument, where they differ from the section `closing`."""

    @model_validator(mode="after")
    def _camera_where_needed(self) -> Self:
        if self.regions.algorithm == "single-raw-wcs" and not self.camera:
            raise ValueError(
                "camera is missing: single-raw-wcs needs one; name a built-in camera, a file or a list of files"
            )
        return self


KNOWN_INSTRUMENTS: Mapping[str, Mapping[str, Any]] = {
    "LSSTCam": {"camera": "lsstcam", "group_id": "lsst", "facility_name": "Rubin:Simonyi"},
    "LSSTCamSim": {"camera": "lsstcam", "group_id": "lsst"},
    "LSSTComCam": {"camera": "lsstcomcam", "group_id": "lsst", "facility_name": "Rubin:Simonyi"},
    "LSSTComCamSim": {"camera": "lsstcomcam", "group_id": "lsst"},
    "LATISS": {"camera": "latiss", "group_id": "lsst", "facility_name": "Rubin:1.2m", "regions": {"padding": 4000}},
    "HSC": {"camera": "hsc", "facility_name": "Subaru"},
    "DECam": {"camera": "decam", "facility_name": "CTIO:Blanco"},
}
"""Settings of instruments that differ from the general defaults; all that stand here are served when none is named."""


def _over_known(value: Any) -> Any:  # bytes of a YAML file, before pydantic has given them a type
    """Lay what is given for a known instrument over what is known of it."""
    if not isinstance(value, Mapping):
        return value
    merged: dict[Any, Any] = {}
    for name, given in value.items():
        known = KNOWN_INSTRUMENTS.get(name, {})
        if given is None:
            merged[name] = dict(known)
        elif isinstance(given, Mapping):
            merged[name] = {**known, **given}
            regions = given.get("regions", {})
            if isinstance(regions, Mapping):
                merged[name]["regions"] = {**known.get("regions", {}), **regions}
        else:
            merged[name] = given
    return merged


Instruments = Annotated[
    Mapping[Annotated[str, Field(min_length=1, max_length=64)], InstrumentSettings],
    Field(min_length=1),
    BeforeValidator(_over_known),
]
"""Settings by instrument name; known instruments are laid under what is given."""


def known_instruments() -> dict[str, InstrumentSettings]:
    """Return the settings of all instruments that this package knows, by name."""
    return {name: InstrumentSettings(**settings) for name, settings in KNOWN_INSTRUMENTS.items()}
