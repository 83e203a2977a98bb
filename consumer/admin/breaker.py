"""What operators do with the circuit breaker: look where it stopped reading, and let reading go on."""

from collections.abc import Collection
from dataclasses import dataclass

from consumer.admin.positions import APPLICATION, group_positions, identify_topics, open_inspector
from consumer.config import Settings
from consumer.model import LogPartition
from consumer.postgres.connection import Database
from consumer.postgres.offsets import ListedPosition
from consumer.read.status import read_positions


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset:
    """One partition that is read again, or would be."""

    log: LogPartition
    detail: str
    """Why it had been stopped."""
    accept_until: int
    """Bad messages below this offset become dead letters; 0: none is accepted beforehand."""


def tripped(settings: Settings) -> list[ListedPosition]:
    """Read the positions of the group where the circuit breaker stopped reading."""
    with Database(settings.database, application_name=APPLICATION) as database:
        stored = read_positions(database)
    return [each for each in stored if each.consumer_group == settings.kafka.group and each.breaker is not None]


def reset(settings: Settings, *, accept: bool, dry_run: bool = False) -> list[Reset]:
    """Let the partitions be read again that the circuit breaker stopped; replicas notice within a quarter minute.

    Parameters
    ----------
    settings
        Of Kafka and the database.
    accept
        Make dead letters of all bad messages that the log holds now. Otherwise the breaker opens again if the cause
        was not mended.
    dry_run
        Only tell.
    """
    stopped = tripped(settings)
    accepted = _ends(settings, stopped) if accept else {}
    done = []
    with Database(settings.database, application_name=APPLICATION) as database:
        positions = group_positions(settings, database)
        for each in stopped:
            accept_until = accepted.get(each.log, 0)
            if not dry_run:
                positions.reset(each.log, accept_until=accept_until)
            done.append(Reset(log=each.log, detail=each.breaker or "", accept_until=accept_until))
    return done


def _ends(settings: Settings, stopped: Collection[ListedPosition]) -> dict[LogPartition, int]:
    """Ask where the logs end that there still are: of one that is no more, nothing will be read."""
    with open_inspector(settings) as inspector:
        identities = identify_topics(inspector, {each.topic for each in stopped})
        return {
            each.log: inspector.watermarks(each.log.partition)[1]
            for each in stopped
            if identities.get(each.topic) == (each.cluster_id, each.topic_id)
        }
