"""A night held against another record of it: another schema, a Butler registry, a list of exposures, or the raws.

For a change-over from another tool: both run side by side, and are compared.
"""

from dataclasses import fields
from pathlib import Path

from consumer.admin.audit import AuditReport
from consumer.admin.exposure_lists import BUTLER, read_exposure_list
from consumer.admin.extras import needs_extra
from consumer.config import Settings
from consumer.model import Exposure
from consumer.postgres.connection import Database
from consumer.read.audit.against import (
    compare_exposures,
    compare_raws,
    compare_visits,
    group_differences,
    night_visits,
    read_exposures,
)
from consumer.read.audit.finding import Finding, FindingGroup, Subject

_SCHEMA = "schema:"
_BUCKET = "s3://"
_NAMES = frozenset(each.name for each in fields(Exposure))


def audit_against(database: Database, settings: Settings, other: str, *, instrument: str, day_obs: int) -> AuditReport:
    """Compare a night with another record of it.

    Parameters
    ----------
    database
        A session of the reader role.
    settings
        Where the tables are, and the places of raws with the patterns of their keys.
    other
        ``schema:NAME`` of the same database; ``butler:REPO``; a folder, or a bucket of the settings, ``s3://NAME``,
        with raws; else a list of exposures, of which those of the night count: see `read_exposure_list`.
    instrument, day_obs
        Which night.

    Raises
    ------
    ConfigurationError
        When it cannot be read.
    DefineError
        When an entry of a list is no exposure.
    TransientError
        When the database, a registry or a store is unavailable.
    """
    untold: tuple[str, ...] = ()
    if other.startswith(_SCHEMA):
        there = settings.database.model_copy(update={"schema_name": other.removeprefix(_SCHEMA)})
        with Database(there, application_name="visit-consumer audit --against") as second:
            ours = read_exposures(database, instrument, day_obs)
            found = compare_exposures(ours, read_exposures(second, instrument, day_obs), _NAMES)
            found += compare_visits(database, second, instrument, day_obs)
    elif other.rstrip("/") in {f"{_BUCKET}{name}" for name in settings.source.buckets} or _is_folder(other):
        found, untold = _against_raws(database, settings, other, instrument=instrument, day_obs=day_obs)
    else:
        listed = read_exposure_list(other, instrument=instrument, day_obs=day_obs)
        theirs = {each.id: each for each in listed.exposures if each.day_obs == day_obs}
        ours = read_exposures(database, instrument, day_obs)
        found = compare_exposures(ours, theirs, _NAMES & listed.names)
        if other.startswith(BUTLER):
            found += _against_registry(database, other.removeprefix(BUTLER), instrument, day_obs)
    return AuditReport(instrument=instrument, day_obs=day_obs, rules=("against",), findings=tuple(found), untold=untold)


def _is_folder(text: str) -> bool:
    try:
        return "://" not in text and Path(text).is_dir()
    except (OSError, ValueError):  # a name that no file could have
        return False


def _against_registry(database: Database, repository: str, instrument: str, day_obs: int) -> list[FindingGroup]:
    with needs_extra("butler", f"{BUTLER}{repository}"):
        from consumer.butler.changes import visit_differences  # noqa: PLC0415 -- an extra
        from consumer.butler.registry import ButlerRegistry  # noqa: PLC0415 -- an extra
    registry = ButlerRegistry(repository, writeable=False)
    missing: list[Finding] = []
    extra: list[Finding] = []
    differing: list[Finding] = []
    try:
        left = set(registry.visit_ids(instrument, day_obs))
        for some in night_visits(database, instrument, day_obs):
            _, there = registry.look_up(instrument, list(some.values()))
            left -= some.keys()
            for id_, records in some.items():
                if id_ not in there:
                    extra.append(Finding(subject=Subject.VISIT, name=id_, detail="the other lacks it"))
                    continue
                differing += [
                    Finding(subject=Subject.VISIT, name=id_, detail=text)
                    for text in visit_differences(records, there[id_])
                ]
    finally:
        registry.close()
    missing += [Finding(subject=Subject.VISIT, name=id_, detail="the other has it") for id_ in sorted(left)]
    return group_differences({"against-missing": missing, "against-extra": extra, "against-differs": differing})


def _against_raws(
    database: Database, settings: Settings, place: str, *, instrument: str, day_obs: int
) -> tuple[list[FindingGroup], tuple[str, ...]]:
    """Compare which raws there are, by the names of their objects."""
    with needs_extra("sources", place):
        from consumer.sources.raw_names import list_raw_names  # noqa: PLC0415 -- an extra
    listed = list_raw_names(settings, place, instrument=instrument, day_obs=day_obs)
    untold = (
        (f"{listed.unnamed} raws of {place} have no exposure or detector in their keys: give source patterns",)
        if listed.unnamed
        else ()
    )
    return compare_raws(database, listed.raws, instrument, day_obs), untold
