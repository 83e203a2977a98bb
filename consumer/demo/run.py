"""The whole path on embedded parts: ``visit-consumer demo``.

A PostgreSQL 18 from a wheel and librdkafka's own mock cluster are started, real and simulated exposures are produced,
``visit-consumer run`` reads them as it would at an observatory, and what it made is compared with what Rubin published.
Beside them headers of real raws land in a folder, and become visits through ``visit-consumer emit watch``.
"""

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import cast
from urllib.request import urlopen

import numpy as np
import yaml
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from consumer.config import Settings
from consumer.demo.embedded_postgres import EmbeddedPostgres
from consumer.demo.landing import Landing
from consumer.demo.plots import plot_footprint
from consumer.demo.processes import running
from consumer.errors import FatalError
from consumer.events import exposure_from_json
from consumer.kafka.mock_cluster import EmbeddedBroker
from consumer.kafka.night_producer import produce_night
from consumer.model import Exposure, RawIngested
from consumer.postgres.connection import Database
from consumer.postgres.dead_letters import DeadLetterStatus
from consumer.postgres.migrate import migrate
from consumer.read.night import exposures_without_visit, read_night
from consumer.read.status import read_status
from consumer.read.visit import read_visit, visits_of_exposures
from consumer.regions import decode
from consumer.simulation import SimulatedRaw, SimulationSettings, simulate_night

TOPIC = "raw-ingested"
_SOURCE_TOPICS = ("raw-rejected", "raw-waiting")
TOLERANCE_RAD = 1e-12
"""How far a corner may be from the published one."""
_TIMEOUT_S = 120.0
_RULE = "one-to-one-and-by-counter"
"""Rubin's own rule for the published visits: every exposure by itself, and the runs of the counter."""
_GOES_ON = ("simulate", "--day-obs", "20261102", "--exposures", "1000", "--rate", "0.25")
"""A night in which something happens every few seconds."""
_SHOWN_METRICS = (
    "visit_consumer_events_total",
    "visit_consumer_visits_written_total",
    "visit_consumer_exposures_skipped_total",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What can be chosen about the demo."""

    directory: Path | None = None
    """Where the database lives; None: a temporary folder that is removed. An existing one is used again."""
    output: Path = Path("demo-output")
    """Where the picture goes."""
    exposures: int = 40
    """Exposures of the simulated night."""
    seed: int = 1
    stay: bool = False
    """Whether to go on serving until a key is pressed, the page among it, while another night goes on."""


def run_demo(options: DemoOptions, console: Console) -> bool:
    """Run the demo.

    Returns
    -------
    good
        Whether everything equals what was published.

    Raises
    ------
    FatalError
        When a part does not start, or the consumer does not finish.
    """
    started = time.monotonic()
    with ExitStack() as stack:
        directory = options.directory or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="visit-demo-")))
        with console.status("Starting PostgreSQL and a broker ..."):
            postgres = stack.enter_context(EmbeddedPostgres(directory / "postgres"))
            broker = stack.enter_context(EmbeddedBroker())
            for topic in (TOPIC, *_SOURCE_TOPICS):
                broker.create_topic(topic)
        settings = _settings(broker.bootstrap, postgres.dsn)
        own = Settings.model_validate(settings).database
        database = stack.enter_context(Database(own, application_name="visit-consumer demo"))
        migrate(database)
        before = _row_versions(database)
        published = _published()
        night = _night(published, options)
        config = directory / "config.yaml"
        config.write_text(yaml.safe_dump(settings), encoding="utf-8")
        wait_for_consumer = stack.enter_context(running(["run", "--config", str(config)], directory / "consumer.log"))
        landing = stack.enter_context(Landing(directory, config))
        wait_for_page = stack.enter_context(running(["page", "--config", str(config)], directory / "page.log"))
        metrics_url = wait_for_consumer()
        _produce_and_wait(console, database, broker, night)
        landed = landing.land(database, lambda: _committed(database, broker), console)
        good = _report(console, database, published, _committed(database, broker), before, options) and landed
        _show_metrics(console, metrics_url)
        console.print(f"Took {time.monotonic() - started:.1f} s.")
        if options.stay:
            console.print(f"Metrics, health and status of the consumer: {metrics_url}")
            console.print(f"The page of this night, and of the one that goes on now: {wait_for_page()}")
            with running([*_GOES_ON, "--seed", str(options.seed), "--config", str(config)], directory / "night.log"):
                console.input("Serving until you press Enter ... ")
        else:
            console.print(f"The page of this night was at {wait_for_page()}: run with --stay to look at it.")
    return good


def _settings(bootstrap: str, dsn: str) -> dict[str, object]:
    return {
        "kafka": {"bootstrap_servers": bootstrap, "topics": [TOPIC]},
        "database": {"conninfo": dsn},
        "instruments": {
            "LSSTCam": {"group_exposures": _RULE},
            "LSSTCamSim": {"group_exposures": _RULE},
            "LATISS": {"group_exposures": _RULE},
        },
        "http": {"port": 0},
        "source": {"http_port": 0},
        "page": {"port": 0},
        "log": {"format": "json", "level": "info"},
    }


def _published() -> Mapping[str, dict[str, object]]:
    text = files("consumer.demo").joinpath("published_visits.json").read_text(encoding="utf-8")
    return cast("Mapping[str, dict[str, object]]", json.loads(text))


def _exposures(published: Mapping[str, object]) -> list[Exposure]:
    return [exposure_from_json(each) for each in cast("list[dict[str, object]]", published["exposures"])]


def _night(published: Mapping[str, Mapping[str, object]], options: DemoOptions) -> list[SimulatedRaw]:
    """Return the raws of the published exposures and of a short simulated night."""
    raws = [
        SimulatedRaw(
            raw=RawIngested(exposure=exposure, detector=detector),
            key=f"{exposure.instrument}/{exposure.group}",
            at_s=0.0,
            ordinal=0,
        )
        for name, detectors in (("LSSTCamSim", 205), ("LATISS", 1))
        for exposure in _exposures(published[name])
        for detector in range(detectors)
    ]
    return raws + list(simulate_night(SimulationSettings(exposures=options.exposures, seed=options.seed)))


def _committed(database: Database, broker: EmbeddedBroker) -> int:
    positions = read_status(database).positions
    return sum(each.next_offset or 0 for each in positions if each.cluster_id == broker.cluster_id)


def _produce_and_wait(
    console: Console, database: Database, broker: EmbeddedBroker, raws: Sequence[SimulatedRaw]
) -> None:
    """Produce all raws, and wait until the consumer has committed them and no group waits."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:22}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        producing = progress.add_task("events produced", total=len(raws))
        reading = progress.add_task("events committed", total=len(raws))
        produced = produce_night(
            {"bootstrap.servers": broker.bootstrap},
            TOPIC,
            raws,
            progress=lambda done: progress.update(producing, completed=done),
        )
        until = time.monotonic() + _TIMEOUT_S
        while time.monotonic() < until:
            read = _committed(database, broker)
            progress.update(reading, completed=read)
            if read >= produced.messages and not read_status(database).open_groups:
                return
            time.sleep(0.1)
    raise FatalError(f"the consumer committed {read} of {produced.messages} events in {_TIMEOUT_S:.0f} s")


def _report(
    console: Console,
    database: Database,
    published: Mapping[str, Mapping[str, object]],
    read: int,
    before: Mapping[tuple[object, object], object],
    options: DemoOptions,
) -> bool:
    _show_visits(console, database)
    difference = _difference(database, published["LSSTCamSim"])
    groups_right = _groups_right(database, published["LATISS"])
    picture = _draw(database, published["LSSTCamSim"], options.output)
    after = _row_versions(database)
    touched = sum(after[key] != version for key, version in before.items())
    skipped = len(exposures_without_visit(database))
    found = read_status(database).dead_letters.items()
    letters = sum(count for (_, status), count in found if status is DeadLetterStatus.OPEN)
    good = difference <= TOLERANCE_RAD and groups_right and touched == 0 and letters == 0
    facts = {
        "events read": f"{read:,}",
        "visits": f"{len(after)} ({len(after) - len(before)} new, {touched} of {len(before)} stored ones touched)",
        "exposures without a visit": f"{skipped} (calibrations and closed dome)",
        "dead letters": str(letters),
        "largest difference to the published regions": f"{difference:.2e} rad (allowed: {TOLERANCE_RAD:.0e})",
        "LATISS visits as published": "yes" if groups_right else "NO",
        "footprint": str(picture),
    }
    summary = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in facts.items():
        summary.add_row(name, value)
    console.print(summary)
    console.print("[bold green]All as published." if good else "[bold red]Something differs.")
    return good


def _show_visits(console: Console, database: Database) -> None:
    table = Table(title="Visits", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    texts = {"instrument", "name", "systems", "filter"}
    for name in ("instrument", "visit", "name", "systems", "exp.", "filter", "RA", "Dec", "det.", "rev."):
        table.add_column(name, justify="left" if name in texts else "right", no_wrap=True)
    for each in read_night(database):
        row = each._replace(visit_systems=", ".join(map(str, each.visit_systems)))  # type: ignore[arg-type]  # a cell's text
        table.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row))
    console.print(table)


def _difference(database: Database, published: Mapping[str, object]) -> float:
    """Return the largest difference of any corner's coordinate to the published one, on the unit sphere."""
    visit = cast("dict[str, object]", published["visit"])
    records = read_visit(database, str(visit["instrument"]), cast("int", visit["id"]))
    wanted = dict(cast("dict[str, str]", published["visit_detector_region"]))
    if records is None or set(map(str, records.regions.detectors)) != wanted.keys():
        return float("inf")
    regions = records.regions
    stored = dict(zip(map(str, regions.detectors), regions.detector_regions, strict=True)) | {"visit": regions.visit}
    wanted["visit"] = cast("str", visit["region"])
    return max(_corner_difference(stored[name], bytes.fromhex(wanted[name])) for name in wanted)


def _corner_difference(ours: bytes, theirs: bytes) -> float:
    mine, published = decode(ours), decode(theirs)
    return float(np.abs(mine - published).max()) if mine.shape == published.shape else float("inf")


def _groups_right(database: Database, published: Mapping[str, object]) -> bool:
    expected = cast("dict[str, dict[str, list[int]]]", published["expected_visits"])[_RULE]
    exposures = [e.id for e in _exposures(published)]
    visits = visits_of_exposures(database, "LATISS", exposures)
    return {str(visit): members for visit, members in visits.items()} == {k: sorted(v) for k, v in expected.items()}


def _draw(database: Database, published: Mapping[str, object], output: Path) -> Path:
    visit = cast("dict[str, object]", published["visit"])
    records = read_visit(database, str(visit["instrument"]), cast("int", visit["id"]))
    if records is None:
        raise FatalError(f"visit {visit['id']} of {visit['instrument']} was not defined")
    output.mkdir(parents=True, exist_ok=True)
    path = output / "footprint.png"
    plot_footprint(records.regions, path, f"{visit['instrument']} visit {visit['id']}")
    return path


def _show_metrics(console: Console, url: str) -> None:
    with urlopen(f"{url}/metrics", timeout=5) as answer:  # noqa: S310 -- our own address, which begins with http
        lines = cast("bytes", answer.read()).decode().splitlines()
    for line in lines:
        if line.startswith(_SHOWN_METRICS) and not line.endswith(" 0.0"):
            console.print(line, highlight=False, markup=False, style="dim")


def _row_versions(database: Database) -> dict[tuple[object, object], object]:
    with database.transaction() as session:
        rows = session.rows("demo", "visit_row_versions")
    return {(instrument, visit): xmin for instrument, visit, xmin in rows}
