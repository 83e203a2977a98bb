"""A browser, and a whole service for it to look at: a broker, a database, the consumer, the page."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from playwright.sync_api import Browser

from consumer.kafka.mock_cluster import EmbeddedBroker
from consumer.simulation import SimulationSettings, message_value, simulate_night
from tests.support.browsers import SCREENSHOTS, running_browser
from tests.support.children import free_port
from tests.support.postgres import PostgresServer, wheel_binaries
from tests.support.service import TOPIC, Replica, Wire, prepare_database, produce, settings_for

INSTRUMENTS: Final[dict[str, Any]] = {"LSSTCam": {}, "LSSTComCam": {"group_exposures": "one-to-one-and-by-counter"}}
SITE: Final = {"name": "Cerro Pachón", "latitude_deg": -30.24, "longitude_deg": -70.75, "min_altitude_deg": 20.0}


class LiveService:
    """Everything, running, on ports that stay.

    Parameters
    ----------
    folder
        For settings and logs.
    stack
        Ends the parts.
    """

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._broker = stack.enter_context(EmbeddedBroker())
        self._broker.create_topic(TOPIC)
        self.postgres = stack.enter_context(PostgresServer(wheel_binaries(), fast=True))
        self.dsn = stack.enter_context(self.postgres.database(prepare_database))
        own = {"port": free_port(), "site": SITE}
        settings = settings_for(self._broker.bootstrap, self.dsn, instruments=INSTRUMENTS, page=own)
        self.consumer = stack.enter_context(Replica(folder, settings, name="consumer"))
        self.page = stack.enter_context(Replica(folder, settings, name="page", command=("page",)))
        self.url = str(self.page.wait_for_line("listening")["url"]).rstrip("/")
        self.consumer.wait_ready()

    def send(self, messages: Sequence[Wire]) -> None:
        """Append messages to the topic."""
        produce(self._broker.bootstrap, messages)

    def send_night(self, **settings: Any) -> None:
        """Append a simulated night."""
        raws = simulate_night(SimulationSettings(**settings))
        self.send([Wire(message_value(each), each.key.encode()) for each in raws])

    def count(self, table: str) -> int:
        """Count the rows of a table."""
        query = psycopg.sql.SQL("SELECT count(*) FROM visits.{}").format(psycopg.sql.Identifier(table))
        with psycopg.connect(self.dsn) as connection:
            row = connection.execute(query).fetchone()
        assert row is not None
        return int(row[0])


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Give a running browser, and end it with the module: while it runs, nothing else has an event loop."""
    with running_browser() as started:
        yield started
        print(f"screenshots: {SCREENSHOTS}")  # noqa: T201 -- says where the artefacts are


@pytest.fixture(scope="module")
def service(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    """Give a running service; without a browser none is started."""
    assert browser.is_connected()
    with ExitStack() as stack:
        yield LiveService(tmp_path_factory.mktemp("service"), stack)
