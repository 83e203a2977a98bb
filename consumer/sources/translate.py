"""Header to exposure record, by the translator of the instrument or by its header map, corrected and checked."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from astropy.io import fits

from consumer.errors import BadMessageError
from consumer.events.validation import exposure_from_fields
from consumer.model import EXPOSURE_FIELDS, Exposure
from consumer.regions.wcs.cards import places_pixels
from consumer.sources.card_memo import CardMemo, RecordingHeader
from consumer.sources.corrections import Corrections
from consumer.sources.header_map import HeaderMap
from consumer.sources.map_evaluation import MapEvaluation
from consumer.sources.model import FILE_NAME, Header, HeaderError, RejectedError, RejectReason, SourceRecord
from consumer.sources.observation import (
    Translation,
    cards_read,
    detector_of,
    find_translator,
    quiet_astropy,
    translate_header,
)

_REMEMBERED: Final = 512
"""Exposures whose records are remembered: those that are being read at the same time, and more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Translated:
    """What all raws of an exposure share."""

    exposure: Exposure
    maker: Translation | HeaderMap
    corrected: Mapping[str, str]
    """Fields that corrections changed, and which did."""


class _UnknownInstrumentError(Exception):
    """No translator and no header map knows the header."""


class Translator:
    """Translates headers; exposure fields once per exposure where the cards that they are made of are equal.

    Parameters
    ----------
    corrections
        Of records.
    header_maps
        Asked before the library's translators.
    search_path
        Folders of header corrections in astro-metadata-translator's format.
    detector_ids
        Returns the ids of an instrument's detectors by their names; empty where no camera is known.
    needs_wcs
        Whether an instrument's regions are computed from the raws' own WCS.
    """

    def __init__(
        self,
        *,
        corrections: Corrections,
        detector_ids: Callable[[str], Mapping[str, int]],
        header_maps: Sequence[HeaderMap] = (),
        search_path: Iterable[str] = (),
        needs_wcs: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._corrections = corrections
        self._maps = header_maps
        self._search_path = tuple(search_path)
        self.detector_ids = cache(detector_ids)
        """Ids of an instrument's detectors by their names."""
        self._needs_wcs = cache(needs_wcs)
        self._memo: CardMemo[_Translated] = CardMemo(self._translate, size=_REMEMBERED)
        self._detectors: dict[tuple[object, str], CardMemo[int | None]] = {}
        """By translator and instrument."""

    def translate(self, header: Header, uri: str, *, explain: bool = False) -> SourceRecord:
        """Make the record of one raw.

        Parameters
        ----------
        header
            As `read_header` returns it; not changed.
        uri
            The raw's, for the record and for errors.
        explain
            Fill the record's ``provenance``, which takes as long as translating.

        Raises
        ------
        RejectedError
            No translator knows the header, or a field cannot be made of it; names the keyword.
        """
        if "INSTRUME" in header and not str(header["INSTRUME"] or "").strip():
            # Some translators take a header whose INSTRUME has no value for their own.
            header = {keyword: value for keyword, value in header.items() if keyword != "INSTRUME"}
        named = {**header, FILE_NAME: uri.rpartition("/")[2]} if self._maps else header
        try:
            shared = self._memo.get(named)
            detector = self._remembered_detector(shared, named)
        except _UnknownInstrumentError:
            raise _unknown_instrument(header, uri) from None
        except HeaderError as error:
            raise RejectedError(error.reason, error.detail, uri=uri) from error
        except BadMessageError as error:
            raise RejectedError(RejectReason.INVALID_VALUE, error.detail, uri=uri) from error
        record = SourceRecord(exposure=shared.exposure, detector=detector, uri=uri)
        if self._needs_wcs(record.instrument):
            record = record._replace(**_own_wcs(header))
        return record._replace(provenance=self._provenance(shared, named)) if explain else record

    def _translate(self, header: RecordingHeader) -> _Translated:
        """Make what all raws of an exposure share; depends on the header alone."""
        for header_map in self._maps:
            if header_map.matches(header):
                maker: Translation | HeaderMap = header_map
                fields: Mapping[str, Any] = MapEvaluation(header_map, header).exposure()
                break
        else:
            translator = find_translator(header)
            if translator is None:
                raise _UnknownInstrumentError
            maker = translate_header(header, translator, self._search_path)
            fields = maker.fields
        corrected = self._corrections.apply(fields)
        try:
            exposure = exposure_from_fields(corrected.record)
        except BadMessageError as error:
            raise BadMessageError(error.reason, self._with_keywords(error.detail, maker, header)) from error
        return _Translated(exposure=exposure, maker=maker, corrected=corrected.origins)

    def _remembered_detector(self, shared: _Translated, header: Header) -> int | None:
        """Return the detector's id, from the few cards that name it where they were seen before."""
        maker = shared.maker
        if isinstance(maker, HeaderMap) or maker.corrected:
            return self._detector(shared, header)
        memo = self._detectors.get((maker.translator, shared.exposure.instrument))
        if memo is None:
            memo = CardMemo(lambda cards: self._detector(shared, cards), size=_REMEMBERED)
            self._detectors[maker.translator, shared.exposure.instrument] = memo
        return memo.get(header)

    def _detector(self, shared: _Translated, header: Header) -> int | None:
        """Return the detector's id; a name becomes one by the camera."""
        maker, instrument = shared.maker, shared.exposure.instrument
        if isinstance(maker, HeaderMap):
            named, ids = MapEvaluation(maker, header).detector(), maker.detector_ids
        else:
            named, ids = detector_of(maker, header), self.detector_ids(instrument)
        if named is None or isinstance(named, int):
            return named
        if named not in ids:
            where = f"the camera of {instrument} has {', '.join(ids)}" if ids else f"name a camera file of {instrument}"
            raise HeaderError(RejectReason.UNKNOWN_DETECTOR, f"detector {named!r} has no id: {where}"[:300])
        return ids[named]

    def _provenance(self, shared: _Translated, header: Header) -> dict[str, str]:
        names = [*EXPOSURE_FIELDS, "detector"]
        origins = {name: _origin(shared.maker, header, name) for name in names}
        return origins | dict(shared.corrected)

    @staticmethod
    def _with_keywords(detail: str, maker: Translation | HeaderMap, header: Mapping[str, Any]) -> str:
        field = detail.partition(" ")[0]
        origin = _origin(maker, dict(header), "id" if field == "exposure" else field)
        return f"{detail} (from {origin})"


def _origin(maker: Translation | HeaderMap, header: Header, name: str) -> str:
    """Describe where a field came from."""
    if isinstance(maker, HeaderMap):
        return MapEvaluation(maker, header).origin(name)
    if name in {"group_size", "record_version"}:
        return "default"
    keywords = cards_read(maker, header, name)
    there = [k for k in keywords if header.get(k) is not None]
    fixed = " (header correction)" if any(k in maker.corrected for k in keywords) else ""
    if there:
        return ", ".join(there) + fixed
    return f"default, without {', '.join(keywords)}" if keywords else f"translator {maker.translator.name}"


def _unknown_instrument(header: Header, uri: str) -> RejectedError:
    keyword = next((key for key in ("INSTRUME", "INSTRUMENT") if header.get(key)), None)
    if keyword is None:
        detail = "the header has no INSTRUME, and no translator or header map knows it by another keyword"
        return RejectedError(RejectReason.NO_INSTRUMENT, detail, uri=uri)
    name = str(header[keyword])[:80]
    detail = f"{keyword} is {name!r}: no translator and no header map knows it; write a header map"
    return RejectedError(RejectReason.UNKNOWN_INSTRUMENT, detail, uri=uri)


def _own_wcs(header: Header) -> dict[str, Any]:
    """Return the cards that place a raw's pixels on the sky, and its size."""
    cards = []
    with quiet_astropy():
        for keyword, value in header.items():
            if value is not None and places_pixels(keyword):
                # A long text continues on further cards.
                cards.append(str(fits.Card(keyword, value)))
    sizes = (_size(header, axis) for axis in (1, 2))
    return {
        "wcs": "".join(cards) if "CTYPE1" in header else None,
        **dict(zip(("naxis1", "naxis2"), sizes, strict=True)),
    }


def _size(header: Header, axis: int) -> int | None:
    value = header.get(f"ZNAXIS{axis}", header.get(f"NAXIS{axis}"))
    return value if isinstance(value, int) and value > 0 else None
