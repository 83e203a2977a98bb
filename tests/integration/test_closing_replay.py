"""A log that is read again closes the same groups for the same reasons, however fast, and after a pause.

The live run is simulated second by second: what was appended is read, and the wall clock ticks where the reader stands
at the end of the log, as the loop does it. The clock is an argument, so that an hour takes no time.
"""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import takewhile

import psycopg
import pytest

from consumer.model import CloseReason, Exposure, Message, PartitionId, RawIngested
from tests.support.exposures import BEGIN_TAI_NS, LENGTH_NS, exposure
from tests.support.nights import (
    FAR_MS,
    START_MS,
    NightLog,
    Reader,
    Rows,
    canonical,
    close_all,
    prepare,
    reader,
    rules_of,
    wipe,
)
from tests.support.postgres import PostgresServer

RULES = rules_of(
    {
        "instrument": "LSSTComCam",
        "camera": "lsstcomcam",
        "group_exposures": "by-group-metadata",
        "group_id": "digits",
        "padding": 10,
        "merge_exposures": False,
    }
)
N_PARTITIONS = 2
HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def server(postgres18: PostgresServer) -> Iterator[str]:
    with postgres18.database(prepare) as made:
        yield made


@pytest.fixture
def dsn(server: str) -> str:
    wipe(server)
    return server


def night(seed: int) -> list[tuple[Exposure, float]]:
    """Make exposures and when each is announced, seconds: groups of all ways to close."""
    chance = random.Random(seed)  # noqa: S311 -- a reproducible night, not a secret
    announced: list[tuple[Exposure, float]] = []
    number, at_s = 0, 0.0
    for group in range(1, 26):
        size = chance.randint(1, 3)
        known = chance.random() < 0.3
        for snap in range(size):
            number += 1
            at_s += chance.choice([3, 8, 30])
            begin = BEGIN_TAI_NS + round(at_s * 1e9)
            one = exposure(
                number,
                group=f"{group}",
                group_size=size if known else None,
                timespan_begin=begin,
                timespan_end=begin + LENGTH_NS,
            )
            late = chance.random() < 0.15 and snap > 0
            announced.append((one, at_s + (chance.choice([20, 300]) if late else 0)))
        at_s += chance.choice([0, 0, 60, 400])
    # One group that something is heard of all the time, until it is too old
    for snap in range(45):
        one = exposure(1_000 + snap, group="99", timespan_begin=BEGIN_TAI_NS + 10**14, timespan_end=None)
        announced.append((one, at_s + 90 * snap))
    return sorted(announced, key=lambda each: each[1])


def log_of(announced: Sequence[tuple[Exposure, float]], *, keyed: bool, seed: int = 0) -> NightLog:
    chance = random.Random(seed)  # noqa: S311 -- not a secret
    log = NightLog.of(N_PARTITIONS)
    for one, at_s in announced:
        for detector in range(2):
            partition = int(one.group) % N_PARTITIONS if keyed else chance.randrange(N_PARTITIONS)
            log.append(
                RawIngested(exposure=one, detector=detector),
                partition=partition,
                at_ms=START_MS + round(at_s * 1000) + detector,
            )
    return log


def read_live(dsn: str, log: NightLog, *, pause: tuple[int, int] | None = None, restart: bool = False) -> Reader:
    """Read second by second what was appended so far; a pause leaves out some of the seconds."""
    waiting = {p: list(messages) for p, messages in log.partitions.items()}
    last_ms = max(m.timestamp_ms for messages in log.partitions.values() for m in messages)
    with reader(dsn, RULES, max_clock_skew_ms=60_000) as one:
        one.claim(log.partitions)
        now_ms = START_MS
        paused = False
        while now_ms < last_ms + 2 * HOUR_MS:
            now_ms += 1_000
            if pause is not None and pause[0] <= now_ms - START_MS < pause[1]:
                paused = True
                continue
            if paused and restart:
                one.claim(log.partitions)
            paused = False
            messages: list[Message] = []
            ends: dict[PartitionId, int] = {}
            for partition, unread in waiting.items():
                here = list(takewhile(lambda m: m.timestamp_ms <= now_ms, unread))  # noqa: B023 -- used at once
                waiting[partition] = unread[len(here) :]
                messages += here
                ends[partition] = log.end(partition) - len(waiting[partition])
            one.builder.put(messages, ends, now_ms)
            one.write()
            one.tick_if_due(now_ms)
        return one


def read_at_once(dsn: str, log: NightLog, *, batch: int) -> Reader:
    """Read the whole log, partition after partition, as fast as it goes."""
    with reader(dsn, RULES, max_clock_skew_ms=60_000) as one:
        one.claim(log.partitions)
        for messages in log.partitions.values():
            for begin in range(0, len(messages), batch):
                one.put(messages[begin : begin + batch], log)
                one.write()
        close_all(one)
        return one


def history(dsn: str) -> list[tuple[object, ...]]:
    """Read why each visit was defined as it is. Not how often: a group that closes twice in a batch is written once."""
    with psycopg.connect(dsn) as connection:
        return connection.execute("SELECT group_key, close_reason FROM visits.visit ORDER BY 1").fetchall()


Told = tuple[Counter[tuple[str, CloseReason]], list[tuple[object, ...]], Rows]


def told(dsn: str, one: Reader) -> Told:
    return Counter(one.closed), history(dsn), canonical(dsn)


@pytest.mark.parametrize("seed", range(3))
def test_a_replay_closes_the_same_groups_for_the_same_reasons(dsn: str, seed: int) -> None:
    log = log_of(night(seed), keyed=True)
    live = told(dsn, read_live(dsn, log))
    assert {reason for _, reason in live[0]} == set(CloseReason), "every reason has a group that closed for it"
    assert live[0].total() > len(live[1]), "some group closed more than once"
    for batch in (1, 7, 10_000):
        wipe(dsn)
        assert told(dsn, read_at_once(dsn, log, batch=batch)) == live


@pytest.mark.parametrize("restart", [False, True], ids=["frozen", "restarted"])
@pytest.mark.parametrize("begin_s", [20, 61, 333])
def test_a_pause_of_an_hour_closes_nothing_early(dsn: str, begin_s: int, *, restart: bool) -> None:
    log = log_of(night(1), keyed=True)
    live = told(dsn, read_live(dsn, log))
    wipe(dsn)
    paused = read_live(dsn, log, pause=(begin_s * 1000, begin_s * 1000 + HOUR_MS), restart=restart)
    assert told(dsn, paused) == live


def test_scattered_raws_give_the_same_rows(dsn: str) -> None:
    announced = night(2)
    keyed = told(dsn, read_live(dsn, log_of(announced, keyed=True)))[2]
    for seed in range(3):
        scattered = log_of(announced, keyed=False, seed=seed)
        wipe(dsn)
        assert told(dsn, read_live(dsn, scattered))[2] == keyed
        wipe(dsn)
        assert told(dsn, read_at_once(dsn, scattered, batch=50))[2] == keyed


def test_a_backlog_is_no_silence(dsn: str) -> None:
    """Messages an hour old, in the middle of a group: the wall clock says nothing before the end is reached."""
    log = NightLog.of()
    for number in (1, 2):
        log.append(RawIngested(exposure=exposure(number, group="7"), detector=0), at_ms=START_MS + number)
    (messages,) = log.partitions.values()
    with reader(dsn, RULES) as one:
        one.claim(log.partitions)
        one.put(messages[:1], log, now_ms=FAR_MS)
        one.write()
        assert one.tick(FAR_MS) is None
        one.put(messages[1:], log, now_ms=FAR_MS)
        one.write()
        one.tick(FAR_MS)
        assert one.closed == [("LSSTComCam", CloseReason.IDLE)]
    assert history(dsn) == [("7", "idle")]
