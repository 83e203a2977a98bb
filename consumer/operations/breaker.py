"""What operators do with the circuit breaker: look where it stopped reading, and let reading go on."""

from dataclasses import dataclass

from consumer.config import Settings
from consumer.operations.positions import open_inspector, open_positions
from consumer.postgres.positions import ListedPosition, LogPartition


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
    with open_positions(settings) as positions:
        return [
            each
            for each in positions.list_all()
            if each.consumer_group == settings.kafka.group and each.breaker is not None
        ]


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
    done = []
    for stopped in tripped(settings):
        accept_until = 0
        if accept:
            with open_inspector(settings) as inspector:
                accept_until = inspector.watermarks(stopped.log.partition)[1]
        if not dry_run:
            with open_positions(settings) as positions:
                positions.reset(stopped.log, accept_until=accept_until)
        done.append(Reset(log=stopped.log, detail=stopped.breaker or "", accept_until=accept_until))
    return done
