"""Makes the events of records: of a raw, or of a whole exposure."""

from collections.abc import Iterable

from consumer.model import Exposure, ExposureIngested, Ingested
from consumer.sources.model import SourceRecord


def event_of(record: SourceRecord, *, by_exposure: bool, ingested_at_us: int) -> Ingested:
    """Make the event of one header.

    Parameters
    ----------
    record
        What the header says.
    by_exposure
        Whether the event speaks of the exposure, not of the raw.
    ingested_at_us
        UTC microseconds since the Unix epoch.

    Raises
    ------
    RejectedError
        A raw's event is asked for, and the header names no detector.
    """
    if not by_exposure:
        return record.raw(ingested_at_us)
    detectors = None if record.detector is None else (record.detector,)
    return exposure_event(record.exposure, detectors=detectors, ingested_at_us=ingested_at_us)


def exposure_event(
    exposure: Exposure,
    *,
    detectors: Iterable[int] | None = None,
    expected: Iterable[int] | None = None,
    ingested_at_us: int,
) -> ExposureIngested:
    """Make the event of a whole exposure.

    Parameters
    ----------
    exposure
        Its record.
    detectors
        Ids of those whose raws have arrived; None where the event says nothing of raws.
    expected
        Ids of those whose raws will arrive; None where they are not known.
    ingested_at_us
        UTC microseconds since the Unix epoch.
    """
    return ExposureIngested(
        exposure=exposure,
        detectors=None if detectors is None else frozenset(detectors),
        expected_detectors=None if expected is None else frozenset(expected),
        ingested_at=ingested_at_us,
    )


def message_key(exposure: Exposure) -> bytes:
    """Return the key by which the raws of a group share a partition."""
    return f"{exposure.instrument}/{exposure.group}".encode()
