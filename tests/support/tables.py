"""What the database holds, without its history, and the one oracle of the faults: a pure replay of the log.

The replay is in this process and has no loop, no group, no retries and no fence to lose: it reads every partition from
its start with a consumer of its own, and hands all of it to the store as one batch. What the brokers have no more is
replayed from what was read before, as a batch of its own.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from consumer.config import Settings
from consumer.config.resolve import resolve_instruments
from consumer.errors import BadMessageError
from consumer.kafka.event_decoder import event_decoder
from consumer.model import LogPartition, Message, PartitionId, RawIngested
from consumer.postgres.batch_tables import BatchTransaction
from consumer.postgres.connection import Database
from consumer.postgres.migrate import store_visit_systems
from consumer.postgres.offsets import Positions
from consumer.service.apply_batch import apply_batch
from consumer.service.batch_builder import BatchBuilder
from consumer.service.leases import PartitionLease
from tests.support.service import TOPIC

Snapshot = dict[str, list[tuple[Any, ...]]]
"""Table name to its rows in the order of their keys; ``Any``, since the columns have many types."""

_FAR_MS, _DAY_MS = 10**13, 86_400_000
"""A wall clock by which every group is due, UTC milliseconds."""

TABLE_QUERIES = {
    "exposure": """
        SELECT instrument, id, obs_id, day_obs, "group", physical_filter, exposure_time, dark_time, observation_type,
            observation_reason, seq_num, seq_start, seq_end, target_name, science_program, tracking_ra, tracking_dec,
            sky_angle, azimuth, zenith_angle, has_simulated, can_see_sky, timespan_begin, timespan_end, group_size,
            record_version, group_key, announced, expected_detectors::text, expected_version, detectors::text
        FROM visits.exposure ORDER BY instrument, id""",
    "visit": """
        SELECT instrument, id, day_obs, physical_filter, name, seq_num, exposure_time, target_name, observation_reason,
            science_program, azimuth, zenith_angle, region, timespan_begin, timespan_end, group_key, complete,
            inputs_hash, rule, algorithm, camera_version, padding
        FROM visits.visit ORDER BY instrument, id""",
    "visit_definition": "SELECT instrument, visit, exposure FROM visits.visit_definition ORDER BY 1, 2, 3",
    "visit_system": "SELECT instrument, id, name FROM visits.visit_system ORDER BY 1, 2",
    "visit_system_membership": """
        SELECT instrument, visit, visit_system FROM visits.visit_system_membership ORDER BY 1, 2, 3""",
    "visit_detector_region": """
        SELECT instrument, visit, detector, region FROM visits.visit_detector_region ORDER BY 1, 2, 3""",
    "visit_htm7": "SELECT htm7, instrument, visit FROM visits.visit_htm7 ORDER BY 1, 2, 3",
    "raw_region": """
        SELECT instrument, exposure, detector, region, pointing_ra, pointing_dec, pointing_sky_angle, record_version
        FROM visits.raw_region ORDER BY 1, 2, 3""",
    "dead_letter": """
        SELECT reason, detail, instrument, exposure, group_key, cluster_id, topic, topic_id, partition, "offset", key,
            value, message_at, status
        FROM visits.dead_letter ORDER BY topic, partition, "offset", instrument, group_key, exposure, reason""",
    "open_group": """
        SELECT instrument, group_key, log.topic, log.partition, opened_ms, last_ms, superseded_ms, latest_begin,
            deadline_ms
        FROM visits.open_group LEFT JOIN visits.consumer_offset AS log ON log.id = clock ORDER BY 1, 2""",
    "consumer_offset": """
        SELECT DISTINCT ON (topic, partition) cluster_id, topic, topic_id, partition, next_offset, stream_time_ms
        FROM visits.consumer_offset ORDER BY topic, partition, id DESC""",
}
"""Of a topic that was made anew the newest positions: nobody goes by those of a log that is no more, and until it is
noticed that it is, they go on with the new one's messages."""


def snapshot(dsn: str) -> Snapshot:
    """Read every table without its history columns, in the order of keys, at one moment."""
    with psycopg.connect(dsn) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        return {name: connection.execute(query).fetchall() for name, query in TABLE_QUERIES.items()}


@dataclass(frozen=True, slots=True)
class Difference:
    """How many rows one snapshot lacks and has too many against another."""

    lost: int
    doubled: int
    example: str = ""


def difference(found: Snapshot, expected: Snapshot) -> Difference:
    """Compare two snapshots row by row."""
    lost = doubled = 0
    example = ""
    for name, rows in expected.items():
        here, there = set(found[name]), set(rows)
        lost += len(there - here)
        doubled += len(here - there) + len(found[name]) - len(here)
        if here != there and not example:
            example = f"{name}: lacks {str(sorted(map(str, there - here))[:2])[:600]}"
            example += f", has {str(sorted(map(str, here - there))[:2])[:600]}"
    return Difference(lost, doubled, example)


def stored_positions(dsn: str) -> dict[int, int | None]:
    """Read ``next_offset`` by partition; where a topic was made anew, that of its newest log."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT partition, next_offset FROM visits.consumer_offset ORDER BY id").fetchall()
    return dict(rows)


def total_read(dsn: str) -> int:
    """Sum the stored positions: the number of messages that are dealt with, in a log that starts at 0."""
    return sum(offset or 0 for offset in stored_positions(dsn).values())


def watch_positions(dsn: str) -> None:
    """Let PostgreSQL itself note every move of a stored position that is committed; see `moves`."""
    with psycopg.connect(dsn) as connection:
        connection.execute(
            """
            CREATE SCHEMA IF NOT EXISTS watch;
            CREATE TABLE watch.moves (
                n bigint GENERATED ALWAYS AS IDENTITY, clock bigint, epoch bigint, before bigint, after bigint
            );
            CREATE FUNCTION watch.note() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                INSERT INTO watch.moves (clock, epoch, before, after)
                VALUES (new.id, new.epoch, old.next_offset, new.next_offset);
                RETURN new;
            END $$;
            CREATE TRIGGER watch AFTER UPDATE ON visits.consumer_offset
                FOR EACH ROW WHEN (old.next_offset IS DISTINCT FROM new.next_offset) EXECUTE FUNCTION watch.note();
            """
        )


def refuse_rows(dsn: str, table: str, id_: int, state: str) -> None:
    """Let PostgreSQL refuse every row of one id."""
    with psycopg.connect(dsn) as connection:
        connection.execute(
            f"""
            CREATE SCHEMA refusal;
            CREATE FUNCTION refusal.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                RAISE EXCEPTION 'this % is not wanted', tg_table_name USING errcode = '{state}';
            END $$;
            CREATE TRIGGER refuse BEFORE INSERT ON visits.{table}
                FOR EACH ROW WHEN (new.id = {id_}) EXECUTE FUNCTION refusal.refuse();
            """
        )


def moves(dsn: str) -> list[tuple[int, int, int | None, int]]:
    """Return every committed move of a position since `watch_positions`: clock, epoch, before, after."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT clock, epoch, before, after FROM watch.moves ORDER BY n").fetchall()
    return [(offset_id, epoch, before, after) for offset_id, epoch, before, after in rows]


def assert_no_way_back(dsn: str, *, set_to: Collection[int] = ()) -> None:
    """Hold every committed move to three rules: forward, from where the last one ended, by nobody who was fenced.

    An operator who set positions to the offsets `set_to` may have gone back so often, and to these.
    """
    allowed = Counter(set_to)
    last: dict[int, tuple[int, int]] = {}
    noted = moves(dsn)
    assert noted, "no position moved: nothing was watched"
    for offset_id, epoch, before, after in noted:
        if before is not None and after <= before:
            assert allowed[after], f"position {offset_id} went back from {before} to {after}"
            allowed[after] -= 1
        if offset_id in last:
            assert (last[offset_id][0], last[offset_id][1]) == (min(epoch, last[offset_id][0]), before)
        last[offset_id] = (epoch, after)


@contextmanager
def _reading(bootstrap: str) -> Iterator[Consumer]:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "replay",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "log_level": 0,
        }
    )
    try:
        yield consumer
    finally:
        consumer.close()


def read_log(bootstrap: str, topic: str = TOPIC) -> tuple[list[Message], dict[PartitionId, int]]:
    """Read all committed messages of a topic, and where each of its partitions ends."""
    messages: list[Message] = []
    ends: dict[PartitionId, int] = {}
    with _reading(bootstrap) as consumer:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])
        while len(ends) < len(partitions):
            for each in consumer.consume(10_000, 1.0):
                partition = PartitionId(topic, each.partition() or 0)
                offset = each.offset()
                error = each.error()
                assert offset is not None
                if error is None:
                    messages.append(Message(partition, offset, each.timestamp()[1], each.key(), each.value()))
                else:
                    assert error.code() == KafkaError._PARTITION_EOF, error
                    ends[partition] = offset
    return messages, ends


@dataclass(frozen=True, slots=True)
class Log:
    """Messages of a topic, and where its partitions ended when they were read. A topic made anew is another log."""

    names: Mapping[int, tuple[str, str]]
    """Cluster and topic id of each partition, as the service stored them: they name the log, and say nothing of it."""
    messages: list[Message]
    ends: Mapping[PartitionId, int]


def log_of(dsn: str, bootstrap: str, topic: str = TOPIC) -> Log:
    """Read all committed messages of a topic that a service with this database has claimed."""
    return Log(names_of_logs(dsn), *read_log(bootstrap, topic))


def replay(
    dsn: str,
    settings: Mapping[str, Any],
    logs: Sequence[Log],
    *,
    clock_ms: int | None = None,
    close_groups: bool = False,
) -> None:
    """Apply logs to a fresh database, each as one batch.

    Parameters
    ----------
    dsn
        Of a database with the present schema and no rows.
    settings
        Of the service that is to be compared.
    logs
        One after the other; the same log a second time goes on where it ended.
    clock_ms
        What the wall clock said, UTC milliseconds, for messages stamped ahead of it; None: no stamp is.
    close_groups
        Let the wall clock run on at the end of the last log until no group is open.
    """
    # A long log is one batch, however long that takes.
    patient = {"idle_in_transaction_timeout_s": 3600, "statement_timeout_s": 3600}
    loaded = Settings(**{**settings, "database": {"conninfo": dsn, **patient}})
    database = Database(loaded.database, application_name="replay")
    skew_ms = 2**50 if clock_ms is None else round(loaded.closing.max_clock_skew_s * 1000)
    with closing(database), event_decoder(loaded) as decoder:
        rules = resolve_instruments(loaded)
        positions = Positions(database, consumer_group="visit-consumer", owner="replay")
        store_visit_systems(database, {name: each.rule.visit_systems for name, each in rules.items()})
        for log in logs:
            builder = BatchBuilder(decoder, rules, max_clock_skew_ms=skew_ms)
            for partition in sorted(log.ends):
                at = positions.claim(LogPartition(*log.names[partition.partition], partition))
                start = at.next_offset or 0
                builder.add_partition(
                    PartitionLease(partition, at.id, at.epoch, at.next_offset, at.stream_time_ms, start)
                )
            builder.put(log.messages, log.ends, clock_ms or 0)
            batch = builder.take()
            assert batch is not None
            with database.transaction() as session:
                apply_batch(BatchTransaction(session), batch, rules)
        now_ms = _FAR_MS
        while close_groups and snapshot(dsn)["open_group"]:
            tick = builder.tick(now_ms)
            assert tick is not None
            with database.transaction() as session:
                apply_batch(BatchTransaction(session), tick, rules)
            now_ms += _DAY_MS


def names_of_logs(dsn: str) -> dict[int, tuple[str, str]]:
    """Read the cluster and topic ids under which the service stored its newest positions, by partition."""
    query = "SELECT partition, cluster_id, topic_id FROM visits.consumer_offset ORDER BY id"
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(query).fetchall()
    return {partition: (cluster, topic) for partition, cluster, topic in rows}


def assert_every_offset_is_explained(dsn: str, settings: Mapping[str, Any], logs: Sequence[Log]) -> None:
    """Hold every message to be a stored raw or a dead letter, one by one, without the product's planning."""
    with psycopg.connect(dsn) as connection:
        dead = set(
            connection.execute('SELECT topic_id, partition, "offset" FROM visits.dead_letter WHERE "offset" >= 0')
        )
        stored = {
            (instrument, exposure, detector)
            for instrument, exposure, detector in connection.execute(
                """
                SELECT instrument, id, detector
                FROM visits.exposure, unnest(detectors) AS span,
                    generate_series(lower(span), upper(span) - 1) AS detector
                UNION ALL
                SELECT instrument, id, NULL FROM visits.exposure WHERE announced
                """
            )
        }
    told = [(log.names[each.partition.partition][1], each) for log in logs for each in log.messages]
    assert told
    with event_decoder(Settings(**settings)) as decoder:
        for topic_id, each in told:
            if (topic_id, each.partition.partition, each.offset) in dead:
                continue
            where = f"{each.partition.partition}/{each.offset}"
            try:
                event = decoder.decode(each.value)
            except BadMessageError as error:
                raise AssertionError(f"offset {where} left no trace, though it is {error.reason}") from error
            for detector in [event.detector] if isinstance(event, RawIngested) else [None, *(event.detectors or ())]:
                key = (event.exposure.instrument, event.exposure.id, detector)
                assert key in stored, f"offset {where} left no trace"
