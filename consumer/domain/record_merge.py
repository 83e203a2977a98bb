"""How two announcements of one exposure become one record, whatever their order.

Every raw of an exposure carries the exposure's whole record; they should agree. The rules:

* a higher ``record_version`` replaces the whole record, a lower one is ignored;
* at equal version a value fills a null;
* at equal version a different value in a defining field is a contradiction: the record stored first stays exactly as it
  was, and nothing of the other is taken over;
* at equal version a different value in another field (a detector's header may have its own exposure time) is none: the
  one stored first stays.

So the result depends on the order of arrival only where records of one version disagree.

Which detectors are expected comes with some announcements only, and is no part of the record: a correction by a service
that does not know them leaves them as they are. Of two sets that of the higher ``record_version`` counts, and at equal
version all that either names. So that result never depends on the order. Pure: no I/O, no clock.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

from consumer.model import DEFINING_FIELDS, EXPOSURE_FIELDS, Exposure

_DEFINING = frozenset(DEFINING_FIELDS)

FieldValue = int | float | str | bool | None


class ExpectedDetectors(NamedTuple):
    """The detectors whose raws an exposure will have, as announced with records of one version."""

    record_version: int
    detectors: int
    """Bit mask."""


def merge_expected(stored: ExpectedDetectors | None, incoming: ExpectedDetectors | None) -> ExpectedDetectors | None:
    """Merge which detectors are expected; None is unknown."""
    if stored is None or incoming is None:
        return stored or incoming
    if stored.record_version != incoming.record_version:
        return max(stored, incoming)
    return stored._replace(detectors=stored.detectors | incoming.detectors)


class Contradiction(NamedTuple):
    """One defining field in which two records of equal version differ."""

    field: str
    stored: FieldValue
    incoming: FieldValue


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeOutcome:
    """The outcome of one merge."""

    exposure: Exposure
    """The record to keep; the very object that was stored when nothing changed."""
    changed: bool
    contradictions: tuple[Contradiction, ...] = ()
    """Not empty when the incoming record was refused."""

    @property
    def detail(self) -> str:
        """The contradictions in words, for a dead letter."""
        return "; ".join(f"{c.field}: stored {c.stored!r}, announced {c.incoming!r}" for c in self.contradictions)


def merge_record(stored: Exposure, incoming: Exposure) -> MergeOutcome:
    """Merge an announced record of an exposure into the stored one.

    Parameters
    ----------
    stored, incoming
        Records of the same exposure of the same instrument.

    Raises
    ------
    ValueError
        When they are of different exposures.
    """
    if stored == incoming:
        return MergeOutcome(exposure=stored, changed=False)
    if (stored.instrument, stored.id) != (incoming.instrument, incoming.id):
        raise ValueError(f"not one exposure: {stored.instrument} {stored.id}, {incoming.instrument} {incoming.id}")
    if incoming.record_version != stored.record_version:
        newer = incoming.record_version > stored.record_version
        return MergeOutcome(exposure=incoming if newer else stored, changed=newer)
    filled: dict[str, FieldValue] = {}
    contradictions: list[Contradiction] = []
    for name in EXPOSURE_FIELDS:
        old: FieldValue = getattr(stored, name)
        new: FieldValue = getattr(incoming, name)
        if new is None or new == old:
            continue
        if old is None:
            filled[name] = new
        elif name in _DEFINING:
            contradictions.append(Contradiction(name, old, new))
    if contradictions:
        return MergeOutcome(exposure=stored, changed=False, contradictions=tuple(contradictions))
    if not filled:
        return MergeOutcome(exposure=stored, changed=False)
    return MergeOutcome(exposure=_fill(stored, filled), changed=True)


def _fill(stored: Exposure, filled: dict[str, FieldValue]) -> Exposure:
    return replace(stored, **filled)  # type: ignore[arg-type]  # each value comes from the same field of an Exposure
