"""The options of `DefineVisitsTask`, written from the tables of the code: ``python -m deploy.reference.options``."""

import sys

from consumer.task.options import DIFFERENCES, OUTCOMES, Situation


def options_reference() -> str:
    """Return the page as Markdown."""
    lines = [
        "# Options of DefineVisitsTask",
        "",
        "Written by `python -m deploy.reference.options`; do not edit.",
        "",
        "`consumer.task.define_visits.DefineVisitsTask` and `visit-consumer define` have the options of Rubin's task,",
        "with the same counts and errors. The names of its configuration are accepted too, such as",
        '`config.groupExposures.name = "one-to-one"` and',
        '`config.computeVisitRegions["single-raw-wcs"].mergeExposures = True`. `run` takes exposures, `exposure`',
        "records of a Butler, and data ids.",
        "",
        "`prefilter` leaves out exposures that are members of a stored visit (with `check_detector_regions`: of one",
        "with all its detector regions), counts them in `n_filtered`, and cannot be combined with `update_records` or",
        "`incremental`. `incremental` adds the stored exposures of a group to those that are given.",
        "",
        "## What becomes of a visit",
        "",
        "The first row whose situation and option hold decides.",
        "",
        "| the visit is | option | counted as | effect |",
        "|---|---|---|---|",
    ]
    for each in OUTCOMES:
        situations = "; ".join(s.value for s in Situation if s in each.situations)
        option = "" if each.option is None else f"`{each.option}`"
        count = "`DatabaseConflictError`" if each.change is None else f"`n_{each.change}`"
        lines.append(f"| {situations} | {option} | {count} | {each.effect} |")
    lines += [
        "",
        "## Differences that stay",
        "",
        "| Rubin's task | this package | why |",
        "|---|---|---|",
        *(f"| {each.original} | {each.ours} | {each.reason} |" for each in DIFFERENCES),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(options_reference())
