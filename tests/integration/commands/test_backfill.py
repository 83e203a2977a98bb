"""``backfill`` stores what the service would, in parts that may be ended and gone on with."""

import csv
import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from pyarrow import parquet

from consumer.model import Exposure
from tests.support.commands import invoke, invoke_json
from tests.support.exposures import exposure, run_of
from tests.support.feeding import Feeder, raws_of
from tests.support.nights import START_MS
from tests.support.postgres import PostgresServer
from tests.support.service import prepare_database
from tests.support.waiting import give_up_at

COUNTER = {"group_exposures": "one-to-one-and-by-counter"}
VISIT_TABLES = {
    "visit": "instrument, id, day_obs, physical_filter, name, seq_num, exposure_time, target_name, region, "
    "timespan_begin, timespan_end, group_key, complete, inputs_hash, rule, algorithm, camera_version, padding, "
    "revision",
    "visit_definition": "*",
    "visit_system_membership": "*",
    "visit_system": "*",
    "visit_detector_region": "*",
    "visit_htm7": "*",
    "open_group": "*",
}


def tables(dsn: str) -> dict[str, list[tuple[Any, ...]]]:
    found = {}
    with psycopg.connect(dsn) as connection:
        for name, columns in VISIT_TABLES.items():
            query = f"SELECT {columns} FROM visits.{name}".encode()  # noqa: S608 -- names of this module
            found[name] = sorted(connection.execute(query).fetchall(), key=str)
    return found


def written(path: Path, exposures: Sequence[Exposure]) -> Path:
    path.write_text("".join(json.dumps(asdict(each)) + "\n" for each in exposures))
    return path


def config_of(path: Path, dsn: str) -> Path:
    path.write_text(json.dumps({"instruments": {"LSSTComCam": COUNTER}, "database": {"conninfo": dsn}}))
    return path


NIGHT = [*run_of(1, 2), exposure(3), exposure(4, can_see_sky=False), *run_of(5, 6)[1:], exposure(9)]


@pytest.mark.parametrize("processes", [1, 2])
def test_the_rows_are_those_of_the_service(
    dsn: str, postgres18: PostgresServer, tmp_path: Path, processes: int
) -> None:
    file, config = written(tmp_path / "night.jsonl", NIGHT), config_of(tmp_path / "c.yaml", dsn)
    call = ("backfill", file, "--instrument", "LSSTComCam", "--processes", processes, "--config", config)
    found = invoke_json(*call)
    assert (found["n_exposures"], found["failed"]) == (6, [])
    with postgres18.database(prepare_database) as other, closing(Feeder(other, {"LSSTComCam": COUNTER})) as feeder:
        feeder.feed(raws_of(NIGHT), at_ms=START_MS)
        feeder.feed(raws_of([exposure(9)]), at_ms=START_MS + 10_000_000)
        assert tables(dsn) == tables(other)
    before = tables(dsn)
    again = invoke_json(*call)
    assert (again["n_new"], again["n_unchanged"]) == (0, found["n_new"])
    assert tables(dsn) == before
    assert f"{found['n_new']} were there already" in invoke(*call).stdout


def test_csv_parquet_a_url_and_what_is_none_of_them(dsn: str, tmp_path: Path) -> None:
    file = tmp_path / "night.csv"
    with file.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, list(asdict(NIGHT[0])))
        writer.writeheader()
        writer.writerows(asdict(each) for each in NIGHT)
    call = ("--instrument", "LSSTComCam", "--config", config_of(tmp_path / "c.yaml", dsn))
    assert invoke_json("backfill", file, *call)["n_exposures"] == 6
    from_csv = tables(dsn)
    assert invoke_json("backfill", written(tmp_path / "n.jsonl", NIGHT), *call)["n_new"] == 0
    assert tables(dsn) == from_csv
    parquet.write_table(pa.Table.from_pylist([asdict(each) for each in NIGHT]), tmp_path / "night.parquet")
    for source in (tmp_path / "night.parquet", f"file://{tmp_path}/night.parquet"):
        found = invoke_json("backfill", source, *call)
        assert (found["n_exposures"], found["n_new"], found["failed"]) == (6, 0, [])
        assert tables(dsn) == from_csv
    parquet.write_table(pa.table({"id": [1.5]}), tmp_path / "bad.parquet")
    refused = invoke("backfill", tmp_path / "bad.parquet", *call, exit_code=1)
    assert f"{tmp_path}/bad.parquet, row 1: id: 1.5 is no int" in refused.stderr
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "night.parquet").read_bytes()[:-20])
    assert "cut.parquet: cannot be read" in invoke("backfill", tmp_path / "cut.parquet", *call, exit_code=78).stderr
    file.write_text("id,seq_num\n1,many\n")
    assert "line 2: seq_num: 'many' is no int" in invoke("backfill", file, *call, exit_code=1).stderr
    file.write_text("name\nx\n")
    assert "no CSV with" not in invoke("backfill", file, *call, exit_code=1).stdout


def test_a_group_that_cannot_be_is_named_and_its_neighbours_are_stored(dsn: str, tmp_path: Path) -> None:
    config = config_of(tmp_path / "c.yaml", dsn)
    invoke("backfill", written(tmp_path / "a.jsonl", [exposure(1)]), "--instrument", "LSSTComCam", "--config", config)
    other = written(tmp_path / "b.jsonl", [exposure(1, physical_filter="z_03"), exposure(2)])
    found = invoke_json("backfill", other, "--instrument", "LSSTComCam", "--config", config, exit_code=1)
    assert found["n_new"] == 1
    (failed,) = found["failed"]
    assert "physical_filter" in failed


def test_it_goes_on_after_kill_9(dsn: str, postgres18: PostgresServer, tmp_path: Path) -> None:
    many = [exposure(number) for number in range(1, 3001)]
    file, config = written(tmp_path / "many.jsonl", many), config_of(tmp_path / "c.yaml", dsn)
    call = ["backfill", str(file), "--instrument", "LSSTComCam", "--processes", "2", "--config", str(config)]
    child = subprocess.Popen([sys.executable, "-m", "consumer", *call])

    def stored() -> int:
        with psycopg.connect(dsn) as connection:
            ((number,),) = connection.execute("SELECT count(*) FROM visits.visit").fetchall()
        return int(number)

    def sessions() -> int:
        query = (
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name LIKE 'visit-consumer backfill%'"
        )
        with psycopg.connect(dsn) as connection:
            ((number,),) = connection.execute(query).fetchall()
        return int(number)

    try:
        end_s = give_up_at(60)
        while not 0 < stored() < 3000:
            assert time.monotonic() < end_s
            assert child.poll() is None
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait(10)
    # The processes of its pool end with it.
    while sessions():
        assert time.monotonic() < end_s
        time.sleep(0.05)
    assert 0 < stored() < 3000
    found = invoke_json(*call)
    assert found["n_new"] + found["n_unchanged"] == 3000
    assert found["n_unchanged"] > 0
    with postgres18.database(prepare_database) as other:
        invoke("backfill", file, "--instrument", "LSSTComCam", "--config", config_of(tmp_path / "o.yaml", other))
        assert tables(dsn) == tables(other)
