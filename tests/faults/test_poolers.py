"""A connection pooler before PostgreSQL: sessions are lent, and two services on one never meet in one schema."""

import psycopg
import pytest

from consumer.config import Settings
from consumer.service.app import migrate_database
from tests.faults.conftest import Scene, night
from tests.support.exposures import exposure
from tests.support.pgbouncer import PgBouncer
from tests.support.service import produce, raws_of
from tests.support.tables import stored_positions

pytestmark = pytest.mark.kafka

N_EXPOSURES = 30


def counted(dsn: str, query: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])


def test_two_services_with_two_schemas_share_one_pooled_session(scene: Scene) -> None:
    """Transaction mode, a pool of one: before, the one wrote its visits and its positions into the other's tables."""
    database = scene.dsn.rpartition("/")[2]
    scene.kafka.create_topic("announced", partitions=1)
    announce = {"topic": "announced", "interval_s": 0.1}
    with PgBouncer(scene.server.port, mode="transaction", size=1) as pooler:
        conninfo = {"conninfo": pooler.dsn(database)}
        first = scene.configure(database=conninfo, announce=announce)
        topic = f"{scene.topic}-beta"
        scene.kafka.create_topic(topic)
        second = {
            **first,
            "kafka": {**first["kafka"], "topics": [topic], "group": topic},
            "database": {**first["database"], "schema": "beta"},
        }
        migrate_database(Settings(**second))
        replica, other = scene.replica_of(second, "other"), scene.replica_of(first)
        with other, replica:
            for step in range(3):
                numbers = range(10 * step + 1, 10 * step + 11)
                scene.produce(night(numbers[0], numbers[-1]))
                elsewhere = [exposure(500 + n, instrument="LSSTComCam") for n in numbers]
                produce(scene.kafka.bootstrap, raws_of(elsewhere, range(9)), topic)
                scene.until(other, 200 * (step + 1))
            replica.wait_until(
                lambda: counted(scene.dsn, "SELECT count(*) FROM beta.visit") == N_EXPOSURES, what="visits of beta"
            )
            scene.settings = first
            scene.judge(other)
            for schema in ("visits", "beta"):
                unsent = f"SELECT count(*) FROM {schema}.outbox WHERE sent_at IS NULL"  # noqa: S608 - two names
                other.wait_until(lambda unsent=unsent: counted(scene.dsn, unsent) == 0, what="announcements")  # type: ignore[misc] # mypy cannot infer a lambda with a default
            assert counted(scene.dsn, "SELECT count(*) FROM beta.visit WHERE instrument <> 'LSSTComCam'") == 0
            assert counted(scene.dsn, "SELECT count(*) FROM beta.exposure") == N_EXPOSURES
            assert counted(scene.dsn, "SELECT count(*) FROM beta.outbox") == N_EXPOSURES
        # The one session that all of them borrowed is as it was: nobody left a setting behind for the next borrower.
        with psycopg.connect(pooler.dsn(database), prepare_threshold=None) as connection:
            assert connection.execute("SHOW search_path").fetchone() == ('"$user", public',)


def test_a_pooler_in_session_mode(scene: Scene) -> None:
    with PgBouncer(scene.server.port, mode="session", size=5) as pooler:
        replica = scene.replica(database={"conninfo": pooler.dsn(scene.dsn.rpartition("/")[2])})
        with replica:
            scene.produce(night(1, N_EXPOSURES))
            scene.judge(replica)
    assert sum(offset or 0 for offset in stored_positions(scene.dsn).values()) == 20 * N_EXPOSURES


def test_of_two_relays_behind_a_pooler_one_announces_and_the_other_takes_over(scene: Scene) -> None:
    scene.kafka.create_topic(f"{scene.topic}-announced", partitions=1)
    announce = {"topic": f"{scene.topic}-announced", "interval_s": 0.1}
    with PgBouncer(scene.server.port, mode="transaction", size=2) as pooler:
        settings = scene.configure(database={"conninfo": pooler.dsn(scene.dsn.rpartition("/")[2])}, announce=announce)
        first, second = scene.replica_of(settings, "first"), scene.replica_of(settings, "second")
        with first:
            first.wait_for_line("announces")
            with second:
                second.wait_for_line("another process announces")
                scene.produce(night(1, N_EXPOSURES))
                scene.until(first, 20 * N_EXPOSURES)
                first.wait_until(
                    lambda: counted(scene.dsn, "SELECT count(*) FROM visits.outbox WHERE sent_at IS NULL") == 0,
                    what="announcements",
                )
                assert counted(scene.dsn, "SELECT count(*) FROM visits.relay_lease") == 1
                assert not second.lines("announces")
                assert first.terminate()[0] == 0
                scene.harmed()
                # It gave the lease up: nobody waits until it runs out.
                second.wait_for_line("announces", timeout_s=20)
                scene.judge(second)
