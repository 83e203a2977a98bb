"""Events of whole exposures beside events of raws: on Kafka, with headers, after a migration, and what is missing."""

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from psycopg import sql

from consumer.config import DatabaseSettings
from consumer.events import encode, encode_confluent, schema_text
from consumer.model import Ingested, RawIngested
from consumer.postgres.connection import Database
from consumer.postgres.migrate import migrate
from tests.deploy.boards import sql_queries
from tests.support.brokers import Broker
from tests.support.commands import invoke, invoke_json
from tests.support.exposures import DAY_OBS, exposure, run_of
from tests.support.feeding import Feeder
from tests.support.nights import prepare
from tests.support.postgres import PostgresServer
from tests.support.raws import exposure_event
from tests.support.registry import Registry, register
from tests.support.service import Replica, Wire, prepare_database, produce, settings_for
from tests.support.skies import written
from tests.support.tables import Snapshot, log_of, replay, snapshot, total_read

NOON_MS = 1_793_600_000_000
GROUPED = {"group_exposures": "by-group-metadata", "group_id": "digits"}
CARDS = written(
    {
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0, "CRVAL2": 20.0, "CRPIX1": 1024.5, "CRPIX2": 2048.5,
        "CD1_1": -1e-4, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 1e-4,
    }
)  # fmt: skip


def read(dsn: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query.encode()).fetchall()


def feed(dsn: str, instrument: Mapping[str, Any], *batches: Sequence[Ingested]) -> None:
    with closing(Feeder(dsn, {"LSSTComCam": instrument})) as feeder:
        for number, events in enumerate(batches):
            feeder.feed([encode(event) for event in events], at_ms=NOON_MS + number * 1_000)


def settled(found: Snapshot) -> Snapshot:
    """Leave out the positions: other messages, other offsets."""
    return {name: rows for name, rows in found.items() if name != "consumer_offset"}


def test_a_mixed_stream_through_the_service_gives_the_tables_of_either_kind(
    broker: Broker, registry: Registry, postgres18: PostgresServer, tmp_path: Path
) -> None:
    ids = {
        name: register(registry, f"mixed-{name}-value", schema_text(name))
        for name in ("raw_ingested", "exposure_ingested")
    }
    night = [*run_of(1, 3), *run_of(4, 5), exposure(6, can_see_sky=False), exposure(7)]
    raws: list[Wire] = []
    mixed: list[Wire] = []
    for number, one in enumerate(night):
        key = f"{one.instrument}/{one.group}".encode()
        by_raw = [RawIngested(exposure=one, detector=detector) for detector in range(9)]
        raws += [Wire(encode(each), key) for each in by_raw]
        by_exposure = exposure_event(one, range(3, 9))
        # The header service first, then raws and the rest of them in one, in either form.
        mixed.append(Wire(encode(exposure_event(one)), key))
        mixed += [Wire(encode_confluent(each, ids["raw_ingested"]), key) for each in by_raw[: 3 + number % 2]]
        mixed.append(Wire(encode_confluent(by_exposure, ids["exposure_ingested"]), key))
    mixed.append(Wire(encode(exposure_event(exposure(99, tracking_dec=91.0), [1])), b"bad"))
    topics = {name: f"{name}-{broker.name}" for name in ("raws", "mixed")}
    instruments = {"LSSTComCam": {"group_exposures": "one-to-one-and-by-counter"}}
    found = {}
    for name, messages in (("raws", raws), ("mixed", mixed)):
        broker.create_topic(topics[name])
        produce(broker.bootstrap, messages, topics[name])
        with postgres18.database(prepare_database) as dsn, postgres18.database(prepare_database) as again:
            kafka = {"topics": [topics[name]], "group": topics[name]}
            settings = settings_for(
                broker.bootstrap, dsn, kafka=kafka, instruments=instruments, registry={"url": registry.url}
            )
            with Replica(tmp_path, settings, name=name) as replica:
                replica.wait_until(lambda: total_read(dsn) == len(messages), what="the end of the log")  # noqa: B023 -- called here
                found[name] = snapshot(dsn)
            replay(again, settings, [log_of(dsn, broker.bootstrap, topics[name])])
            assert settled(snapshot(again)) == settled(found[name])
    (letter,) = found["mixed"].pop("dead_letter")
    assert letter[0] == "invalid_field"
    assert "tracking_dec" in letter[1]
    assert found["raws"].pop("dead_letter") == []
    assert len(found["raws"]["visit"]) == 8
    assert settled(found["mixed"]) == settled(found["raws"])


def test_missing_raws_are_seen_and_change_no_visit(database18: str, tmp_path: Path) -> None:
    prepare(database18)
    one, other = exposure(1), exposure(2)
    feed(database18, {}, [exposure_event(one, [0, 1, 2, 8]), RawIngested(exposure=other, detector=0)])
    before = settled(snapshot(database18))
    assert read(database18, "SELECT * FROM visits.missing_raw") == []
    feed(database18, {}, [exposure_event(one, None, range(9)), exposure_event(other, None, [0])])
    after = settled(snapshot(database18))
    assert {name for name in after if after[name] != before[name]} == {"exposure"}
    assert read(database18, "SELECT min(revision), max(revision), bool_and(complete) FROM visits.visit") == [
        (1, 1, True)
    ]
    missing = "SELECT instrument, exposure, array_agg(detector ORDER BY detector) FROM visits.missing_raw GROUP BY 1, 2"
    assert read(database18, missing) == [("LSSTComCam", one.id, [3, 4, 5, 6, 7])]
    board = sql_queries(schema="visits", night=DAY_OBS, instruments=["LSSTComCam"])
    assert read(database18, board["Missing raws"]) == [(5,)]
    (row,) = read(database18, board["Exposures with missing raws"])
    assert (row[1], *row[4:7]) == (str(one.id), 9, 5, "3-7")

    config = tmp_path / "settings.yaml"
    config.write_text(yaml.safe_dump({"instruments": {"LSSTComCam": {}}, "database": {"conninfo": database18}}))
    (told,) = invoke_json("explain", one.id, "--config", config)
    assert (told["raws_expected"], told["raws_missing"], told["missing_detectors"]) == (9, 5, "3-7")
    text = invoke("explain", one.id, "--config", config).stdout
    assert f"visit {one.id}; 4 of 9 expected raws arrived; missing: 3-7" in text
    assert "all 1 expected raws arrived" in invoke("explain", other.id, "--config", config).stdout

    feed(database18, {}, [exposure_event(one, [3, 4, 6, 7]), RawIngested(exposure=one, detector=5)])
    assert read(database18, missing) == []


@pytest.mark.parametrize("rule", [{}, GROUPED], ids=["one-to-one", "grouped"])
def test_regions_of_headers_wait_for_the_raws_and_come_with_them(
    database18: str, tmp_path: Path, rule: dict[str, Any]
) -> None:
    prepare(database18)
    instrument = {**rule, "regions": {"algorithm": "full-raw-wcs", "padding": 0}}
    one = exposure(1, group="A7", group_size=1)
    raw = RawIngested(exposure=one, detector=0, wcs=CARDS, naxis1=2048, naxis2=4096)
    counts = "SELECT (SELECT count(*) FROM visits.visit), (SELECT count(*) FROM visits.dead_letter)"
    feed(database18, instrument, [exposure_event(one)], [exposure_event(one)])
    assert read(database18, counts) == [(0, 0)]
    config = tmp_path / "settings.yaml"
    config.write_text(json.dumps({"instruments": {"LSSTComCam": instrument}, "database": {"conninfo": database18}}))
    (told,) = invoke_json("explain", one.id, "--config", config)
    assert told["ending"] == ("waiting" if rule else "skipped")
    feed(database18, instrument, [raw])
    assert read(database18, counts) == [(1, 0)]
    with_exposure = settled(snapshot(database18))
    feed(database18, instrument, [exposure_event(one)], [raw])
    assert settled(snapshot(database18)) == with_exposure


def test_rows_of_the_release_before_go_on(database18: str) -> None:
    seen, by_hand = exposure(1, can_see_sky=False), exposure(2)
    rows = [
        {**asdict(one), "group_key": str(one.id), "detectors": detectors}
        for one, detectors in ((seen, "{[3,4)}"), (by_hand, "{}"))
    ]
    names = sql.SQL(", ").join(map(sql.Identifier, rows[0]))
    insert = sql.SQL(
        "INSERT INTO visits.exposure ({0}) SELECT {0} FROM jsonb_populate_recordset(NULL::visits.exposure, %s)"
    ).format(names)
    database = Database(DatabaseSettings(conninfo=database18))  # type: ignore[arg-type] # pydantic makes it a secret
    with closing(database):
        migrate(database, up_to=7)
        # What that release has read of one exposure, and stored of another one by `define`.
        with psycopg.connect(database18) as connection:
            connection.execute(insert, [json.dumps(rows)])
        migrate(database)
    feed(database18, {}, [exposure_event(seen), exposure_event(by_hand)], [RawIngested(exposure=seen, detector=3)])
    assert read(database18, "SELECT id, revision FROM visits.visit") == [(by_hand.id, 1)]
    assert read(database18, "SELECT announced, detectors::text FROM visits.exposure ORDER BY id") == [
        (True, "{[3,4)}"),
        (True, "{}"),
    ]
