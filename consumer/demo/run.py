"""The whole path on embedded parts: ``visit-consumer demo``.

A PostgreSQL 18 from a wheel and librdkafka's own mock cluster are started, real and simulated exposures are produced,
``visit-consumer run`` reads them as it would at an observatory, and what it made is compared with what Rubin published.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
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
from consumer.demo.plots import plot_footprint
from consumer.errors import FatalError
from consumer.events import exposure_from_json
from consumer.kafka.mock_cluster import EmbeddedBroker
from consumer.kafka.night_producer import Produced, produce_night
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
TOLERANCE_RAD = 1e-12
"""How far a corner may be from the published one."""
_TIMEOUT_S = 120.0
_RULE = "one-to-one-and-by-counter"
"""Rubin's own rule for the published visits: every exposure by itself, and the runs of the counter."""
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
    """Whether to go on serving until a key is pressed, so that the metrics can be looked at."""


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
            broker.create_topic(TOPIC)
        settings = _settings(broker.bootstrap, postgres.dsn)
        own = Settings.model_validate(settings).database
        database = stack.enter_context(Database(own, application_name="visit-consumer demo"))
        migrate(database)
        before = _row_versions(database)
        published = _published()
        night = _night(published, options)
        metrics_url = stack.enter_context(_consumer(directory, settings))
        produced = _produce_and_wait(console, database, broker, night)
        good = _report(console, database, published, produced, before, options)
        _show_metrics(console, metrics_url)
        console.print(f"Took {time.monotonic() - started:.1f} s. Metrics, health and status page: {metrics_url}")
        if options.stay:
            console.input("Serving until you press Enter ... ")
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


@contextmanager
def _consumer(directory: Path, settings: Mapping[str, object]) -> Iterator[str]:
    """Run ``visit-consumer run`` as a process of its own; give the address of its port."""
    config, log = directory / "config.yaml", directory / "consumer.log"
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    with log.open("w", encoding="utf-8") as stream:
        command = [sys.executable, "-m", "consumer", "run", "--config", str(config)]
        environ = {name: value for name, value in os.environ.items() if not name.startswith("VISIT_CONSUMER_")}
        process = subprocess.Popen(command, stderr=stream, env=environ)  # noqa: S603 -- our own command
        try:
            yield _address(process, log)
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    """Find in the consumer's log where it listens."""
    until = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < until and process.poll() is None:
        for line in log.read_text(encoding="utf-8").splitlines():
            if '"url"' in line:
                return str(json.loads(line)["url"])
        time.sleep(0.05)
    raise FatalError(f"the consumer did not start:\n{log.read_text(encoding='utf-8')}")


def _produce_and_wait(
    console: Console, database: Database, broker: EmbeddedBroker, raws: Sequence[SimulatedRaw]
) -> Produced:
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
            status = read_status(database)
            read = sum(p.next_offset or 0 for p in status.positions if p.cluster_id == broker.cluster_id)
            progress.update(reading, completed=read)
            if read >= produced.messages and not status.open_groups:
                return produced
            time.sleep(0.1)
    raise FatalError(f"the consumer committed {read} of {produced.messages} events in {_TIMEOUT_S:.0f} s")


def _report(
    console: Console,
    database: Database,
    published: Mapping[str, Mapping[str, object]],
    produced: Produced,
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
        "events read": f"{produced.messages:,}",
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
