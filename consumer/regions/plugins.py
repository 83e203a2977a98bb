"""Region algorithms by name: ours, and those that other packages add.

Another package adds an algorithm by an entry point in the group ``visit_consumer.region_algorithms`` that names a
callable ``(settings: RegionSettings, cameras: tuple[CameraSet, ...]) -> RegionAlgorithm``.
"""

from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from typing import Final, cast

from consumer.errors import ConfigurationError
from consumer.regions.algorithm import RegionAlgorithm, RegionSettings
from consumer.regions.camera.geometry import CameraSet
from consumer.regions.full_raw_wcs import FullRawWcs
from consumer.regions.single_raw_wcs import SingleRawWcs

ENTRY_POINT_GROUP: Final = "visit_consumer.region_algorithms"

AlgorithmFactory = Callable[[RegionSettings, tuple[CameraSet, ...]], RegionAlgorithm]


def _full_raw_wcs(settings: RegionSettings, cameras: tuple[CameraSet, ...]) -> RegionAlgorithm:
    """Make the algorithm that uses no camera."""
    del cameras
    return FullRawWcs(settings)


_BUILT_IN: Final[dict[str, AlgorithmFactory]] = {
    SingleRawWcs.name: SingleRawWcs,
    FullRawWcs.name: _full_raw_wcs,
}


def algorithm_names() -> tuple[str, ...]:
    """Names of all algorithms that can be configured."""
    return tuple(sorted({*_BUILT_IN, *(e.name for e in entry_points(group=ENTRY_POINT_GROUP))}))


def get_algorithm(name: str, settings: RegionSettings, cameras: Sequence[CameraSet] = ()) -> RegionAlgorithm:
    """Make the region algorithm of an instrument.

    Parameters
    ----------
    name
        Of a built-in algorithm, or of an entry point; a built-in one cannot be replaced.
    settings
        The algorithm's settings.
    cameras
        Camera collections, searched in order.

    Raises
    ------
    ConfigurationError
        If no algorithm has this name, it cannot be loaded, or the settings do not suit it.
    """
    factory = _BUILT_IN.get(name)
    if factory is not None and settings.options:
        raise ConfigurationError(
            f"regions.options has {', '.join(sorted(settings.options))}, and {name} takes none: it is for algorithms "
            "that other packages provide"
        )
    if factory is None:
        found = next(iter(entry_points(group=ENTRY_POINT_GROUP, name=name)), None)
        if found is None:
            known = ", ".join(algorithm_names())
            raise ConfigurationError(f"regions.algorithm is {name!r}, which is not known; known are {known}")
        try:
            factory = cast("AlgorithmFactory", found.load())
        except (ImportError, AttributeError) as error:
            raise ConfigurationError(
                f"regions.algorithm is {name!r}, whose entry point {found.value!r} cannot be loaded: {error}"
            ) from error
    return factory(settings, tuple(cameras))
