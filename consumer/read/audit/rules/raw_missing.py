"""Exposure of which raws have not arrived, against its expected detectors, or the camera where these are unknown.

Cause: raws or their events were lost; ``visit-consumer emit scan`` looks for them. Nothing stored can mend it. An
exposure that ended within the grace is no finding, nor one of which no raw is known at all: it was
announced whole.
"""

from collections.abc import Iterator

from consumer.postgres.row_codecs import detectors_to_list
from consumer.read.audit.finding import Finding, FindingSeverity, Subject
from consumer.read.audit.night import Night

NAME = "raw-missing"
SEVERITY = FindingSeverity.ERROR


def find(night: Night) -> Iterator[Finding]:
    """Yield exposures."""
    camera = sum(1 << detector for detector in night.camera_detectors)
    for stored in night.exposures:
        known = stored.known
        if not stored.settled:
            continue
        if known.expected is not None:
            missing = known.expected.detectors & ~known.detectors
        elif not known.detectors:
            continue  # announced whole, or stored by `define`
        else:
            missing = camera & ~known.detectors
        if missing:
            detail = f"no raw of detector {detectors_to_list(missing)}"
            yield Finding(subject=Subject.EXPOSURE, name=known.record.id, detail=detail)
