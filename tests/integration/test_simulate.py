from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer

from consumer.errors import BadMessageError, ConfigurationError, TransientError
from consumer.events import Decoder
from consumer.kafka.mock_cluster import EmbeddedBroker
from consumer.kafka.night_producer import Pace, produce_night
from consumer.model import Ingested
from consumer.simulation import SimulationSettings, simulate_night

NIGHT = SimulationSettings(instrument="LSSTComCam", exposures=40, duplicates=0.1, bad_messages=0.02, seed=5)


@pytest.fixture
def bootstrap() -> Iterator[str]:
    with EmbeddedBroker() as broker:
        yield broker.bootstrap


def read_all(bootstrap: str, topic: str, count: int) -> list[tuple[int, str, bytes]]:
    """Read so many messages: partition, key, value, in the order of each partition."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "reader", "auto.offset.reset": "earliest", "log_level": 0}
    )
    consumer.subscribe([topic])
    found: list[tuple[int, str, bytes]] = []
    try:
        while len(found) < count:
            message = consumer.poll(20.0)
            assert message is not None, f"{len(found)} of {count} messages"
            assert message.error() is None
            found.append((message.partition() or 0, (message.key() or b"").decode(), message.value() or b""))
    finally:
        consumer.close()
    return found


def decoded_or_none(decoder: Decoder, value: bytes) -> Ingested | None:
    try:
        return decoder.decode(value)
    except BadMessageError:
        return None


def test_a_night_arrives_whole_and_in_order_of_each_partition(bootstrap: str) -> None:
    reports: list[int] = []
    connection = {"bootstrap.servers": bootstrap}
    produced = produce_night(connection, "raws", simulate_night(NIGHT), progress=reports.append)
    expected = list(simulate_night(NIGHT))
    assert (produced.messages, produced.exposures) == (len(expected), 40)
    assert produced.bad_messages == sum(one.spoilt is not None for one in expected) > 0
    assert reports[-1] == len(expected)

    found = read_all(bootstrap, "raws", len(expected))
    partition_of = {key: partition for partition, key, _ in found}
    assert all(partition_of[key] == partition for partition, key, _ in found)
    assert len(set(partition_of.values())) > 1
    decoder = Decoder()
    decoded = [decoded_or_none(decoder, value) for _, _, value in found]
    for partition in set(partition_of.values()):
        got = [raw for raw, (at, _, _) in zip(decoded, found, strict=True) if at == partition]
        sent = [one for one in expected if partition_of[one.key] == partition]
        assert got == [one.raw if one.spoilt is None else None for one in sent]


def test_the_pace_is_kept(bootstrap: str) -> None:
    connection = {"bootstrap.servers": bootstrap}
    few = SimulationSettings(instrument="LATISS", exposures=11, calibrations=0.0, snaps=0.0)
    by_number = produce_night(connection, "raws", simulate_night(few), pace=Pace(exposures_per_s=20.0))
    assert 0.99 * 10 / 20.0 <= by_number.seconds < 5.0
    by_time = produce_night(connection, "raws", simulate_night(few), pace=Pace(speed=500.0))
    assert 0.99 * 11 * 30.0 / 500.0 <= by_time.seconds < 5.0


def test_a_pace_is_one_thing_and_goes_forward() -> None:
    for wrong in ({"speed": 0.0}, {"exposures_per_s": -1.0}, {"speed": 1.0, "exposures_per_s": 1.0}):
        with pytest.raises(ConfigurationError):
            Pace(**wrong)


def test_messages_that_no_broker_took_are_an_error() -> None:
    nowhere: dict[str, str | int | float | bool] = {
        "bootstrap.servers": "127.0.0.1:1",
        "message.timeout.ms": 1000,
        "log_level": 0,
    }
    night = simulate_night(SimulationSettings(instrument="LATISS", exposures=3, duplicates=0.0))
    with pytest.raises(TransientError, match="refused 3 messages"):
        produce_night(nowhere, "raws", night)
