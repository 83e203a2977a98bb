"""The image's Dockerfile: linted, hardened, and run without a container engine as far as its steps go."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.deploy.charts import DEPLOY
from tests.deploy.dockerfiles import Sandbox, Stage, as_image_user, parse
from tests.deploy.tools import needed, run, script

DOCKERFILE = DEPLOY / "Dockerfile"
REPOSITORY = DEPLOY.parent
USER = 10001


@pytest.fixture(scope="module")
def stages() -> dict[str, Stage]:
    return {stage.name: stage for stage in parse(DOCKERFILE)}


@pytest.fixture(scope="module")
def image(stages: dict[str, Stage]) -> Iterator[Sandbox]:
    """Run every stage once; not in pytest's own folder, which other users may not enter."""
    root = Path(tempfile.mkdtemp(prefix="visit-consumer-image-"))
    root.chmod(0o755)
    sandbox = Sandbox(root, REPOSITORY)

    def build() -> Sandbox:
        for stage in stages.values():
            sandbox.run_stage(stage)
        return sandbox

    try:
        yield needed(build)
    finally:
        shutil.rmtree(root)


def test_hadolint_finds_nothing_wrong() -> None:
    hadolint = needed(lambda: script("hadolint"))
    answer = subprocess.run([hadolint, DOCKERFILE], check=False, capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_hadolint_would_notice_a_mistake(tmp_path: Path) -> None:
    hadolint = needed(lambda: script("hadolint"))
    wrong = tmp_path / "Dockerfile"
    wrong.write_text("FROM debian:latest\nRUN apt-get install gcc\n", encoding="utf-8")
    answer = subprocess.run([hadolint, wrong], check=False, capture_output=True, text=True, timeout=60)
    assert answer.returncode != 0
    assert "DL3007" in answer.stdout


def test_the_image_runs_as_a_numbered_user_and_holds_no_secret(stages: dict[str, Stage]) -> None:
    runtime = stages["runtime"]
    assert runtime.all_of("USER") == [f"{USER}:{USER}"]  # Kubernetes' runAsNonRoot can only check a number
    text = DOCKERFILE.read_text(encoding="utf-8")
    assert not re.search(r"(?i)^(ENV|ARG)\b.*(password|secret|token)", text, re.MULTILINE)
    assert json.loads(runtime.all_of("ENTRYPOINT")[0]) == ["visit-consumer"]
    assert json.loads(runtime.all_of("CMD")[0])[0] == "run"


def test_no_stage_can_compile_and_the_last_one_installs_nothing(stages: dict[str, Stage]) -> None:
    commands = [command for stage in stages.values() for command in stage.all_of("RUN")]
    assert not [command for command in commands if re.search(r"apt-get|gcc|build-essential|curl|wget", command)]
    assert "--only-binary=:all:" in " ".join(stages["environment"].all_of("RUN"))
    assert not [command for command in stages["runtime"].all_of("RUN") if "pip" in command]


def test_the_builder_is_sent_only_what_the_dockerfile_copies(stages: dict[str, Stage]) -> None:
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {line[1:] for line in rules if line.startswith("!")}
    copied = {
        word.partition("/")[0]
        for stage in stages.values()
        for arguments in stage.all_of("COPY")
        if "--from=" not in arguments
        for word in arguments.split()[:-1]
    }
    assert copied == allowed


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_images_steps_give_a_wheel_with_all_its_data(image: Sandbox) -> None:
    (wheel,) = image.at("/wheels").glob("*.whl")
    _assert_has_all_its_data(wheel)


def test_a_wheel_has_all_its_data(tmp_path: Path) -> None:
    run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, REPOSITORY], timeout_s=600)
    (wheel,) = tmp_path.glob("*.whl")
    _assert_has_all_its_data(wheel)


def _assert_has_all_its_data(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = [*(REPOSITORY / "consumer").rglob("*.sql"), *(REPOSITORY / "consumer" / "cameras").glob("*.json")]
    assert len(sources) > 5
    assert {str(path.relative_to(REPOSITORY)) for path in sources} <= names
    assert {"consumer/schemas/raw_ingested.avsc", "consumer/schemas/visit_defined.avsc"} <= names
    assert not [name for name in names if name.startswith(("tests", "deploy", "consumer/page/browser"))]


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_wheel_has_the_bundle_of_the_page(image: Sandbox) -> None:
    (wheel,) = image.at("/wheels").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        index = archive.read("consumer/page/static/index.html").decode()
        assets = {
            name.removeprefix("consumer/page/static/") for name in archive.namelist() if "/static/assets/" in name
        }
    assert set(re.findall(r'(?:href|src)="(assets/[^"]+)"', index)) == assets != set()


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_only_the_accounts_were_not_made_here(image: Sandbox) -> None:
    assert [command.split()[0] for command in image.not_run] == ["groupadd", "useradd"]


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("command", ["--version", "--help", "check-config", "run --help", "migrate --help"])
def test_the_installed_command_runs_as_the_images_user_and_writes_nothing(image: Sandbox, command: str) -> None:
    home = image.root / "tmp"
    home.mkdir(exist_ok=True, mode=0o777)
    home.chmod(0o777)
    environment = {
        "PATH": f"{image.at('/opt/visit-consumer/bin')}:/usr/bin:/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(home),
        "VISIT_CONSUMER_KAFKA__BOOTSTRAP_SERVERS": "kafka:9092",
        "VISIT_CONSUMER_DATABASE__CONNINFO": "host=localhost dbname=visits user=visit_writer",
    }
    before = {path: path.stat().st_mtime_ns for path in image.at("/opt").rglob("*")}
    program = [str(image.at("/opt/visit-consumer/bin/visit-consumer")), *command.split()]
    started = needed(lambda: as_image_user(program, USER))
    answer = subprocess.run(
        started, check=False, capture_output=True, text=True, timeout=120, env=environment, cwd=home
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert answer.stdout
    assert {path: path.stat().st_mtime_ns for path in image.at("/opt").rglob("*")} == before


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_environment_of_the_image_has_no_installer_and_is_consistent(image: Sandbox) -> None:
    python = image.at("/opt/visit-consumer/bin/python")
    assert subprocess.run([python, "-m", "pip", "--version"], check=False, capture_output=True, timeout=60).returncode
    outside = image.root / "bases" / "environment" / "bin" / "python"
    run([outside, "-m", "pip", "--python", python, "check"], timeout_s=120)


class Probe(BaseHTTPRequestHandler):
    """Answers /healthz with the status that its server holds."""

    def do_GET(self) -> None:
        self.send_response(503 if os.environ.get("TEST_IS_SICK") or self.path != "/healthz" else 200)
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Stay silent."""


@pytest.mark.parametrize("sick", ["", "1"])
def test_the_healthcheck_says_what_healthz_says(
    stages: dict[str, Stage], sick: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_IS_SICK", sick)
    (arguments,) = stages["runtime"].all_of("HEALTHCHECK")
    program, *options = json.loads(arguments.partition("CMD ")[2])
    assert program == "python"
    with HTTPServer(("127.0.0.1", 0), Probe) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        environment = {**os.environ, "VISIT_CONSUMER_HTTP__PORT": str(server.server_port)}
        answer = subprocess.run(
            [sys.executable, *options], check=False, capture_output=True, timeout=30, env=environment
        )
        server.shutdown()
        thread.join()
    assert bool(answer.returncode) is bool(sick)
