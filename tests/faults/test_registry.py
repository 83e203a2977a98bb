"""The schema registry is away: events wait, the group is kept, nothing becomes a dead letter."""

import time

import pytest

from consumer.events import encode_confluent, schema_text
from consumer.model import RawIngested
from tests.faults.conftest import Scene, night
from tests.support.exposures import exposure
from tests.support.proxy import Proxy
from tests.support.registry import StubRegistry, register
from tests.support.service import Wire
from tests.support.tables import snapshot

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
