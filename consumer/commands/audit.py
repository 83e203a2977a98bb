"""The command ``audit``: what is wrong with a night, and mending it."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path

import click

from consumer.admin.audit import Audit, AuditReport
from consumer.admin.audit_against import audit_against
from consumer.commands.options import (
    EXIT_FAILED,
    JSON,
    TABLE,
    complain,
    config_option,
    dsn_option,
    examples,
    open_database,
    print_json,
    print_rows,
    reports_errors,
    tool_settings,
)
from consumer.commands.values import DAY_OBS, FILE_NAME, NAME, Finite, last_observing_days
from consumer.errors import ConfigurationError, VisitConsumerError
from consumer.postgres.connection import Database
from consumer.read.audit.night import instruments_of
from consumer.read.audit.rules import RULES

EXIT_UNTOLD = 2
"""The audit could not tell whether the night is clean."""
HTML = "html"
_COLUMNS = ("instrument", "rule", "severity", "subject", "subjects", "detail")


@click.command(
    short_help="Check a night by named rules, and mend it.",
    epilog=examples(
        "visit-consumer audit --day-obs 20261101 --config visits.yaml",
        "visit-consumer audit --day-obs 20261101 --instrument LSSTCam --rule raw-missing --output json",
        "visit-consumer audit --last-night --fix --exit-zero --config visits.yaml",
        "visit-consumer audit --day-obs 20261101 --against schema:visits_old --config visits.yaml",
        "visit-consumer audit --day-obs 20261101 --against s3://raws --config visits.yaml",
    ),
)
@click.option("--day-obs", type=DAY_OBS, help="The observing day, YYYYMMDD.")
@click.option("--last-night", is_flag=True, help="The observing day that ended last; at Rubin they end at 12:00 UTC.")
@click.option("--instrument", type=NAME, help="Only this one; default: all that have exposures of the night.")
@click.option("--rule", "rules", type=click.Choice(list(RULES)), multiple=True, help="Only this; may be repeated.")
@click.option("--fix", is_flag=True, help="Define again what stored exposures can mend, then audit once more.")
@click.option(
    "--against",
    type=FILE_NAME,
    metavar="WHAT",
    help="Show differences from schema:NAME of this database, from butler:REPO, from the raws of a folder or of "
    "s3://BUCKET, or from exposures in a file or URL of JSON, CSV or Parquet.",
)
@click.option(
    "--grace",
    "grace_s",
    type=Finite(min=0, max=7 * 86400),
    metavar="SECONDS",
    help="Raws and neighbours of an exposure may be under way for so long; default: close_after of the instrument.",
)
@click.option(
    "--store/--no-store",
    default=True,
    help="Store the result as the night's last audit, where all rules were asked; default: yes.",
)
@click.option("--exit-zero", is_flag=True, help="Exit with 0 also with findings: for scheduled jobs.")
@config_option
@dsn_option
@click.option(
    "--output",
    type=click.Choice([TABLE, JSON, HTML]),
    default=TABLE,
    show_default=True,
    help="A table for people, JSON, or a page.",
)
@reports_errors
def audit(  # noqa: PLR0913  # one argument for each option
    *,
    day_obs: int | None,
    last_night: bool,
    instrument: str | None,
    rules: tuple[str, ...],
    fix: bool,
    against: str | None,
    grace_s: float | None,
    store: bool,
    exit_zero: bool,
    config: Path | None,
    dsn: str | None,
    output: str,
) -> None:
    """Check a night by named rules; visits are recomputed from the stored exposures and compared within 1e-12 rad.

    The exit code is 0 for a clean night, 1 for findings, 2 where the audit could not tell. --fix mends what the stored
    exposures allow, in the transactions of redefine, safe beside running consumers; the rest is shown.
    """
    settings = tool_settings(config, dsn)
    if (day_obs is None) is not last_night:
        raise click.UsageError("give either --day-obs or --last-night")
    night = day_obs or last_observing_days(2)[-1]
    if against is not None and (fix or rules):
        raise click.UsageError("--against compares, and knows neither --fix nor --rule")

    def report_of(database: Database, name: str) -> AuditReport:
        if name not in settings.instruments and not instrument:
            untold = ("the instrument is not configured: its visits cannot be computed",)
            return AuditReport(instrument=name, day_obs=night, rules=(), findings=(), untold=untold)
        if against is not None:
            return audit_against(database, settings, against, instrument=name, day_obs=night)
        work = Audit(database, settings, instrument=name, day_obs=night, rules=rules, grace_s=grace_s)
        # A part of the rules says nothing of the night as a whole.
        return _audited(work, fix=fix, store=store and not rules)

    try:
        with open_database(settings) as database:
            names = [instrument] if instrument else instruments_of(database, night)
            reports = [report_of(database, name) for name in names]
    except ConfigurationError:
        raise
    except VisitConsumerError as error:
        complain(f"the audit could not tell: {error}")
        sys.exit(EXIT_UNTOLD)
    _show(reports, night, output)
    if not reports:
        complain(f"nothing is stored of {night}")
    code = _exit_code(reports)
    sys.exit(0 if exit_zero and code == EXIT_FAILED else code)


def _exit_code(reports: Sequence[AuditReport]) -> int:
    """Print what could not be checked, and return the exit code."""
    for each in reports:
        for text in each.untold:
            complain(f"{each.instrument}: could not be checked: {text}")
    if any(each.untold for each in reports):
        return EXIT_UNTOLD
    return EXIT_FAILED if any(each.findings for each in reports) else 0


def _audited(work: Audit, *, fix: bool, store: bool) -> AuditReport:
    report = work.run()
    if fix and (changes := work.mend()):
        report = work.run(changes)
    if store:
        work.store(report)
    return report


def _show(reports: Sequence[AuditReport], day_obs: int, output: str) -> None:
    if output == JSON:
        print_json([asdict(each) for each in reports])
    elif output == HTML:
        click.echo(_page(reports, day_obs))
    else:
        _print_table(reports)


def _rows(reports: Sequence[AuditReport]) -> list[dict[str, object]]:
    return [{"instrument": each.instrument} | asdict(found) for each in reports for found in each.findings]


def _print_table(reports: Sequence[AuditReport]) -> None:
    done = [asdict(change) for each in reports for change in each.changes]
    if done:
        print_rows(done, ("kind", "visit", "name", "detail"), TABLE, title="mended")
    print_rows(_rows(reports), _COLUMNS, TABLE, title="findings", empty="No findings.")


def _page(reports: Sequence[AuditReport], day_obs: int) -> str:
    head = "".join(f"<th>{name}</th>" for name in _COLUMNS)
    rows = "\n".join(
        "<tr>" + "".join(f"<td>{escape(str(row[name]))}</td>" for name in _COLUMNS) + "</tr>" for row in _rows(reports)
    )
    title = f"Audit of {day_obs}"
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title>\n<h1>{title}</h1>\n'
        f"<table>\n<tr>{head}</tr>\n{rows}\n</table>\n<p>{len(_rows(reports)) or 'No'} findings.</p></html>"
    )
