"""``single-raw-wcs``: one pointing and the camera's geometry give the region of every detector, ingested or not."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from consumer.errors import ConfigurationError, RegionError
from consumer.model import Exposure, RawIngested, RawRegion, VisitRegions
from consumer.regions.algorithm import RegionSettings, VisitInputs, WcsSource, refuse_to_merge_too_many
from consumer.regions.camera.geometry import Camera, CameraSet, Floats, find_camera
from consumer.regions.hull_order import visit_hull_order
from consumer.regions.polygons import encode_hulls, encode_quads, htm7_ids, hull
from consumer.regions.projection import Pointing, detector_corners, detector_corners_many
from consumer.regions.wcs.pointing import pointing_from_header

_VISITS_AT_ONCE = 8


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
        pointings = [self._pointing(e, raws) for e in self._members(exposures)]
        if len(pointings) == 1:
            return self._of_pointings(camera, pointings)[0]
        together: Floats = np.concatenate([detector_corners(camera, self.padding, p) for p in pointings], axis=1)
        regions = [hull(points) for points in together]
        return _visit_regions(camera.label, camera.detector_ids, hull(together), regions)

    def compute_many(self, visits: Sequence[VisitInputs]) -> list[VisitRegions]:
        """Compute the regions of many visits; see `ComputesMany`.

        Visits with one pointing and the same camera go through numpy together, a few at a time: each of its hundred
        calls costs as much as the arithmetic of one visit, and arrays of too many leave the processor's cache.
        """
        found: dict[int, VisitRegions] = {}
        alike: dict[Camera, list[tuple[int, Pointing]]] = {}
        for index, (exposures, raws) in enumerate(visits):
            members = self._members(exposures)
            if len(members) == 1:
                alike.setdefault(self._camera(exposures[0]), []).append((index, self._pointing(members[0], raws)))
            else:
                found[index] = self.compute(exposures, raws)
        for camera, pointed in alike.items():
            for first in range(0, len(pointed), _VISITS_AT_ONCE):
                some = pointed[first : first + _VISITS_AT_ONCE]
                regions = self._of_pointings(camera, [pointing for _, pointing in some])
                found.update(zip((index for index, _ in some), regions, strict=True))
        return [found[index] for index in range(len(visits))]

    def _of_pointings(self, camera: Camera, pointings: Sequence[Pointing]) -> list[VisitRegions]:
        """Compute the regions of visits that have one pointing each."""
        corners = detector_corners_many(camera, self.padding, pointings)
        quads = encode_quads(corners.reshape(-1, 4, 3))
        order = visit_hull_order(camera, self.padding)
        if order is None:
            hulls = [hull(of_visit) for of_visit in corners]
        else:
            hulls = encode_hulls(corners.reshape(len(pointings), -1, 3)[:, order])
        label, detectors = camera.label, camera.detector_ids
        count = len(detectors)
        return [
            _visit_regions(label, detectors, visit, quads[n * count : (n + 1) * count]) for n, visit in enumerate(hulls)
        ]

    def fingerprint(self, exposures: Sequence[Exposure]) -> str:
        """Name all that decides the regions; see `RegionAlgorithm.fingerprint`."""
        camera = self._camera(exposures[0])
        facts = {
            "algorithm": f"{self.name}/{2 if self.needs_headers else 1}",
            "padding": self.padding,
            "merge_exposures": self.settings.merge_exposures,
            "wcs_source": self.settings.wcs_source,
            "detector_id": self.settings.detector_id if self.needs_headers else None,
            "camera": [camera.name, camera.version, camera.digest],
        }
        return json.dumps(facts, sort_keys=True)

    def _members(self, exposures: Sequence[Exposure]) -> Sequence[Exposure]:
        """Exposures whose pointing counts."""
        if not self.settings.merge_exposures:
            return exposures[:1]
        refuse_to_merge_too_many(exposures)
        return exposures

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


def _visit_regions(camera: str, detectors: tuple[int, ...], visit: bytes, regions: Sequence[bytes]) -> VisitRegions:
    return VisitRegions(
        visit=visit,
        detectors=detectors,
        detector_regions=tuple(regions),
        htm7=htm7_ids(visit),
        camera_version=camera,
    )
