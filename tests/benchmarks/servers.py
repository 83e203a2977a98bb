"""The servers of one run of benchmarks, and topics full of simulated raws."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from consumer.kafka.night_producer import FLAT_OUT, Pace, produce_night
from consumer.simulation import SimulatedRaw, SimulationSettings, simulate_night
from tests.support.kafka_broker import KafkaCluster
from tests.support.postgres import DEBIAN_15, PostgresServer, wheel_binaries
from tests.support.service import prepare_database, settings_for

INSTRUMENT = "LSSTCam"
DETECTORS = 205


def night(exposures: int, **changes: Any) -> SimulationSettings:
    """Describe a night of LSSTCam in which every exposure becomes a visit, and every raw is announced once."""
    plain: dict[str, Any] = {
        "instrument": INSTRUMENT,
        "exposures": exposures,
        "calibrations": 0.0,
        "closed_dome": 0.0,
        "snaps": 0.0,
        "duplicates": 0.0,
    }
    return SimulationSettings(**(plain | changes))


@dataclass
class Servers:
    """One broker and one database server with its default durability, for all benchmarks of a run."""

    kafka: KafkaCluster
    postgres: PostgresServer
    _topics: dict[tuple[int, int, bool], str] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=count)

    def topic(self, exposures: int, partitions: int = 4, *, by_exposure: bool = False) -> str:
        """Return a topic with the raws of so many exposures; it is filled when it is first asked for.

        `by_exposure` makes one event for each exposure instead of one for each raw.
        """
        key = (exposures, partitions, by_exposure)
        if key not in self._topics:
            kind = "whole" if by_exposure else "raws"
            self._topics[key] = self.new_topic(f"{kind}-{exposures}-{partitions}", partitions)
            self.fill(self._topics[key], night(exposures, exposure_events=float(by_exposure)))
        return self._topics[key]

    def new_topic(self, name: str, partitions: int = 4) -> str:
        """Make an empty topic; return its name, which nobody else has."""
        name = f"{name}-{next(self._numbers)}"
        self.kafka.create_topic(name, partitions)
        return name

    def fill(self, topic: str, settings: SimulationSettings, pace: Pace = FLAT_OUT) -> int:
        """Produce a night; return how many messages it has."""
        return self.send(topic, simulate_night(settings), pace)

    def send(self, topic: str, raws: Iterable[SimulatedRaw], pace: Pace) -> int:
        """Produce messages; return how many there were."""
        connection: dict[str, str | int | float | bool] = {"bootstrap.servers": self.kafka.bootstrap}
        return produce_night(connection, topic, raws, pace=pace).messages

    @contextmanager
    def database(self) -> Iterator[str]:
        """Give the DSN of an empty database with the present schema."""
        with self.postgres.database(prepare_database) as dsn:
            yield dsn

    def settings(self, topic: str, dsn: str, **sections: Mapping[str, Any]) -> dict[str, Any]:
        """Give settings of a replica: the defaults of the product but for where things are."""
        given = settings_for(self.kafka.bootstrap, dsn, instruments={INSTRUMENT: {}})
        kafka = {"bootstrap_servers": given["kafka"]["bootstrap_servers"], "topics": [topic]}
        plain = {
            "kafka": kafka,
            "database": {"conninfo": dsn},
            "instruments": given["instruments"],
            "http": {"port": 0},
        }
        return plain | {name: {**plain.get(name, {}), **section} for name, section in sections.items()}


@contextmanager
def started() -> Iterator[Servers]:
    """Start both servers; Debian's PostgreSQL 15 where it is, else the wheel's 18."""
    binaries = DEBIAN_15 if DEBIAN_15.is_dir() else wheel_binaries()
    with KafkaCluster() as kafka, PostgresServer(binaries) as postgres:
        yield Servers(kafka, postgres)
