"""A page as its users run it: `visit-consumer page` as a child process, asked over HTTP."""

import gzip
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.message import Message
from http.client import HTTPResponse
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.service import Replica, settings_for
from tests.support.waiting import give_up_at

API = "/api/v1"


class Answered(NamedTuple):
    """One answer."""

    status: int
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(gzip.decompress(self.body) if self.headers.get("Content-Encoding") == "gzip" else self.body)


class Event(NamedTuple):
    """One server-sent event."""

    name: str
    id: str
    data: Any


class Page:
    """A running page.

    Parameters
    ----------
    replica
        Its process.
    """

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.url = str(replica.wait_for_line("listening")["url"])

    def ask(self, path: str, *, method: str = "GET", **headers: str) -> Answered:
        """Send one request; underscores in the names of headers are hyphens."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.url + path, method=method, headers=named)  # noqa: S310 -- our own http:// address
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 -- as above
                return Answered(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            return Answered(error.code, error.headers, error.read())

    def api(self, path: str) -> Any:
        """Return what the API answers with 200."""
        answer = self.ask(API + path)
        assert answer.status == 200, answer.body
        return answer.json

    @contextmanager
    def events(self, last_id: str | None = None, timeout_s: float = 20.0) -> Iterator[Iterator[Event]]:
        """Open the stream of events; a read that waits longer fails."""
        headers = {} if last_id is None else {"Last-Event-ID": last_id}
        request = urllib.request.Request(f"{self.url}{API}/events", headers=headers)  # noqa: S310 -- as above
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:  # noqa: S310 -- as above
            yield _events(answer)


def next_event(events: Iterator[Event], *names: str, within_s: float = 30.0) -> Event:
    """Return the next event of one of these names."""
    end_s = give_up_at(within_s)
    for each in events:
        if each.name in names:
            return each
        assert time.monotonic() < end_s, f"no {names}, the last event was {each.name}"
    raise AssertionError("the stream has ended")


@contextmanager
def page_of(dsn: str, folder: Path, **sections: Mapping[str, Any]) -> Iterator[Page]:
    """Run a page over a database."""
    settings = settings_for("nowhere:1", dsn, **sections)
    settings["page"] = {"port": 0, **sections.get("page", {})}
    with Replica(folder, settings, name="page", command=("page",)) as replica:
        yield Page(replica)


def _events(answer: HTTPResponse) -> Iterator[Event]:
    fields: dict[str, str] = {}
    for raw in answer:
        line = raw.decode().rstrip("\n")
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            yield Event(fields["event"], fields.get("id", ""), json.loads(fields["data"]))
            fields = {}
