"""Logs: one line for each event, UTC, and no secret in any of them."""

import io
import json
import logging
import re
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import structlog

from consumer.logs import MASK, Redaction, configure_logging, get_logger


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """Leave logging as it was: it is the process's."""
    root = logging.getLogger()
    handlers, level, own = root.handlers[:], root.level, logging.getLogger("consumer").level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("consumer").setLevel(own)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_lines_carry_facts_logger_level_and_utc_time() -> None:
    out = io.StringIO()
    configure_logging("json", "info", stream=out)
    get_logger("consumer.service.loop").info("batch written", messages=205, partitions=["raw-ingested/3"], late=None)
    (line,) = lines(out)
    stamp = str(line.pop("timestamp"))
    assert stamp.endswith("Z")
    assert abs((datetime.now(tz=UTC) - datetime.fromisoformat(stamp)).total_seconds()) < 60
    assert line == {
        "event": "batch written",
        "messages": 205,
        "partitions": ["raw-ingested/3"],
        "late": None,
        "level": "info",
        "logger": "consumer.service.loop",
    }


def test_human_lines_are_no_json_and_without_colour_off_a_terminal() -> None:
    out = io.StringIO()
    configure_logging("human", "info", stream=out)
    get_logger("consumer.service.loop").warning("partition stalled", partition=3)
    text = out.getvalue()
    time, _, rest = text.partition(" ")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", time)
    assert re.fullmatch(r"\[warning *\] partition stalled +\[consumer\.service\.loop\] partition=3\n", rest)
    assert "\x1b" not in text


def test_levels_hold_for_us_and_libraries_are_quiet_below_warning() -> None:
    out = io.StringIO()
    configure_logging("json", "debug", stream=out)
    get_logger("consumer.x").debug("seen")
    logging.getLogger("psycopg").info("not seen")
    logging.getLogger("psycopg").warning("seen %s", "too", extra={"host": "db"})
    assert [line["event"] for line in lines(out)] == ["seen", "seen too"]
    assert lines(out)[1]["host"] == "db"
    configure_logging("json", "error", stream=out)
    get_logger("consumer.x").warning("not seen")
    logging.getLogger("psycopg").warning("not seen")
    assert len(lines(out)) == 2


def test_warnings_of_python_become_lines() -> None:
    out = io.StringIO()
    configure_logging("json", "info", stream=out)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("the sky is falling", UserWarning, stacklevel=1)
    (line,) = lines(out)
    assert "the sky is falling" in str(line["event"])
    assert line["logger"] == "py.warnings"


def test_a_second_configuration_replaces_the_first() -> None:
    first, second = io.StringIO(), io.StringIO()
    logger = get_logger("consumer.x")
    configure_logging("json", "info", stream=first)
    configure_logging("json", "info", stream=second)
    logger.info("once")
    assert first.getvalue() == ""
    assert len(lines(second)) == 1


@pytest.mark.parametrize(("log_format", "level"), [("xml", "info"), ("json", "loud")])
def test_unknown_formats_and_levels_are_refused(log_format: str, level: str) -> None:
    with pytest.raises(ValueError, match=r"xml|loud"):
        configure_logging(log_format, level)


@pytest.mark.parametrize("log_format", ["json", "human"])
def test_known_secrets_are_masked_wherever_they_stand(log_format: str) -> None:
    out = io.StringIO()
    configure_logging(log_format, "info", ["swordfish", "swordfish-2", "a+b(c"], stream=out)
    logger = get_logger("consumer.x")
    try:
        raise RuntimeError("refused swordfish at the door")  # noqa: TRY301  # a traceback is what the test needs
    except RuntimeError:
        logger.exception(
            "failed with swordfish-2", detail={"deep": ["a+b(c", b"swordfish"]}, error=ValueError("swordfish")
        )
    logging.getLogger("librdkafka").error("login %s", "swordfish")
    text = out.getvalue()
    assert "swordfish" not in text
    assert "a+b(c" not in text
    assert MASK + "-2" not in text
    assert text.count(MASK) >= 5
    assert "at the door" in text


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("postgresql://writer:hunter2@db/visits", "postgresql://writer:"),
        ("postgresql://writer:hun@ter2@db/visits", "@db/visits"),
        ("host=db password=hunter2 dbname=visits", "dbname=visits"),
        ("host=db password = 'hunter2 hunter2' dbname=visits", "dbname=visits"),
        ("https://registry/?api_key=hunter2&x=1", "x=1"),
        ("{'sasl.password': 'hunter2', 'group.id': 'g'}", "'group.id': 'g'"),
        ('{"client_secret": "hunter2"}', "client_secret"),
        ("Authorization: Bearer hunter2hunter2.abc", "Authorization"),
        ("Authorization: Basic aHVudGVyMg==hunter2", "Authorization"),
        ("ssl.key.password=hunter2", "ssl.key.password="),
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str, kept: str) -> None:
    masked = Redaction().text(text)
    assert "hunter2" not in masked
    assert "ter2" not in masked
    assert MASK in masked
    assert kept in masked


@pytest.mark.parametrize(
    "text",
    [
        "group 2024-03-21T00:00:00.000 closed",
        "postgresql://writer@db:5432/visits",
        "broker kafka:9092/1 down",
        'password authentication failed for user "writer"',
        "visit 7024032100720 written",
    ],
)
def test_other_text_is_left_alone(text: str) -> None:
    assert Redaction(["abc", ""]).text(text) == text


def test_values_under_a_secrets_name_are_masked_whatever_they_are() -> None:
    event = {"event": "x", "password": "p", "nested": {"client_secret": "q", "n": 1}, "ok": True}
    masked = Redaction()(None, "info", event)
    assert masked == {"event": "x", "password": MASK, "nested": {"client_secret": MASK, "n": 1}, "ok": True}
