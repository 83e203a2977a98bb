"""Every reference night, fed as events, gives DefineVisitsTask's rows: in order, reversed, shuffled with duplicates."""

import random
from collections.abc import Iterator, Sequence

import pytest

from consumer.model import Exposure, RawIngested
from tests.support.define_visits import load_night, night_names, orders
from tests.support.night_rows import assert_rows_of
from tests.support.nights import Course, feed, prepare, raws_of, rules_of, wipe
from tests.support.postgres import PostgresServer


@pytest.fixture(scope="module")
def dsn(postgres18: PostgresServer) -> Iterator[str]:
    with postgres18.database(prepare) as made:
        yield made


def with_duplicates(exposures: Sequence[Exposure], seed: int) -> list[RawIngested]:
    """Give each exposure one to three raws of different detectors, with repeats, exposures first seen in this order."""
    chance = random.Random(seed)  # noqa: S311 -- a reproducible night, not a secret
    raws: list[RawIngested] = []
    for one in exposures:
        raws += raws_of([one], *chance.sample(range(9), chance.randint(1, 3)))
        for _ in range(chance.randint(0, 2)):
            raws.append(chance.choice(raws))
    return raws


@pytest.mark.parametrize("name", night_names())
def test_a_night_gives_the_rows_of_the_task_in_every_order(dsn: str, name: str) -> None:
    night = load_night(name)
    rules = rules_of(night.config)
    for seed, exposures in enumerate(orders(night.exposures)):
        wipe(dsn)
        chance = random.Random(seed)  # noqa: S311 -- a reproducible course, not a secret
        course = Course(chance, n_partitions=chance.choice([1, 1, 3, 8]), max_batch=chance.choice([4, 16, 80]))
        closed = feed(dsn, rules, with_duplicates(exposures, seed), course)
        assert closed
        assert_rows_of(night, dsn)
