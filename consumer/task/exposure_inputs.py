"""What the task takes for exposures: exposures, records of a Butler, and data ids. Pure but for the store."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from consumer.model import EXPOSURE_FIELDS, Exposure
from consumer.task.define import DefineError

if TYPE_CHECKING:
    from consumer.task.define import VisitStore

_ADDED = {"record_version", "group_size", "timespan_begin", "timespan_end"}
"""Fields of ours that a Butler's record has not, or in another form."""


class ButlerRecord(Protocol):
    """A `lsst.daf.butler.DimensionRecord` of the element ``exposure``."""

    def toDict(self) -> Mapping[str, object]:  # noqa: N802  # the Butler's name
        """Return its fields by name."""
        ...


GivenExposure = Exposure | ButlerRecord | Mapping[str, object]


def resolve_exposures(given: Iterable[GivenExposure], store: "VisitStore") -> list[Exposure]:
    """Return exposures for whatever names or describes them, in the order given.

    Parameters
    ----------
    given
        Exposures, ``exposure`` records of a Butler, or data ids: mappings with ``instrument`` and ``exposure``.
    store
        Where data ids are looked up.

    Raises
    ------
    DefineError
        When a data id lacks a key, or names an exposure that is not stored.
    """
    found: list[Exposure | tuple[str, int]] = []
    for each in given:
        if isinstance(each, Exposure):
            found.append(each)
        elif isinstance(each, Mapping):
            found.append(_data_id(each))
        else:
            found.append(_of_record(each.toDict()))
    wanted: dict[str, set[int]] = {}
    for key in found:
        if not isinstance(key, Exposure):
            wanted.setdefault(key[0], set()).add(key[1])
    stored = {
        (e.instrument, e.id): e for instrument, ids in wanted.items() for e in store.exposures(instrument, sorted(ids))
    }
    missing = sorted({key for key in found if not isinstance(key, Exposure) and key not in stored})
    if missing:
        raise DefineError(f"not stored: {_names(missing)}")
    return [key if isinstance(key, Exposure) else stored[key] for key in found]


def _data_id(mapping: Mapping[str, object]) -> tuple[str, int]:
    try:
        return str(mapping["instrument"]), int(str(mapping["exposure"]))
    except (KeyError, ValueError) as error:
        raise DefineError(f"{dict(mapping)} is no data id of an exposure: give instrument and exposure") from error


def _of_record(values: Mapping[str, object]) -> Exposure:
    timespan = values.get("timespan")
    begin, end = (None, None) if timespan is None else timespan.nsec  # type: ignore[attr-defined]  # a Butler's Timespan
    own = {name: values[name] for name in EXPOSURE_FIELDS if name not in _ADDED and name in values}
    return Exposure(**own, timespan_begin=begin, timespan_end=end)  # type: ignore[arg-type]  # the record's types


def _names(keys: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"exposure {id_} of {instrument}" for instrument, id_ in keys)
