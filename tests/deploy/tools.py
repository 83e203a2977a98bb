"""Tools and schemas of others that the checks of deploy/ need: fetched once, at pinned versions, kept in the cache.

Where one cannot be had, because there is no network or no Go, the check says so and is skipped; with the variable
``REQUIRE_DEPLOY_TOOLS=1`` it fails instead.
"""

import fcntl
import functools
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import pytest
import yaml

from tests.support.jars import JarsUnavailableError, cache_directory, resolve

T = TypeVar("T")

HELM: Final = "v3.19.2"
GO_MODULES: Final[Mapping[str, str]] = {
    "github.com/prometheus-operator/prometheus-operator": "v0.85.0",
    "github.com/kedacore/keda/v2": "v2.21.0",
    "github.com/compose-spec/compose-go/v2": "v2.16.2",
    "sigs.k8s.io/gateway-api": "v1.6.3",
}
ASYNCAPI_SPECS: Final = "6.11.1"
GRAFANA_VERSIONS: Final = ("11.6.0", "12.4.11")
"""The version that the boards are written for, and one of the next major version."""
TYPESCRIPT: Final = "5.8.3"
KUBE_VERSIONS: Final = ("1.29", "1.37")
"""The oldest and the newest Kubernetes that manifests are held to."""

_BUILD_TIMEOUT_S: Final = 1500
_FETCH_TIMEOUT_S: Final = 600
_CRDS: Final[Mapping[str, tuple[str, str]]] = {
    "PodMonitor": (
        "github.com/prometheus-operator/prometheus-operator",
        "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
    ),
    "PrometheusRule": (
        "github.com/prometheus-operator/prometheus-operator",
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
    ),
    "ScaledObject": ("github.com/kedacore/keda/v2", "config/crd/bases/keda.sh_scaledobjects.yaml"),
    "HTTPRoute": ("sigs.k8s.io/gateway-api", "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"),
}
_STRIMZI_TYPES: Final[Mapping[str, str]] = {
    "KafkaTopic": "io.strimzi.api.kafka.model.topic.KafkaTopic",
    "KafkaUser": "io.strimzi.api.kafka.model.user.KafkaUser",
}


class ToolUnavailableError(Exception):
    """A tool cannot be had; the message says which, and why."""


def unavailable(reason: object) -> NoReturn:
    """End the running check: skipped with its reason, or failed where every tool is required."""
    if os.environ.get("REQUIRE_DEPLOY_TOOLS") == "1":
        pytest.fail(f"REQUIRE_DEPLOY_TOOLS=1, and {reason}", pytrace=False)
    pytest.skip(str(reason))


def needed(fetch: Callable[[], T]) -> T:
    """Return what a check needs, or end the check because it cannot be had."""
    try:
        return fetch()
    except ToolUnavailableError as error:
        unavailable(error)


def run(command: Sequence[str | Path], *, timeout_s: float, **options: Any) -> str:
    """Run a command and return what it printed.

    Raises
    ------
    ToolUnavailableError
        When the program is not installed, fails or takes too long.
    """
    program = str(command[0])
    if shutil.which(program) is None:
        raise ToolUnavailableError(f"{program} is not installed")
    try:
        answer: subprocess.CompletedProcess[str] = subprocess.run(
            [str(part) for part in command], check=True, capture_output=True, text=True, timeout=timeout_s, **options
        )
    except subprocess.CalledProcessError as error:
        raise ToolUnavailableError(f"{command} failed: {(error.stdout + error.stderr)[-800:]}") from error
    except subprocess.TimeoutExpired as error:
        raise ToolUnavailableError(f"{command} took longer than {timeout_s} s") from error
    return answer.stdout


@contextmanager
def locked(name: str) -> Iterator[Path]:
    """Hold one file's lock, so that two runs at once fetch nothing twice; yield the cache folder."""
    folder = cache_directory()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


@functools.cache
def helm() -> Path:
    """Return Helm, built from its Go module when it is not in the cache.

    Raises
    ------
    ToolUnavailableError
        When Go is missing, or the module's proxy cannot be reached.
    """
    with locked("helm") as cache:
        program = cache / f"helm-{HELM}" / "helm"
        if not program.exists():
            program.parent.mkdir(exist_ok=True)
            environment = {**os.environ, "GOBIN": str(program.parent), "CGO_ENABLED": "0", "GOFLAGS": "-trimpath"}
            run(
                ["go", "install", "-ldflags=-s -w", f"helm.sh/helm/v3/cmd/helm@{HELM}"],
                timeout_s=_BUILD_TIMEOUT_S,
                env=environment,
            )
    return program


@functools.cache
def go_module(path: str) -> Path:
    """Return the folder of a Go module at its pinned version."""
    with tempfile.TemporaryDirectory() as folder:  # outside of any module, so that no go.mod is looked for
        answer = run(
            ["go", "mod", "download", "-json", f"{path}@{GO_MODULES[path]}"], timeout_s=_FETCH_TIMEOUT_S, cwd=folder
        )
    return Path(json.loads(answer)["Dir"])


def crd_schemas(kind: str) -> Mapping[str, Mapping[str, Any]]:
    """Return the schemas of a custom resource, by version, as its own project publishes them."""
    return {each["name"]: each["schema"]["openAPIV3Schema"] for each in crd(kind)["spec"]["versions"]}


@functools.cache
def crd(kind: str) -> Mapping[str, Any]:
    """Return the definition of a custom resource, as its own project publishes it."""
    if kind in _STRIMZI_TYPES:
        found: Mapping[str, Any] = _strimzi_crd(kind)
    else:
        module, path = _CRDS[kind]
        found = yaml.safe_load((go_module(module) / path).read_text(encoding="utf-8"))
    return found


def _strimzi_crd(kind: str) -> Any:
    """Return one of Strimzi's CRDs, written by Strimzi's own generator."""
    try:
        jars = resolve(Path(__file__).parent / "strimzi" / "pom.xml")
    except JarsUnavailableError as error:
        raise ToolUnavailableError(str(error)) from error
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "crd.yaml"
        generator = ["java", "-cp", f"{jars}/*", "io.strimzi.crdgenerator.CrdGenerator", "--yaml"]
        run([*generator, f"{_STRIMZI_TYPES[kind]}={output}"], timeout_s=60)
        return yaml.safe_load(output.read_text(encoding="utf-8"))


@functools.cache
def asyncapi_schema(version: str) -> Mapping[str, Any]:
    """Return the JSON Schema of AsyncAPI documents, from the npm package that AsyncAPI publishes."""
    with locked("asyncapi") as cache:
        archive = cache / f"asyncapi-specs-{ASYNCAPI_SPECS}.tgz"
        if not archive.exists():
            run(["npm", "pack", "--silent", f"@asyncapi/specs@{ASYNCAPI_SPECS}"], timeout_s=_FETCH_TIMEOUT_S, cwd=cache)
    with tarfile.open(archive) as package:
        member = package.extractfile(f"package/schemas/{version}-without-$id.json")
        assert member is not None
        schema: Mapping[str, Any] = json.load(member)
    return schema


@functools.cache
def grafana_types(version: str) -> Path:
    """Return a folder whose ``node_modules`` have Grafana's types of boards at a version, and a compiler for them."""
    with locked(f"grafana-schema-{version}") as cache:
        folder = cache / f"grafana-schema-{version}"
        if not (folder / "node_modules" / "typescript").exists():
            install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]
            packages = [f"@grafana/schema@{version}", f"typescript@{TYPESCRIPT}"]
            run([*install, f"--prefix={folder}", *packages], timeout_s=_FETCH_TIMEOUT_S)
    return folder


def script(name: str) -> Path:
    """Return a program of this Python environment, such as hadolint."""
    program = Path(sys.executable).parent / name
    if not program.exists():
        raise ToolUnavailableError(f"{name} is not installed in this environment; install the extra dev")
    return program
