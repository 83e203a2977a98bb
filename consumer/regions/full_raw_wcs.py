"""``full-raw-wcs``: every raw's own FITS WCS gives its region, and no camera is needed.

For instruments whose headers do not agree with a common geometry. A detector has a region once its raw has arrived;
over the exposures of a visit, the regions of a detector are merged, since each raw speaks for itself.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from consumer.errors import BadMessageError, DeadLetterReason, RegionError
from consumer.model import Exposure, RawIngested, RawRegion, VisitRegions
from consumer.regions.algorithm import RegionSettings, refuse_to_merge_too_many
from consumer.regions.camera.geometry import Floats
from consumer.regions.polygons import decode, encode_quads, htm7_ids, hull
from consumer.regions.wcs.cards import RawWcs, read_wcs


@dataclass(frozen=True, slots=True)
class FullRawWcs:
    """Regions from the headers of all raws that arrived, or of those of the configured ``detectors``."""

    settings: RegionSettings

    name = "full-raw-wcs"
    needs_headers = True

    @property
    def padding(self) -> int:
        """Pixels added on all four sides of every raw."""
        return self.settings.padding

    @property
    def required_detectors(self) -> frozenset[int]:
        """The configured detectors."""
        return frozenset(self.settings.detectors or ())

    def observe(self, raw: RawIngested) -> RawRegion | None:
        """Return the region that a raw's header gives; see `RegionAlgorithm.observe`."""
        wanted = self.settings.detectors is None or raw.detector in self.settings.detectors
        if not wanted or raw.wcs is None or raw.exposure.off_sky_reason is not None:
            return None
        corners = _sky_corners(read_wcs(raw), raw, self.padding)
        try:
            region = encode_quads(corners[np.newaxis])[0]
        except RegionError as error:
            raise _bad(raw, error.detail) from error
        return RawRegion(
            instrument=raw.exposure.instrument,
            exposure=raw.exposure.id,
            detector=raw.detector,
            region=region,
            record_version=raw.exposure.record_version,
        )

    def compute(self, exposures: Sequence[Exposure], raws: Sequence[RawRegion]) -> VisitRegions:
        """Merge the regions of the raws; see `RegionAlgorithm.compute`."""
        refuse_to_merge_too_many(exposures)
        by_detector: dict[int, list[bytes]] = defaultdict(list)
        for raw in self._used(exposures, raws):
            if raw.region is not None:
                by_detector[raw.detector].append(raw.region)
        if not by_detector:
            names = ", ".join(str(e.id) for e in exposures)
            raise RegionError(f"no raw of exposures {names} of {exposures[0].instrument} brought a WCS in its header")
        merged = {d: _merge(regions) for d, regions in sorted(by_detector.items())}
        visit = hull(np.concatenate([decode(region) for region in merged.values()]))
        return VisitRegions(
            visit=visit,
            detectors=tuple(merged),
            detector_regions=tuple(merged.values()),
            htm7=htm7_ids(visit),
            camera_version=None,
        )

    def fingerprint(self, exposures: Sequence[Exposure]) -> str:
        """Name all that decides the regions; see `RegionAlgorithm.fingerprint`."""
        del exposures
        wanted = None if self.settings.detectors is None else sorted(self.settings.detectors)
        facts = {"algorithm": f"{self.name}/2", "padding": self.padding, "detectors": wanted}
        return json.dumps(facts, sort_keys=True)

    def _used(self, exposures: Sequence[Exposure], raws: Sequence[RawRegion]) -> list[RawRegion]:
        """Raws of these exposures and of the detectors that matter, in an order that arrival does not decide."""
        members = {e.id for e in exposures}
        wanted = self.settings.detectors
        used = [r for r in raws if r.exposure in members and (wanted is None or r.detector in wanted)]
        return sorted(used, key=lambda r: (r.exposure, r.detector))


def _sky_corners(raw_wcs: RawWcs, raw: RawIngested, padding: int) -> Floats:
    """Project the padded corners of a raw: (4, 3) float64, ICRS unit vectors, on a walk around it."""
    if raw_wcs.width is None or raw_wcs.height is None:
        raise _bad(raw, "neither the event (naxis1, naxis2) nor the header (ZNAXISn, NAXISn) says how large the raw is")
    low, right, top = -0.5 - padding, raw_wcs.width - 0.5 + padding, raw_wcs.height - 0.5 + padding
    corners = raw_wcs.to_sky(np.array([[low, low], [right, low], [right, top], [low, top]]))
    if not np.isfinite(corners).all():
        raise _bad(raw, f"a corner, padded by {padding} pixels, has no place on the sky")
    return corners


def _merge(regions: list[bytes]) -> bytes:
    """Convex hull of the regions of one detector; one region stays as it is."""
    if len(regions) == 1:
        return regions[0]
    return hull(np.concatenate([decode(region) for region in regions]))


def _bad(raw: RawIngested, problem: str) -> BadMessageError:
    where = f"wcs of exposure {raw.exposure.id}, detector {raw.detector}"
    return BadMessageError(DeadLetterReason.INVALID_FIELD, f"{where}: {problem}", instrument=raw.exposure.instrument)
