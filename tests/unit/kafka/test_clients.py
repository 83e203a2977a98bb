"""What librdkafka refuses is a wrong setting that the commands name, and no stack trace."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka import Producer

from consumer.config import KafkaSettings
from consumer.errors import ConfigurationError
from consumer.kafka.announcer import KafkaAnnouncer
from consumer.kafka.clients import check_clients, new_client
from consumer.kafka.dead_letter_replay import ReplayProducer
from consumer.kafka.log_inspector import LogInspector
from consumer.kafka.properties import connection_properties
from tests.support.commands import invoke

NOWHERE = "127.0.0.1:1"
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"foo.bar": 1}, "foo.bar"),
    ({"socket.timeout.ms": "x"}, "socket.timeout.ms"),
    ({"socket.timeout.ms": 1}, "outside allowed range"),
]


def kafka(**given: Any) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=NOWHERE, **given)


def config_file(folder: Path, **sections: Any) -> Path:
    """Write a configuration that is good but for what is given."""
    file = folder / "visits.yaml"
    sections["kafka"] = {"bootstrap_servers": NOWHERE, **sections.get("kafka", {})}
    file.write_text(yaml.safe_dump({"database": {"conninfo": ""}, **sections}))
    return file


@pytest.mark.parametrize(("client", "named"), WRONG)
def test_a_property_that_is_refused_is_a_wrong_setting_of_every_client(client: dict[str, Any], named: str) -> None:
    connection = connection_properties(kafka(client=client))
    makers: list[Callable[[], object]] = [
        lambda: KafkaAnnouncer(connection, "visits"),
        lambda: ReplayProducer(connection),
        lambda: LogInspector(connection, group="asks"),
    ]
    for make in makers:
        with pytest.raises(ConfigurationError, match=rf"^kafka\.client: .*{named}"):
            make()


@pytest.mark.parametrize("key", ["ca_file", "certificate_file"])
def test_a_file_that_is_no_pem_is_named_by_its_setting(tmp_path: Path, key: str) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("no certificate\n")
    files = {"ca_file": junk} if key == "ca_file" else {"certificate_file": junk, "key_file": junk}
    settings = kafka(security={"protocol": "SSL", **files})
    with pytest.raises(ConfigurationError, match=rf"^kafka\.security\.{key}: "):
        check_clients(settings, announces=False)


def test_no_secret_stands_in_the_complaint() -> None:
    # librdkafka repeats the values of some properties; of none that is a secret, as far as is known.
    properties = {"compression.codec": "very-secret", "sasl.password": "very-secret"}
    with pytest.raises(ConfigurationError, match=r"compression\.codec") as refused:
        new_client(Producer, properties)
    assert "very-secret" not in str(refused.value)
    assert refused.value.__context__ is None


def test_the_check_makes_good_clients_and_is_not_heard(caplog: pytest.LogCaptureFixture) -> None:
    oauth = {"token_endpoint_url": "https://127.0.0.1:1/token", "client_id": "us", "client_secret": "secret"}
    caplog.set_level(logging.DEBUG)
    for security in ({}, {"protocol": "SASL_SSL", "mechanism": "OAUTHBEARER", "oauth": oauth}):
        check_clients(kafka(client={"debug": "all"}, security=security), announces=True)
    assert not caplog.records


def test_the_check_covers_the_announcements() -> None:
    settings = kafka(client={"linger.ms": 60_000})
    check_clients(settings, announces=False)
    with pytest.raises(ConfigurationError, match=r"linger\.ms"):
        check_clients(settings, announces=True)


def test_check_config_tells(tmp_path: Path) -> None:
    good = invoke("check-config", "--config", config_file(tmp_path, announce={"topic": "visits"}))
    assert "good" in good.stdout
    assert not good.stderr
    wrong = config_file(tmp_path, kafka={"client": {"foo.bar": 1}})
    refused = invoke("check-config", "--config", wrong, exit_code=78)
    assert "good" not in refused.stdout
    assert refused.stderr.startswith(
        "visit-consumer: kafka.client: librdkafka refuses it: No such configuration property"
    )
    junk = tmp_path / "junk.pem"
    junk.write_text("no certificate\n")
    registry = config_file(tmp_path, registry={"url": "https://127.0.0.1:1", "ca_file": str(junk)})
    assert "registry.ca_file" in invoke("check-config", "--config", registry, exit_code=78).stderr


def test_a_tool_ends_with_one_line(tmp_path: Path) -> None:
    wrong = config_file(tmp_path, kafka={"client": {"foo.bar": 1}})
    stderr = invoke("simulate", "--config", wrong, "--topic", "raws", "--exposures", 1, exit_code=78).stderr
    assert "kafka.client" in stderr
    assert "Traceback" not in stderr
