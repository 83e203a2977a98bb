"""The schema registry is away, or does not know an id: what needs it waits, or is a dead letter, and nothing else."""

import json
import time

import pytest

from consumer.events import encode_confluent, schema_text
from consumer.model import RawIngested
from tests.faults.conftest import Scene, night
from tests.support.exposures import exposure
from tests.support.proxy import Proxy
from tests.support.registry import StubRegistry, register
from tests.support.service import Wire
from tests.support.tables import snapshot, stored_positions

pytestmark = pytest.mark.kafka


def test_registry_away_for_more_than_a_batch_of_events(scene: Scene) -> None:
    with StubRegistry() as registry, Proxy(int(registry.url.rpartition(":")[2])) as proxy:
        schema_id = register(registry, "raw-ingested-value", schema_text("raw_ingested"))
        framed = [
            Wire(
                encode_confluent(RawIngested(exposure=exposure(n, instrument="LSSTCam"), detector=d), schema_id),
                partition=n % 4,
            )
            for n in range(1, 31)
            for d in range(20)
        ]
        proxy.refuse()
        replica = scene.replica(
            registry={"url": f"http://127.0.0.1:{proxy.port}", "timeout_s": 1}, batch={"max_messages": 50}
        )
        scene.produce(framed)
        with replica:
            replica.wait_for_line("the schema registry is unavailable, events wait")
            # Longer than the session: the group must be served meanwhile.
            time.sleep(5)
            assert replica.get("/healthz").status == 200
            assert replica.get("/readyz").status == 503
            assert scene.read() == 0
            assert not replica.lines("partitions lost")
            proxy.heal()
            scene.harmed()
            scene.produce(night(31, 32))
            scene.judge(replica)
            assert len(snapshot(scene.dsn)["visit"]) == 32
            assert len(replica.lines("partition claimed")) == 4


def test_registry_that_knows_some_ids_and_is_busy_with_another(scene: Scene) -> None:
    """Ids that it does not know are dead letters; only the partition whose schema cannot be had now waits for it."""
    with StubRegistry() as registry:
        known = register(registry, "raw-ingested-value", schema_text("raw_ingested"))
        other = register(registry, "other", json.dumps(json.loads(schema_text("raw_ingested")) | {"doc": "reworded"}))
        registry.busy.add(other)
        ids = {0: (known, 4711, known, 2**32 - 5), 1: (other,), 3: (known,)}
        framed = [
            Wire(
                encode_confluent(RawIngested(exposure=exposure(100 * p + n, instrument="LSSTCam"), detector=1), each),
                partition=p,
            )
            for p, some in ids.items()
            for n in range(40)
            for each in [some[n % len(some)]]
        ]
        scene.produce([*framed, *(each._replace(partition=2) for each in night(901, 910))])
        replica = scene.replica(registry={"url": registry.url, "timeout_s": 1}, batch={"max_messages": 50})
        with replica:
            scene.until(replica, 40 + 40 + 200)
            replica.wait_for_line("the schema registry is unavailable, events wait")
            assert stored_positions(scene.dsn)[1] == 0
            registry.busy.clear()
            scene.harmed()
            scene.judge(replica, dead_letters=20)
        assert {row[0] for row in _reasons(scene)} == {"unknown_schema_id"}
        assert not replica.lines("partitions lost")


def _reasons(scene: Scene) -> list[tuple[str]]:
    with scene.connect() as connection:
        return connection.execute("SELECT reason FROM visits.dead_letter").fetchall()
