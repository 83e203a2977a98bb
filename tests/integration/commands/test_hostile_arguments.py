"""Every command, every argument at its edges: no traceback, no terminal escape, an answer or one clear line."""

import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from consumer.cli import COMMANDS, main
from consumer.events import encode
from consumer.model import RawIngested
from tests.support.children import free_port
from tests.support.exposures import exposure
from tests.support.feeding import Feeder
from tests.support.postgres import PostgresServer
from tests.support.service import prepare_database

N_VALUES = 200
NOON_MS = 1_793_620_800_000
ESCAPE = "\x1b[31mred\x1b]0;title\x07"
RIGHT_TO_LEFT = "\u202egnp.exe"

FIXED = (
    "", " ", "-", "--", "\t", "\n", "0", "-0", "-1", "1", "00000001", "0x10", "1_000", "1e3", "nan", "-nan", "inf",
    "-inf", "1e309", "1e-320", "360", "360.0000001", "-90.0001", "90", "180.5", "9" * 19, "9" * 20, "9" * 400,
    "9" * 5000, str(2**31 - 1), str(2**31), str(2**63 - 1), str(2**63), str(-(2**63)), str(2**70), "20261101",
    "20260229", "00000000", "99999999", "100000101", "2026-11-01", "20-17", "17-20", "-", "17-", "-20", "17--20",
    "1-2-3", "\u0661\u0662", "\u00b2", "now", "latest", "earliest", "null", "None", "true", "any", "LSSTComCam",
    "LSSTComCam'; DROP TABLE visits.visit; --", "%s", "%(x)s", "{0}", "${HOME}", "`id`", "../../../etc/passwd",
    "/dev/null", "/", "a" * 257, "é" * 300, "\U0001f52d", "\x00", "a\x00b", ESCAPE, RIGHT_TO_LEFT, "\ud800",
    "line\nline", "\r\rover", "<script>alert(1)</script>", "one-to-one", "digits", "json",
    "postgresql://nobody@127.0.0.1:1/x", "host=127.0.0.1 port=1", "service=x", "dbname='", "2026-11-01T00:00:00",
    "0001-01-01", "9999-12-31T23:59:59", "10000-01-01", "localhost:1", "[::1]:1", ":::", "a,b,,c",
)  # fmt: skip
VALID: Mapping[str, tuple[str, ...]] = {
    "--instrument": ("LSSTComCam",), "--ra": ("150.1",), "--dec": ("2.2",), "--topic": ("raw-ingested",),
    "--partition": ("0",),
    "--offset": ("0",), "--day-obs": ("20261101",),
    "--timeout": ("1s",), "--before": ("20200101",),
    "--from": ("elsewhere",), "--to": ("elsewhere",), "--group": ("elsewhere",),
}  # fmt: skip
SERVES_FOR_EVER = {"run", "demo", "page"}
WRITES_DATA = {("export",)}
"""For files and programs, not for terminals: the texts of the data stay what they are."""


def leaves(command: click.Command, names: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from leaves(inner, (*names, name))
    else:
        yield names, command


TAKES_NO_VALUE = {("check-config",), ("emit", "notifications"), ("emit", "listen")}


def own_parameters(command: click.Command) -> list[click.Parameter]:
    return [each for each in command.params if each.name not in {"help", "config", "watch"}]  # one has no end


ALL = [
    (names, command)
    for names, command in leaves(main)
    if names[0] not in SERVES_FOR_EVER and names not in TAKES_NO_VALUE
]


def values(random: np.random.Generator) -> Iterator[str]:
    """Yield every fixed value once, then drawn ones."""
    yield from FIXED
    alphabet = [*map(chr, range(128)), "é", "\u202e", "\u2028", "\ud800", "\U0001f52d", "9", "-", "."]
    while True:
        yield "".join(str(each) for each in random.choice(alphabet, int(random.integers(1, 30))))


def arguments(command: click.Command, chosen: click.Parameter, value: str, files: Mapping[str, str]) -> list[str]:
    """Make a command line that is good but for one value."""
    given: list[str] = []
    positional: list[str] = []
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            good = files["exposures"] if isinstance(parameter.type, click.File | click.Path) else "2026110100001"
            positional.append(value if parameter is chosen else good)
        elif isinstance(parameter, click.Option):
            name = max(parameter.opts, key=len)
            if parameter is chosen:
                given += [name] if parameter.is_flag else [f"{name}={value}"]
            elif name == "--config":
                given += [name, files["config"]]
            elif parameter.required:
                given += [name, *VALID[name]]
            elif name == "--dry-run":
                given += [name]
            elif name == "--day-obs" and command.name == "redefine" and chosen.name != "visit":
                given += [name, *VALID[name]]
    return [*given, "--", *positional]


@pytest.fixture(scope="module")
def files(postgres18: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    folder = tmp_path_factory.mktemp("hostile")
    hostile = {"target_name": ESCAPE, "science_program": RIGHT_TO_LEFT}
    with postgres18.database(prepare_database) as dsn:
        with closing(Feeder(dsn, {"LSSTComCam": {}})) as feeder:
            one = encode(RawIngested(exposure=exposure(1, **hostile), detector=0))
            feeder.feed([one, ESCAPE.encode()], at_ms=NOON_MS)
        config = folder / "visits.yaml"
        settings: dict[str, Any] = {
            "kafka": {"bootstrap_servers": f"127.0.0.1:{free_port()}"},
            "database": {"conninfo": dsn},
            "instruments": {"LSSTComCam": {}},
        }
        config.write_text(yaml.safe_dump(settings))
        (folder / "exposures.jsonl").write_text("")
        yield {"config": str(config), "exposures": str(folder / "exposures.jsonl")}


@pytest.mark.parametrize(("names", "command"), ALL, ids=[" ".join(names) for names, _ in ALL])
def test_hostile_values_get_an_answer_or_one_clear_line(
    names: tuple[str, ...],
    command: click.Command,
    files: Mapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    # What a command asks of brokers is no matter here: none answers, at once.
    for client in (
        "admin.positions.LogInspector",
        "admin.dead_letters.ReplayProducer",
        "commands.simulate.produce_night",
        "commands.emit_live._emitter",
    ):
        monkeypatch.setattr(f"consumer.{client}", _no_brokers)
    monkeypatch.setattr("consumer.commands.wait.wait_for", lambda ask, **_: ask())
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(7)
    chosen = own_parameters(command)
    for number, value in zip(range(N_VALUES), values(random), strict=False):
        line = arguments(command, chosen[number % len(chosen)], value, files)
        result = CliRunner().invoke(main, [*names, *line])
        where = (names, line)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise AssertionError(where) from result.exception
        assert result.exit_code in {0, 1, 2, 78}, (where, result.output)
        assert "Traceback" not in result.output, where
        if names not in WRITES_DATA:
            assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202e]", result.output), (where, result.output)
        assert result.exit_code == 0 or result.output.strip(), where


def _no_brokers(*_: object, **__: object) -> Any:
    from consumer.errors import TransientError  # noqa: PLC0415 - only here

    raise TransientError("no brokers")


def test_every_command_is_among_those_that_are_tried() -> None:
    assert {names[0] for names, _ in ALL} == set(COMMANDS) - SERVES_FOR_EVER - {"check-config"}
    assert all(own_parameters(command) for _, command in ALL)


def test_nothing_of_the_data_reaches_a_terminal(files: Mapping[str, str]) -> None:
    for line in (["explain", "2026110100001"], ["dead-letters", "list"], ["dead-letters", "show", "1"]):
        result = CliRunner().invoke(main, [*line, "--config", files["config"]])
        assert result.exit_code == 0, result.output
        assert "\x1b" not in result.output
        assert "\u202e" not in result.output
    found = CliRunner().invoke(main, ["find", "--ra=150.1", "--dec=2.2", "--config", files["config"]]).output
    assert "\\x1b[31mred" in found
    assert "\x1b" not in found
