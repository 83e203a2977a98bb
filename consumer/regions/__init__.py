"""Sky regions of visits: cameras, projections, polygons, and the algorithms that put them together.

The package computes; it reads no file but cameras, and no clock. ``lsst.sphgeom`` is imported by
`consumer.regions.polygons` alone.
"""

from consumer.regions.algorithm import (
    MOST_MERGED,
    ComputesMany,
    RegionAlgorithm,
    RegionSettings,
    VisitInputs,
    WcsSource,
    compute_each,
)
from consumer.regions.camera.files import (
    built_in_camera,
    built_in_names,
    camera_set,
    find_or_load,
    load_camera,
    parse_camera,
)
from consumer.regions.camera.geometry import Camera, CameraSet, Detector, DetectorType, find_camera
from consumer.regions.plugins import ENTRY_POINT_GROUP, algorithm_names, get_algorithm
from consumer.regions.polygons import (
    bounding_circle_deg,
    contains,
    decode,
    htm7_around,
    htm7_ids,
    overlaps_circle,
    s_region,
    same_region,
    vertices_deg,
)
from consumer.regions.projection import Pointing, detector_corners, detector_corners_many

__all__ = [
    "ENTRY_POINT_GROUP",
    "MOST_MERGED",
    "Camera",
    "CameraSet",
    "ComputesMany",
    "Detector",
    "DetectorType",
    "Pointing",
    "RegionAlgorithm",
    "RegionSettings",
    "VisitInputs",
    "WcsSource",
    "algorithm_names",
    "bounding_circle_deg",
    "built_in_camera",
    "built_in_names",
    "camera_set",
    "compute_each",
    "contains",
    "decode",
    "detector_corners",
    "detector_corners_many",
    "find_camera",
    "find_or_load",
    "get_algorithm",
    "htm7_around",
    "htm7_ids",
    "load_camera",
    "overlaps_circle",
    "parse_camera",
    "s_region",
    "same_region",
    "vertices_deg",
]
