"""``single-raw-wcs``: one pointing and the camera's geometry give the region of every detector, ingested or not."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from consumer.errors import ConfigurationError, RegionError
from consumer.model import Exposure, RawIngested, RawRegion, VisitRegions
from consumer.regions.camera import Camera, CameraSet, Floats, find_camera
from consumer.regions.hull_order import visit_hull_order
from consumer.regions.pointing import pointing_from_header
from consumer.regions.polygons import encode_hull, encode_quads, htm7_ids, hull
from consumer.regions.projection import Pointing, detector_corners
from consumer.regions.settings import RegionSettings, WcsSource


@dataclass(frozen=True, slots=True)
class SingleRawWcs:
    """Regions from the pointing of the visit's first exposure, or of all of them with ``merge_exposures``.

    Parameters
    ----------
    settings
        What to pad and where the pointing comes from.
    cameras
        Camera collections, searched in order.

    Raises
    ------
    ConfigurationError
        If there is no camera, or ``detector_id`` is not one of its detectors.
    """

    settings: RegionSettings
    cameras: tuple[CameraSet, ...]

    name = "single-raw-wcs"

    def __post_init__(self) -> None:
        """Refuse settings that could never give a region."""
        if not self.cameras:
            raise ConfigurationError(f"regions algorithm {self.name!r} needs a camera and none is configured")
        detector = self.settings.detector_id
        known = {d for s in self.cameras for c in s.cameras for d in c.detector_ids}
        if detector is not None and detector not in known:
            raise ConfigurationError(f"regions.detector_id is {detector}, which the camera does not have")

    @property
    def padding(self) -> int:
        """Pixels added on all four sides of every detector."""
        return self.settings.padding

    @property
    def needs_headers(self) -> bool:
        """Whether the pointing comes from a header."""
        return self.settings.wcs_source is WcsSource.HEADER

    @property
    def required_detectors(self) -> frozenset[int]:
        """The detector whose header gives the pointing, if one does."""
        detector = self.settings.detector_id
        return frozenset({detector}) if self.needs_headers and detector is not None else frozenset()

    def observe(self, raw: RawIngested) -> RawRegion | None:
        """Return the pointing that a raw's header gives, where that is wanted; see `RegionAlgorithm.observe`."""
        if raw.detector not in self.required_detectors or raw.wcs is None or raw.exposure.off_sky_reason is not None:
            return None
        camera = self._find_camera(raw.exposure)
        if camera is None or raw.detector not in camera.detector_ids:
            return None  # compute() says what is missing, for the whole visit.
        detector = next(d for d in camera.detectors if d.id == raw.detector)
        return RawRegion(
            instrument=raw.exposure.instrument,
            exposure=raw.exposure.id,
            detector=raw.detector,
            pointing=pointing_from_header(raw, camera, detector),
            record_version=raw.exposure.record_version,
        )

    def compute(self, exposures: Sequence[Exposure], raws: Sequence[RawRegion]) -> VisitRegions:
        """Compute the regions of a visit; see `RegionAlgorithm.compute`."""
        camera = self._camera(exposures[0])
        padding = self.padding
        corners = [detector_corners(camera, padding, self._pointing(e, raws)) for e in self._members(exposures)]
        order = visit_hull_order(camera, padding)
        if len(corners) == 1:
            detector_regions = encode_quads(corners[0])
            visit = hull(corners[0]) if order is None else encode_hull(corners[0].reshape(-1, 3)[order])
        else:
            together: Floats = np.concatenate(corners, axis=1)
            detector_regions = [hull(points) for points in together]
            visit = hull(together)
        return VisitRegions(
            visit=visit,
            detectors=camera.detector_ids,
            detector_regions=tuple(detector_regions),
            htm7=htm7_ids(visit),
            camera_version=camera.label,
        )

    def fingerprint(self, exposures: Sequence[Exposure]) -> str:
        """Name all that decides the regions; see `RegionAlgorithm.fingerprint`."""
        camera = self._camera(exposures[0])
        facts = {
            "algorithm": f"{self.name}/1",
            "padding": self.padding,
            "merge_exposures": self.settings.merge_exposures,
            "wcs_source": self.settings.wcs_source,
            "detector_id": self.settings.detector_id if self.needs_headers else None,
            "camera": [camera.name, camera.version, camera.digest],
        }
        return json.dumps(facts, sort_keys=True)

    def _members(self, exposures: Sequence[Exposure]) -> Sequence[Exposure]:
        """Exposures whose pointing counts."""
        return exposures if self.settings.merge_exposures else exposures[:1]

    def _find_camera(self, exposure: Exposure) -> Camera | None:
        return find_camera(
            self.cameras,
            exposure.timespan_begin,
            require_versioned_camera=self.settings.require_versioned_camera,
        )

    def _camera(self, exposure: Exposure) -> Camera:
        camera = self._find_camera(exposure)
        if camera is None:
            what = "version of the camera" if self.settings.require_versioned_camera else "camera"
            when = (
                "its begin is unknown" if exposure.timespan_begin is None else f"begin {exposure.timespan_begin} TAI ns"
            )
            raise RegionError(f"no {what} is valid for exposure {exposure.id} of {exposure.instrument} ({when})")
        return camera

    def _pointing(self, exposure: Exposure, raws: Sequence[RawRegion]) -> Pointing:
        if self.needs_headers:
            found = next((r.pointing for r in raws if r.exposure == exposure.id and r.pointing is not None), None)
            if found is None:
                detector = self.settings.detector_id
                raise RegionError(
                    f"exposure {exposure.id} of {exposure.instrument} has no WCS from detector {detector} yet"
                )
            return Pointing(*found)
        if exposure.tracking_ra is None or exposure.tracking_dec is None or exposure.sky_angle is None:
            raise RegionError(
                f"exposure {exposure.id} of {exposure.instrument} has no pointing: one of tracking_ra, tracking_dec "
                "and sky_angle is null"
            )
        return Pointing(exposure.tracking_ra, exposure.tracking_dec, exposure.sky_angle)
