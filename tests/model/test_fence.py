"""The model holds, and the code does what the model does."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.model.fence import WATCH, check_all_states, missing_tools, replay, trace
from tests.support.nights import prepare
from tests.support.postgres import PostgresServer

pytestmark = pytest.mark.timeout(1800)

STEPS = {"lease", "commit", "fenced", "lost_after", "lost_before", "retry", "crash", "trip", "reset"}


@pytest.fixture(autouse=True)
def _spin() -> None:
    if missing := missing_tools():
        pytest.skip(f"not installed: {', '.join(missing)} (Debian: spin, gcc)")


@pytest.fixture(scope="module")
def dsn(postgres18: PostgresServer) -> Iterator[str]:
    with postgres18.database(prepare) as made:
        with psycopg.connect(made, autocommit=True) as connection:
            connection.execute(WATCH)
        yield made


@pytest.mark.parametrize("leases", [1, *(pytest.param(number, marks=pytest.mark.long) for number in (2, 3))])
def test_every_state_of_the_model_keeps_the_promises(leases: int, tmp_path: Path) -> None:
    said = check_all_states(tmp_path, leases=leases)
    assert "errors: 0" in said
    assert "truncated" not in said


@pytest.mark.parametrize("first", [pytest.param(1, id="some"), pytest.param(41, id="many", marks=pytest.mark.long)])
def test_the_code_does_what_the_model_does(dsn: str, first: int) -> None:
    done: Counter[str] = Counter()
    for seed in range(first, 41 if first == 1 else 1041):
        steps = trace(seed)
        replay(dsn, f"seed-{first}-{seed}", steps)
        done.update(step.what for step in steps)
    assert done.keys() == STEPS
