"""Audit a night, mend what stored exposures allow, and store the result as the night's last audit."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from consumer import __version__
from consumer.admin.redefine import Redefinition, Scope
from consumer.config import Settings
from consumer.config.resolve import resolve_instrument
from consumer.domain.redefinition import ChangeKind, VisitChange
from consumer.errors import ConfigurationError
from consumer.postgres.connection import Database
from consumer.read.audit.finding import Finding, FindingGroup, Subject, group_findings
from consumer.read.audit.night import read_audited_night
from consumer.read.audit.rules import RULES


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """What an audit of one night of one instrument found."""

    instrument: str
    day_obs: int
    rules: tuple[str, ...]
    findings: tuple[FindingGroup, ...]
    untold: tuple[str, ...]
    """What could not be checked, and why."""
    changes: tuple[VisitChange, ...] = ()
    """What was done before, to mend."""


class Audit:
    """Audits one night of one instrument.

    Parameters
    ----------
    database
        A session of the reader role; of the writer role for `mend` and `store`.
    settings
        By which visits are recomputed.
    instrument, day_obs
        Which night.
    rules
        Names of the rules; empty: all.
    grace_s
        See `read_audited_night`; None: the instrument's ``close_after``.

    Raises
    ------
    ConfigurationError
        When the instrument is not configured.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        *,
        instrument: str,
        day_obs: int,
        rules: Sequence[str] = (),
        grace_s: float | None = None,
    ) -> None:
        if instrument not in settings.instruments:
            known = ", ".join(sorted(settings.instruments))
            raise ConfigurationError(f"instrument {instrument!r} is not among the configured ones: {known}")
        closing = settings.closing_of(instrument)
        self._database = database
        self._settings = settings
        self._instrument = instrument
        self._day_obs = day_obs
        self._rules = resolve_instrument(settings.instruments[instrument], closing)
        self._names = tuple(name for name in RULES if not rules or name in rules)
        self._grace_s = closing.close_after_s if grace_s is None else grace_s
        self._found: dict[str, list[Finding]] = {}

    def run(self, changes: Sequence[VisitChange] = ()) -> AuditReport:
        """Ask every rule, at one moment."""
        night = read_audited_night(
            self._database,
            self._rules,
            instrument=self._instrument,
            day_obs=self._day_obs,
            grace_s=self._grace_s,
            announces=self._settings.announce.topic is not None,
        )
        self._found = {name: list(RULES[name].find(night)) for name in self._names}
        return AuditReport(
            instrument=self._instrument,
            day_obs=self._day_obs,
            rules=self._names,
            findings=tuple(
                group
                for name, found in self._found.items()
                for group in group_findings(name, RULES[name].SEVERITY, found)
            ),
            untold=tuple(night.untold),
            changes=tuple(changes),
        )

    def mend(self) -> list[VisitChange]:
        """Define again, by `Redefinition`, what the last `run` found and stored exposures can mend.

        Safe beside a running service and when repeated: each component is one transaction under the service's locks.
        """
        mendable = [each for found in self._found.values() for each in found if each.exposures]
        exposures = {exposure for each in mendable for exposure in each.exposures}
        visits = {each.name for each in mendable if each.subject is Subject.VISIT and isinstance(each.name, int)}
        if not exposures:
            return []
        work = Redefinition(self._database, self._settings, Scope(instrument=self._instrument, day_obs=self._day_obs))
        work.store_systems()
        return [
            change
            for part in work.components()
            if any(key.id in exposures for key in part.exposures)
            for change in work.redefine(part, write=True, again=visits)
            if change.kind is not ChangeKind.UNCHANGED
        ]

    def store(self, report: AuditReport) -> None:
        """Store a report in the place of the night's last audit."""
        night = {"instrument": report.instrument, "day_obs": report.day_obs}
        with self._database.transaction() as session:
            session.run(
                "audit",
                "store_run",
                night
                | {
                    "software_version": __version__,
                    "rules": list(report.rules),
                    "findings": sum(each.found for each in report.findings),
                    "untold": list(report.untold),
                },
            )
            session.run("audit", "delete_findings", night)
            for number, each in enumerate(report.findings, start=1):
                values = {name: str(value) for name, value in asdict(each).items()} | {"found": each.found}
                session.run("audit", "store_finding", night | values | {"number": number})
