"""One database with a small night of every kind of thing, and a page over it."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from tests.integration.page.small_night import INSTRUMENTS, feed_small_night
from tests.support.feeding import Feeder
from tests.support.pages import Page, page_of
from tests.support.postgres import PostgresServer
from tests.support.service import prepare_database


@pytest.fixture(scope="module")
def dsn(postgres18: PostgresServer) -> Iterator[str]:
    """Give the DSN of the database."""
    with postgres18.database(prepare_database) as name:
        with closing(Feeder(name, INSTRUMENTS)) as feeder:
            feed_small_night(feeder)
        with psycopg.connect(name, autocommit=True) as connection:
            connection.execute(
                "INSERT INTO visits.audit_run (instrument, day_obs, software_version, rules, findings, untold)"
                " VALUES ('LSSTComCam', 20261101, '1', '{seq}', 1, '{}')"
            )
            connection.execute(
                "INSERT INTO visits.audit_finding VALUES"
                " ('LSSTComCam', 20261101, 1, 'seq', 'error', 'seq_num', '4', 1, 'a gap')"
            )
        yield name


@pytest.fixture(scope="module")
def page(dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """Give a running page."""
    folder: Path = tmp_path_factory.mktemp("page")
    site = {"name": "Cerro Pachón", "latitude_deg": -30.24, "longitude_deg": -70.75}
    own = {"user_header": "X-Forwarded-User", "site": site, "max_clients": 250}
    with page_of(dsn, folder, page=own, instruments=INSTRUMENTS) as made:
        yield made
