"""``audit`` finds every seeded fault of a night and nothing else, and mends what stored exposures can mend."""

import csv
import json
import random
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, replace
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from psycopg import sql
from pyarrow import parquet

from consumer.config import DatabaseSettings
from consumer.model import Exposure
from consumer.postgres.connection import Database
from consumer.read.audit.last import read_last_audits
from tests.support.commands import invoke, invoke_json
from tests.support.exposures import DAY_OBS, exposure
from tests.support.feeding import Feeder, raws_of

NOON_MS = 1_793_600_000_000
COUNTER = {"group_exposures": "one-to-one-and-by-counter", "group_id": "digits"}
INSTRUMENTS = {"LSSTComCam": COUNTER, "LATISS": {}}
LAST = 240
KINDS = (
    "visit deleted", "region deleted", "raw lost", "exposure lost", "snap lost", "group stuck", "region altered",
    "padding altered", "member altered", "membership deleted", "announcement lost", "dead letter", "off sky",
    "hash altered",
)  # fmt: skip
MENDED = {
    "exposure-without-visit", "detector-region-missing", "visit-differs", "members-changed", "announcement-missing",
}  # fmt: skip

Found = set[tuple[str, str, str]]


def night() -> list[Exposure]:
    """Pairs of snaps, three exposures apart; the others are alone."""
    made = []
    for number in range(1, LAST + 1):
        first = number - number % 3 if number % 3 != 2 else number
        pair = {"seq_start": first, "seq_end": first + 1, "group": f"pair {first}"} if number % 3 != 2 else {}
        made.append(exposure(number, **pair) if number > 1 else exposure(number))
    return [replace(each, seq_end=LAST) if each.seq_end == LAST + 1 else each for each in made]


def id_of(number: int) -> int:
    return DAY_OBS * 100_000 + number


class Seeded:
    """A fed night with faults: single exposures have numbers 3k+2, pairs 3k and 3k+1."""

    def __init__(self, dsn: str, seed: int, count: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 -- which faults, not a secret
        self._singles = self._random.sample([n for n in range(8, LAST - 6) if n % 3 == 2], 70)
        self._pairs = self._random.sample([n for n in range(9, LAST - 6) if n % 3 == 0], 30)
        self.expected: Found = set()
        kinds = list(KINDS) + [self._random.choice(KINDS) for _ in range(count - len(KINDS))]
        lost: set[int] = set()
        raws_lost: dict[int, int] = {}
        off: set[int] = set()
        later = []
        for kind in kinds:
            if kind == "exposure lost":
                lost.add(number := self._singles.pop())
                self.expect("sequence-gap", "seq_num", number)
            elif kind == "snap lost":
                lost.add(number := self._pairs.pop() + 1)
                self.expect("snap-missing", "seq_num", number)
            elif kind == "raw lost":
                raws_lost[number := self._singles.pop()] = self._random.randrange(9)
                self.expect("raw-missing", "exposure", id_of(number))
            elif kind == "off sky":
                off.add(number := self._pairs.pop() + 1)
                self.expect("off-sky-member", "exposure", id_of(number))
            else:
                later.append(kind)
        with closing(Feeder(dsn, INSTRUMENTS)) as feeder:
            for each in night():
                if each.seq_num in lost:
                    continue
                made = replace(each, can_see_sky=False) if each.seq_num in off else each
                left = [d for d in range(9) if raws_lost.get(made.id % 100_000) != d]
                feeder.feed(raws_of([made], left), at_ms=NOON_MS)
            late = exposure(99, instrument="LATISS", obs_id="AT_99", day_obs=DAY_OBS)
            feeder.feed(raws_of([late]), at_ms=NOON_MS + 100_000_000)
        with psycopg.connect(dsn, options="-c search_path=visits") as self._connection:
            self._connection.execute(
                "INSERT INTO outbox (instrument, visit, revision, payload, created_at, sent_at)"
                " SELECT instrument, id, revision, '', '2020-01-01', now() FROM visit"
            )
            for kind in later:
                self.break_rows(kind)

    def expect(self, rule: str, subject: str, name: object) -> None:
        self.expected.add((rule, subject, str(name)))

    def run(self, statement: str, *values: object) -> None:
        changed = self._connection.execute(statement.encode(), values).rowcount
        assert changed > 0, statement

    def break_rows(self, kind: str) -> None:
        visit = id_of(self._pairs.pop() if kind == "membership deleted" else self._singles.pop())
        detector = self._random.randrange(9)
        if kind == "visit deleted":
            self.run("DELETE FROM visit WHERE id = %s", visit)
            self.run("DELETE FROM visit_definition WHERE visit = %s", visit)
            self.run("DELETE FROM visit_detector_region WHERE visit = %s", visit)
            self.run("DELETE FROM visit_system_membership WHERE visit = %s", visit)
            self.run("DELETE FROM visit_htm7 WHERE visit = %s", visit)
            self.expect("exposure-without-visit", "exposure", visit)
        elif kind == "region deleted":
            self.run("DELETE FROM visit_detector_region WHERE visit = %s AND detector = %s", visit, detector)
            self.expect("detector-region-missing", "visit", visit)
        elif kind == "region altered":
            self.run(
                "UPDATE visit_detector_region SET region = ("
                " SELECT region FROM visit_detector_region WHERE visit = %s AND detector = %s)"
                " WHERE visit = %s AND detector = %s",
                visit, (detector + 1) % 9, visit, detector,
            )  # fmt: skip
            self.expect("visit-differs", "visit", visit)
        elif kind == "padding altered":
            self.run("UPDATE visit SET padding = 300, inputs_hash = '\\x00' WHERE id = %s", visit)
            self.expect("visit-differs", "visit", visit)
        elif kind == "hash altered":
            self.run("UPDATE visit SET inputs_hash = '\\x01' WHERE id = %s", visit)
            self.expect("visit-differs", "visit", visit)
        elif kind == "member altered":
            self.run("UPDATE exposure SET tracking_ra = tracking_ra + 0.1 WHERE id = %s", visit)
            self.expect("members-changed", "visit", visit)
        elif kind == "membership deleted":
            self.run("DELETE FROM visit_definition WHERE visit = %s AND exposure = %s", visit, visit + 1)
            self.expect("members-changed", "visit", visit)
        elif kind == "announcement lost":
            self.run("UPDATE outbox SET revision = 0 WHERE visit = %s", visit)
            self.expect("announcement-missing", "visit", visit)
        elif kind == "dead letter":
            ((letter,),) = self._connection.execute(
                'INSERT INTO dead_letter (reason, detail, instrument, exposure, topic, partition, "offset")'
                " VALUES ('contradiction', 'seeded', 'LSSTComCam', %s, 't', 0, %s) RETURNING id",
                (visit, visit),
            ).fetchall()
            self.expect("dead-letter-open", "dead letter", letter)
        else:
            assert kind == "group stuck"
            ((key,),) = self._connection.execute("SELECT group_key FROM exposure WHERE id = %s", (visit,)).fetchall()
            self.run(
                "INSERT INTO open_group (instrument, group_key, clock, opened_ms, last_ms, deadline_ms)"
                " SELECT 'LSSTComCam', %s, min(id), %s, %s, %s FROM consumer_offset",
                key, NOON_MS, NOON_MS, NOON_MS + 1000,
            )  # fmt: skip
            self.expect("group-open-too-long", "group", key)


def named(reports: list[dict[str, Any]]) -> Found:
    found: Found = set()
    for each in reports:
        for group in each["findings"]:
            names = list(expand(group["subjects"], group["subject"]))
            assert len(names) == group["found"]
            found |= {(group["rule"], group["subject"], name) for name in names}
    return found


def expand(text: str, subject: str) -> Iterator[str]:
    for part in text.split(", "):
        first, dash, last = part.partition("-")
        if dash and subject != "group":
            yield from map(str, range(int(first), int(last) + 1))
        else:
            yield part


@pytest.fixture
def config(dsn: str, tmp_path: Path) -> Path:
    path = tmp_path / "audit.yaml"
    path.write_text(
        json.dumps({"instruments": INSTRUMENTS, "database": {"conninfo": dsn}, "announce": {"topic": "visits"}})
    )
    return path


def run_audit(config: Path, *options: object, exit_code: int) -> list[dict[str, Any]]:
    command = ("audit", "--day-obs", DAY_OBS, "--instrument", "LSSTComCam", "--config", config, *options)
    reports: list[dict[str, Any]] = invoke_json(*command, exit_code=exit_code)
    return reports


@pytest.mark.parametrize("seed", range(3))
def test_every_seeded_fault_is_named_and_nothing_else_and_the_mendable_are_mended(
    dsn: str, config: Path, seed: int
) -> None:
    seeded = Seeded(dsn, seed, 40)
    assert len(seeded.expected) == 40
    assert named(run_audit(config, "--grace", 0, exit_code=1)) == seeded.expected
    rest = {each for each in seeded.expected if each[0] not in MENDED}
    mended = run_audit(config, "--grace", 0, "--fix", exit_code=1)
    assert named(mended) == rest
    assert {each["kind"] for each in mended[0]["changes"]} == {"new", "updated"}
    again = run_audit(config, "--grace", 0, "--fix", exit_code=1)
    assert (named(again), again[0]["changes"]) == (rest, [])
    with psycopg.connect(dsn, options="-c search_path=visits") as connection:
        stored = connection.execute("SELECT findings FROM audit_run WHERE instrument = 'LSSTComCam'").fetchall()
        found = connection.execute("SELECT sum(found) FROM audit_finding").fetchall()
    assert stored == found == [(len(rest),)]


def test_a_healthy_night_is_clean_while_groups_are_open_and_raws_are_under_way(dsn: str, config: Path) -> None:
    with closing(Feeder(dsn, INSTRUMENTS)) as feeder:
        feeder.feed(raws_of(night()[:30], range(9)), at_ms=NOON_MS)
        feeder.feed(raws_of([exposure(35)], [0]), at_ms=NOON_MS)
        half = exposure(36, seq_start=36, seq_end=37, group="pair 36")
        feeder.feed(raws_of([half], [0]), at_ms=NOON_MS)
    assert run_audit(config, exit_code=0)[0]["findings"] == []
    found = named(run_audit(config, "--grace", 0, exit_code=1))
    assert {each[0] for each in found} == {"raw-missing", "sequence-gap", "group-open-too-long"}


def test_ranges_rules_pages_and_exit_codes(dsn: str, config: Path) -> None:
    with closing(Feeder(dsn, INSTRUMENTS)) as feeder:
        feeder.feed(raws_of([exposure(n) for n in (1, 2, 8, 10)], range(9)), at_ms=NOON_MS)
        feeder.feed(raws_of([exposure(99, instrument="LATISS", obs_id="A")]), at_ms=NOON_MS + 100_000_000)
    command = ("audit", "--day-obs", DAY_OBS, "--config", config, "--grace", 0)
    assert "3-7, 9" in invoke(*command, exit_code=1).stdout
    assert "<td>3-7, 9</td>" in invoke(*command, "--output", "html", exit_code=1).stdout
    assert "No findings" in invoke(*command, "--rule", "raw-missing", exit_code=0).stderr
    (one := config.with_name("one.yaml")).write_text(
        json.dumps(json.loads(config.read_text()) | {"instruments": {"LATISS": {}}})
    )
    other = ("audit", "--day-obs", DAY_OBS, "--config", one)
    assert "LSSTComCam: could not be checked" in invoke(*other, exit_code=2).stderr
    assert "nothing is stored" in invoke("audit", "--day-obs", 20200101, "--config", one, exit_code=0).stderr
    gone = ("--dsn", "host=127.0.0.1 port=1 dbname=x connect_timeout=1")
    assert "could not tell" in invoke(*command, *gone, exit_code=2).stderr


def test_every_difference_from_another_schema_and_from_a_list_is_found(dsn: str, config: Path, tmp_path: Path) -> None:
    with closing(Feeder(dsn, INSTRUMENTS)) as feeder:
        feeder.feed(raws_of([exposure(n) for n in range(1, 8)], range(9)), at_ms=NOON_MS)
    invoke("migrate", "--config", config, "--dsn", dsn)
    with psycopg.connect(dsn) as connection:
        connection.execute("CREATE SCHEMA other")
        copied = (
            "exposure", "visit", "visit_definition", "visit_system_membership", "visit_detector_region",
            "outbox",
        )  # fmt: skip
        for name in copied:
            copy = sql.SQL("CREATE TABLE other.{0} AS SELECT * FROM visits.{0}").format(sql.Identifier(name))
            connection.execute(copy)
    assert run_audit(config, "--against", "schema:other", exit_code=0)[0]["findings"] == []
    listed = [
        {name: getattr(exposure(n), name) for name in exposure().__dataclass_fields__} | {"dark_time": 31.0 + (n == 3)}
        for n in range(2, 9)
    ]
    with psycopg.connect(dsn, options="-c search_path=other") as connection:
        connection.execute("DELETE FROM visit WHERE id = %s", (id_of(1),))
        connection.execute("DELETE FROM visit_detector_region WHERE visit = %s AND detector = 4", (id_of(2),))
        connection.execute("UPDATE visit SET padding = 1 WHERE id = %s", (id_of(3),))
        connection.execute("UPDATE exposure SET dark_time = 1 WHERE id = %s", (id_of(4),))
    with psycopg.connect(dsn, options="-c search_path=visits") as connection:
        connection.execute("DELETE FROM visit WHERE id = %s", (id_of(5),))
        connection.execute("UPDATE exposure SET dark_time = 31.0")
    with psycopg.connect(dsn, options="-c search_path=other") as connection:
        connection.execute("UPDATE exposure SET dark_time = 31.0 WHERE id <> %s", (id_of(4),))
    assert named(run_audit(config, "--against", "schema:other", exit_code=1)) == {
        ("against-extra", "visit", str(id_of(1))), ("against-differs", "visit", str(id_of(2))),
        ("against-differs", "visit", str(id_of(3))), ("against-differs", "exposure", str(id_of(4))),
        ("against-missing", "visit", str(id_of(5))),
    }  # fmt: skip
    (file := tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, listed)))
    assert named(run_audit(config, "--against", file, exit_code=1)) == {
        ("against-extra", "exposure", str(id_of(1))), ("against-differs", "exposure", str(id_of(3))),
        ("against-missing", "exposure", str(id_of(8))),
    }  # fmt: skip


def test_a_scheduled_audit_is_of_the_night_that_ended_last(
    dsn: str, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two hours after the observing day ended: 14:00 UTC of the day after it."""

    class Now(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Now":
            return cls(2026, 11, 2, 14, tzinfo=tz)

    assert DAY_OBS == 20261101
    monkeypatch.setattr("consumer.commands.values.datetime", Now)
    with closing(Feeder(dsn, INSTRUMENTS)) as feeder:
        feeder.feed(raws_of([exposure(1)], [0]), at_ms=NOON_MS)
    command = ("audit", "--last-night", "--instrument", "LSSTComCam", "--grace", 0, "--config", config)
    assert {each[0] for each in named(invoke_json(*command, exit_code=1))} == {"raw-missing"}
    (report,) = invoke_json(*command, "--exit-zero")
    assert report["day_obs"] == DAY_OBS
    gone = ("--dsn", "host=127.0.0.1 port=1 dbname=x connect_timeout=1")
    assert "could not tell" in invoke(*command, *gone, "--exit-zero", exit_code=2).stderr
    assert "give either" in invoke("audit", "--config", config, exit_code=2).stderr
    with Database(DatabaseSettings.model_validate({"conninfo": dsn})) as database:
        (last,) = read_last_audits(database)
    assert (last.instrument, last.day_obs, last.found["error"]) == ("LSSTComCam", DAY_OBS, 1)


def test_a_raw_that_is_missing_is_named_by_detector(dsn: str, config: Path) -> None:
    with closing(Feeder(dsn, INSTRUMENTS)) as feeder:
        feeder.feed(raws_of([exposure(1)], [0, 1, 2, 4, 8]), at_ms=NOON_MS)
        feeder.feed(raws_of([exposure(99, instrument="LATISS", obs_id="A")]), at_ms=NOON_MS + 100_000_000)
    (report,) = run_audit(config, "--rule", "raw-missing", "--grace", 0, exit_code=1)
    assert [each["detail"] for each in report["findings"]] == ["no raw of detector 3, 5-7"]


def _listed(numbers: Iterable[int], **changes: object) -> list[dict[str, object]]:
    return [asdict(exposure(n)) | changes for n in numbers]


def test_lists_of_every_kind_are_compared_in_what_they_have(dsn: str, config: Path, tmp_path: Path) -> None:
    """JSON lines, CSV, Parquet and a URL; a list that lacks a column says nothing of it."""
    with closing(Feeder(dsn, INSTRUMENTS)) as feeder:
        feeder.feed(raws_of([exposure(n) for n in range(1, 8)], range(9)), at_ms=NOON_MS)
    rows = _listed(range(2, 9))
    rows[1]["dark_time"] = 17.0
    names = ["id", "obs_id", "day_obs", "group", "dark_time", "seq_num"]
    expected = {
        ("against-extra", "exposure", str(id_of(1))), ("against-differs", "exposure", str(id_of(3))),
        ("against-missing", "exposure", str(id_of(8))),
    }  # fmt: skip
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with (tmp_path / "list.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, names, extrasaction="ignore")
        table.writeheader()
        table.writerows(rows)
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "list.parquet")
    # As pandas writes a column of which some are unknown: numbers with a point, NaN for those.
    floats = {"group_size": float("nan")}
    short = [{name: each[name] for name in names} | floats | {"seq_num": float(str(each["seq_num"]))} for each in rows]
    parquet.write_table(pa.Table.from_pylist(short), tmp_path / "short.parquet")
    for source in ("list.jsonl", "list.csv", "list.parquet", "short.parquet"):
        assert named(run_audit(config, "--against", tmp_path / source, exit_code=1)) == expected, source
    url = f"file://{tmp_path}/list.jsonl"
    assert named(run_audit(config, "--against", url, exit_code=1)) == expected
    for source, what in (("none.parquet", "cannot be read"), ("s3://elsewhere", "cannot be read")):
        failed = invoke("audit", "--day-obs", DAY_OBS, "--config", config, "--against", source, exit_code=78)
        assert f"{source}: {what}" in failed.stderr


def test_the_raws_of_a_folder_are_compared_by_their_names(dsn: str, config: Path, tmp_path: Path) -> None:
    with closing(Feeder(dsn, INSTRUMENTS)) as feeder:
        feeder.feed(raws_of([exposure(n) for n in range(1, 5)], range(9)), at_ms=NOON_MS)
    folder = tmp_path / "raws"
    for number, detectors in ((1, range(9)), (2, range(7)), (3, range(9)), (5, range(3))):
        name = exposure(number).obs_id
        (folder / str(DAY_OBS) / name).mkdir(parents=True)
        for detector in detectors:
            (folder / str(DAY_OBS) / name / f"{name}_R22_S{detector // 3}{detector % 3}.fits").touch()
    another_night = f"CC_O_{DAY_OBS + 1}_000001"
    (folder / f"{another_night}_R22_S00.fits").touch()
    with psycopg.connect(dsn, options="-c search_path=visits") as connection:
        connection.execute("UPDATE exposure SET detectors = '{[0,6)}' WHERE id = %s", (id_of(3),))
    (report,) = run_audit(config, "--against", folder, exit_code=1)
    found = {(each["rule"], each["subjects"], each["detail"]) for each in report["findings"]}
    assert found == {
        ("against-missing", exposure(5).obs_id, "the other has 3 raws of it"),
        ("against-extra", str(id_of(4)), "the other has no raws of it"),
        ("against-differs", str(id_of(2)), "the other lacks the raws of detectors 7-8"),
        ("against-differs", str(id_of(3)), "the other has besides raws of detectors 6-8"),
    }
    (folder / "raw-of-no-exposure.fits").touch()
    untold = invoke(
        "audit", "--day-obs", DAY_OBS, "--instrument", "LSSTComCam", "--config", config, "--against", folder,
        exit_code=2,
    )  # fmt: skip
    assert f"1 raws of {folder} have no exposure or detector in their keys" in untold.stderr
