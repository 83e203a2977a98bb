"""What the settings of an instrument stand for: its grouping rule, its region algorithm, its camera.

Shared by the service and the operator's commands, so that both make the same visits.
"""

from consumer.config import ClosingSettings, InstrumentSettings, Settings
from consumer.domain import Instrument
from consumer.domain.closing import ClosingPolicy
from consumer.domain.obscore import Obscore, ObscoreInstrument
from consumer.grouping import get_rule
from consumer.regions import RegionSettings, WcsSource, camera_set, get_algorithm
from consumer.task.define_visits import (
    ComputeVisitRegionsConfig,
    ComputeVisitRegionsTask,
    DefineVisitsConfig,
    GroupExposuresConfig,
    GroupExposuresTask,
)


def resolve_instruments(settings: Settings) -> dict[str, Instrument]:
    """Resolve the configuration of every instrument to its rule, algorithm and camera.

    Raises
    ------
    ConfigurationError
        When a rule, an algorithm or a camera cannot be had; names the instrument.
    """
    return {
        name: resolve_instrument(each, settings.closing_of(name)) for name, each in sorted(settings.instruments.items())
    }


def resolve_instrument(instrument: InstrumentSettings, closing: ClosingSettings) -> Instrument:
    """Resolve the configuration of one instrument; see `resolve_instruments`."""
    algorithm = get_algorithm(
        instrument.regions.algorithm,
        region_settings(instrument),
        [camera_set(instrument.camera)] if instrument.camera else [],
    )
    return Instrument(
        rule=get_rule(instrument.group_exposures, group_id=instrument.group_id),
        algorithm=algorithm,
        closing=ClosingPolicy(
            next_group_grace_ms=round(closing.next_group_grace_s * 1000),
            close_after_ms=round(closing.close_after_s * 1000),
            max_open_ms=round(closing.max_open_s * 1000),
        ),
        required_detectors=sum(1 << detector for detector in algorithm.required_detectors),
        ignore_non_science=instrument.ignore_non_science_exposures,
        keep_stored=instrument.on_change == "keep",
    )


def resolve_obscore(settings: Settings) -> Obscore | None:
    """Return what makes the rows of the ObsCore table, or None where they are not written.

    Raises
    ------
    ConfigurationError
        When a camera cannot be had.
    """
    if not settings.obscore.enabled:
        return None
    return Obscore(
        instruments={
            name: ObscoreInstrument(
                facility_name=each.facility_name, cameras=camera_set(each.camera) if each.camera else None
            )
            for name, each in settings.instruments.items()
        },
        **settings.obscore.model_dump(exclude={"enabled", "view_schema"}),
    )


def region_settings(instrument: InstrumentSettings) -> RegionSettings:
    """Return the settings of an instrument's region algorithm in the core's own type."""
    regions = instrument.regions
    return RegionSettings(
        padding=regions.padding,
        merge_exposures=regions.merge_exposures,
        detector_id=regions.detector_id,
        wcs_source=WcsSource(regions.wcs_source),
        require_versioned_camera=regions.require_versioned_camera,
        detectors=regions.detectors,
        options=regions.options,
    )


def task_config(instrument: InstrumentSettings) -> DefineVisitsConfig:
    """Return the settings of an instrument as those of the batch driver.

    Raises
    ------
    ConfigurationError
        When a camera file cannot be loaded.
    """
    config = DefineVisitsConfig(ignore_non_science_exposures=instrument.ignore_non_science_exposures)
    config.groupExposures.retarget(
        GroupExposuresTask, GroupExposuresConfig(rule=instrument.group_exposures, group_id=instrument.group_id)
    )
    cameras = {"/".join(instrument.camera): camera_set(instrument.camera)} if instrument.camera else {}
    config.computeVisitRegions.retarget(
        ComputeVisitRegionsTask,
        ComputeVisitRegionsConfig(
            algorithm=instrument.regions.algorithm, settings=region_settings(instrument), cameras=cameras
        ),
    )
    return config
