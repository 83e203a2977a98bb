"""``prune`` removes whole nights, and nothing else."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
import yaml

from tests.support.commands import invoke, invoke_json
from tests.support.exposures import DAY_OBS, exposure, run_of
from tests.support.feeding import Feeder, raws_of
from tests.support.nights import START_MS
from tests.support.postgres import PostgresServer
from tests.support.service import prepare_database
from tests.support.tables import snapshot

INSTRUMENTS = {"LSSTComCam": {"group_exposures": "one-to-one-and-by-counter"}, "LATISS": {}}
YOUNG = [exposure(20, day_obs=DAY_OBS + 1), exposure(21, day_obs=DAY_OBS + 1, can_see_sky=False)]
OTHER = exposure(30, instrument="LATISS", obs_id="AT_30")


@pytest.fixture
def feeder(dsn: str) -> Iterator[Feeder]:
    """Give one reader of one partition."""
    with closing(Feeder(dsn, INSTRUMENTS)) as made:
        yield made


@pytest.fixture
def config(tmp_path: Path, dsn: str) -> Path:
    """Write the settings of that reader."""
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump({"instruments": INSTRUMENTS, "database": {"conninfo": dsn}}))
    return file


def test_whole_nights_go_and_the_rest_is_as_if_they_had_never_been(
    feeder: Feeder, config: Path, dsn: str, postgres18: PostgresServer
) -> None:
    old = [*run_of(1, 2), exposure(3), exposure(4, can_see_sky=False), *(exposure(n) for n in range(100, 350))]
    feeder.feed(raws_of([*old, OTHER]), at_ms=START_MS)
    feeder.feed(raws_of([exposure(3, physical_filter="z_03")]), at_ms=START_MS)  # an open dead letter
    feeder.feed(raws_of(YOUNG), at_ms=START_MS)
    before = snapshot(dsn)
    call = ("prune", "--before", DAY_OBS + 1, "--instrument", "LSSTComCam", "--config", config)
    plan = invoke_json(*call, "--dry-run")
    assert snapshot(dsn) == before
    assert plan["nights"] == [{"day_obs": DAY_OBS, "instrument": "LSSTComCam", "exposures": 254, "visits": 254}]
    done = invoke_json(*call)
    assert done["removed"] == {"exposures": 254, "visits": 254}
    with postgres18.database(prepare_database) as other, closing(Feeder(other, INSTRUMENTS)) as second:
        second.feed(raws_of([OTHER, *YOUNG]), at_ms=START_MS)
        found, expected = snapshot(dsn), snapshot(other)
        for name in ("consumer_offset", "dead_letter"):
            found.pop(name), expected.pop(name)
        assert found == expected
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT status FROM visits.dead_letter").fetchall() == [("open",)]
    assert invoke_json(*call)["nights"] == []
    assert "Nothing is stored" in invoke(*call).stderr


def test_open_groups_and_groups_across_the_day_stay(feeder: Feeder, config: Path, dsn: str) -> None:
    waiting = run_of(1, 3)[:1]
    feeder.feed(raws_of(waiting), at_ms=START_MS)
    before = snapshot(dsn)
    done = invoke_json("prune", "--before", DAY_OBS + 1, "--config", config)
    assert done["removed"] == {"exposures": 0, "visits": 0}
    assert snapshot(dsn) == before
