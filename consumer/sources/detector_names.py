"""Ids of detectors by their names in the cameras of the settings."""

from collections.abc import Callable, Iterable, Mapping

from consumer.sources.model import RejectedError, RejectReason


class DetectorNames:
    """Looks names up.

    Parameters
    ----------
    ids
        Returns the ids of an instrument's detectors by their names; empty where no camera is known.
    """

    def __init__(self, ids: Callable[[str], Mapping[str, int]]) -> None:
        self._ids = ids

    def ids(self, instrument: str, names: Iterable[str]) -> tuple[int, ...]:
        """Return the ids of detectors, in order.

        Raises
        ------
        RejectedError
            When the instrument has no camera, or its camera no detector of a name.
        """
        known = self._ids(instrument)
        try:
            return tuple(known[name] for name in names)
        except KeyError as error:
            detail = f"the camera of {instrument} has no detector {error}" if known else f"{instrument} has no camera"
            raise RejectedError(RejectReason.UNKNOWN_DETECTOR, detail, uri=instrument) from error
