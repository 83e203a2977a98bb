"""Ids of detectors by their names in the cameras of the settings."""

from collections.abc import Iterable, Mapping

from consumer.config import Settings
from consumer.regions import camera_set
from consumer.sources.model import RejectedError, RejectReason


class DetectorNames:
    """Looks names up; a camera is loaded when it is asked for.

    Parameters
    ----------
    settings
        Name the cameras of instruments.
    """

    def __init__(self, settings: Settings) -> None:
        self._instruments = settings.instruments
        self._ids: dict[str, Mapping[str, int]] = {}

    def ids(self, instrument: str, names: Iterable[str]) -> tuple[int, ...]:
        """Return the ids of detectors, in order.

        Raises
        ------
        RejectedError
            When the instrument has no camera, or its camera no detector of a name.
        """
        if instrument not in self._ids:
            configured = self._instruments.get(instrument)
            cameras = camera_set(configured.camera).cameras if configured is not None and configured.camera else ()
            self._ids[instrument] = {each.name: each.id for camera in cameras for each in camera.detectors}
        known = self._ids[instrument]
        try:
            return tuple(known[name] for name in names)
        except KeyError as error:
            raise RejectedError(
                RejectReason.UNKNOWN_DETECTOR,
                f"the camera of {instrument} has no detector {error}" if known else f"{instrument} has no camera",
                uri=instrument,
            ) from error
