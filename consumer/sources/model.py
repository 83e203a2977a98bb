"""What flows through the sources: a header, and the record that its header gives.

``object -> header -> SourceRecord -> RawIngested``. This module does no I/O.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

from consumer.errors import VisitConsumerError
from consumer.model import Exposure, RawIngested

HeaderValue = bool | int | float | str | None
"""One card's value; None where the keyword stands without one."""
Header = Mapping[str, HeaderValue]
"""Keyword to value, as a FITS header or a sidecar has them; keywords in upper case."""

FILE_NAME: Final = "/FILE NAME"
"""Stands for a keyword where the name of the file is read like a card; no keyword has a slash in front."""


class SourceRecord(NamedTuple):
    """What one raw's header says, checked: all that its event needs."""

    exposure: Exposure
    detector: int | None
    """Id within the camera; None where the header names none."""
    uri: str
    wcs: str | None = None
    """FITS WCS cards, 80 characters each without separators, where the instrument's regions need them."""
    naxis1: int | None = None
    naxis2: int | None = None
    provenance: Mapping[str, str] = MappingProxyType({})
    """Where each field came from, for people: ``EXPTIME``, ``default``, ``correction lsstcam.yaml[3]``."""

    @property
    def instrument(self) -> str:
        """Name of the instrument, as the Butler knows it."""
        return self.exposure.instrument

    def raw(self, ingested_at_us: int) -> RawIngested:
        """Build the raw's event.

        Parameters
        ----------
        ingested_at_us
            UTC microseconds since the Unix epoch.

        Raises
        ------
        RejectedError
            The header names no detector, and so no raw.
        """
        if self.detector is None:
            detail = f"the header of {self.exposure.obs_id} names no detector: emit exposures, or map detector"
            raise RejectedError(RejectReason.MISSING_KEYWORD, detail, uri=self.uri)
        return RawIngested(
            exposure=self.exposure,
            detector=self.detector,
            uri=self.uri,
            ingested_at=ingested_at_us,
            wcs=self.wcs,
            naxis1=self.naxis1,
            naxis2=self.naxis2,
        )


class RejectReason(StrEnum):
    """Why an object gives no event; the label of ``source_rejected_total``."""

    MISSING = "missing"
    """It is not there (any more)."""
    NO_ACCESS = "no_access"
    """This process may not read it."""
    UNREACHABLE = "unreachable"
    """Its store does not answer."""
    EMPTY = "empty"
    """It has no bytes."""
    TRUNCATED = "truncated"
    """It ends within its header: still being written, or cut off."""
    NOT_ALLOWED = "not_allowed"
    """It lies outside of the configured folders and buckets."""
    UNKNOWN_FORMAT = "unknown_format"
    """It is neither FITS nor a sidecar."""
    BAD_HEADER = "bad_header"
    """It is FITS, JSON or YAML by its name or first bytes, and breaks that format's rules."""
    TOO_LARGE = "too_large"
    """Its header, or what it decompresses to, is above the bound."""
    NO_INSTRUMENT = "no_instrument"
    """No keyword names an instrument."""
    UNKNOWN_INSTRUMENT = "unknown_instrument"
    """No translator and no header map knows the instrument."""
    MISSING_KEYWORD = "missing_keyword"
    """A field that every exposure has cannot be made of the header's keywords."""
    INVALID_VALUE = "invalid_value"
    """A keyword has a value that the field cannot have."""
    UNKNOWN_DETECTOR = "unknown_detector"
    """The camera has no detector of the header's name."""
    NO_HEADER = "no_header"
    """A file of expected sensors of whose exposure no raw has come."""
    BAD_EXPECTED_SENSORS = "bad_expected_sensors"
    """A file of expected sensors that is of another kind."""
    BAD_NOTIFICATION = "bad_notification"
    """What a store, or something else, sent is no notification of an object."""
    FAILED = "failed"
    """A library failed on it in a way that is not known."""


def encodable(text: str) -> str:
    """Return a text as UTF-8 has it: halves of characters, as in a file name of another encoding, are written out."""
    return text.encode("utf-8", "backslashreplace").decode()


class SourceError(VisitConsumerError):
    """One object gives no event.

    Parameters
    ----------
    reason
        The class of the fault, for counting.
    detail
        What is wrong, naming the keyword or field and its value; holds no credentials.
    uri
        The object.
    """

    def __init__(self, reason: RejectReason, detail: str, *, uri: str) -> None:
        detail = encodable(detail)
        super().__init__(f"{encodable(uri)}: {detail} ({reason})")
        self.reason = reason
        self.detail = detail
        self.uri = uri


class RejectedError(SourceError):
    """The object will not become good by itself: it is rejected."""


class NotReadableYetError(SourceError):
    """The object may be good later (missing, still being written, no permission): try again, with growing pauses."""


class HeaderError(Exception):
    """A header gives no record, whichever object it is from.

    Parameters
    ----------
    reason
        The class of the fault.
    detail
        What is wrong, naming the field and the keyword.
    """

    def __init__(self, reason: RejectReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
