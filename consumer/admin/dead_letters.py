"""What operators do with dead letters: decode them, produce them again, discard them.

A replay goes through the log, so that the log stays the truth: the message is produced again to its topic and read like
any other. It is marked once the brokers have it; after a crash in between it may be produced twice, which changes no
table.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from consumer.config import Settings
from consumer.errors import BadMessageError, FatalError, TransientError
from consumer.kafka.dead_letter_replay import Replay, ReplayProducer
from consumer.kafka.event_decoder import event_decoder
from consumer.kafka.properties import connection_properties
from consumer.postgres.connection import Database
from consumer.postgres.dead_letters import DeadLetterFilter, DeadLetters, DeadLetterStatus, StoredDeadLetter
from consumer.read.dead_letters import list_dead_letters

_APPLICATION = "visit-consumer dead-letters"
_AT_ONCE = 100
_LINE_BYTES = 16
_LONGEST_SHOWN = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterResult:
    """What became of one dead letter that was chosen."""

    letter: StoredDeadLetter
    outcome: str
    """``replayed``, ``discarded``, ``would be ...``, or why not."""
    done: bool


def decoded(settings: Settings, letter: StoredDeadLetter) -> dict[str, Any] | str:
    """Decode the fields of a dead letter's message without judging them, or say why that is impossible."""
    try:
        with event_decoder(settings, max_message_bytes=_LONGEST_SHOWN) as decoder:
            return decoder.fields(letter.value)
    except (BadMessageError, TransientError, FatalError) as error:
        return str(error)


def hex_dump(data: bytes) -> Iterator[str]:
    """Write bytes as lines of offset, 16 bytes in hexadecimal, and their ASCII characters."""
    for start in range(0, len(data), _LINE_BYTES):
        line = data[start : start + _LINE_BYTES]
        text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in line)  # noqa: PLR2004  # ASCII's printable part
        yield f"{start:08x}  {line.hex(' '):<{3 * _LINE_BYTES - 1}}  {text}"


def replay(settings: Settings, choice: DeadLetterFilter, *, dry_run: bool) -> list[DeadLetterResult]:
    """Produce the messages of dead letters again, and mark those as replayed.

    Parameters
    ----------
    settings
        Of Kafka and the database.
    choice
        Which.
    dry_run
        Only tell.

    Raises
    ------
    TransientError
        When brokers or database cannot be reached; what was produced before that is marked.
    """
    outcomes: list[DeadLetterResult] = []
    with Database(settings.database, application_name=_APPLICATION) as database:
        table = DeadLetters(database)
        producer = None if dry_run else ReplayProducer(connection_properties(settings.kafka))
        chosen = list_dead_letters(database, choice)
        for start in range(0, len(chosen), _AT_ONCE):
            outcomes += _replay_some(table, producer, chosen[start : start + _AT_ONCE])
    return outcomes


def discard(settings: Settings, choice: DeadLetterFilter, *, dry_run: bool) -> list[DeadLetterResult]:
    """Mark dead letters as discarded; they stay until the retention time is over."""
    with Database(settings.database, application_name=_APPLICATION) as database:
        chosen = list_dead_letters(database, choice)
        if dry_run:
            return [DeadLetterResult(letter=each, outcome="would be discarded", done=True) for each in chosen]
        done = DeadLetters(database).close(
            [each.id for each in chosen], DeadLetterStatus.DISCARDED, before=choice.statuses or [DeadLetterStatus.OPEN]
        )
    return [
        DeadLetterResult(
            letter=each, outcome="discarded" if each.id in done else "closed by another process", done=each.id in done
        )
        for each in chosen
    ]


def _replay_some(
    table: DeadLetters, producer: ReplayProducer | None, letters: Sequence[StoredDeadLetter]
) -> list[DeadLetterResult]:
    wanted: dict[Replay, StoredDeadLetter] = {}
    outcomes: list[DeadLetterResult] = []
    for letter in letters:
        reason = _no_replay(letter, None if producer is None else producer.cluster_id())
        if reason is None:
            wanted[_message(letter)] = letter
        else:
            outcomes.append(DeadLetterResult(letter=letter, outcome=reason, done=False))
    if producer is None:
        outcomes += [DeadLetterResult(letter=each, outcome="would be replayed", done=True) for each in wanted.values()]
    else:
        failed = producer.send(list(wanted)) if wanted else {}
        table.close(
            [letter.id for message, letter in wanted.items() if message not in failed],
            DeadLetterStatus.REPLAYED,
            before=list(DeadLetterStatus),
        )
        outcomes += [
            DeadLetterResult(letter=letter, outcome=failed.get(message, "replayed"), done=message not in failed)
            for message, letter in wanted.items()
        ]
    return sorted(outcomes, key=lambda each: each.letter.id)


def _no_replay(letter: StoredDeadLetter, cluster_id: str | None) -> str | None:
    """Return why a dead letter cannot be produced again, or None when it can."""
    if not letter.is_message:
        return "it is of a group or an exposure, not of a message: it resolves itself, or discard it"
    if cluster_id is not None and letter.cluster_id != cluster_id:
        return f"its message is of another cluster, {letter.cluster_id}"
    return None


def _message(letter: StoredDeadLetter) -> Replay:
    topic, partition, offset = letter.topic, letter.partition, letter.offset
    assert topic is not None and partition is not None and offset is not None  # noqa: S101, PT018 -- `is_message`
    return Replay(topic, partition, offset, letter.key, letter.value)
