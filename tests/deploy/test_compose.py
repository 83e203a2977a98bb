"""The Compose stack: a valid file, pinned images, hardened containers, and settings that the service accepts."""

import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import psycopg
import pytest
import yaml
from psycopg import sql

from consumer.config import Settings, load_settings
from consumer.service.app import migrate_database
from tests.deploy.charts import CHART, DEPLOY
from tests.deploy.prometheus_server import program
from tests.deploy.tools import go_module, needed
from tests.support.postgres import PostgresServer, wheel_binaries

COMPOSE = DEPLOY / "compose.yaml"
OURS = ("migrate", "consumer", "page", "simulate", "source")


@pytest.fixture(scope="module")
def stack() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    return content


def test_the_compose_file_is_valid_by_composes_schema(stack: dict[str, Any]) -> None:
    folder = needed(lambda: go_module("github.com/compose-spec/compose-go/v2"))
    schema = json.loads((folder / "schema" / "compose-spec.json").read_text(encoding="utf-8"))
    validator = jsonschema.validators.validator_for(schema)(schema)
    validator.validate(stack)
    assert not validator.is_valid({**stack, "services": {"kafka": {"imagine": "x"}}})


def test_every_file_that_the_stack_mounts_exists(stack: dict[str, Any]) -> None:
    mounted = [
        volume.split(":")[0]
        for service in stack["services"].values()
        for volume in service.get("volumes", [])
        if volume.startswith(".")
    ]
    assert len(set(mounted)) >= 7
    for path in mounted:
        assert (DEPLOY / path).exists(), path
    built = stack["services"]["consumer"]["build"]
    assert (DEPLOY / built["context"] / built["dockerfile"]).is_file()


def test_every_image_of_the_stack_is_pinned(stack: dict[str, Any]) -> None:
    for name, service in stack["services"].items():
        tag = service["image"].rpartition(":")[2]
        assert tag[:1].isdigit() or tag.startswith("v"), f"{name}: {service['image']}"


def test_passwords_of_the_stack_come_from_files_alone(stack: dict[str, Any]) -> None:
    assert all(set(each) == {"file"} for each in stack["secrets"].values())
    for name, service in stack["services"].items():
        assert set(service.get("secrets", [])) <= set(stack["secrets"]), name
        for variable, value in service.get("environment", {}).items():
            if "PASSWORD" in variable:
                assert variable.endswith("FILE"), f"{name}: {variable}"
                assert value.removeprefix("/run/secrets/") in service["secrets"], f"{name}: {variable}"


@pytest.mark.parametrize("name", [*OURS, "prometheus", "grafana"])
def test_a_container_of_the_stack_has_no_privileges(stack: dict[str, Any], name: str) -> None:
    service = stack["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:"), "the stack has no passwords but Grafana's: it is this machine's alone"


@pytest.mark.parametrize("name", OURS)
def test_the_service_accepts_the_settings_of_the_stack(stack: dict[str, Any], name: str, tmp_path: Path) -> None:
    service = stack["services"][name]
    for secret in service["secrets"]:
        (tmp_path / secret).write_text("hunter2", encoding="utf-8")
    file = tmp_path / "config.yaml"
    text = (DEPLOY / "compose" / "config.yaml").read_text(encoding="utf-8")
    file.write_text(text.replace("/run/secrets", str(tmp_path)), encoding="utf-8")
    environment = {
        key: value.replace("/run/secrets", str(tmp_path)) for key, value in service.get("environment", {}).items()
    }
    settings = load_settings(file, environment)
    user = {"migrate": "visit_owner", "page": "visit_reader", "source": "visit_reader"}.get(name, "visit_writer")
    assert f"user={user}" in settings.database.conninfo.get_secret_value()
    password = settings.database.current_password()
    assert password is not None
    assert password.get_secret_value() == "hunter2"


def test_the_profile_source_watches_the_folder_that_the_guide_names(stack: dict[str, Any]) -> None:
    source = stack["services"]["source"]
    assert source["profiles"] == ["source"]
    assert source["command"][:2] == ["emit", "watch"]
    settings = yaml.safe_load((DEPLOY / "compose" / "config.yaml").read_text(encoding="utf-8"))
    (folder,) = settings["source"]["folders"]
    assert f"./compose/landing:{folder['path']}:ro" in source["volumes"]
    assert "deploy/compose/landing" in (DEPLOY / "README.md").read_text(encoding="utf-8")


def test_prometheus_and_grafana_of_the_stack_get_the_charts_rules_and_boards(stack: dict[str, Any]) -> None:
    services = stack["services"]
    assert f"./{CHART.relative_to(DEPLOY)}/rules:/etc/prometheus/rules:ro" in services["prometheus"]["volumes"]
    assert f"./{CHART.relative_to(DEPLOY)}/dashboards:/etc/grafana/boards:ro" in services["grafana"]["volumes"]
    scraping = yaml.safe_load((DEPLOY / "compose" / "prometheus.yaml").read_text(encoding="utf-8"))
    assert scraping["rule_files"] == ["/etc/prometheus/rules/*.yaml"]
    (job,) = scraping["scrape_configs"]
    assert [(each["names"], each["port"]) for each in job["dns_sd_configs"]] == [
        (["consumer"], 8080),
        (["source"], 8081),
    ]
    sources = yaml.safe_load((DEPLOY / "compose/grafana/datasources/visits.yaml").read_text(encoding="utf-8"))
    types = {each["type"] for each in sources["datasources"]}
    asked = {
        variable["query"]
        for board in (CHART / "dashboards").glob("*.json")
        for variable in json.loads(board.read_text(encoding="utf-8"))["templating"]["list"]
        if variable["type"] == "datasource"
    }
    assert asked == types


def test_the_passwords_are_made_once_and_are_closed_to_others(tmp_path: Path, stack: dict[str, Any]) -> None:
    script = tmp_path / "make-secrets.sh"
    script.write_text((DEPLOY / "compose" / "make-secrets.sh").read_text(encoding="utf-8"), encoding="utf-8")
    assert os.access(DEPLOY / "compose" / "make-secrets.sh", os.X_OK)
    subprocess.run(["sh", str(script)], check=True, timeout=30)
    made = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "secrets").iterdir()}
    assert set(made) == {Path(each["file"]).name for each in stack["secrets"].values()}
    assert len(set(made.values())) == len(made)
    assert all(len(password) == 48 for password in made.values())
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    subprocess.run(["sh", str(script)], check=True, timeout=30)
    assert made == {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "secrets").iterdir()}


def settings_as(role: str, server: PostgresServer) -> Settings:
    environment = {
        "VISIT_CONSUMER_KAFKA__BOOTSTRAP_SERVERS": "none:1",
        "VISIT_CONSUMER_DATABASE__CONNINFO": server.dsn("visits", user=role),
    }
    return load_settings(None, environment)


def test_the_roles_of_the_stack_can_do_what_each_is_for(tmp_path: Path) -> None:
    """On a server of its own, since roles are a server's: the script by psql, the schema by the owner."""
    for role in ("owner", "writer", "reader"):
        (tmp_path / f"{role}_password").write_text("hunter2", encoding="utf-8")
    script = (DEPLOY / "compose" / "postgres" / "10-roles.sql").read_text(encoding="utf-8")
    with PostgresServer(wheel_binaries(), fast=True) as server:
        with server.connect() as superuser:
            superuser.execute("CREATE DATABASE visits")
        psql = [str(wheel_binaries() / "psql"), "--no-psqlrc", "--dbname", server.dsn("visits")]
        subprocess.run(
            psql, input=script.replace("/run/secrets", str(tmp_path)), check=True, text=True, timeout=30, cwd=tmp_path
        )
        with server.connect("visits") as superuser:
            passwords = "SELECT count(rolpassword) FROM pg_authid WHERE rolname LIKE 'visit%' AND NOT rolsuper"
            assert superuser.execute(passwords).fetchone() == (3,)
        assert migrate_database(settings_as("visit_owner", server))

        with psycopg.connect(server.dsn("visits", user="visit_writer"), autocommit=True) as writer:
            tables = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'visits'"
            names = [name for (name,) in writer.execute(tables).fetchall()]
            assert len(names) > 8
            delete = sql.SQL("DELETE FROM visits.{} WHERE false")
            for name in ("visit", "visit_detector_region", "open_group", "dead_letter", "outbox"):
                writer.execute(delete.format(sql.Identifier(name)))
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                writer.execute("DELETE FROM visits.exposure WHERE false")
            for refused in ("DROP TABLE visits.visit", "CREATE TABLE visits.u (x int)", "CREATE SCHEMA other"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    writer.execute(refused.encode())
        with psycopg.connect(server.dsn("visits", user="visit_reader"), autocommit=True) as reader:
            for name in names:
                reader.execute(sql.SQL("SELECT FROM visits.{} LIMIT 1").format(sql.Identifier(name)))
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    reader.execute(delete.format(sql.Identifier(name)))


def test_promtool_accepts_the_stacks_prometheus(tmp_path: Path) -> None:
    promtool = program("promtool")
    text = (DEPLOY / "compose" / "prometheus.yaml").read_text(encoding="utf-8")
    file = tmp_path / "prometheus.yaml"
    file.write_text(text.replace("/etc/prometheus/rules", str(CHART / "rules")), encoding="utf-8")
    answer = subprocess.run(
        [promtool, "check", "config", file], check=False, capture_output=True, text=True, timeout=60
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "1 rule files found" in answer.stdout + answer.stderr
