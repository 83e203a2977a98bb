"""``visit-consumer simulate``: a believable night, to a broker."""

from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from consumer.commands.options import config_option, examples, reports_errors, settings_from
from consumer.commands.values import COUNT, DAY_OBS, ID, NAME, PARTITION, Finite
from consumer.kafka.night_producer import Pace, produce_night
from consumer.kafka.properties import Properties, connection_properties
from consumer.simulation import INSTRUMENTS, SimulationSettings, simulate_night

_DEFAULTS = SimulationSettings()


@click.command(
    epilog=examples(
        "visit-consumer simulate --config visits.yaml --exposures 100",
        "visit-consumer simulate --bootstrap-servers localhost:9092 --instrument LATISS --rate 1",
    )
)
@config_option
@click.option("--bootstrap-servers", type=NAME, help="Brokers, host:port; instead of --config.")
@click.option("--topic", type=NAME, help="Topic to send to; default: the first of kafka.topics, or raw-ingested.")
@click.option("--instrument", type=click.Choice(list(INSTRUMENTS)), default=_DEFAULTS.instrument, show_default=True)
@click.option("--exposures", type=COUNT, default=_DEFAULTS.exposures, show_default=True, help="Exposures of all kinds.")
@click.option("--detectors", type=COUNT, help="Number of detectors; default: the whole camera.")
@click.option(
    "--day-obs", type=DAY_OBS, default=_DEFAULTS.day_obs, show_default=True, help="First observing day, YYYYMMDD."
)
@click.option("--seed", type=ID, default=_DEFAULTS.seed, show_default=True, help="Equal seeds give equal nights.")
@click.option("--rate", type=Finite(), help="Exposures a second; default: as fast as possible.")
@click.option("--speed", type=Finite(), help="1: the night in its own time, 10: ten times as fast.")
@click.option(
    "--calibrations", type=Finite(), default=_DEFAULTS.calibrations, show_default=True, help="Fraction of exposures."
)
@click.option(
    "--closed-dome", type=Finite(), default=_DEFAULTS.closed_dome, show_default=True, help="Fraction of groups."
)
@click.option(
    "--snaps", type=Finite(), default=_DEFAULTS.snaps, show_default=True, help="Fraction of groups with two snaps."
)
@click.option(
    "--duplicates", type=Finite(), default=_DEFAULTS.duplicates, show_default=True, help="Fraction of raws sent twice."
)
@click.option("--disorder", type=Finite(), default=_DEFAULTS.disorder_s, show_default=True, help="Longest delay, s.")
@click.option(
    "--corrections", type=Finite(), default=_DEFAULTS.corrections, show_default=True, help="Fraction of exposures."
)
@click.option(
    "--bad-messages", type=Finite(), default=_DEFAULTS.bad_messages, show_default=True, help="Fraction of messages."
)
@click.option(
    "--exposure-events",
    type=Finite(),
    default=_DEFAULTS.exposure_events,
    show_default=True,
    help="Fraction of exposures that one event announces with all raws.",
)
@click.option("--schema-id", type=PARTITION, help="Use Confluent framing with this registry id for events of raws.")
@reports_errors
def simulate(
    config: Path | None,
    bootstrap_servers: str | None,
    topic: str | None,
    rate: float | None,
    speed: float | None,
    disorder: float,
    schema_id: int | None,
    **night: str | float | None,
) -> None:
    """Produce a simulated night: survey cadence, filters, dithers, snaps, calibrations, duplicates, disorder."""
    settings = SimulationSettings(disorder_s=disorder, **night)  # type: ignore[arg-type] # click's types are the fields'
    pace = Pace(exposures_per_s=rate, speed=speed)
    default_topic = "raw-ingested"
    connection: Properties = {"bootstrap.servers": bootstrap_servers or ""}
    if bootstrap_servers is None:
        kafka = settings_from(config).kafka
        connection, default_topic = connection_properties(kafka), kafka.topics[0]
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), MofNCompleteColumn())
    per_exposure = settings.detectors or settings.camera.detectors
    whole = round(settings.exposures * settings.exposure_events)
    expected = whole + (settings.exposures - whole) * per_exposure
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("events", total=expected)
        produced = produce_night(
            connection,
            topic or default_topic,
            simulate_night(settings),
            pace=pace,
            schema_id=schema_id,
            progress=lambda done: progress.update(task, completed=done, total=max(expected, done)),
        )
    click.echo(
        f"{produced.messages} messages of {produced.exposures} exposures in {produced.seconds:.1f} s "
        f"({produced.messages / max(produced.seconds, 1e-9):.0f} a second), {produced.bad_messages} of them bad"
    )
