"""What changes reaches every open page, and a page that was cut off goes on."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import psycopg
import pytest

from tests.integration.page.small_night import AT_MS, INSTRUMENTS
from tests.support.exposures import exposure, run_of
from tests.support.feeding import Feeder, raws_of
from tests.support.pages import API, Page, next_event, page_of
from tests.support.postgres import PostgresServer, wheel_binaries
from tests.support.service import prepare_database

WITHIN_S = 3.0
"""Two are meant where a replica wakes the page; here it looks by itself."""


@pytest.fixture
def dsn(postgres18: PostgresServer) -> Iterator[str]:
    with postgres18.database(prepare_database) as name:
        yield name


@pytest.fixture
def feeder(dsn: str) -> Iterator[Feeder]:
    with closing(Feeder(dsn, INSTRUMENTS)) as made:
        yield made


@pytest.fixture
def page(dsn: str, tmp_path: Path) -> Iterator[Page]:
    with page_of(dsn, tmp_path, page={"max_clients": 250}, instruments=INSTRUMENTS) as made:
        yield made


def later(feeder: Feeder, number: int) -> None:
    """Store one visit in a moment."""
    raws = raws_of([exposure(number)])
    threading.Timer(0.5, lambda: feeder.feed(raws, at_ms=AT_MS)).start()


def test_what_changes_is_sent(page: Page, feeder: Feeder) -> None:
    with page.events() as events:
        first = next_event(events, "state")
        assert first.data["night"]["day_obs"] is None
        later(feeder, 7)
        started_s = time.monotonic()
        visits = next_event(events, "visits")
        assert time.monotonic() - started_s < 0.5 + WITHIN_S
        assert [each["visit"] for each in visits.data["visits"]] == [exposure(7).id]
        assert len(visits.data["visits"][0]["polygon"]) >= 8
        state = next_event(events, "state")
        assert (state.data["night"]["visits"], state.data["status"]["open_dead_letters"]) == (1, 0)
        # Between two events nothing is older than what was sent.
        assert page.api("/nights/latest")["visits"] == 1

        feeder.feed([b"no event"], at_ms=AT_MS)
        assert next_event(events, "state").data["status"]["open_dead_letters"] == 1
        first_snap, second_snap = run_of(1, 2)
        feeder.feed(raws_of([first_snap]), at_ms=AT_MS)
        assert next_event(events, "groups").data["groups"][0]["waits_for"] == "seq_num 2"
        feeder.feed(raws_of([second_snap]), at_ms=AT_MS)
        assert next_event(events, "groups").data["groups"] == []
        assert page.api("/groups")["total"] == 0


def test_a_page_that_comes_back_goes_on(page: Page, feeder: Feeder) -> None:
    with page.events() as events:
        next_event(events, "state")
        feeder.feed(raws_of([exposure(7)]), at_ms=AT_MS)
        seen = next_event(events, "visits")
    feeder.feed(raws_of([exposure(8)]), at_ms=AT_MS)
    with page.events(seen.id) as events:
        missed = next_event(events, "visits")
        assert exposure(8).id in [each["visit"] for each in missed.data["visits"]]
    for odd in ("x", "-1", "9" * 30, "0", "٣"):  # digits of another script among them
        with page.events(odd.encode().decode("latin-1")) as events:
            next_event(events, "state")


def test_a_backfill_is_fetched_rather_than_sent(page: Page, feeder: Feeder, dsn: str) -> None:
    feeder.feed(raws_of([exposure(7)]), at_ms=AT_MS)
    with page.events() as events:
        seen = next_event(events, "visits")
        with psycopg.connect(dsn) as connection:
            columns = "instrument, day_obs, region, group_key, inputs_hash, rule, algorithm, padding, close_reason"
            connection.execute(
                f"INSERT INTO visits.visit (id, name, software_version, {columns})"  # noqa: S608 -- our own columns
                f" SELECT n, n::text, '1', {columns} FROM visits.visit, generate_series(1, 1200) AS n"
            )
        next_event(events, "reload")
    with page.events(seen.id) as events:
        next_event(events, "reload")


def test_the_database_is_restarted(tmp_path: Path) -> None:
    with (
        PostgresServer(wheel_binaries(), fast=True) as own_postgres,
        own_postgres.database(prepare_database) as own,
        page_of(own, tmp_path, instruments=INSTRUMENTS) as page,
        page.events() as events,
    ):
        next_event(events, "state")
        own_postgres.stop()
        stale = next_event(events, "stale")
        assert stale.data["detail"] == "the database cannot be asked"
        assert stale.data["since"] is not None
        answer = page.ask(f"{API}/status")
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert b"password" not in answer.body
        assert page.ask("/healthz").status == page.ask("/readyz").status == 200
        own_postgres.start()
        next_event(events, "state")
        assert page.api("/nights")["nights"] == []


def test_two_hundred_pages_are_kept_up_to_date(page: Page, feeder: Feeder) -> None:
    """Each is sent the same, and one more than there may be is refused."""
    host, port = page.url.removeprefix("http://").split(":")

    async def follow(sent: asyncio.Event) -> bytes:
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET {API}/events HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        found = b""
        while b"event: visits" not in found:
            found += await reader.read(65536)
            if b"event: state" in found:
                sent.set()
        found += await reader.readuntil(b"\n\n")
        writer.close()
        return found

    async def all_of_them() -> list[bytes]:
        began = [asyncio.Event() for _ in range(200)]
        tasks = [asyncio.create_task(follow(each)) for each in began]
        await asyncio.gather(*(each.wait() for each in began))
        await asyncio.to_thread(feeder.feed, raws_of([exposure(7)]), at_ms=AT_MS)
        return await asyncio.wait_for(asyncio.gather(*tasks), 60)

    assert all(str(exposure(7).id).encode() in each for each in asyncio.run(all_of_them()))


def test_one_page_too_many_is_refused(dsn: str, tmp_path: Path) -> None:
    with page_of(dsn, tmp_path, page={"max_clients": 2}) as page, ExitStack() as stack:
        for _ in range(2):
            next_event(stack.enter_context(page.events()), "state")
        answer = page.ask(f"{API}/events")
        assert (answer.status, answer.json["detail"]) == (503, "too many pages are open")
        assert page.ask(f"{API}/nights").status == 200


def test_a_quiet_page_hears_a_heartbeat_and_is_not_cut_off(page: Page) -> None:
    with page.events() as events:
        for _ in range(2):
            assert next_event(events, "heartbeat", within_s=20).data["at"]
    code, seconds = page.replica.terminate()
    assert (code, seconds < 10) == (0, True)
