"""Settings: sources, refusals, and errors that say which key, where and what to do."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from consumer.config import Settings, load_settings, secret_values
from consumer.config.database import conninfo_parameters, has_password
from consumer.config.instruments import InstrumentSettings
from consumer.config.kafka import PROMISED_PROPERTIES
from consumer.config.keys import all_keys, section_of, variable
from consumer.errors import BadMessageError, ConfigurationError
from consumer.events import encode_record, parse_writer_schema, record_of, schema_text
from consumer.kafka.event_decoder import event_decoder
from consumer.model import RawIngested
from deploy.reference.settings import settings_reference
from tests.support.exposures import exposure

DEPLOY = Path(__file__).parents[3] / "deploy"
MINIMAL: dict[str, Any] = {
    "kafka": {"bootstrap_servers": "broker:9092"},
    "database": {"conninfo": "host=/run/postgresql dbname=visits"},
}


def settings(tmp_path: Path, content: dict[str, Any] | str, **environ: str) -> Settings:
    """Load settings from YAML content, MINIMAL beneath a mapping, and variables without their prefix."""
    path = tmp_path / "config.yaml"
    if isinstance(content, dict):
        merged = {key: {**MINIMAL.get(key, {}), **content.get(key, {})} for key in {**MINIMAL, **content}}
        content = yaml.safe_dump(merged)
    path.write_text(content, encoding="utf-8")
    return load_settings(path, {f"VISIT_CONSUMER_{name}": value for name, value in environ.items()})


def complaint(tmp_path: Path, content: dict[str, Any] | str, **environ: str) -> str:
    """Return the error that loading raises."""
    with pytest.raises(ConfigurationError) as caught:
        settings(tmp_path, content, **environ)
    return str(caught.value)


def test_what_is_nested_without_end_is_refused_with_its_place(tmp_path: Path) -> None:
    nested = "[" * 20_000
    assert "config.yaml: is no YAML" in complaint(tmp_path, f"kafka: {nested}")
    assert "VISIT_CONSUMER_KAFKA__TOPICS: is no JSON" in complaint(tmp_path, {}, KAFKA__TOPICS=nested)


def test_defaults_are_those_of_the_design(tmp_path: Path) -> None:
    loaded = settings(tmp_path, {})
    assert loaded.kafka.topics == ("raw-ingested",)
    assert loaded.kafka.group == "visit-consumer"
    assert (loaded.kafka.group_protocol, loaded.kafka.session_timeout_s) == ("classic", 10)
    assert loaded.kafka.start == "earliest"
    assert loaded.database.schema_name == "visits"
    assert loaded.batch.max_messages == 10_000
    closing = loaded.closing
    assert (closing.next_group_grace_s, closing.close_after_s, closing.max_open_s) == (10, 120, 3600)
    assert closing.max_clock_skew_s == 60
    assert sorted(loaded.instruments) == [
        "DECam",
        "HSC",
        "LATISS",
        "LSSTCam",
        "LSSTCamSim",
        "LSSTComCam",
        "LSSTComCamSim",
    ]
    assert loaded.instrument("LATISS").regions.padding == 4000
    assert loaded.instrument("LSSTCamSim").camera == ("lsstcam",)
    assert loaded.instrument("LSSTCam").regions.padding == 250


def test_environment_overrides_the_file_and_leaves_its_neighbours(tmp_path: Path) -> None:
    content = {"http": {"port": 9, "host": "::1"}, "kafka": {"topics": ["a"]}}
    loaded = settings(tmp_path, content, HTTP__PORT="10", KAFKA__TOPICS='["b", "c"]', DATABASE__SCHEMA="night")
    assert (loaded.http.port, loaded.http.host) == (10, "::1")
    assert loaded.kafka.topics == ("b", "c")
    assert loaded.database.schema_name == "night"


def test_environment_alone_is_enough() -> None:
    environ = {
        "VISIT_CONSUMER_KAFKA__BOOTSTRAP_SERVERS": "b:1",
        "VISIT_CONSUMER_DATABASE__CONNINFO": "dbname=x",
        "VISIT_CONSUMER_REGISTRY__URL": "null",
        "HOME": "/",
    }
    loaded = load_settings(None, environ)
    assert loaded.kafka.bootstrap_servers == "b:1"
    assert loaded.registry.url is None


def test_the_process_environment_is_not_read_behind_the_argument(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VISIT_CONSUMER_HTTP__PORT", "1234")
    assert settings(tmp_path, {}).http.port == 8080
    assert Settings(**MINIMAL).http.port == 8080


@pytest.mark.parametrize(
    ("content", "environ", "expected"),
    [
        ({"kafka": {"topic": "x"}}, {}, ["kafka.topic: no such setting (", "config.yaml)", "did you mean topics?"]),
        ({"kafak": {}}, {}, ["kafak: no such setting", "did you mean kafka?"]),
        ({}, {"KAFKA__TOPIC": "x"}, ["kafka.topic: no such setting (VISIT_CONSUMER_KAFKA__TOPIC)"]),
        ({}, {"HTTP_PORT": "1"}, ["VISIT_CONSUMER_HTTP_PORT: no such", "did you mean VISIT_CONSUMER_HTTP__PORT?"]),
        ({}, {"INSTRUMENTS__LATISS__CAMERA": "x"}, ["VISIT_CONSUMER_INSTRUMENTS__LATISS__CAMERA", "one JSON object"]),
        ({"http": {"port": 70000}}, {}, ["http.port: ", "65535", "config.yaml"]),
        ({}, {"HTTP__PORT": "many"}, ["http.port: ", "integer", "(VISIT_CONSUMER_HTTP__PORT)"]),
        ({}, {"KAFKA__TOPICS": "raw", "HTTP__PORT": "1"}, ["VISIT_CONSUMER_KAFKA__TOPICS: is no JSON"]),
        ({"kafka": {"topics": ["a b"]}}, {}, ["kafka.topics.0: 'a b' is no topic name"]),
        ({"kafka": {"topics": ["^raw.*"]}}, {}, ["kafka.topics.0: "]),
        ({"kafka": {"topics": ["a", "a"]}}, {}, ["names a topic twice"]),
        ({"kafka": {"topics": []}}, {}, ["kafka.topics: "]),
        ({"kafka": {"client": {"a.b": [1]}}}, {}, ["kafka.client.a.b: must be a number, text, true or false"]),
        ({"instruments": {"X": {"camera": "x", "padding": 1}}}, {}, ["instruments.X.padding: no such setting"]),
        ({"instruments": {"X": {}}}, {}, ["instruments.X: camera is missing"]),
        ({"instruments": {"LSSTCam": {"regions": {"wcs_source": "header"}}}}, {}, ["needs detector_id"]),
        ({"instruments": {"LSSTCam": {"closing": {"max_open_s": 5}}}}, {}, ["instruments.LSSTCam.closing: max_open_s"]),
        ({"closing": {"close_after_s": 9000}}, {}, ["closing: close_after_s must not be above max_open_s"]),
        ({"closing": {"close_after_s": float("nan")}}, {}, ["closing.close_after_s: "]),
        ({"breaker": {"max_bad_fraction": 1.5}}, {}, ["breaker.max_bad_fraction: "]),
        ({"database": {"schema": "pg_x"}}, {}, ["PostgreSQL's own"]),
        ({"database": {"schema": "A-b"}}, {}, ["database.schema: "]),
        ({"database": {"conninfo": "what is this"}}, {}, ["database: conninfo is neither"]),
        ({"registry": {"url": "ftp://x"}}, {}, ["registry.url: must be a URL"]),
        ({"registry": {"url": "https://u:pw@x"}}, {}, ["registry.url: must not carry a user name"]),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, content: dict[str, Any], environ: dict[str, str], expected: list[str]
) -> None:
    text = complaint(tmp_path, content, **environ)
    for part in expected:
        assert part in text


def test_every_wrong_key_gets_a_line(tmp_path: Path) -> None:
    text = complaint(tmp_path, {"http": {"port": -1}, "log": {"format": "xml"}}, BATCH__MAX_MESSAGES="0")
    assert {line.split(":")[0].strip() for line in text.splitlines()[1:]} == {
        "http.port",
        "log.format",
        "batch.max_messages",
    }


def test_missing_keys_are_named_with_their_variables(tmp_path: Path) -> None:
    text = complaint(tmp_path, "log: {level: info}\n")
    assert "kafka.bootstrap_servers: is required" in text
    assert "VISIT_CONSUMER_KAFKA__BOOTSTRAP_SERVERS" in text
    assert "database.conninfo: is required" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("kafka: {}\nlog: {}\nkafka: {}\n", "line 3, column 1): key 'kafka' stands twice"),
        ("kafka:\n  group: a\n  group: b\n", "line 3, column 3): key 'group' stands twice"),
        ("1: 2\n", "key 1 is no text"),
        ("- a\n", "not a list"),
        ("kafka: [\n", "line 2"),
        ("kafka: !!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
    ],
)
def test_broken_files_are_refused_with_their_place(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in complaint(tmp_path, text)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.yaml: cannot be read"):
        load_settings(tmp_path / "nowhere.yaml", {})


def _secret_keys(model: type[BaseModel], at: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for name, field in model.model_fields.items():
        inner = section_of(field)
        if inner is not None:
            found += _secret_keys(inner, (*at, name))
        elif "SecretStr" in str(field.annotation) and name != "conninfo":
            found.append((*at, name))
    return found


@pytest.mark.parametrize("key", _secret_keys(Settings), ids=".".join)
def test_a_secret_in_the_file_is_refused_and_not_repeated(tmp_path: Path, key: tuple[str, ...]) -> None:
    content: Any = "hunter2"
    for part in reversed(key):
        content = {part: content}
    text = complaint(tmp_path, content)
    assert f"{'.'.join(key)}: a secret stands in" in text
    assert variable(key) in text
    assert f"{'.'.join(key)}_file" in text
    assert "hunter2" not in text


@pytest.mark.parametrize(
    "conninfo",
    [
        "postgresql://u:hunter2@h/d",
        "postgres://u@h/d?password=hunter2",
        "host=h password=hunter2",
        "host=h password = 'hun ter2'",
        "host=h sslpassword=hunter2",
        "password=hunter2 ???",
    ],
)
def test_a_password_in_the_files_conninfo_is_refused(tmp_path: Path, conninfo: str) -> None:
    text = complaint(tmp_path, {"database": {"conninfo": conninfo}})
    assert "database.conninfo: a password stands in" in text
    assert "VISIT_CONSUMER_DATABASE__PASSWORD" in text
    assert "hunter2" not in text


def test_secrets_come_from_variables_and_files_and_never_print(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("correct horse\n", encoding="utf-8")
    loaded = settings(
        tmp_path,
        {"kafka": {"security": {"protocol": "SASL_SSL", "username": "u", "password_file": str(secret)}}},
        DATABASE__CONNINFO="postgresql://u:hunter2@127.0.0.1/d",
        REGISTRY__URL="https://r",
        REGISTRY__USERNAME="r",
        REGISTRY__PASSWORD="swordfish",  # noqa: S106  # no real one
    )
    current = loaded.kafka.security.current_password()
    assert current is not None
    assert current.get_secret_value() == "correct horse"
    assert set(secret_values(loaded)) == {"correct horse", "swordfish", "hunter2"}
    for text in (repr(loaded), str(loaded), loaded.model_dump_json()):
        assert not re.search("hunter2|correct horse|swordfish", text)
    secret.write_text("battery staple", encoding="utf-8")
    rotated = loaded.kafka.security.current_password()
    assert rotated is not None
    assert rotated.get_secret_value() == "battery staple"
    secret.write_text("", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="is empty"):
        loaded.kafka.security.current_password()


def test_errors_of_other_keys_do_not_print_secrets(tmp_path: Path) -> None:
    text = complaint(
        tmp_path,
        {"http": {"port": -1}},
        DATABASE__CONNINFO="postgresql://u:hunter2@h/d?sslmode=disable",
        DATABASE__PASSWORD="swordfish",  # noqa: S106  # no real one
    )
    assert "database: conninfo carries a password, and another" in text
    assert "VISIT_CONSUMER_DATABASE__CONNINFO" in text
    assert not re.search("hunter2|swordfish", text)


def test_an_empty_secret_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    text = complaint(tmp_path, {"database": {"password_file": str(tmp_path / "empty")}})
    assert "database.password_file: " in text
    assert "is empty" in text
    text = complaint(tmp_path, {"database": {"password_file": str(tmp_path / "absent")}})
    assert "database.password_file: Path does not point to a file" in text


@pytest.mark.parametrize(
    ("security", "expected"),
    [
        ({"protocol": "SASL_PLAINTEXT", "username": "u"}, "allow_insecure"),
        ({"protocol": "SASL_SSL"}, "SCRAM-SHA-512 needs username"),
        ({"protocol": "SASL_SSL", "mechanism": "OAUTHBEARER"}, "OAUTHBEARER needs oauth.token_endpoint_url"),
        ({"username": "u"}, "credentials are given, but protocol is PLAINTEXT"),
        ({"protocol": "SSL", "certificate_file": __file__}, "certificate_file and key_file belong together"),
        ({"ca_file": __file__}, "certificates are given, but protocol is PLAINTEXT"),
        ({"protocol": "TLS"}, "kafka.security.protocol: "),
    ],
)
def test_inconsistent_security_is_refused(tmp_path: Path, security: dict[str, Any], expected: str) -> None:
    assert expected in complaint(tmp_path, {"kafka": {"security": security}})


def test_insecure_protocols_need_a_word(tmp_path: Path) -> None:
    security = {"protocol": "SASL_PLAINTEXT", "username": "u", "allow_insecure": True}
    loaded = settings(tmp_path, {"kafka": {"security": security}}, KAFKA__SECURITY__PASSWORD="p")  # noqa: S106  # no real one
    assert loaded.kafka.security.sasl
    assert not loaded.kafka.security.tls


@pytest.mark.parametrize(
    "name",
    [*PROMISED_PROPERTIES, "sasl.password", "ssl.endpoint.identification.algorithm", "https.ca.location", "GROUP_ID"],
)
def test_client_properties_that_break_a_promise_are_refused(tmp_path: Path, name: str) -> None:
    assert f"{name}" in complaint(tmp_path, {"kafka": {"client": {name: "x"}}})


def test_harmless_client_properties_pass_with_their_types(tmp_path: Path) -> None:
    client = {"socket.keepalive.enable": True, "fetch.wait.max.ms": 5, "ssl.cipher.suites": "x"}
    assert settings(tmp_path, {"kafka": {"client": client}}).kafka.client == client


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"type": "record"}', "the writer's schema is refused"),
        (b"syntax = 'proto3';", "the writer's schema is refused"),
        (b"\xff", "is not UTF-8 text"),
        (None, "Path does not point to a file"),
    ],
)
def test_a_file_without_a_usable_schema_is_named(tmp_path: Path, content: bytes | None, expected: str) -> None:
    file = tmp_path / "older.avsc"
    if content is not None:
        file.write_bytes(content)
    text = complaint(tmp_path, {"kafka": {"writer_schema_files": [str(file)]}})
    assert "kafka.writer_schema_files.0: " in text
    assert expected in text


def test_events_of_a_schema_that_is_named_are_decoded(tmp_path: Path) -> None:
    raw = RawIngested(exposure=exposure(), detector=5)
    older = {**json.loads(schema_text("raw_ingested")), "doc": ""}
    older["fields"] = [each for each in older["fields"] if each["name"] != "wcs"]
    file = tmp_path / "older.avsc"
    file.write_text(json.dumps(older), encoding="utf-8")
    loaded = settings(tmp_path, {"kafka": {"writer_schema_files": [str(file)]}})
    value = encode_record(record_of(raw), parse_writer_schema(json.dumps(older)))
    with event_decoder(loaded) as decoder:
        assert decoder.decode(value) == raw
    file.unlink()
    with pytest.raises(ConfigurationError, match=r"kafka\.writer_schema_files.*older\.avsc"), event_decoder(loaded):
        pass


@pytest.mark.parametrize(
    ("conninfo", "mode", "root"),
    [
        ("host=db.example.org", "verify-full", "system"),
        ("postgresql://db.example.org/x", "verify-full", "system"),
        ("postgresql://db.example.org/x?sslmode=verify-ca", "verify-ca", None),
        ("postgresql://db/x?sslrootcert=/ca", "verify-full", None),
        ("host=127.0.0.1", "prefer", None),
        ("postgresql://[::1]:5432/x", "prefer", None),
        ("postgresql:///x?host=/run/pg", "prefer", None),
        ("host=/run/pg,db.example.org", "verify-full", "system"),
        ("dbname=x", "verify-full", "system"),
        # Where libpq connects to decides, not where a first look says.
        ("postgresql://localhost/v?host=db.example.org", "verify-full", "system"),
        ("host=localhost hostaddr=192.0.2.7", "verify-full", "system"),
        ("host=db.example.org hostaddr=127.0.0.1", "verify-full", "system"),
        ("host=127.evil.example.org", "verify-full", "system"),
        ("hostaddr=127.0.0.2", "prefer", None),
        ("host=localhost,db.example.org", "verify-full", "system"),
        ("host=/run/pg,localhost,::1", "prefer", None),
        ("host=@visits", "prefer", None),
    ],
)
def test_remote_databases_are_verified(tmp_path: Path, conninfo: str, mode: str, root: str | None) -> None:
    parameters = settings(tmp_path, {"database": {"conninfo": conninfo}}).database.libpq_parameters
    assert parameters["sslmode"] == mode
    assert parameters.get("sslrootcert") == root


def test_a_service_file_is_refused_since_its_host_cannot_be_checked(tmp_path: Path) -> None:
    assert "names a service file" in complaint(tmp_path, {"database": {"conninfo": "service=night"}})


def test_unverified_databases_need_a_word(tmp_path: Path) -> None:
    unverified = {"conninfo": "host=db.example.org sslmode=require"}
    assert "sslmode=require" in complaint(tmp_path, {"database": unverified})
    loaded = settings(tmp_path, {"database": {**unverified, "allow_insecure": True}})
    assert loaded.database.libpq_parameters["sslmode"] == "require"


def test_sessions_get_their_timeouts_in_milliseconds(tmp_path: Path) -> None:
    database = settings(tmp_path, {"database": {"statement_timeout_s": 0.25, "schema": "v"}}).database
    assert database.session_settings["statement_timeout"] == "250ms"
    assert database.session_settings["idle_in_transaction_session_timeout"] == "10000ms"
    assert database.session_settings["search_path"] == "v, pg_catalog"
    assert database.libpq_parameters["tcp_user_timeout"] == "10000"


def test_conninfo_is_read_as_libpq_does() -> None:
    assert conninfo_parameters(r"host = 'a b' user=o\'neil options='-c x=\\y'") == {
        "host": "a b",
        "user": "o'neil",
        "options": r"-c x=\y",
    }
    url = "postgresql://us%40er:p%2Fw@h1:1,[2001:db8::1]:2/my%20db?connect_timeout=3"
    assert conninfo_parameters(url) == {
        "connect_timeout": "3",
        "user": "us@er",
        "password": "p/w",
        "host": "h1,2001:db8::1",
        "port": "1,2",
        "dbname": "my db",
    }
    assert not has_password("postgresql://postgres:@/postgres?host=/tmp/pg")


@pytest.mark.parametrize("password", ["wind@mill", "wind/mill", "wind%zzmill", "windmill%"])
def test_a_password_that_a_url_must_write_otherwise_is_refused_unseen(tmp_path: Path, password: str) -> None:
    """A piece of it would be the host's name to libpq, which says so in every error."""
    given = {"DATABASE__CONNINFO": f"postgresql://writer:{password}@localhost/visits"}
    text = complaint(tmp_path, {"database": {"conninfo": None}}, **given)
    assert "with a percent sign" in text
    assert "wind" not in text
    assert "mill" not in text


def test_what_is_given_lies_over_what_is_known_of_an_instrument(tmp_path: Path) -> None:
    content = {
        "instruments": {
            "LATISS": {"regions": {"merge_exposures": True}, "closing": {"close_after_s": 5}},
            "LSSTCam": {},
            "HSC": {"camera": ["/a.json", "/b.json"]},
        }
    }
    loaded = settings(tmp_path, content)
    latiss = loaded.instrument("LATISS")
    assert (latiss.regions.padding, latiss.regions.merge_exposures, latiss.camera) == (4000, True, ("latiss",))
    assert loaded.instrument("LSSTCam").group_id == "lsst"
    assert loaded.instrument("HSC") == InstrumentSettings(
        camera=("/a.json", "/b.json"), group_id="digits", facility_name="Subaru"
    )
    assert loaded.closing_of("LATISS").close_after_s == 5
    assert loaded.closing_of("LATISS").max_open_s == 3600
    assert loaded.closing_of("HSC").close_after_s == 120
    with pytest.raises(BadMessageError, match="'LSSTComCam' is not among the configured ones: HSC, LATISS, LSSTCam"):
        loaded.instrument("LSSTComCam")


def test_instruments_come_whole_from_a_variable_with_their_case(tmp_path: Path) -> None:
    loaded = settings(tmp_path, {}, INSTRUMENTS=json.dumps({"LATISS": {"on_change": "keep"}}))
    assert list(loaded.instruments) == ["LATISS"]
    assert loaded.instrument("LATISS").on_change == "keep"
    text = complaint(tmp_path, {}, INSTRUMENTS='{"LATISS": {"on_change": "maybe"}}')
    assert "instruments.LATISS.on_change: " in text
    assert "(VISIT_CONSUMER_INSTRUMENTS)" in text


def test_variables_that_kubernetes_makes_for_a_service_are_left_alone(tmp_path: Path) -> None:
    links = {
        "SERVICE_HOST": "10.0.0.1",
        "SERVICE_PORT": "8080",
        "SERVICE_PORT_HTTP": "8080",
        "PORT": "tcp://10.0.0.1:8080",
        "PORT_8080_TCP": "tcp://10.0.0.1:8080",
        "PORT_8080_TCP_ADDR": "10.0.0.1",
        "METRICS_PORT": "tcp://10.0.0.1:8080",
        "CONFIG": "/etc/config.yaml",
    }
    assert settings(tmp_path, {}, **links) == settings(tmp_path, {})
    assert "VISIT_CONSUMER_PORT: no such setting" in complaint(tmp_path, {}, PORT="8080")


def test_settings_are_frozen(tmp_path: Path) -> None:
    loaded = settings(tmp_path, {})
    with pytest.raises(ValidationError):
        loaded.http.port = 1
    with pytest.raises(ValidationError):
        loaded.http = loaded.http


def test_the_example_is_accepted() -> None:
    loaded = load_settings(DEPLOY / "config.example.yaml", {})
    assert loaded.announce.topic == "visit-defined"
    assert loaded.instrument("LATISS").regions.padding == 4000


def test_the_reference_describes_every_key_and_has_not_drifted() -> None:
    text = settings_reference()
    for key in all_keys(Settings):
        assert f"| `{'.'.join(key)}` |" in text
    for key in all_keys(InstrumentSettings, ("instruments", "NAME")):
        assert f"| `{'.'.join(key)}` |" in text
    for line in text.splitlines():
        if line.startswith("| `"):
            assert re.search(r"\| [^|]{8,} \|$", line.replace("\\|", "/")), line
    assert (DEPLOY / "SETTINGS.md").read_text(encoding="utf-8") == text, (
        "run: python -m deploy.reference.settings > deploy/SETTINGS.md"
    )
