"""The command ``find``: which visits cover a place on the sky."""

from pathlib import Path

import click

from consumer.commands.options import (
    JSON,
    config_option,
    dsn_option,
    examples,
    open_database,
    output_option,
    print_rows,
    reports_errors,
    tool_settings,
)
from consumer.commands.values import DAY_OBS, NAME, Finite
from consumer.read.find import Found, find_visits
from consumer.regions import s_region


@click.command(
    epilog=examples(
        "visit-consumer find --ra 53.1 --dec -27.8 --config visits.yaml",
        "visit-consumer find --ra 53.1 --dec -27.8 --radius 0.5 --day-obs 20261101 --output json --config visits.yaml",
    )
)
@click.option("--ra", "ra_deg", type=Finite(0, 360), required=True, help="Right ascension, degrees, ICRS.")
@click.option("--dec", "dec_deg", type=Finite(-90, 90), required=True, help="Declination, degrees, ICRS.")
@click.option(
    "--radius",
    "radius_deg",
    type=Finite(0, 180),
    default=0.0,
    help="Radius of a circle around the point, degrees.",
)
@click.option("--day-obs", type=DAY_OBS, help="Only of this observing day, YYYYMMDD.")
@click.option("--instrument", type=NAME, help="Only of this instrument.")
@config_option
@dsn_option
@output_option
@reports_errors
def find(
    *,
    ra_deg: float,
    dec_deg: float,
    radius_deg: float,
    day_obs: int | None,
    instrument: str | None,
    config: Path | None,
    dsn: str | None,
    output: str,
) -> None:
    """Find the visits whose regions cover a point or overlap a circle, and which of their detectors do.

    The region of a visit is the convex hull of its detectors and covers the gaps between them: a point there is in no
    detector.
    """
    with open_database(tool_settings(config, dsn)) as database:
        found = find_visits(database, ra_deg, dec_deg, radius_deg=radius_deg, instrument=instrument, day_obs=day_obs)
    columns = ("instrument", "visit", "name", "day_obs", "physical_filter", "exposure_time", "target_name", "detectors")
    print_rows([_row(each) for each in found], columns, output)
    if output != JSON:
        click.echo(f"{len(found)} visits", err=True)


def _row(found: Found) -> dict[str, object]:
    row = found.visit._asdict()
    region = row.pop("region")
    visit = row.pop("id")
    return {"visit": visit, **row, "detectors": list(found.detectors), "s_region": s_region(region)}
