"""Bad messages and refused rows: one dead letter each, neighbours stored, positions in order, the service goes on."""

from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from consumer.errors import DeadLetterReason as Reason
from consumer.events import encode, encode_confluent, schema_text
from consumer.model import Exposure, RawIngested
from tests.support.brokers import Broker
from tests.support.exposures import exposure
from tests.support.postgres import PostgresServer
from tests.support.registry import Registry, register
from tests.support.service import Replica, Wire, prepare_database, produce, raws_of, settings_for
from tests.support.tables import (
    assert_no_way_back,
    moves,
    refuse_rows,
    snapshot,
    stored_positions,
    total_read,
    watch_positions,
)

N_DETECTORS = 9


def _one(of: Exposure, **changes: object) -> bytes:
    return encode(RawIngested(exposure=replace(of, **changes), detector=0))  # type: ignore[arg-type] # the names vary


def _bad() -> dict[bytes, tuple[bytes | None, Reason]]:
    """Make one message of each kind, by its key, with the reason that it must get."""
    template = exposure(500)
    good = _one(template)
    return {
        b"random bytes": (bytes.fromhex("7b5f0c99e1a4d2") * 9, Reason.UNKNOWN_FRAMING),
        b"truncation": (good[: len(good) // 2], Reason.UNDECODABLE),
        b"unknown fingerprint": (b"\xc3\x01" + b"\x07" * 8 + good[10:], Reason.UNKNOWN_FINGERPRINT),
        b"unknown registry id": (
            encode_confluent(RawIngested(exposure=template, detector=0), 987_654),
            Reason.UNKNOWN_SCHEMA_ID,
        ),
        b"empty value": (b"", Reason.EMPTY),
        b"no value": (None, Reason.EMPTY),
        b"900 kB": (_one(template, target_name="x" * 900_000), Reason.TOO_LARGE),
        b"NaN": (_one(template, tracking_ra=float("nan")), Reason.INVALID_FIELD),
        b"NUL": (_one(template, target_name="M\x0031"), Reason.INVALID_FIELD),
        b"inverted timespan": (_one(template, timespan_begin=20, timespan_end=10), Reason.INVALID_FIELD),
        b"unknown instrument": (_one(template, instrument="NoSuchCam"), Reason.UNKNOWN_INSTRUMENT),
    }


def test_each_kind_of_bad_message_is_one_dead_letter_between_good_neighbours(
    broker: Broker, registry: Registry, postgres18: PostgresServer, tmp_path: Path
) -> None:
    topic = f"bad-{broker.name}"
    broker.create_topic(topic)
    schema_id = register(registry, "raw-ingested-value", schema_text("raw_ingested"))
    bad = _bad()
    messages: list[Wire] = []
    wanted = []
    for number, (kind, (value, reason)) in enumerate(bad.items(), 1):
        good = raws_of([exposure(number)], range(N_DETECTORS))
        framed = encode_confluent(RawIngested(exposure=exposure(number), detector=2), schema_id)
        messages += [*good[:2], Wire(framed)]
        wanted.append((str(reason), topic, 0, len(messages), kind, value))
        messages += [Wire(value, kind), *good[3:]]
    produce(broker.bootstrap, [each._replace(partition=0) for each in messages], topic)
    with postgres18.database(prepare_database) as dsn:
        watch_positions(dsn)
        settings = settings_for(
            broker.bootstrap,
            dsn,
            kafka={"topics": [topic], "group": topic},
            batch={"max_messages": 10_000, "max_wait_s": 2},
            registry={"url": registry.url},
        )
        with Replica(tmp_path, settings) as replica:
            replica.wait_until(lambda: total_read(dsn) == len(messages), what="the end of the log")
            with psycopg.connect(dsn) as connection:
                letters = connection.execute(
                    'SELECT reason, topic, partition, "offset", key, value FROM visits.dead_letter ORDER BY "offset"'
                ).fetchall()
                details = connection.execute("SELECT detail FROM visits.dead_letter").fetchall()
                neighbours = connection.execute("SELECT id, detectors::text FROM visits.exposure").fetchall()
                visits = connection.execute("SELECT count(*) FROM visits.visit").fetchone()
            # Not every client tells a message without a value from one with an empty one; both are dead letters.
            assert [(*row[:5], row[5] or None) for row in letters] == [(*row[:5], row[5] or None) for row in wanted]
            assert all(detail for (detail,) in details)
            assert sorted(neighbours) == [(exposure(n).id, f"{{[0,{N_DETECTORS})}}") for n in range(1, len(bad) + 1)]
            assert visits == (len(bad),)
            # As a rule one batch; a slow broker makes it a few.
            steps = [move[2:] for move in moves(dsn) if move[2] is not None]
            assert (steps[0][0], steps[-1][1]) == (0, len(messages))
            assert len(steps) < len(bad), "no two bad messages in one batch"
            replica.wait_until(
                lambda: replica.metric("visit_consumer_dead_letters_total") == len(bad), what="the metric", timeout_s=5
            )
            assert replica.get("/healthz").status == 200
            # It is the same process, and it goes on.
            produce(broker.bootstrap, raws_of([exposure(99)], range(3)), topic)
            replica.wait_until(lambda: total_read(dsn) == len(messages) + 3, what="what comes after")


@pytest.mark.parametrize("state", ["23514", "22003"])
def test_a_refused_exposure_is_bisected_to_one_dead_letter(
    mock_broker: Broker, postgres18: PostgresServer, tmp_path: Path, state: str
) -> None:
    topic = f"refused-exposure-{state}"
    mock_broker.create_topic(topic)
    messages = [
        wire._replace(partition=number % 2)
        for number, wire in enumerate(raws_of([exposure(n) for n in range(1, 42)], range(3)))
    ]
    messages.insert(60, Wire(b"junk", partition=0))
    produce(mock_broker.bootstrap, messages, topic)
    with postgres18.database(prepare_database) as dsn:
        watch_positions(dsn)
        refuse_rows(dsn, "exposure", exposure(17).id, state)
        settings = settings_for(
            mock_broker.bootstrap, dsn, kafka={"topics": [topic], "group": topic}, batch={"max_messages": 10_000}
        )
        with Replica(tmp_path, settings) as replica:
            replica.wait_until(lambda: total_read(dsn) == len(messages), what="the end of the log")
            assert replica.metric("visit_consumer_bisections_total") > 0
        found = snapshot(dsn)
        assert {row[1] for row in found["exposure"]} == {exposure(n).id for n in range(1, 42) if n != 17}
        assert {row[1] for row in found["visit"]} == {exposure(n).id for n in range(1, 42) if n != 17}
        refused = [row for row in found["dead_letter"] if row[0] == Reason.REFUSED_BY_DATABASE]
        # The three raws of the exposure, each by itself; and the junk beside them, once
        assert {row[3] for row in refused} == {exposure(17).id}
        assert sorted(row[11] for row in refused) == sorted(
            str_or_bytes.value for str_or_bytes in raws_of([exposure(17)], range(3)) if str_or_bytes.value
        )
        assert all("not wanted" in row[1] and state in row[1] for row in refused)
        assert len(found["dead_letter"]) == 3 + 1
        assert_no_way_back(dsn)
        assert {p: offset for p, offset in stored_positions(dsn).items() if offset} == {0: 63, 1: 61}


def test_a_refused_visit_is_one_dead_letter_of_its_group(
    mock_broker: Broker, postgres18: PostgresServer, tmp_path: Path
) -> None:
    topic = "refused-visit"
    mock_broker.create_topic(topic)
    messages = raws_of([exposure(n) for n in range(1, 21)], range(2))
    produce(mock_broker.bootstrap, messages, topic)
    with postgres18.database(prepare_database) as dsn:
        watch_positions(dsn)
        refuse_rows(dsn, "visit", exposure(5).id, "23514")
        settings = settings_for(
            mock_broker.bootstrap, dsn, kafka={"topics": [topic], "group": topic}, batch={"max_messages": 10_000}
        )
        with Replica(tmp_path, settings) as replica:
            replica.wait_until(lambda: total_read(dsn) == len(messages), what="the end of the log")
        found = snapshot(dsn)
        others = {exposure(n).id for n in range(1, 21) if n != 5}
        assert {row[1] for row in found["visit"]} == others
        assert {row[1] for row in found["visit_detector_region"]} == others
        assert {row[1] for row in found["exposure"]} == others | {exposure(5).id}
        [letter] = found["dead_letter"]
        assert (letter[0], letter[2]) == (Reason.REFUSED_BY_DATABASE, "LSSTComCam")
        assert str(exposure(5).id) in letter[4]
        assert letter[9] is None
        assert "not wanted" in letter[1]
        assert_no_way_back(dsn)
